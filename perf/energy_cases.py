"""Simulated boards, loads and windows, and any meter on them. Part of energy_accuracy.py."""

from __future__ import annotations

import importlib.metadata
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from perf import energy_meters
from perf.energy_meters import NEEDS, Answer, Step
from tests.rig import truth
from tests.rig.nvml import BOARDS, Rig

__all__ = [
    "Case",
    "cases",
    "judged",
    "missing",
    "real",
    "rig_of",
    "steps_of",
    "versions",
    "waves",
]

_SHAPES = {
    "constant": ("const:{}", (0.6,)),
    "square": ("square:{},{},0.2", (0.36, 0.79)),
    "fast square": ("square:{},{},0.037,0.3", (0.29, 0.86)),
    "sine": ("sine:{},{},0.37", (0.57, 0.21)),
    "ramp": ("ramp:{},{},0.5", (0.29, 0.86)),
    "steps": ("steps:0.03,{},0.05,{},0.02,{}", (0.71, 0.43, 0.64)),
    "slow square": ("square:{},{},1.3", (0.29, 0.86)),
    "prefill, decode": ("steps:0.08,{},0.37,{}", (0.95, 0.5)),
}
"""In the language of the rig; powers as shares of a board's limit."""

_PEER_WAVES = ("square", "sine", "ramp", "prefill, decode")
_DRAWN = 2
_LATENCY_US = 30
_JITTER_US = 20
_PAUSE_S = (1.2, 1.5)
"""Longer than the longest mean of power readings, so that a load doesn't reach into the next."""

_PROCESSES = 4
_SLOW = ("H100", "linear")
_EDGES_S = 8.0
_GRACE_S = 90.0
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A board and what befalls it.

    Attributes:
        group: with which others it is judged.
        next_to: windows follow each other without a pause.
        limits: which limits of SPEC 10 hold: ``counter``, ``tail``, ``power``, ``sensor``.
    """

    board: str
    name: str
    group: str
    limits: str
    tail_ms: float = 0
    tail_shape: str = "linear"
    next_to: bool = False

    @property
    def in_real_time(self) -> bool:
        """Whether it is one of the few that are measured in real time, too."""
        return not self.next_to and (not self.tail_ms or (self.board, self.tail_shape) == _SLOW)

    @property
    def period_s(self) -> float:
        """From one tick to the next, of the counter or of what stands in for it."""
        key = "usage_period_ms" if self.limits == "power" else "energy_period_ms"
        return float(BOARDS[self.board][key]) / 1000


def cases(boards: Iterable[str], tail_ms: float, shapes: Sequence[str]) -> list[Case]:
    """All that there is for some boards."""
    found = []
    for board in boards:
        if board == "NO_COUNTER":
            found.append(Case(board=board, name="no counter", group=board, limits="power"))
            continue
        if board == "SENSOR":
            found.append(Case(board=board, name="25 % seen", group=board, limits="sensor"))
            continue
        period_ms = float(BOARDS[board]["energy_period_ms"])
        kind = f"{period_ms:g} ms counter"
        plain = Case(board=board, name="no tail", group=f"{kind}, no tail", limits="counter")
        beside = replace(plain, name="back to back", group=f"{kind}, back to back", next_to=True)
        # Neighbouring windows are a matter of the counter's period, not of the board.
        found += [plain] if board == "A100" else [plain, beside]
        found += [
            Case(
                board=board,
                name=f"tail, {shape}",
                group=f"{kind}, tail",
                limits="tail",
                tail_ms=tail_ms,
                tail_shape=shape,
            )
            for shape in shapes
            if tail_ms
        ]
    return found


# --- loads -----------------------------------------------------------------------------------


def _drawn(rng: random.Random, limit_w: float) -> str:
    """A curve through some points, as no one would think of it."""
    count, period_s = rng.randint(3, 8), 10 ** rng.uniform(-1.3, 0.3)
    times = [0.0, *sorted(rng.uniform(0, period_s) for _ in range(count)), period_s]
    return "pwl:" + ",".join(f"{t:.6f},{rng.uniform(0.25, 1) * limit_w:.1f}" for t in times)


def waves(board: str, seed: int, given: Sequence[str] = (), *, few: bool = False) -> dict[str, str]:
    """Names and power curves: those given, or the built-in ones and some drawn by the seed."""
    if given:
        return {wave: wave for wave in given}
    limit_w = float(BOARDS[board]["power_limit_w"])
    found = {
        name: shape.format(*(f"{share * limit_w:.0f}" for share in shares))
        for name, (shape, shares) in _SHAPES.items()
        if not few or name in _PEER_WAVES
    }
    if not few:
        rng = random.Random(f"wave {seed}")
        found |= {f"drawn {number}": _drawn(rng, limit_w) for number in range(1, _DRAWN + 1)}
    return found


def steps_of(case: Case, rng: random.Random, windows: Sequence[float], runs: int) -> list[Step]:
    """Windows of some lengths, as many of each, in random order and at random times."""
    lengths = [length for length in windows for _ in range(runs)]
    rng.shuffle(lengths)
    return [
        Step(
            pause_s=0 if case.next_to else rng.uniform(*_PAUSE_S) + case.tail_ms / 1000,
            window_s=length,
            duration_s=length + rng.uniform(0, case.period_s),
        )
        for length in lengths
    ]


def rig_of(folder: Path, case: Case, wave: str, rng: random.Random, **settings: str | float) -> Rig:
    """A machine with the case's board under a load, its counter at a random phase."""
    board = BOARDS[case.board]
    return Rig(
        folder,
        board,
        settings={
            "wave": wave,
            "tail_ms": case.tail_ms,
            "tail_shape": case.tail_shape,
            "latency_us": _LATENCY_US,
            "latency_jitter_us": _JITTER_US,
            "latency_mode": "sleep",
            "tick_phase_ms": rng.uniform(0, 1000 * case.period_s),
            **settings,
        },
    )


def judged(
    rig: Rig, case: Case, meter: str, wave: str, found: Iterable[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The same with the truth beside it."""
    true, idle_w = rig.truth(), float(rig.setting("idle"))
    tail_s = case.tail_ms / 1000
    for window in found:
        row = {**window, "meter": meter, "board": case.board, "case": case.name, "wave": wave}
        if "end_s" in window:
            start_s, end_s = window["start_s"], window["end_s"]
            row["true_j"] = true.energy(start_s, end_s)
            row["edge_ticks"] = window["edge_s"] / case.period_s
            if not case.next_to:
                above_j = true.energy(start_s, end_s + tail_s) - idle_w * (end_s + tail_s - start_s)
                row["true_above_j"] = above_j
        yield row


# --- any meter, in real time and in a process of its own -------------------------------------


def missing(meter: str, python: str) -> str:
    """Why a meter can't be run by an interpreter; empty where it can."""
    package = NEEDS[meter].partition("==")[0]
    if not package:
        return ""
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([python, "-c", ask], capture_output=True, text=True)
    if done.returncode:
        return f"{meter}: not installed. Install it with: {python} -m pip install {NEEDS[meter]}"
    return ""


def versions(meters: Iterable[str], python: str) -> dict[str, str]:
    """Installed versions of the meters' packages."""
    found = {"pytest-llem": importlib.metadata.version("pytest-llem")}
    for meter in meters:
        if package := NEEDS[meter].partition("==")[0]:
            ask = f"import importlib.metadata as m; print(m.version({package!r}))"
            done = subprocess.run([python, "-c", ask], capture_output=True, text=True)
            found[package] = done.stdout.strip()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """Windows to give to a meter, on one case and with one load."""

    meter: str
    case: Case
    name: str
    wave: str
    python: str
    windows: Sequence[float]
    runs: int
    seed: int


def _environment(rig: Rig, folder: Path) -> dict[str, str]:
    """Of a process that finds the simulated GPUs and nothing of this one's home."""
    # codecarbon looks for GPUs only where there is this command.
    command = folder / "bin" / "nvidia-smi"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\nexit 0\n")
    command.chmod(0o755)
    environment = rig.environment() | {"HOME": str(folder)}
    environment["PATH"] = f"{command.parent}:{environment['PATH']}"
    environment.pop("PYTHONPATH", None)
    return environment


def _ask(job: _Job, rig: Rig, steps: Sequence[Step], folder: Path) -> list[dict[str, Any]]:
    """Run the job's process; windows without energy, and a reason, where it fails."""
    order = {
        "meter": job.meter,
        "steps": [asdict(step) for step in steps],
        "marks": str(rig.marks.path),
        "stats": str(rig.stats_path),
        "truth": truth.__file__,
        "path": [str(_ROOT)] if job.meter == "ours" else [],
    }
    longest_s = sum(step.pause_s + step.duration_s + _EDGES_S for step in steps) + _GRACE_S
    try:
        done = subprocess.run(
            [job.python, energy_meters.__file__],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            env=_environment(rig, folder),
            cwd=folder,
            timeout=longest_s,
        )
    except subprocess.TimeoutExpired:
        said: dict[str, Any] = {"failed": f"no answer within {longest_s:.0f} s"}
    else:
        last = "".join(done.stderr.strip().splitlines()[-1:])
        said = json.loads(done.stdout) if done.stdout else {"failed": last or "it said nothing"}
    failed = [
        {**asdict(Answer(quality="unmeasured", reason=said["failed"])), "window_s": step.window_s}
        for step in steps
        if "failed" in said
    ]
    found: list[dict[str, Any]] = said.get("windows", failed)
    return found


def _child(job: _Job) -> list[dict[str, Any]]:
    rng = random.Random(f"{job.seed} {job.case.board} {job.case.name} {job.name}")
    with tempfile.TemporaryDirectory() as folder:
        rig = rig_of(Path(folder), job.case, job.wave, rng)
        steps = steps_of(job.case, rng, job.windows, job.runs)
        found = _ask(job, rig, steps, Path(folder))
        return list(judged(rig, job.case, job.meter, job.name, found))


def real(
    meters: Sequence[str],
    wanted: Sequence[Case],
    loads: Mapping[str, Mapping[str, str]],
    windows: Sequence[float],
    runs: int,
    seed: int,
    python: str,
) -> list[dict[str, Any]]:
    """Meters on cases, each with each load in a process of its own; some peers at the same time.

    Args:
        meters: their names.
        wanted: the cases.
        loads: of each board, names and power curves.
        windows: their lengths in seconds.
        runs: windows of each length.
        seed: of all chance.
        python: the interpreter that has the peers.
    """
    jobs = [
        _Job(
            meter=meter,
            case=case,
            name=name,
            wave=wave,
            python=sys.executable if meter == "ours" else python,
            windows=windows,
            runs=runs,
            seed=seed,
        )
        for case in wanted
        for name, wave in loads[case.board].items()
        for meter in meters
    ]
    # Ours asks for the processor just when a tick is due: it must not meet itself.
    ours = [job for job in jobs if job.meter == "ours"]
    with ThreadPoolExecutor(_PROCESSES) as pool:
        parts = [*pool.map(_child, [job for job in jobs if job.meter != "ours"])]
    return [window for part in [*parts, *map(_child, ours)] for window in part]
