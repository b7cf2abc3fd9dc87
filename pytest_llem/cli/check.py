"""One row of what doctor says, and all of them as text or JSON."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "as_json", "as_text", "is_well"]

_WIDTH = 80
_INDENT = " " * 9
"""Fixes begin below the names: they get more room than details, as they are never broken."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, and what came of it.

    Attributes:
        name: of what was looked at.
        status: ``problem`` is what keeps something from working, ``note`` what is good to know.
        detail: what was found, and why it is as it is.
        fix: a command that mends it, or several, a line each; None where there is none.
    """

    name: str
    status: Literal["ok", "problem", "note"]
    detail: str
    fix: str | None = None


def is_well(checks: Sequence[Check]) -> bool:
    """Whether there is no problem."""
    return not _problems(checks)


def as_json(checks: Sequence[Check]) -> str:
    """One JSON document; plain ASCII, so that any pipe takes it."""
    rows = [dataclasses.asdict(check) for check in checks]
    return json.dumps({"ok": is_well(checks), "checks": rows}, indent=2)


def as_text(checks: Sequence[Check], *, whole: bool = False) -> str:
    """A table of 80 columns. A command is never broken: it is there to be copied.

    Args:
        checks: the rows.
        whole: say all of what isn't a problem, too; otherwise it has a line each, so that the
            table fits a screen.
    """
    column = max(len(check.name) for check in checks)
    lines: list[str] = []
    short = False
    for check in checks:
        head = f"{check.status:<7}  {check.name:<{column}}  "
        told = _wrapped(head, check.detail)
        if whole or check.status == "problem":
            lines += [*told, *_fix(check)]
        else:
            short |= len(told) > 1 or check.fix is not None
            lines.append(told[0] if len(told) == 1 else _first(head, check.detail))
    more = ["doctor -v says all of it, and how to get what isn't here."] if short else []
    return "\n".join([*lines, "", *more, _summary(checks)])


def _wrapped(head: str, detail: str) -> list[str]:
    return textwrap.wrap(
        detail,
        max(_WIDTH, len(head) + 40),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _first(head: str, detail: str) -> str:
    """As much of a detail as a line holds."""
    return head + textwrap.shorten(detail, max(_WIDTH - len(head), 40), placeholder=" ...")


def _fix(check: Check) -> list[str]:
    commands = (check.fix or "").splitlines()
    return [f"{_INDENT}{'     ' if number else 'fix: '}{c}" for number, c in enumerate(commands)]


def _summary(checks: Sequence[Check]) -> str:
    problems = _problems(checks)
    if not problems:
        return "No problems."
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return f"{count}: {', '.join(problems)}"


def _problems(checks: Sequence[Check]) -> list[str]:
    return [check.name for check in checks if check.status == "problem"]
