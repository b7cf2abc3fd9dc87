"""How exact GPU energies are, against simulated boards whose energy is known.

Run it with: python perf/energy_accuracy.py [--quick] [--seed N] [--json PATH] [--peers PYTHON]

Our meter, by the real ``pynvml``, reads the simulated driver of ``tests/rig``: V100 (a counter
every 20 ms), A100 and H100 (every 100 ms), each without and with a load that decays for 180 ms
behind the window, in three shapes; windows back to back; a board without a counter; and one whose
counter is fed by a sensor that sees a quarter of the time. Every power curve meets every case, two
of them drawn by the seed. Windows begin at random phases of the counter and last up to one of its
periods longer than shown, so that no phase is special. The truth is the closed integral of the
power between the marks: the one made right after ``start()`` returned, and the one right before
``stop()`` is called.

Ours runs in virtual time: sleeping, looking at the clock and calling NVML (30 to 50 µs) move a
simulated clock, sleepers wake 20 to 120 µs late and sometimes 1 ms. So hundreds of windows take
seconds, and a seed gives the same figures on every machine. ``--stalls 0.05`` keeps the process
from running for 3 to 40 ms after every 20th sleep, as a busy host does; edge times are then not
judged. Where there is no counter, another process collects power readings; in virtual time those
are given that it would have seen. ``--real-time`` adds ours on the real clock, in processes of
their own, with all there is to it.

Peers run in real time, each with each load in a process of its own, four at the same time, with
four power curves: ``polling`` is power every 100 ms and the trapezoidal rule; zeus, codecarbon and
llenergymeasure are used as their documentation says. ``--peers`` names the interpreter that has
them: python -m venv PEERS && PEERS/bin/pip install zeus==0.16.0 codecarbon==3.3.2
llenergymeasure==0.7.0 nvidia-ml-py==13.615.71. One run of them takes minutes.

Judged is ours in virtual time, by the energy rows of the specification. ``mean`` is that of the
absolute relative errors; ``±`` is the median half-width of the stated 95 % interval, then as a
multiple of ``mean``; ``none`` is the share unmeasured, ``flag`` that of ``short`` and ``degraded``;
``idle`` the error of the energy above idle until the device was back there; ``calls`` of NVML for
a window, those ``inside`` it from all processes; ``ticks`` periods of the counter that start and
stop took together, and the ``most``. Intervals are judged for all windows of a case together, and
for each length as far as chance with so many windows allows; with ``--quick``, which has few, all
by that. The exit status is 1 when a limit is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from perf.energy_cases import Case, cases, missing, real, versions, waves
from perf.energy_limits import judge, judge_faults, summary
from perf.energy_meters import METERS
from perf.energy_virtual import faults, virtual
from tests.rig.nvml import BOARDS, RigUnavailable, build
from tests.rig.truth import Wave

_WINDOWS = (0.1, 0.5, 1.0, 5.0)
_SHAPES = ("linear", "exponential", "steps")
_PEERS = tuple(name for name in METERS if name != "ours")
_RUNS, _QUICK_RUNS = 12, 1

Row = dict[str, Any]


# --- running ---------------------------------------------------------------------------------


def measured(options: argparse.Namespace, wanted: Sequence[Case]) -> list[Row]:
    """All windows of all meters."""
    rows: list[Row] = []
    seed = options.seed
    if "ours" in options.meters:
        for case in wanted:
            loads = waves(case.board, seed, options.wave)
            found = virtual(case, loads, options.windows, options.runs, seed, options.stalls)
            rows += [{**row, "clock": "virtual"} for row in found]
    meters = [name for name in options.meters if name != "ours"]
    meters = (["ours"] if options.real_time and "ours" in options.meters else []) + meters
    if meters:
        few = {board: waves(board, seed, options.wave, few=True) for board in options.boards}
        # In real time every window counts: one tail will do, and no neighbours.
        some = [case for case in wanted if case.in_real_time]
        found = real(meters, some, few, options.windows, options.real_runs, seed, options.peers)
        rows += [{**row, "clock": "real"} for row in found]
    return rows


def table(rows: Sequence[Row], *, by_wave: bool) -> list[Row]:
    """A row for each meter, board, case and length of window; also for each power curve."""
    keys = ("board", "case", *(("wave",) if by_wave else ()), "window_s", "meter", "clock")
    kinds: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        kinds.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [{**dict(zip(keys, kind, strict=True)), **summary(kinds[kind])} for kind in kinds]


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Everything measured, as plain JSON data."""
    begun_s = time.perf_counter()
    wanted = cases(options.boards, options.tail_ms, options.tail_shape)
    rows = measured(options, wanted)
    known = {(case.board, case.name): case for case in wanted}
    ours = [row for row in rows if row["clock"] == "virtual"]
    checks = judge(ours, known, quick=options.quick, edges=not options.stalls)
    broken = faults(options.seed) if ours else []
    checks += judge_faults(broken) if broken else []
    return {
        "schema_version": 1,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "versions": versions(options.meters, options.peers),
        "seed": options.seed,
        "runs": options.runs,
        "quick": options.quick,
        "stalls": options.stalls,
        "waves": {board: waves(board, options.seed, options.wave) for board in options.boards},
        "notes": options.notes,
        "took_s": time.perf_counter() - begun_s,
        "rows": table(rows, by_wave=options.by_wave),
        "faults": [
            {key: row[key] for key in ("case", "energy_j", "true_j", "method", "quality", "reason")}
            for row in broken
            if "true_j" in row
        ],
        "checks": checks,
        "passed": all(check["passed"] is not False for check in checks),
    }


# --- printing --------------------------------------------------------------------------------


def _percent(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


_COLUMNS = (
    ("window", 7),
    ("meter", 18),
    ("n", 5),
    ("mean %", 9),
    ("bias %", 9),
    ("max %", 9),
    ("in 95 %", 8),
    ("± %", 9),
    ("±/mean", 7),
    ("none %", 7),
    ("flag %", 7),
    ("idle %", 8),
    ("calls", 7),
    ("inside", 7),
    ("CPU ms", 7),
    ("ticks", 6),
    ("most", 5),
    ("edge s", 7),
)


def _line(row: Row) -> str:
    meter = row["meter"] + (", real" if (row["meter"], row["clock"]) == ("ours", "real") else "")
    cells = (
        f"{row['window_s']:g} s",
        meter,
        str(row["n"]),
        _percent(row["mean_error"]),
        _percent(row["bias"]),
        _percent(row["max_error"]),
        _percent(row["coverage"], 1),
        _percent(row["half_width"]),
        _number(row["half_width_ratio"], 2),
        _percent(row["unmeasured"], 0),
        _percent(row["flagged"], 0),
        _percent(row["idle_error"]),
        _number(row["calls"], 0),
        _number(row["calls_inside"]),
        # In virtual time sleeping is work, and nothing is waited for.
        _number(1000 * row["cpu_s"] if row["clock"] == "real" and row["cpu_s"] else None),
        _number(row["edge_ticks"]),
        _number(row["max_edge_ticks"]),
        _number(row["edge_s"], 3),
    )
    sides = zip(cells, _COLUMNS, strict=True)
    return "".join(
        cell.ljust(width) if name == "meter" else cell.rjust(width) + " " * (name == "window") * 2
        for cell, (name, width) in sides
    )


def _cell(check: Mapping[str, Any]) -> str:
    """A value beside its limit; ``!`` where that isn't kept."""
    window = "" if check["window_s"] is None else f"{check['window_s']:g} s "
    if check["value"] is None:
        return f"{window}-"
    scale = 100 if check["unit"] == "%" else 1
    sign = "≥" if check["least"] else "≤"
    mark = "!" if check["passed"] is False else ""
    note = " by chance" * (check["note"] == "chance")
    return f"{window}{mark}{scale * check['value']:.3g} {sign} {scale * check['limit']:g}{note}"


def _show_checks(checks: Sequence[Row]) -> None:
    for group in dict.fromkeys(check["group"] for check in checks):
        members = [check for check in checks if check["group"] == group]
        print(group)
        for what in dict.fromkeys(check["what"] for check in members):
            line = [check for check in members if check["what"] == what]
            judged = [check["passed"] for check in line if check["passed"] is not None]
            state = ("kept" if all(judged) else "NOT KEPT") if judged else "not judged"
            unit = line[0]["unit"].strip()
            label = f"{what}, {unit}" if unit not in ("", "×") else what
            print(f"  {label:<36}{'   '.join(map(_cell, line))}: {state}")


def _kind(row: Row) -> str:
    return ", ".join(row[key] for key in ("board", "case", "wave") if key in row)


def show(data: Mapping[str, Any]) -> None:
    """Print the tables."""
    names = ", ".join(" ".join(pair) for pair in data["versions"].items())
    print(f"seed {data['seed']}, Python {data['python']}, {names}; {data['took_s']:.0f} s")
    for note in data["notes"]:
        print(note)
    head = "".join(
        name.ljust(width) if name == "meter" else name.rjust(width) + " " * (name == "window") * 2
        for name, width in _COLUMNS
    )
    order = sorted(data["rows"], key=lambda row: (row["window_s"], METERS_ORDER[row["meter"]]))
    for kind in dict.fromkeys(map(_kind, data["rows"])):
        print(f"\n{kind}\n{head}")
        members = [row for row in order if _kind(row) == kind]
        for row in members:
            print(_line(row))
        for meter, reason in dict.fromkeys((r["meter"], s) for r in members for s in r["reasons"]):
            print(f"    {meter}: {reason}")
    if data["faults"]:
        print(f"\n{'fault':<26}{'windows':>8}{'measured':>9}  reason of the others")
    for name in dict.fromkeys(row["case"] for row in data["faults"]):
        windows = [row for row in data["faults"] if row["case"] == name]
        said = sum(row["energy_j"] is not None for row in windows)
        reasons = "; ".join(
            dict.fromkeys(row["reason"] for row in windows if row["energy_j"] is None)
        )
        print(f"{name:<26}{len(windows):>8}{said:>9}  {reasons}")
    print()
    _show_checks(data["checks"])
    missed = sum(check["passed"] is False for check in data["checks"])
    print(f"{len(data['checks'])} limits, {missed} not kept")
    if not data["checks"]:
        print("nothing was judged: only ours is, in virtual time; leave it among --meters")


METERS_ORDER = {name: number for number, name in enumerate(METERS)}


# --- options ---------------------------------------------------------------------------------


def _listed(known: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        found = [part.strip() for part in text.split(",")]
        unknown = [part for part in found if part not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(unknown)}; there are {', '.join(known)}"
            )
        return found

    return parse


def _lengths(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [0.0]
    if min(found) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: seconds above 0, with commas between")
    return found


def _wave(text: str) -> str:
    try:
        Wave(text)
    except (ValueError, TypeError, IndexError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: write const:P, square:low,high,period,duty, ramp:low,high,period,"
            " sine:mean,amplitude,period, pwl:t,P,t,P,... or steps:duration,P,..."
        ) from error
    return text


def arguments() -> argparse.Namespace:
    """The options, complete."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one window of each kind, for CI")
    parser.add_argument("--seed", type=int, default=1, help="of all chance, and of two curves")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument(
        "--peers", metavar="PYTHON", help="an interpreter that has the other meters, to run them"
    )
    parser.add_argument("--meters", type=_listed([*METERS]), help=f"of {', '.join(METERS)}")
    parser.add_argument("--boards", type=_listed([*BOARDS]), default=[*BOARDS])
    parser.add_argument("--windows", type=_lengths, default=[*_WINDOWS], help="seconds")
    parser.add_argument("--wave", type=_wave, action="append", help="instead of the built-in ones")
    parser.add_argument("--tail-ms", type=float, default=180, help="0: no cases with tails")
    parser.add_argument("--tail-shape", type=_listed(_SHAPES), default=[*_SHAPES])
    parser.add_argument("--by-wave", action="store_true", help="rows for each power curve")
    parser.add_argument("--stalls", type=float, default=0.0, help="share of sleeps that end late")
    parser.add_argument("--real-time", action="store_true", help="ours on the real clock, too")
    parser.add_argument("--runs", type=int, help=f"windows of each kind (default: {_RUNS})")
    parser.add_argument(
        "--real-runs", type=int, default=2, help="the same in real time (default: 2)"
    )
    options = parser.parse_args()
    options.runs = options.runs or (_QUICK_RUNS if options.quick else _RUNS)
    options.notes = []
    asked = options.meters or ["ours", *(_PEERS if options.peers else ())]
    options.peers = options.peers or sys.executable
    options.meters = []
    for name in asked:
        why_not = missing(name, options.peers)
        options.notes += [why_not] if why_not else []
        options.meters += [] if why_not else [name]
    return options


def main() -> int:
    """Measure, print, write; returns the exit status."""
    options = arguments()
    try:
        build()
    except RigUnavailable as unavailable:
        raise SystemExit(str(unavailable)) from unavailable
    data = report(options)
    show(data)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if data["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
