"""From a study's fields to its points: shared fields, variants, the grid, and the list."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llem.study.yaml_lines import Document, Key

__all__ = [
    "Axis",
    "Choice",
    "Point",
    "Source",
    "Spot",
    "backend_of",
    "expand",
    "listed",
    "merge",
    "nested",
]


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a file."""

    document: Document
    key: Key

    @property
    def line(self) -> int:
        """Its line, from 1."""
        return self.document.line(self.key)

    def __str__(self) -> str:
        """``file:line``."""
        return f"{self.document.shown}:{self.line}"


@dataclass(frozen=True, slots=True)
class Source:
    """A part of a file that gives some fields of an experiment.

    Attributes:
        document: the file.
        place: where in it the content stands.
        prefix: the field that the content is of; empty for a mapping of fields.
        content: what stands there.
    """

    document: Document
    place: Key
    prefix: Key
    content: Any

    @property
    def spot(self) -> Spot:
        """Where the content stands."""
        return Spot(self.document, self.place)

    def find(self, key: Key) -> Key | None:
        """Where a field stands in the file; None when it isn't from here."""
        length = len(self.prefix)
        if key[:length] == self.prefix and _has(self.content, key[length:]):
            return self.place + key[length:]
        return None


def _has(content: Any, key: Key) -> bool:
    for part in key:
        if isinstance(content, list) and isinstance(part, int) and part < len(content):
            content = content[part]
        elif isinstance(content, Mapping) and part in content:
            content = content[str(part)]
        else:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of an axis: the fields that it sets, and where it was written."""

    value: Any
    fields: Mapping[str, Any]
    source: Source


@dataclass(frozen=True, slots=True)
class Axis:
    """A direction of the grid.

    Attributes:
        name: a (dotted) field, or the name of a group of variants.
        choices: its values.
        variants: whether it is such a group; then a choice's value is its name.
        backend: the backend whose experiments alone it applies to; empty for all.
    """

    name: str
    choices: Sequence[Choice]
    variants: bool = False
    backend: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """An experiment as it stands in the study, not validated yet.

    Attributes:
        data: its fields, shared ones included.
        own: the fields and variants it doesn't share with all others; they make its name.
        sources: where its fields were written, most specific first.
        variants: group of variants to the one of this experiment.
        listed: whether it was written out, and isn't of the grid.
        at: what it is said to stand at; the most specific of its sources where not given.
    """

    data: dict[str, Any]
    own: Sequence[tuple[str, Any]]
    sources: Sequence[Source]
    variants: Mapping[str, str] = field(default_factory=dict)
    listed: bool = False
    at: Source | None = None

    @property
    def spot(self) -> Spot:
        """Where the experiment stands in the study."""
        source = self.at or self.sources[0]
        return Spot(source.document, source.place)

    def locate(self, key: Key) -> Spot:
        """Where a field of this experiment was written, or what it should have stood in."""
        for length in range(len(key), 0, -1):
            for source in self.sources:
                if (place := source.find(key[:length])) is not None:
                    return Spot(source.document, place)
        return self.spot


def expand(
    shared: dict[str, Any],
    sources: Sequence[Source],
    axes: Sequence[Axis],
    default_backend: str,
) -> Iterator[Point]:
    """The points of the grid; without axes just the shared fields.

    The first axis varies slowest. Axes of one backend only are left out for the others.

    Args:
        shared: fields of all experiments.
        sources: where they were written, most specific first.
        axes: variants and swept fields.
        default_backend: of experiments that name none.
    """
    common = [axis for axis in axes if not axis.backend]
    for chosen in itertools.product(*(axis.choices for axis in common)):
        point = _point(shared, sources, list(zip(common, chosen, strict=True)))
        backend = point.data.get("backend", default_backend)
        scoped = [axis for axis in axes if axis.backend == backend and axis.backend]
        if not scoped:
            yield point
            continue
        for more in itertools.product(*(axis.choices for axis in scoped)):
            both = [*zip(common, chosen, strict=True), *zip(scoped, more, strict=True)]
            yield _point(shared, sources, both)


def _point(
    shared: dict[str, Any], sources: Sequence[Source], chosen: Sequence[tuple[Axis, Choice]]
) -> Point:
    data = shared
    # What a swept field says is more specific than what a variant says.
    for _, choice in sorted(chosen, key=lambda pair: not pair[0].variants):
        data = merge(data, choice.fields)
    own = [
        (axis.name, choice.value)
        for axis, choice in chosen
        # The variant that changes nothing isn't named: so ids survive a new group of variants.
        if not axis.variants or choice.source.content
    ]
    # Of two that say the same the later counts, here as in the merge above.
    found = [choice.source for axis, choice in reversed(chosen) if not axis.variants]
    found += [choice.source for axis, choice in reversed(chosen) if axis.variants]
    at = next((choice.source for axis, choice in chosen if not axis.variants), None)
    variants = {axis.name: choice.value for axis, choice in chosen if axis.variants}
    return Point(data, own, (*found, *sources), variants, at=at)


def listed(
    shared: dict[str, Any], sources: Sequence[Source], own: Mapping[str, Any], source: Source
) -> Point:
    """An experiment that was written out, merged onto the shared fields."""
    parts = [(key, value) for key, value in own.items() if key != "id"]
    return Point(merge(shared, own), parts, (source, *sources), listed=True)


_ONE_OF = frozenset({"scenario", "input_tokens"})
"""Fields whose mappings are of several kinds, each with one key of its own."""


def merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``; mappings are merged, all else is replaced.

    A null means *not set*: the field keeps its default.
    """
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            inner = merged.get(key)
            if not isinstance(inner, dict) or (key in _ONE_OF and not inner.keys() & value.keys()):
                inner = {}
            merged[key] = merge(inner, value)
        else:
            merged[key] = value
    return merged


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """A dotted field and its value as mappings within each other."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return dict(value)


def backend_of(dotted: str, backends: Collection[str]) -> str:
    """The backend that a dotted field is an option of; empty for a field of all."""
    first = dotted.partition(".")[0]
    return first if first in backends else ""
