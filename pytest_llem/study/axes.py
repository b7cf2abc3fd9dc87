"""``variants:`` and ``sweep:``: the directions of the grid."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pytest_llem.study import ranges
from pytest_llem.study.identity import NAME
from pytest_llem.study.problems import Problems
from pytest_llem.study.sweep import Axis, Choice, Source, Spot, backend_of, nested
from pytest_llem.study.yaml_lines import Document, Key

__all__ = ["MAX_POINTS", "axes"]

MAX_POINTS = 100_000
"""A grid of more is a slip of the keyboard: measuring it would take years."""

_NOT_SWEPT = {
    "id": "names are made of the swept fields",
    "expect": "limits stand under expect, with where: for some experiments only",
    "requires": "a variant or an experiment may have requires of its own",
}
_NOT_FIELDS = ("expect", "requires")


def axes(document: Document, backends: Collection[str], problems: Problems) -> list[Axis]:
    """The axes of a study, variants first.

    Args:
        document: the study.
        backends: names of backends.
        problems: takes what is wrong.
    """
    found = [*_variants(document, problems), *_swept(document, backends, problems)]
    names: set[str] = set()
    for axis in found:
        if axis.name in names and not axis.variants:
            problems.add(axis.choices[0].source.spot, f"{axis.name} is swept twice", ())
        names.add(axis.name)
    points = _points(found)
    if points > MAX_POINTS:
        key = "sweep" if document.data.get("sweep") else "variants"
        text = f"a grid of {points:,} points; {MAX_POINTS:,} are the most"
        problems.add(Spot(document, (key,)), text)
        return []
    return found


def _points(found: Sequence[Axis]) -> int:
    """How many points a grid has at most."""
    counts: dict[str, int] = {}
    for axis in found:
        counts[axis.backend] = counts.get(axis.backend, 1) * len(axis.choices)
    common = counts.pop("", 1)
    # A point is of one backend: the axes of another don't multiply it.
    return common * max(sum(counts.values()), 1)


def _mapping(document: Document, key: str, problems: Problems) -> dict[str, Any]:
    value = document.data.get(key)
    if value is None or isinstance(value, dict):
        return value or {}
    problems.add(Spot(document, (key,)), f"should be a mapping, not {value!r:.60}")
    return {}


# --- variants ------------------------------------------------------------------------------


def _variants(document: Document, problems: Problems) -> Iterator[Axis]:
    for group, named in _mapping(document, "variants", problems).items():
        key: Key = ("variants", group)
        if not NAME.fullmatch(group):
            text = f"{group!r} may hold letters, digits and . _ + -"
            problems.add(Spot(document, key), text)
        elif not isinstance(named, dict) or not named:
            text = f"should be a mapping of names to fields, not {named!r:.60}"
            problems.add(Spot(document, key), text)
        else:
            choices = list(_named(document, group, named, problems))
            if choices:
                yield Axis(group, choices, variants=True)


def _named(
    document: Document, group: str, named: Mapping[str, Any], problems: Problems
) -> Iterator[Choice]:
    for name, given in named.items():
        key: Key = ("variants", group, name)
        content = {} if given is None else given
        if not NAME.fullmatch(name):
            text = f"{name!r} may hold letters, digits and . _ + -"
            problems.add(Spot(document, key), text)
        elif not isinstance(content, dict):
            text = f"should be a mapping of fields, not {given!r:.60}"
            problems.add(Spot(document, key), text)
        else:
            fields = {k: v for k, v in content.items() if k not in _NOT_FIELDS}
            yield Choice(name, fields, Source(document, key, (), content))


# --- sweep ---------------------------------------------------------------------------------


def _swept(document: Document, backends: Collection[str], problems: Problems) -> Iterator[Axis]:
    for key, value in _mapping(document, "sweep", problems).items():
        place: Key = ("sweep", key)
        if key.partition(".")[0] in _NOT_SWEPT:
            why = _NOT_SWEPT[key.partition(".")[0]]
            problems.add(Spot(document, place), f"can't be swept; {why}")
        elif key in backends and isinstance(value, Mapping):
            # vllm: {block_size: [16, 32]} is vllm.block_size: [16, 32].
            for inner, values in value.items():
                name = f"{key}.{inner}"
                choices = _choices(document, (*place, inner), name, values, problems)
                if choices:
                    yield Axis(name, choices, backend=key)
        elif choices := _choices(document, place, key, value, problems):
            yield Axis(key, choices, backend=backend_of(key, backends))


def _choices(
    document: Document, place: Key, name: str, given: Any, problems: Problems
) -> list[Choice]:
    """The values of a field, from a list or a range."""
    path: Key = tuple(name.split("."))
    if isinstance(given, list) and given:
        return [
            Choice(value, nested(name, value), Source(document, (*place, index), path, value))
            for index, value in enumerate(given)
        ]
    if ranges.is_range(given):
        return _ranged(document, place, name, given, problems)
    text = f"should be a list of values or a range {{from, to, steps}}, not {given!r:.60}"
    problems.add(Spot(document, place), text)
    return []


def _ranged(
    document: Document, place: Key, name: str, given: Mapping[str, Any], problems: Problems
) -> list[Choice]:
    path: Key = tuple(name.split("."))
    try:
        values: Sequence[int | float] = ranges.values(given)
    except ranges.RangeError as error:
        key = (*place, error.key) if error.key else place
        problems.add(Spot(document, key), error.text)
        return []
    source = Source(document, place, path, {})
    return [Choice(value, nested(name, value), source) for value in values]
