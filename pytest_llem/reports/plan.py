"""What a session would do, and how long that may take: data -> lines."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from pytest_llem.demands import Arm, RunnerSpec
from pytest_llem.experiment import Experiment, Poisson
from pytest_llem.metrics import show
from pytest_llem.runners.fetch import Copy, ImageSupply, Supply
from pytest_llem.study.identity import engine_key
from pytest_llem.study.keys import Execution
from pytest_llem.study.schedule import balance

__all__ = ["StudyPlan", "Turn", "lines"]

_WIDTH = 80
_INDENT = " " * 15
_KEPT = "\xa0"
"""A space at which no line is broken."""

_TURNS = 6
_NAMES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A measurement that would be made.

    Attributes:
        position: of the experiment in its study.
        gap_s: rest before it; the longest that it may take where it is ``thermal``.
        known_s: how long it took in earlier sessions, with the idle phase that it would have now;
            None where they didn't make it.
        shares_idle: it takes its idle power from an earlier one.
        arm: of an A/B comparison.
    """

    experiment: Experiment
    cycle: int
    runner: RunnerSpec
    position: int = 0
    gap_s: float = 0.0
    thermal: bool = False
    known_s: float | None = None
    shares_idle: bool = False
    arm: Arm | None = None

    @property
    def name(self) -> str:
        """Of its experiment and test, on one line."""
        return f"{self.experiment.id}{_KEPT}c{self.cycle}{'-base' if self.arm == 'base' else ''}"

    @property
    def idle_s(self) -> float:
        """Length of its idle phase."""
        idle = self.experiment.idle
        return 0.0 if self.shares_idle or idle == "none" else idle


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What a session would do of a study.

    Attributes:
        file: as messages name it.
        in_study: number of the study's experiments.
        selected: number of those that are selected.
        with_base: number of the study's experiments that are compared with a base.
        turns: what would be measured, in order.
        gates: how many would judge that.
        supplies: models of what would be measured, named as they are to be shown.
        images: of containers.
        copies: models that a daemon elsewhere gets, named as they are to be shown.
        not_made: label and reason to the selected experiments that would not be measured for it.
    """

    name: str
    file: str
    execution: Execution
    in_study: int
    selected: int
    turns: Sequence[Turn]
    gates: int = 0
    supplies: Sequence[Supply] = ()
    images: Sequence[ImageSupply] = ()
    copies: Sequence[Copy] = ()
    not_made: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    with_base: int = 0


def lines(plans: Sequence[StudyPlan]) -> Iterator[str]:
    """The plan of each study, and what several of them come to."""
    for index, plan in enumerate(plans):
        if index:
            yield ""
        yield f"{plan.name} ({plan.file})"
        yield f"  {_counts(plan)}"
        if plan.turns:
            yield from _made(plan)
        yield from _not_made(plan)
    if len(plans) > 1:
        yield ""
        yield from _together(plans)


# --- what would be measured ----------------------------------------------------------------


def _counts(plan: StudyPlan) -> str:
    """``4 experiments x 3 cycles = 12 measurements, 4 gates``, or how many of how many."""
    made, cycles = len(plan.turns), plan.execution.cycles
    count = len({turn.experiment.id for turn in plan.turns})
    compared = len({turn.experiment.id for turn in plan.turns if turn.arm})
    text = _of(count, plan.in_study, "experiment")
    if made and made == (count + compared) * cycles:
        text += f" x {_counted(cycles, 'cycle')}"
        if compared:
            text += f" of base and head{'' if compared == count else f' ({compared} of them)'}"
        text += f" = {_counted(made, 'measurement')}"
    else:
        text += f", {_of(made, (plan.in_study + plan.with_base) * cycles, 'measurement')}"
    return f"{text}, {_counted(plan.gates, 'gate')}" if plan.gates else text


def _made(plan: StudyPlan) -> Iterator[str]:
    first = ", ".join(turn.name for turn in plan.turns[:_TURNS])
    yield from _row("order", [_order(plan), first + _more(len(plan.turns) - _TURNS)])
    yield from _row("runner", _runners(plan.turns))
    yield from _row("images", _images(plan.images))
    yield from _row("models", [text for supply in plan.supplies for text in _supply(supply)])
    yield from _row("copies", map(_copy, plan.copies))
    yield from _row("engine loads", [_loads(plan.turns)])
    yield from _row("windows", _windows(plan.turns))
    yield from _row("asleep", [_asleep(plan.turns)])
    yield from _row("total", _total(plan.turns))


def _windows(turns: Sequence[Turn]) -> Iterator[str]:
    """What makes measurements longer than their requests, and by how much."""
    users: dict[str, int] = {}
    for turn in turns:
        for text in _longer(turn.experiment):
            users[text] = users.get(text, 0) + 1
    for text, count in users.items():
        of = "" if count == len(turns) else f" ({_of(count, len(turns), 'measurement')})"
        yield f"{text}{of}"


def _longer(experiment: Experiment) -> Iterator[str]:
    warmup = experiment.warmup
    if warmup != "none" and warmup.until_stable:
        yield f"warm-up until stable, at most {_time(warmup.timeout_s)}"
    if experiment.precision is not None:
        text = f"precision {experiment.precision * 100:g} %: a pilot run tells the repeats"
        yield f"{text}, at most {_time(experiment.timeout_s)}"
    if isinstance(experiment.scenario, Poisson):
        rate, count = experiment.scenario.poisson, experiment.prompts.count
        yield f"poisson {rate:g} a second: requests arrive for about {_time(count / rate)}"
    if experiment.phases:
        yield "phases: a window of prefill alone, 1 to 30 s"


def _order(plan: StudyPlan) -> str:
    execution = plan.execution
    made = sum(turn.arm != "base" for turn in plan.turns)
    order, cycles = execution.order, execution.cycles
    if order == "shuffled":
        return f"shuffled, seed {execution.seed}"
    if problem := balance(plan.selected, cycles, order):
        return problem
    if order == "latin_square" and plan.selected > 1:
        of = _of(made, plan.selected * cycles, "measurement")
        return f"latin_square{f' is not balanced: {of}' if ' of ' in of else ', balanced'}"
    return order


def _runners(turns: Sequence[Turn]) -> Iterator[str]:
    """A text for each backend and arm; for each of its runners, should images differ."""
    users: dict[tuple[str, RunnerSpec], dict[str, None]] = {}
    for turn in turns:
        key = (f"{turn.experiment.backend}{f' {turn.arm}' if turn.arm else ''}", turn.runner)
        users.setdefault(key, {})[turn.experiment.id] = None
    titles = [title for title, _ in users]
    width = max(map(len, titles))
    for (title, runner), names in users.items():
        text = f"{title.ljust(width)}  {_runner(runner)}"
        yield f"{text}: {_names(names)}" if titles.count(title) > 1 else text


def _runner(runner: RunnerSpec) -> str:
    if runner.mode != "docker":
        return f"{runner.value} ({runner.source})"
    return f"docker ({runner.source}), image {runner.image} ({runner.image_source})"


def _images(images: Sequence[ImageSupply]) -> Iterator[str]:
    """Images with their sizes, and once why the daemon can't be asked of them."""
    for image in images:
        if image.here and image.size_bytes is not None:
            yield f"{image.name}: here, {show(image.size_bytes, 'bytes')}"
        elif image.here is None:
            yield f"{image.name}: size unknown"
        else:
            yield f"{image.name}: to pull, size unknown before"
    for reason in dict.fromkeys(image.reason for image in images if image.reason):
        yield f"Docker can't be asked: {reason}"


def _copy(copy: Copy) -> str:
    size = show(copy.size_bytes, "bytes")
    return f"{copy.model}: {size} {'copied' if copy.done else 'to copy'} to {copy.daemon}" + (
        " before" if copy.done else ""
    )


def _supply(supply: Supply) -> Iterator[str]:
    """A model and its size; what is wrong with it, and what to do."""
    if supply.problem is not None:
        yield f"{supply.name}: {supply.problem.text}"
        yield f"  fix: {supply.problem.fix}"
        return
    if supply.place == "engine":
        yield f"{supply.name}: left to the backend {', '.join(supply.backends)}, size unknown"
        return
    place = "directory" if supply.place == "directory" else "hub"
    random = ", random weights" if supply.random else ""
    if supply.place == "cache":
        size = "in the cache"
    elif supply.size_bytes is None:
        size = f"size unknown: {supply.reason}"
    else:
        size = show(supply.size_bytes, "bytes") + (" to fetch" if place == "hub" else "")
    yield f"{supply.name}: {place}{random}, {size}"


# --- what would not ------------------------------------------------------------------------


def _not_made(plan: StudyPlan) -> Iterator[str]:
    for label, reasons in groupby(plan.not_made.items(), key=lambda item: item[0][0]):
        yield from _row(label, [f"{_names(names)}: {reason}" for (_, reason), names in reasons])


# --- engines -------------------------------------------------------------------------------


def _engine(turn: Turn) -> Hashable:
    return engine_key(turn.experiment, turn.runner)


def _load_count(turns: Sequence[Turn]) -> int:
    kept = (
        after.experiment.worker == before.experiment.worker == "reuse"
        and _engine(after) == _engine(before)
        for before, after in pairwise(turns)
    )
    return len(turns) - sum(kept)


def _loads(turns: Sequence[Turn]) -> str:
    now = f"{_load_count(turns)}{_workers(turns)}"
    in_study_order = sorted(turns, key=lambda turn: turn.position)
    least = sum(1 for _ in groupby(map(_engine, in_study_order)))
    if least == _load_count(turns) or any(turn.arm for turn in turns):
        return now
    return f"{now}; {least} with order: sequential and worker: reuse"


def _workers(turns: Sequence[Turn]) -> str:
    """How workers come to be, where not all of them are new processes."""
    modes = dict.fromkeys(turn.experiment.worker for turn in turns)
    return "" if modes.keys() <= {"fresh"} else f" (worker: {', '.join(modes)})"


# --- times ---------------------------------------------------------------------------------


def _asleep(turns: Iterable[Turn]) -> str:
    idle_s, fixed_s, thermal_s = _sleeps(turns)
    gaps = [f"gaps {_time(fixed_s)}"] if fixed_s else []
    if thermal_s:
        gaps.append(f"gaps at most {_time(thermal_s)} (thermal)")
    return ", ".join([f"idle {_time(idle_s)}" if idle_s else "no idle", *(gaps or ["no gaps"])])


def _sleeps(turns: Iterable[Turn]) -> tuple[float, float, float]:
    """Seconds in idle phases, in gaps of a fixed length, and at most in thermal ones."""
    turns = list(turns)
    return (
        sum(turn.idle_s for turn in turns),
        sum(turn.gap_s for turn in turns if not turn.thermal),
        sum(turn.gap_s for turn in turns if turn.thermal),
    )


def _total(turns: Sequence[Turn]) -> Iterator[str]:
    known = [turn for turn in turns if turn.known_s is not None]
    _, fixed_s, thermal_s = _sleeps(turns)
    least_s = fixed_s + sum(turn.idle_s if turn.known_s is None else turn.known_s for turn in turns)
    if known or least_s:
        text = f"{'about' if len(known) == len(turns) else 'at least'} {_time(least_s)}"
        yield f"{text}, {_time(least_s + thermal_s)} with the longest gaps" if thermal_s else text
    else:
        yield "unknown"
    share = _of(len(known), len(turns), "measurement") if known else "no measurement"
    yield f"{share} known from earlier sessions"


def _time(seconds: float) -> str:
    """As people say it: seconds below two minutes, minutes below two hours."""
    if seconds < 120:
        return f"{_digits(seconds)} s"
    return f"{_digits(seconds / 60)} min" if seconds < 7200 else f"{_digits(seconds / 3600)} h"


def _digits(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


# --- several studies -----------------------------------------------------------------------


def _together(plans: Sequence[StudyPlan]) -> Iterator[str]:
    turns = [turn for plan in plans for turn in plan.turns]
    gates = sum(plan.gates for plan in plans)
    yield f"all {len(plans)} studies"
    text = f"  {_counted(len(turns), 'measurement')}"
    yield f"{text}, {_counted(gates, 'gate')}" if gates else text
    if not turns:
        return
    if fetched := _to_fetch([supply for plan in plans for supply in plan.supplies]):
        yield from _row("to fetch", [fetched])
    yield from _row("engine loads", [str(sum(_load_count(plan.turns) for plan in plans))])
    yield from _row("asleep", [_asleep(turns)])
    yield from _row("total", _total(turns))


def _to_fetch(supplies: Iterable[Supply]) -> str:
    """What all models take, each once; empty where all are here."""
    sizes: dict[str, int] = {}
    unknown: dict[str, None] = {}
    for supply in supplies:
        if supply.place == "hub" and supply.problem is None:
            if supply.size_bytes is None:
                unknown[supply.name] = None
            else:
                sizes[supply.name] = max(supply.size_bytes, sizes.get(supply.name, 0))
    texts = [show(sum(sizes.values()), "bytes")] if sizes else []
    if unknown:
        texts.append(f"{_counted(len(unknown), 'model')} of unknown size")
    return " and ".join(texts)


# --- text ----------------------------------------------------------------------------------


def _row(label: str, texts: Iterable[str]) -> Iterator[str]:
    """Texts behind a label, each on lines of its own; what belongs to one stands further in."""
    start = f"  {label}".ljust(len(_INDENT))
    for text in texts:
        wrapped = textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=start,
            subsequent_indent=f"{_INDENT}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from (line.replace(_KEPT, " ") for line in wrapped)
        start = _INDENT


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _of(count: int, whole: int, noun: str) -> str:
    """``4 experiments``, ``2 of 4 experiments``."""
    return _counted(count, noun) if count == whole else f"{count} of {_counted(whole, noun)}"


def _names(names: Iterable[str]) -> str:
    """A sweep may have thousands of experiments; the first ones show which are meant."""
    names = list(names)
    return ", ".join(names[:_NAMES]) + _more(len(names) - _NAMES)


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
