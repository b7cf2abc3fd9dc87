"""What a study hands to an engine's constructor, checked against what the installed one takes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from pytest_llem.errors import LlemError

__all__ = ["check_arguments", "hint"]


def hint(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` with the nearest of the known names; empty where none is near."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def check_arguments(
    given: Iterable[str], known: Iterable[str], ours: Mapping[str, str], engine: str
) -> None:
    """See that every argument is one that the engine takes, and none that we set ourselves.

    Args:
        given: names that the study has below the engine's name.
        known: names that the installed version takes.
        ours: names that are not a study's to give, and what to do instead.
        engine: with its version, for the message.

    Raises:
        LlemError: that names all that are wrong, each with the nearest name or what to do instead.
    """
    names = sorted(set(known) - set(ours))
    problems = []
    for name in given:
        if name in ours:
            problems.append(f"{name}: {ours[name]}")
        elif name not in names:
            problems.append(f"{name}: unknown{hint(name, names)}")
    if problems:
        raise LlemError(f"{engine} doesn't take these options: {'; '.join(problems)}")
