"""A third party's distribution: a backend and meters by Protocol, found through entry points.

The backend does what its options say: it sleeps, and it fails in every way an engine can.

* ``token_s``: seconds a step.
* ``<way>_in: <phase>``: the ways are ``raise hang hold_gil exit kill segv babble daemon print
  close_stdout``, the phases ``load run close``.
* ``fail_once: path``: fails as long as the file isn't there, and makes it.
* ``hoard: bytes``: memory that it fills in ``run``, and frees.
* ``grandchild: true``: starts a process in a session of its own.
* ``drop_tokens: n``: reports n tokens fewer; ``nan: true``: times that are no numbers;
  ``blob: n``: n bytes of facts.
* ``ignore_term: true``: SIGTERM does nothing; ``gil_thread: true``: half a second after loading
  a thread takes the interpreter for good.
* ``computes_on: cuda``: the device that it says it computes on.
* ``mark: path``: writes the phase there on entering it; ``diary: path``: adds a line for it.
* ``takes: bytes``: memory of the first GPU of a container of ``tests/rig/docker``, while loaded.
* ``cached: n``: tokens of each prompt that it says it found in a cache, where it streams.
* ``settles: n``: the first n calls of ``run`` take twice as long as the one after them, and less
  each time; ``refuse_one: true``: it refuses requests of a single token.

LLEM_FAKE_VERSION is the version it says it is; 2.0 needs a tenth more memory. What it does when it
is imported by a template, LLEM_FAKE_PRELOAD says: ``thread`` starts one, ``raise`` fails.

Its meter ``edges`` is as uncertain as the variables LLEM_FAKE_EDGE_J (each window, 0.05 J if not
set) and LLEM_FAKE_NOISE_J (a second of a window, 0 J if not set) say.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import math
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pytest_llem.experiment import Experiment
from pytest_llem.extensions import (
    Abilities,
    Completion,
    EngineFacts,
    Launch,
    Target,
    Transport,
    Workload,
)
from pytest_llem.records import Quality, Reading, RequestTiming


def _hold_gil() -> None:
    # PyDLL doesn't release the interpreter around the call.
    ctypes.PyDLL(None).sleep(600)


def _close_stdout() -> None:
    # Every descriptor but the standard three: the frames' own is among them.
    os.closerange(3, 64)
    time.sleep(600)


def _babble() -> None:
    # Into every pipe there is: the frames' own among them, whichever it is.
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.write(fd, b'Loading... {"frame": "resu')


def _daemon() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)


_WAYS: dict[str, Callable[[], object]] = {
    "hang": lambda: time.sleep(600),
    "hold_gil": _hold_gil,
    "exit": lambda: os._exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segv": lambda: ctypes.string_at(0),
    "babble": _babble,
    "daemon": _daemon,
    "print": lambda: print("engine chatter", flush=True),  # noqa: T201
    "close_stdout": _close_stdout,
}


def _version() -> str:
    """Version 2 needs a tenth more memory."""
    return os.environ.get("LLEM_FAKE_VERSION", "1.0")


_AT_FIRST_BYTES = 1e9
_SIMULATED = Path("/run/simnvml/simnvml.conf")
"""Of the driver that containers of the rig have."""


class NiceRunner:
    """Runs workers on this host at a lower priority: nice:7."""

    name = "nice"

    def start(self, launch: Launch) -> Transport:
        # Of the host's side, which a worker doesn't have.
        from pytest_llem.runners import local

        return local.start(launch, ["nice", "-n", launch.argument or "10"])


class FakeBackend:
    name = "fake"
    install = "pip install llem-fake-engine"
    abilities = Abilities(
        scenarios=frozenset({"offline", "poisson", "concurrency"}),
        parallel=True,
        decoding=frozenset({"top_k"}),
        forks=True,
    )

    def versions(self) -> Mapping[str, str | None]:
        missing = os.environ.get("LLEM_FAKE_MISSING")
        return {"llem-fake-engine": None if missing else _version()}

    def preload(self) -> None:
        """Nothing is heavy here."""
        way = os.environ.get("LLEM_FAKE_PRELOAD")
        if way == "thread":
            threading.Thread(target=time.sleep, args=[600], daemon=True).start()
        if way == "raise":
            raise ImportError("no libfake.so")

    def load(self, experiment: Experiment) -> FakeEngine:
        engine = FakeEngine(experiment.options, self.name)
        engine.take_memory(+1)
        engine.misbehave("load")
        return engine


class OtherBackend(FakeBackend):
    """Another one, which needs the same GPU, and builds its engines for a batch size."""

    name = "other"
    abilities = Abilities(built_from=frozenset({"batch_size"}))


class _Work:
    """The time that all tokens of this process were meant to take."""

    meant_s = 0.0


class FakeEngine:
    def __init__(self, options: Mapping[str, Any], name: str) -> None:
        self._options = options
        self._name = name
        self._peak = 0
        self._runs = 0
        self.loop = asyncio.new_event_loop()

    def misbehave(self, phase: str) -> None:
        if diary := self._options.get("diary"):
            with Path(diary).open("a") as file:
                file.write(f"{phase} {self._name}\n")
        if self._options.get("grandchild") and phase == "load":
            command = [sys.executable, "-c", "import time; time.sleep(600)"]
            subprocess.Popen(command, start_new_session=True)
        if self._options.get("ignore_term"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self._options.get("gil_thread") and phase == "load":
            threading.Timer(0.5, _hold_gil).start()
        if mark := self._options.get("mark"):
            # Whoever finds it finds all the above, too.
            Path(mark).write_text(phase)
        if self._options.get("raise_in") == phase:
            raise RuntimeError(f"no luck in {phase}")
        for way, act in _WAYS.items():
            if self._options.get(f"{way}_in") == phase:
                act()
        if (once := self._options.get("fail_once")) and phase == "run":
            path = Path(once)
            if not path.exists():
                path.touch()
                raise RuntimeError("failed once")

    def facts(self) -> EngineFacts:
        details = {
            "fake": True,
            "blob": "x" * int(self._options.get("blob", 0)),
            "word": os.environ.get("LLEM_FAKE_WORD"),
            "nice": os.nice(0),
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        }
        device = str(self._options.get("computes_on", "cpu"))
        return EngineFacts(vocab_size=256, device=device, details=details)

    def run(self, workload: Workload, progress: Callable[[int], None]) -> tuple[Completion, ...]:
        self.misbehave("run")
        if hoard := int(self._options.get("hoard", 0)):
            bytearray(b"x") * hoard
        if self._options.get("refuse_one") and workload.output_tokens == 1:
            raise RuntimeError("a single token is beneath me")
        self._runs += 1
        done: list[Completion] = []
        for prompt in workload.prompts:
            done.append(self._complete(prompt, workload.output_tokens))
            progress(len(done))
        return tuple(done)

    def _complete(self, prompt: Sequence[int], count: int) -> Completion:
        submitted_s = time.monotonic()
        times = []
        for _ in range(count - int(self._options.get("drop_tokens", 0))):
            token_s = float(self._options.get("token_s", 0.001)) * self._slowness()
            _Work.meant_s += token_s
            time.sleep(token_s)
            times.append(float("nan") if self._options.get("nan") else time.monotonic())
        timing = RequestTiming(
            submitted_s=submitted_s,
            token_s=tuple(times),
            input_tokens=len(prompt),
            output_tokens=len(times),
        )
        return Completion(timing=timing, token_ids=tuple(range(len(times))))

    async def answer(
        self, number: int, workload: Workload, progress: Callable[[int], None]
    ) -> Completion:
        """As :meth:`run` does, while others are answered; it is begun with a step later."""
        if not number:
            self.misbehave("run")
        submitted_s = time.monotonic()
        token_s = float(self._options.get("token_s", 0.001))
        await asyncio.sleep(token_s)
        scheduled_s, times = time.monotonic(), []
        for _ in range(workload.output_tokens - int(self._options.get("drop_tokens", 0))):
            _Work.meant_s += token_s
            await asyncio.sleep(token_s)
            times.append(time.monotonic())
            progress(len(times))
        timing = RequestTiming(
            submitted_s=submitted_s,
            token_s=tuple(times),
            input_tokens=len(workload.prompts[number]),
            output_tokens=len(times),
            scheduled_s=scheduled_s,
        )
        ids = tuple(range(len(times)))
        cached = int(self._options.get("cached", 0))
        return Completion(timing=timing, token_ids=ids, cached_tokens=cached, preemptions=0)

    def _slowness(self) -> float:
        settles = float(self._options.get("settles", 0))
        return 1.0 + max(0.0, settles + 1 - self._runs) / (settles or 1.0)

    def reset_peak_memory(self) -> None:
        self._peak = 1_100_000 if _version().startswith("2.") else 1_000_000

    def peak_memory_bytes(self) -> int | None:
        return self._peak

    def take_memory(self, sign: int) -> None:
        """Use the option's bytes more, or fewer."""
        if takes := int(self._options.get("takes", 0)):
            lines = _SIMULATED.read_text().splitlines()
            settings = dict(line.split("=", 1) for line in lines)
            used = float(settings.get("gpu0.mem_used", _AT_FIRST_BYTES))
            settings["gpu0.mem_used"] = str(used + sign * takes)
            unfinished = _SIMULATED.with_suffix(".taken")
            unfinished.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
            unfinished.replace(_SIMULATED)

    def close(self) -> None:
        self.loop.close()
        self.misbehave("close")
        self.take_memory(-1)


class FixedMeter:
    """10 W, whatever happens."""

    name = "fixed"
    estimates = False
    quality: Quality = "ok"
    doubt: str | None = None
    before_w: float | None = None
    method: Literal["counter"] = "counter"

    def __init__(self, target: Target) -> None:
        self.domains = ("cpu:0",) if target.device == "cpu" else ()
        self.reason = "" if self.domains else "it reads the CPU only"

    def start(self, exact: bool = True) -> object:
        """There is nothing to wait for."""

    def close(self) -> None:
        """Nothing is held."""

    def stop(self, token: object, start_s: float, end_s: float) -> Sequence[Reading]:
        energy_j = None if self.quality == "unmeasured" else 10.0 * (end_s - start_s)
        return (
            Reading(
                domain="cpu:0",
                meter=self.name,
                method=self.method,
                energy_j=energy_j,
                uncertainty_j=None if energy_j is None else 0.01 * energy_j,
                quality=self.quality,
                reason=self.doubt,
                before_w=self.before_w,
            ),
        )


class EdgesMeter(FixedMeter):
    """10 W while tokens are made, known the better the longer that is.

    A token takes as long as it was meant to, so that a busy machine makes no difference.
    """

    name = "edges"

    def start(self, exact: bool = True) -> float:
        return _Work.meant_s

    def stop(self, token: object, start_s: float, end_s: float) -> Sequence[Reading]:
        assert isinstance(token, float)
        work_s = _Work.meant_s - token
        (reading,) = super().stop(token, 0.0, work_s)
        edge_j = float(os.environ.get("LLEM_FAKE_EDGE_J", "0.05"))
        noise_j = float(os.environ.get("LLEM_FAKE_NOISE_J", "0"))
        spread_j = math.hypot(edge_j, noise_j * math.sqrt(work_s))
        return (dataclasses.replace(reading, uncertainty_j=spread_j),)


class ShortMeter(FixedMeter):
    name = "short"
    quality: Quality = "short"
    doubt = "the window is shorter than the counter's period"


class BrokenMeter(FixedMeter):
    name = "broken"
    quality: Quality = "unmeasured"
    doubt = "the counter went away"


class WarmMeter(FixedMeter):
    """Twice the power just before a window."""

    name = "warm"
    before_w = 20.0
