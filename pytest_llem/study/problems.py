"""Everything that is wrong with a study, to be said at once."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pytest_llem.errors import StudyError
from pytest_llem.study.sweep import Spot
from pytest_llem.study.yaml_lines import Key, readable

__all__ = ["Problems"]

_LINE = re.compile(r"(.*?):([0-9]+): (.*)", re.DOTALL)


class Problems:
    """Collects problems, each with its place."""

    def __init__(self) -> None:
        """Begin with none."""
        self._found: dict[tuple[str, int, str], None] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._found)

    def add(self, spot: Spot, text: str, field: Key | None = None) -> None:
        """Note a problem; of equal ones at one place, as each experiment repeats them, the first.

        Args:
            spot: where.
            text: what is wrong.
            field: what to call the place; its own keys when not given, nothing when empty.
        """
        name = ".".join(readable(str(part)) for part in (spot.key if field is None else field))
        text = f"{name}: {text}" if name else text
        self._found[spot.document.shown, spot.line, text] = None

    def take(self, lines: Iterable[str]) -> None:
        """Note problems that are lines already: ``file:line: text``."""
        for line in lines:
            if found := _LINE.fullmatch(line):
                self._found[found[1], int(found[2]), found[3]] = None

    def merge(self, other: Problems) -> None:
        """Take over what another one has collected."""
        self._found |= other._found

    def lines(self, first: str = "") -> list[str]:
        """``file:line: text`` each; those of the file ``first`` before those of other files."""
        ordered = sorted(self._found, key=lambda found: (found[0] != first, *found))
        return [f"{shown}:{line}: {text}" for shown, line, text in ordered]

    def check(self, first: str) -> None:
        """Go on when there are none.

        Raises:
            StudyError: with all of them.
        """
        if self._found:
            raise StudyError(self.lines(first))
