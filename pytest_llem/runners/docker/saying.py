"""Something that Docker may say, and what it means: a row of the tables of ``sayings_*``.

The words are those of dockerd 20.10 to 28, of its runc and containerd, of docker-py 7.2 and of the
NVIDIA Container Toolkit, lower-cased, as a regular expression. In messages and fixes, ``{name}``
stands for what the caller told of the case, or for a group of the expression; ``{words}`` for the
words themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["AFTER", "EVER", "FREE_SPACE", "IN", "Phase", "Saying", "say"]

Phase = Literal["connect", "pull", "create", "start", "run"]

IN: tuple[Phase, ...] = ("create", "start")
AFTER: tuple[Phase, ...] = ("pull", "create", "start", "run")
EVER: tuple[Phase, ...] = ("connect", *AFTER)

FREE_SPACE = (
    "free space in {root} on the host of the Docker daemon; docker system df shows what"
    " takes it, and docker system prune removes what nothing uses"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """Something that may be said, and what it means.

    Attributes:
        phases: in which of them; elsewhere the same words may mean another thing.
        words: a regular expression, searched for in the lower-cased words.
        cause: a name that stays the same whatever the words become.
        message: what happened, a sentence without its full stop.
        fix: the command that mends it, or where to look.
    """

    phases: tuple[Phase, ...]
    words: str
    cause: str
    message: str
    fix: str


def say(phases: tuple[Phase, ...], words: str, cause: str, message: str, fix: str) -> Saying:
    """A row of a table."""
    return Saying(phases=phases, words=words, cause=cause, message=message, fix=fix)
