"""``expect:``: what a study asks of the figures, and of which experiments it asks it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llem.demands import Limit
from pytest_llem.experiment import Experiment
from pytest_llem.metrics import METRICS
from pytest_llem.study.problems import Problems
from pytest_llem.study.schema import fields_at, nearest
from pytest_llem.study.sweep import Source, Spot
from pytest_llem.study.yaml_lines import Key
from pytest_llem.wire import to_dict

__all__ = ["Expectation", "limits", "parse", "refuse_idle", "refuse_unknown"]

_BOUNDS = ("min", "max", "max_regression")
_PERCENT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*")
_FIELDS = {f.name for f in dataclasses.fields(Experiment)} - {"options"}
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Expectation:
    """Limits, and the experiments they are for.

    Attributes:
        where: (dotted) field, or group of variants, to the value or values it must have.
        metrics: to their bounds, each by its name; None takes back what was said before.
        spot: where it stands.
        used: the names of ``where`` that some experiment has, and ``""`` once it applied.
    """

    where: Mapping[str, Any]
    metrics: Mapping[str, tuple[Spot, Mapping[str, float] | None]]
    spot: Spot
    used: set[str] = field(default_factory=set, compare=False)


def parse(
    source: Source, problems: Problems, *, removable: bool = False
) -> tuple[Expectation, ...]:
    """Read what stands under ``expect``: a mapping, or a list of mappings.

    Args:
        source: what holds it.
        problems: takes what is wrong.
        removable: whether a null takes back a limit that was set further up.
    """
    value = source.content.get("expect")
    place: Key = (*source.place, "expect")
    if "expect" not in source.content or (value is None and not removable):
        return ()
    entries: Sequence[tuple[Key, Any]] = [(place, value)]
    if isinstance(value, list):
        entries = [((*place, index), entry) for index, entry in enumerate(value)]
    found = []
    for key, entry in entries:
        spot = Spot(source.document, key)
        if isinstance(entry, Mapping):
            found.append(_entry(spot, entry, problems, removable=removable))
        elif value is not None:
            problems.add(spot, "should be a mapping of metrics", key[len(source.place) :])
    return tuple(found)


def _entry(
    spot: Spot, entry: Mapping[str, Any], problems: Problems, *, removable: bool
) -> Expectation:
    where = entry.get("where", {})
    if not isinstance(where, Mapping):
        problems.add(Spot(spot.document, (*spot.key, "where")), "should be a mapping of fields")
        where = {}
    metrics: dict[str, tuple[Spot, Mapping[str, float] | None]] = {}
    for metric, bounds in entry.items():
        if metric == "where":
            continue
        place = Spot(spot.document, (*spot.key, metric))
        if metric not in METRICS:
            problems.add(place, f"unknown metric; {nearest(metric, METRICS)}", _named(place.key))
        elif bounds is None and removable:
            metrics[metric] = (place, None)
        elif (numbers := _bounds(place, bounds, problems)) is not None:
            metrics[metric] = (place, numbers)
    return Expectation(where, metrics, spot)


def _named(key: Key) -> Key:
    """A place as messages call it: from ``expect`` on."""
    return key[key.index("expect") :]


def _bounds(place: Spot, bounds: Any, problems: Problems) -> Mapping[str, float] | None:
    key = _named(place.key)
    if not isinstance(bounds, Mapping) or not bounds or not set(bounds) <= set(_BOUNDS):
        text = "should be {min: number}, {max: number} or {max_regression: 5%}, or several of these"
        problems.add(place, text, key)
        return None
    found = {}
    for name, value in bounds.items():
        number = _percent(value) if name == "max_regression" else _number(value)
        if number is None:
            wanted = "percent, like 5%" if name == "max_regression" else "a number"
            spot = Spot(place.document, (*place.key, name))
            problems.add(spot, f"should be {wanted}, not {value!r:.60}", (*key, name))
        else:
            found[name] = number
    _refuse_impossible(place, key[-1], found, problems)
    return found


def _refuse_impossible(
    spot: Spot, metric: Any, bounds: Mapping[str, float], problems: Problems
) -> None:
    least, most = bounds.get("min"), bounds.get("max")
    if least is not None and most is not None and least > most:
        text = f"no figure is at least {least:g} and at most {most:g}"
        problems.add(spot, text, ("expect", metric))


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _percent(value: Any) -> float | None:
    """0.05 for ``5%``; None for anything else: 5 might mean either."""
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    return float(found[1]) / 100 if found else None


# --- for one experiment --------------------------------------------------------------------


def limits(
    expectations: Iterable[Expectation],
    experiment: Experiment,
    variants: Mapping[str, str],
    problems: Problems,
) -> tuple[Limit, ...]:
    """What is asked of an experiment; of what is said twice the later counts, bound by bound."""
    found: dict[str, tuple[Spot, dict[str, float]]] = {}
    for expectation in expectations:
        if not _applies(expectation, experiment, variants):
            continue
        for metric, (spot, bounds) in expectation.metrics.items():
            if bounds is None:
                found.pop(metric, None)
            else:
                found[metric] = (spot, {**found.get(metric, (spot, {}))[1], **bounds})
    for metric, (spot, bounds) in found.items():
        _refuse_impossible(spot, metric, bounds, problems)
    return tuple(
        Limit(
            metric=metric,
            least=bounds.get("min"),
            most=bounds.get("max"),
            regression=bounds.get("max_regression"),
            where=str(spot),
        )
        for metric, (spot, bounds) in found.items()
    )


def _applies(expectation: Expectation, experiment: Experiment, variants: Mapping[str, str]) -> bool:
    applies = True
    for name, wanted in expectation.where.items():
        value = _look_up(name, experiment, variants)
        if value is not _NOTHING:
            expectation.used.add(name)
        accepted = wanted if isinstance(wanted, list) else [wanted]
        if name.startswith("env."):
            # A variable's number became text.
            accepted = [one if isinstance(one, bool) else str(one) for one in accepted]
        applies = applies and any(_same(value, one) for one in accepted)
    if applies:
        expectation.used.add("")
    return applies


def _look_up(name: str, experiment: Experiment, variants: Mapping[str, str]) -> Any:
    """The value of a (dotted) field, or which of a group's variants it is."""
    if name in variants:
        return variants[name]
    first, *rest = name.split(".")
    value: Any = _NOTHING
    if first == experiment.backend:
        value = experiment.options
    elif first in _FIELDS:
        value = getattr(experiment, first)
    for part in rest:
        if isinstance(value, Mapping):
            value = value.get(part, _NOTHING)
        else:
            value = getattr(value, part, _NOTHING)
    return to_dict(value) if dataclasses.is_dataclass(value) else value


def _same(value: Any, wanted: Any) -> bool:
    if value is _NOTHING:
        return False
    plain = list(value) if isinstance(value, tuple) else value
    # 1.0 is 1 here, but true isn't.
    return isinstance(plain, bool) == isinstance(wanted, bool) and bool(plain == wanted)


def refuse_unknown(
    expectations: Iterable[Expectation],
    known: Collection[str],
    backends: Collection[str],
    problems: Problems,
) -> None:
    """Refuse names under ``where`` that nobody knows.

    Args:
        expectations: all of a study.
        known: fields and groups of variants.
        backends: names of backends, whose options may be anything.
        problems: takes what is wrong.
    """
    for expectation in expectations:
        for name in expectation.where:
            text = "" if name in known else _unknown(name, known, backends)
            if text:
                place = (*expectation.spot.key, "where", name)
                spot = Spot(expectation.spot.document, place)
                problems.add(spot, f"unknown field; {text}", ("expect", "where", name))


def _unknown(name: str, known: Collection[str], backends: Collection[str]) -> str:
    """A hint for a (dotted) name that nobody knows; empty for one that somebody does."""
    first, *rest = name.split(".")
    if first in backends or first == "env":
        return ""
    if first not in known:
        return nearest(name, known)
    for index, part in enumerate(rest):
        names = fields_at(Experiment, (first, *rest[:index]))
        if part not in names:
            return nearest(part, names) if names else f"{first} has no fields"
    return ""


def refuse_idle(expectations: Iterable[Expectation], problems: Problems) -> None:
    """Refuse what asks nothing of anybody: a limit never judged would pass for a kept one.

    Args:
        expectations: after :func:`limits` was called for all experiments.
        problems: takes what is wrong.
    """
    for expectation in expectations:
        if "" not in expectation.used:
            spot = Spot(expectation.spot.document, (*expectation.spot.key, "where"))
            text = f"no experiment of this study has {json.dumps(expectation.where, default=str)}"
            problems.add(spot, text, ("expect", "where"))
