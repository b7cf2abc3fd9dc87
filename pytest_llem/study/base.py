"""``base:``: a study's fields over those of another file, that one's over those of a third."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llem.errors import StudyError
from pytest_llem.study.problems import Problems
from pytest_llem.study.schema import nearest
from pytest_llem.study.sweep import Spot
from pytest_llem.study.yaml_lines import Document, read, readable

__all__ = ["STUDY_KEYS", "Layer", "layers"]

STUDY_KEYS = (
    "name",
    "base",
    "sweep",
    "variants",
    "experiments",
    "execution",
    "runners",
    "images",
    "docker",
    "expect",
    "requires",
)
"""What a file says about itself; of a base they are dropped."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A file, and what it gives to the fields of experiments, nulls included."""

    document: Document
    fields: dict[str, Any]


def layers(
    path: Path, shown: str, fields: Collection[str], problems: Problems
) -> tuple[list[Layer], bool]:
    """A study and its bases, the study first, and whether all of them could be read.

    Args:
        path: of the study.
        shown: how messages name it.
        fields: of experiments, and names of backends.
        problems: takes what is wrong; a base that can't be used, too.

    Raises:
        StudyError: where the study itself can't be read or isn't valid YAML.
    """
    found: list[Layer] = []
    document = read(path, shown)
    while True:
        problems.take(document.problems)
        found.append(Layer(document, _fields(document, fields, problems)))
        base = document.data.get("base")
        if base is None:
            return found, True
        try:
            seen = [os.path.realpath(layer.document.path) for layer in found]
            document = _read(document, base, seen)
        except StudyError as error:
            problems.take(error.problems)
            return found, False


def _read(document: Document, base: Any, seen: Collection[str]) -> Document:
    """The file that a document calls its base."""
    spot = Spot(document, ("base",))
    if not isinstance(base, str) or not base:
        raise StudyError([f"{spot}: base: should be a path, not {base!r:.60}"])
    path = document.path.parent / base
    folder = os.path.dirname(document.shown)  # noqa: PTH120
    shown = os.path.normpath(os.path.join(folder, base))  # noqa: PTH118
    # os.path answers where pathlib would raise: for links to themselves, say.
    if "\0" in base or not os.path.isfile(path):  # noqa: PTH113
        raise StudyError([f"{spot}: base: there is no file {readable(shown)}"])
    if os.path.realpath(path) in seen:
        raise StudyError([f"{spot}: base: {base} leads back to a file that it is a base of"])
    return read(path, shown, "a base")


def _fields(document: Document, fields: Collection[str], problems: Problems) -> dict[str, Any]:
    """What a file says of experiments; what it says that nobody knows is noted."""
    accepted = {*STUDY_KEYS, *fields}
    for key in document.data:
        if key == "options":
            hint = "an engine's options stand under its name"
            problems.add(Spot(document, (key,)), f"unknown field; {hint}")
        elif key not in accepted:
            problems.add(Spot(document, (key,)), f"unknown field; {nearest(key, accepted)}")
    return {key: value for key, value in document.data.items() if key in fields}
