"""A worker that keeps its engine, and one that asks for meters of the host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import WorkerError
from pytest_llem.extensions import Launch
from pytest_llem.records import Reading
from pytest_llem.runners.beside import HostMeters
from pytest_llem.runners.conversation import Worker
from pytest_llem.runners.local import start
from pytest_llem.wire import PROTOCOL, checksum, from_dict, to_dict
from tests.acceptance.conftest import THIRD_PARTY
from tests.builders import DIGEST, experiment, measurement, reading
from tests.fakes import ScriptedTransport
from tests.rig.fixtures import MakePowercap
from tests.rig.powercap import Zone

MEASUREMENT = to_dict(measurement())
HELLO = {"protocol": PROTOCOL, "llem": "0.1.0", "versions": {}, "boot_id": "b"}
READY = {"domains": ["cpu:0"], "estimates": False, "reason": ""}
WANTED = {"meter": "rapl", "device": "cpu", "count": 1}
WINDOW = {"meter": "rapl", "start_s": 1.0, "end_s": 2.0}


def line(frame: str, **fields: Any) -> bytes:
    return json.dumps({"frame": frame, **fields}).encode() + b"\n"


def result() -> bytes:
    return line("result", measurement=MEASUREMENT, sha256=checksum(MEASUREMENT))


def frames(transport: ScriptedTransport) -> list[dict[str, Any]]:
    return [json.loads(text) for text in transport.sent.splitlines()]


# --- kept engines --------------------------------------------------------------------------


def test_a_kept_engine_is_asked_again_and_told_to_close() -> None:
    transport = ScriptedTransport([line("hello", **HELLO), result(), result()], status=0)
    worker = Worker(transport)
    for _ in range(2):
        assert worker.measure(experiment(), DIGEST, 1, keep=True) == measurement()
    assert transport.stops == []
    worker.close()
    assert [frame["frame"] for frame in frames(transport)] == ["request", "request", "close"]
    assert transport.stops == [0.0]


def test_limits_begin_anew_with_each_request() -> None:
    given = experiment(load_timeout_s=30.0, timeout_s=0.1)
    talk = [line("phase", phase="warmup"), line("phase", phase="measure")]
    transport = ScriptedTransport([line("hello", **HELLO), *talk, result(), *talk])
    worker = Worker(transport)
    worker.measure(given, DIGEST, 1, keep=True)
    with pytest.raises(WorkerError, match=r"no end of measure within 0\.1 s") as error:
        worker.measure(given, DIGEST, 1, keep=True)
    assert "raise timeout_s" in error.value.fix
    assert transport.stops == [30.0, 0.0]


def test_each_measurement_of_a_kept_worker_has_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(THIRD_PARTY))
    given = experiment(
        backend="fake",
        meters=("fixed",),
        idle="none",
        warmup="none",
        options={"print_in": "run", "grandchild": True},
    )
    logs = [tmp_path / f"c{cycle}.log" for cycle in (1, 2, 3)]
    transport = start(Launch(backend="fake", log=logs[0]))
    worker = Worker(transport)
    for log in logs:
        transport.log_to(log)
        worker.measure(given, DIGEST, 1, keep=True)
        assert transport.log_tail(3) == "engine chatter"
        assert transport.log_size() == len("engine chatter\n")
    assert transport.unwell() == ""
    worker.close()
    assert [log.read_text() for log in logs] == ["engine chatter\n"] * 3
    assert sorted(tmp_path.iterdir()) == logs
    assert "ended" in transport.unwell()


# --- meters of the host --------------------------------------------------------------------


def meters(tmp_path: Path, *chunks: bytes, **told: Any) -> tuple[HostMeters, ScriptedTransport]:
    transport = ScriptedTransport([line("hello", boot_id="b"), *chunks], **told)

    def starter(launch: Launch) -> ScriptedTransport:
        assert launch.role == "meter"
        return transport

    return HostMeters(tmp_path / "log", starter), transport


def rows(*found: Reading) -> list[dict[str, Any]]:
    return [to_dict(one) for one in found]


def test_questions_are_passed_on_and_readings_joined(tmp_path: Path) -> None:
    measured = reading(5.0)
    chunks = (
        line("meter_ready", **READY),
        line("window_started"),
        line("readings", readings=rows(measured)),
    )
    beside, transport = meters(tmp_path, *chunks)
    ready = beside.answer({"frame": "meter_request", **WANTED}, "b")
    assert ready == {"frame": "meter_ready", **READY}
    start_frame = {"frame": "window_start", "meter": "rapl", "exact": True}
    assert beside.answer(start_frame, "b") == {"frame": "window_started"}
    answer = beside.answer({"frame": "window_stop", **WINDOW}, "b")
    assert [from_dict(Reading, row) for row in answer["readings"]] == [measured]
    assert [frame["frame"] for frame in frames(transport)] == [
        "meter_request",
        "window_start",
        "window_stop",
    ]
    beside.close()
    assert transport.stops == [0.0]


def test_readings_by_another_kernels_clock_have_no_figures(tmp_path: Path) -> None:
    chunks = (line("meter_ready", **READY), line("readings", readings=rows(reading(5.0))))
    beside, _ = meters(tmp_path, *chunks)
    beside.answer({"frame": "meter_request", **WANTED}, "b")
    (row,) = beside.answer({"frame": "window_stop", **WINDOW}, "another")["readings"]
    assert (row["energy_j"], row["quality"]) == (None, "unmeasured")
    assert "another kernel" in row["reason"]


@pytest.mark.parametrize(
    ("chunks", "words"),
    [((), "it ended"), ((b'{"frame": "error", "message": "no"}\n',), ": no"), ((b"x\n",), "")],
)
def test_a_meter_that_fails_leaves_its_domains_unmeasured(
    tmp_path: Path, chunks: tuple[bytes, ...], words: str
) -> None:
    beside, transport = meters(tmp_path, line("meter_ready", **READY), *chunks, status=1)
    beside.answer({"frame": "meter_request", **WANTED}, "b")
    start_frame = {"frame": "window_start", "meter": "rapl", "exact": True}
    assert beside.answer(start_frame, "b") == {"frame": "window_started"}
    (row,) = beside.answer({"frame": "window_stop", **WINDOW}, "b")["readings"]
    assert (row["domain"], row["energy_j"], row["quality"]) == ("cpu:0", None, "unmeasured")
    assert "the worker that reads this host's counters failed" in row["reason"]
    assert words in row["reason"]
    assert transport.stops == [0.0]
    again = beside.answer({"frame": "meter_request", **WANTED}, "b")
    assert (again["domains"], again["reason"]) == ([], row["reason"])


def test_an_engine_elsewhere_is_metered_by_a_worker_here(
    tmp_path: Path, powercap: MakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The engine's worker sees no counter, as in a container; the meter's worker sees the tree.
    tree = powercap([Zone(name="package-0", wave="const:110")])
    monkeypatch.setenv("LLEM_POWERCAP", str(tree.root))
    hidden = {"LLEM_POWERCAP": str(tmp_path)}
    engine = start(Launch(backend="pytorch", log=tmp_path / "engine.log", environment=hidden))
    beside = HostMeters(tmp_path / "meter.log")
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model = str(Path(__file__).parents[2] / "benchmarks" / "models" / "tiny-llama")
    given = experiment(
        model=model, weights="random", device="cpu", idle="none", warmup="none", output_tokens=8
    )
    worker = Worker(engine, beside=beside)
    found = worker.measure(given, DIGEST, 1)
    worker.close()
    beside.close()
    (window,) = [window for window in found.windows if window.phase == "measure"]
    (told,) = window.readings
    assert (told.domain, told.meter, told.method) == ("cpu:0", "rapl", "counter")
    assert told.energy_j is not None
    assert told.energy_j > 0
    assert found.testbed["meters"] == {"rapl": ["cpu:0"]}
