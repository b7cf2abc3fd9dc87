"""The worker's protocol, as the host speaks it."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import pytest

from pytest_llem import __version__
from pytest_llem.errors import EngineMissing, WorkerError
from pytest_llem.records import Idle, IdlePower, Measurement
from pytest_llem.runners.conversation import Listener, Patience, Progress, converse
from pytest_llem.wire import PROTOCOL, checksum, from_dict, to_dict
from tests.builders import DIGEST, experiment, measurement
from tests.fakes import ScriptedTransport


def line(frame: str, **fields: Any) -> bytes:
    if frame == "result":
        fields = {"sha256": checksum(fields.get("measurement")), **fields}
    return json.dumps({"frame": frame, **fields}).encode() + b"\n"


EXPERIMENT = experiment(load_timeout_s=0.5, timeout_s=0.1)
MEASUREMENT = measurement()
RESULT = line("result", measurement=to_dict(MEASUREMENT))
PATIENCE = Patience(hello_s=0.5)


def hello(**fields: Any) -> bytes:
    said = {
        "protocol": PROTOCOL,
        "llem": "0.1.0",
        "versions": {"torch": "2.6", "transformers": "5.0"},
        "install": "pip install pytest-llem[pytorch]",
    }
    return line("hello", **(said | fields))


class Heard(Listener):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.all: list[Progress] = []
        self.requests: list[Any] = []
        self.samples: list[Any] = []

    def progress(self, progress: Progress) -> None:
        self.all.append(progress)

    def series(self, requests: Sequence[Any]) -> None:
        self.requests += requests

    def trace(self, samples: Sequence[Any]) -> None:
        self.samples += samples


def talk(
    transport: ScriptedTransport, heard: Listener | None = None, patience: Patience = PATIENCE
) -> Measurement:
    return converse(transport, EXPERIMENT, DIGEST, 1, heard, patience, clock=transport.clock)


def failure(transport: ScriptedTransport, patience: Patience = PATIENCE) -> WorkerError:
    """How a conversation fails; whatever the cause, the worker has been ended."""
    with pytest.raises(WorkerError) as caught:
        talk(transport, patience=patience)
    assert transport.stops
    assert str(caught.value) == caught.value.message
    return caught.value


def test_a_worker_that_does_its_work_gives_the_measurement() -> None:
    heard = Heard()
    transport = ScriptedTransport(
        [
            hello(),
            line("phase", phase="load") + line("phase", phase="idle"),
            line("phase", phase="measure") + line("progress", done=1, total=2)[:7],
            line("progress", done=1, total=2)[7:] + line("phase", phase="close"),
            RESULT,
        ],
        status=0,
    )
    assert talk(transport, heard) == MEASUREMENT
    phases = list(dict.fromkeys(progress.phase for progress in heard.all))
    assert phases == ["load", "idle", "measure", "close"]
    assert (1, 2) in {(progress.done, progress.total) for progress in heard.all}
    assert transport.stops


def test_the_request_says_all_that_is_to_be_measured() -> None:
    transport = ScriptedTransport([hello() + RESULT], status=0)
    talk(transport)
    assert transport.sent.endswith(b"\n")
    request = json.loads(transport.sent)
    assert request == {
        "frame": "request",
        "experiment": to_dict(EXPERIMENT),
        "digest": DIGEST,
        "cycle": 1,
        "idle": None,
        "beside": [],
        "pids": False,
        "keep": False,
        "worker": "fresh",
        "secrets": {},
    }
    assert from_dict(type(EXPERIMENT), request["experiment"]) == EXPERIMENT


def test_secrets_of_a_transport_come_with_the_request() -> None:
    class Elsewhere(ScriptedTransport):
        secrets = MappingProxyType({"HF_TOKEN": "hf_canary"})

    transport = Elsewhere([hello() + RESULT], status=0)
    measurement = converse(transport, EXPERIMENT, DIGEST, 1)
    assert json.loads(transport.sent)["secrets"] == {"HF_TOKEN": "hf_canary"}
    assert "hf_canary" not in repr(measurement)


def test_a_place_with_pids_of_its_own_is_asked_for_the_hosts() -> None:
    class Elsewhere(ScriptedTransport):
        def pids(self) -> tuple[list[int], str]:
            return [7, 8], ""

    transport = Elsewhere([hello(), b'{"frame": "pids_request"}\n', RESULT], status=0)
    converse(transport, EXPERIMENT, DIGEST, 1, clock=transport.clock)
    request, answer = map(json.loads, transport.sent.splitlines())
    assert request["pids"] is True
    assert answer == {"frame": "pids", "pids": [7, 8], "reason": ""}


def test_idle_power_that_is_known_comes_with_the_request() -> None:
    power = IdlePower(domain="cpu:0", meter="m", method="counter", power_w=7.0)
    idle = Idle(powers=(power,), duration_s=30.0, age_s=9.0, origin="a c1")
    transport = ScriptedTransport([hello() + RESULT], status=0)
    converse(transport, EXPERIMENT, DIGEST, 1, idle=idle, clock=transport.clock)
    assert from_dict(Idle, json.loads(transport.sent)["idle"]) == idle


def test_phases_need_not_be_listened_to() -> None:
    transport = ScriptedTransport([hello(), line("phase", phase="load"), RESULT], status=0)
    assert talk(transport) == MEASUREMENT


def test_a_worker_that_is_slow_to_exit_is_stopped_all_the_same() -> None:
    transport = ScriptedTransport([hello(), RESULT])
    assert talk(transport) == MEASUREMENT
    assert transport.stops


@pytest.mark.parametrize(
    ("first", "spoken"),
    [
        (hello(protocol=PROTOCOL + 1), str(PROTOCOL + 1)),
        (hello(protocol=str(PROTOCOL)), str(PROTOCOL)),
        (hello(protocol=None), "None"),
        (line("hello"), "None"),
        (line("phase", phase="load"), "None"),
        (RESULT, "None"),
    ],
)
def test_a_worker_of_another_protocol_is_refused(first: bytes, spoken: str) -> None:
    transport = ScriptedTransport([first], log="some log")
    error = failure(transport)
    assert error.kind == "protocol"
    assert f") speaks protocol {spoken}, this is pytest-llem {__version__} with" in error.message
    assert error.log_tail == "some log"
    assert transport.sent == b""


@pytest.mark.parametrize(
    ("versions", "missing"),
    [
        ({"torch": None, "transformers": "5.0"}, "torch"),
        ({"torch": None, "transformers": None}, "torch and transformers"),
    ],
)
def test_an_engine_that_is_not_there_is_named_with_the_command_that_installs_it(
    versions: dict[str, str | None], missing: str
) -> None:
    error = failure(ScriptedTransport([hello(versions=versions)]))
    assert isinstance(error, EngineMissing)
    assert (error.kind, error.message, error.fix) == (
        "missing",
        f"backend pytorch: {missing} not installed",
        "pip install pytest-llem[pytorch]",
    )


def test_an_engine_that_is_not_in_an_image_is_not_installed_there() -> None:
    class Contained(ScriptedTransport):
        about = MappingProxyType({"image": "org/image:1"})

    error = failure(Contained([hello(versions={"torch": None})]))
    assert isinstance(error, EngineMissing)
    assert error.message == "backend pytorch: torch not installed in image org/image:1"
    assert error.fix == "name an image that has it: --llem-runner-pytorch=docker:IMAGE"


@pytest.mark.parametrize("versions", [None, {}])
def test_an_engine_that_needs_nothing_is_there(versions: Any) -> None:
    assert talk(ScriptedTransport([hello(versions=versions), RESULT], status=0)) == MEASUREMENT


@pytest.mark.parametrize("versions", ["5.0", [1, 2], 5, True])
def test_versions_that_are_no_mapping_break_the_protocol(versions: Any) -> None:
    transport = ScriptedTransport([hello(versions=versions), RESULT], status=0)
    with pytest.raises((WorkerError, ValueError, TypeError)) as caught:
        talk(transport)
    assert transport.stops
    assert isinstance(caught.value, WorkerError)


def test_what_the_worker_refuses_is_told_in_its_words() -> None:
    refusal = line("error", kind="refused", message="no cuda here")
    error = failure(ScriptedTransport([hello(), refusal], log="a\nb"))
    assert (error.kind, error.message, error.log_tail) == ("refused", "no cuda here", "a\nb")


def test_what_the_worker_refuses_may_come_with_what_mends_it() -> None:
    refusal = line("error", kind="refused", message="too old", fix="take a newer one")
    error = failure(ScriptedTransport([refusal]))
    assert (error.message, error.fix) == ("too old", "take a newer one")


def test_a_place_that_knows_why_a_worker_ended_is_asked() -> None:
    class Knowing(ScriptedTransport):
        def why_ended(self) -> tuple[str, str]:
            assert not self.stops
            return "the roof fell in", "build a new one"

    error = failure(Knowing([hello()], status=1))
    assert (error.kind, error.fix) == ("crashed", "build a new one")
    assert error.message == "the worker ended in start without a result: the roof fell in"


def test_what_the_engine_raises_is_told_with_the_phase() -> None:
    frames = [hello(), line("phase", phase="load"), line("phase", phase="measure")]
    frames.append(line("error", kind="OutOfMemoryError", message="CUDA out of memory"))
    error = failure(ScriptedTransport(frames))
    assert (error.kind, error.message) == (
        "raised",
        "pytorch failed in measure: OutOfMemoryError: CUDA out of memory",
    )


def test_an_error_in_place_of_the_greeting_is_told() -> None:
    error = failure(ScriptedTransport([line("error", kind="LlemError", message="no backend")]))
    assert (error.kind, error.message) == (
        "raised",
        "pytorch failed in start: LlemError: no backend",
    )


@pytest.mark.parametrize(
    ("status", "how", "fix"),
    [
        (3, "exit status 3", ""),
        (0, "exit status 0", ""),
        (-signal.SIGSEGV, "SIGSEGV", ""),
        (
            -signal.SIGKILL,
            "SIGKILL, which the system sends when memory runs out",
            "lower batch_size, or use a machine with more memory",
        ),
    ],
)
@pytest.mark.parametrize(
    ("frames", "phase"),
    [
        ([], "start"),
        ([hello()], "start"),
        ([hello(), line("phase", phase="load")], "load"),
        ([hello(), line("phase", phase="measure"), RESULT[:-1]], "measure"),
    ],
)
def test_a_worker_that_ends_without_result_has_crashed(
    frames: list[bytes], phase: str, status: int, how: str, fix: str
) -> None:
    error = failure(ScriptedTransport(frames, status=status, log="last words"))
    assert (error.kind, error.message, error.fix, error.log_tail) == (
        "crashed",
        f"the worker ended in {phase} without a result ({how})",
        fix,
        "last words",
    )


@pytest.mark.parametrize("status", [-127, -35])
def test_a_worker_that_ends_by_a_signal_without_name_has_crashed(status: int) -> None:
    transport = ScriptedTransport([hello()], status=status)
    with pytest.raises((WorkerError, ValueError)) as caught:
        talk(transport)
    assert transport.stops
    assert isinstance(caught.value, WorkerError)
    assert caught.value.kind == "crashed"


def test_only_the_end_of_a_long_log_is_told() -> None:
    log = "\n".join(f"line {number}" for number in range(1000))
    error = failure(ScriptedTransport([hello()], status=1, log=log))
    assert error.log_tail.splitlines()[-1] == "line 999"
    assert len(error.log_tail.splitlines()) == 40


@pytest.mark.parametrize(
    ("phases", "phase", "limit", "setting"),
    [
        ([], "start", "0.5", "load_timeout_s"),
        (["load"], "load", "0.5", "load_timeout_s"),
        (["wait", "load"], "load", "0.5", "load_timeout_s"),
        (["load", "idle"], "idle", "0.1", "timeout_s"),
        (["load", "idle", "measure"], "measure", "0.1", "timeout_s"),
        (["load", "pilot", "measure", "pilot", "prefill"], "prefill", "0.1", "timeout_s"),
    ],
)
def test_a_silent_worker_is_too_late(
    phases: list[str], phase: str, limit: str, setting: str
) -> None:
    frames = [hello(), *(line("phase", phase=phase) for phase in phases)]
    transport = ScriptedTransport(frames)
    error = failure(transport)
    assert (error.kind, error.message, error.fix) == (
        "timeout",
        f"no end of {phase} within {limit} s",
        f"raise {setting}, or make the experiment smaller",
    )
    assert transport.stops[0] > 0, "time to end politely"
    assert transport.limits_s[-1] <= float(limit)


def test_a_worker_that_never_greets_is_too_late() -> None:
    error = failure(ScriptedTransport(), Patience(hello_s=0.05))
    assert (error.kind, error.message) == ("timeout", "no end of start within 0.05 s")


def test_phases_after_loading_share_one_limit() -> None:
    phases = [line("phase", phase=name) for name in ("load", "idle", "warmup", "measure")]
    transport = ScriptedTransport([hello(), *phases])
    failure(transport)
    waits = transport.limits_s[-3:]
    assert waits == sorted(waits, reverse=True)
    assert len(set(waits)) == 3


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"Loading weights...\n", "the worker's output can't be understood: "),
        (b'{"frame": "x", "v": NaN}\n', "the worker's output can't be understood: NaN is not"),
        (b"\xff\xfe\n", "the worker's output can't be understood: "),
        (b"[" * 100_000 + b"\n", "the worker's output can't be understood: "),
        (line("dance"), "the worker sent an unknown frame 'dance'"),
        (hello(), "the worker sent an unknown frame 'hello'"),
        (line("result"), "the worker's result can't be understood: "),
        (
            line("result", measurement=to_dict(MEASUREMENT), sha256="0" * 64),
            "the worker's result was damaged on its way",
        ),
        (line("result", measurement=[]), "the worker's result can't be understood: "),
        (
            line("result", measurement={**to_dict(MEASUREMENT), "mood": "good"}),
            "the worker's result can't be understood: Measurement: unknown fields ['mood']",
        ),
        *(
            (
                line("result", measurement=to_dict(measurement(**other))),
                "the worker's result is of another experiment or cycle",
            )
            for other in ({"experiment": "b"}, {"cycle": 2}, {"digest": "f" * 64})
        ),
    ],
    ids=range(13),
)
def test_what_breaks_the_protocol_is_told(said: bytes, message: str) -> None:
    transport = ScriptedTransport([hello(), said], log="a log")
    error = failure(transport)
    assert error.kind == "protocol"
    assert error.message.startswith(message)
    assert error.log_tail == "a log"


def test_a_user_who_interrupts_ends_the_worker() -> None:
    class Interrupt(Listener):
        def progress(self, progress: Progress) -> None:
            raise KeyboardInterrupt

    transport = ScriptedTransport([hello(), line("phase", phase="load")])
    with pytest.raises(KeyboardInterrupt):
        talk(transport, Interrupt())
    assert transport.stops


def test_raw_series_are_handed_on_as_they_come() -> None:
    heard = Heard()
    frames = [line("series", requests=[[1.0]]), line("series", requests=[[2.0], [3.0]])]
    talk(ScriptedTransport([hello(), *frames, RESULT], status=0), heard)
    assert heard.requests == [[1.0], [2.0], [3.0]]


def test_samples_of_the_power_trace_are_handed_on_apart_from_requests() -> None:
    heard = Heard()
    frames = [line("series", trace=[{"at_s": 1.0}]), line("series", requests=[[2.0]])]
    talk(ScriptedTransport([hello(), *frames, RESULT], status=0), heard)
    assert (heard.samples, heard.requests) == ([{"at_s": 1.0}], [[2.0]])


def test_a_wait_for_others_takes_nothing_of_the_time_to_load() -> None:
    class Waiting(ScriptedTransport):
        def receive(self, timeout_s: float) -> bytes | None:
            if len(self._chunks) == 1:
                self.now_s += 0.6  # longer than loading may take
            return super().receive(timeout_s)

    heard = Heard()
    frames = [hello(), line("phase", phase="wait") + line("progress", done=0, total=60)]
    found = talk(Waiting([*frames, line("phase", phase="load") + RESULT], status=0), heard)
    assert found == MEASUREMENT
    assert ("wait", 0, 60) in {(told.phase, told.done, told.total) for told in heard.all}


@pytest.mark.parametrize("phase", ["warmup", "pilot", "measure", "prefill"])
def test_a_worker_that_falls_silent_while_requests_are_made_is_ended(phase: str) -> None:
    transport = ScriptedTransport([hello(), line("phase", phase=phase)])
    error = failure(transport, Patience(hello_s=5, silence_s=0.02))
    assert (error.kind, error.message) == (
        "timeout",
        f"nothing was heard from {phase} for 0.02 s",
    )


def test_a_line_in_the_log_is_a_sign_of_life() -> None:
    class Chatty(ScriptedTransport):
        size = 0

        def log_size(self) -> int:
            self.size += 1
            return self.size

    error = failure(
        Chatty([hello(), line("phase", phase="measure")]), Patience(hello_s=5, silence_s=0.02)
    )
    assert error.message == "no end of measure within 0.1 s"


def test_a_worker_that_never_stops_talking_is_too_late_all_the_same() -> None:
    class Flood(ScriptedTransport):
        def receive(self, timeout_s: float) -> bytes | None:
            if not self._chunks:
                self._chunks.append(line("progress", done=1, total=2))
            return super().receive(timeout_s)

    error = failure(Flood([hello()]))
    assert error.message == "no end of start within 0.5 s"
