"""Failures as GitHub shows them beside the lines that they are about: workflow commands.

A command is a line of a job's log. GitHub shows ten errors of a step; of others only the log tells.
(https://docs.github.com/actions/reference/workflow-commands-for-github-actions)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Annotation", "command", "of_failure", "of_problems"]

_WHERE = re.compile(r"(?P<file>\S.*?):(?P<line>[0-9]+): (?P<text>.+)")
_MARK = "E   "


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What went wrong at a line of a file.

    Attributes:
        file: as the message names it.
        line: from 1.
    """

    file: str
    line: int
    title: str
    message: str


def of_failure(text: str, *, file: str, line: int, title: str) -> Annotation:
    """A failed measurement or gate.

    Args:
        text: of the failure. Should it begin with a place, ``study.yaml:7: gate of a failed``, that
            is what it is about.
        file: of the test, for a text without a place.
        line: the same.
        title: the same.
    """
    head, _, rest = text.strip().partition("\n")
    if rest and (found := _WHERE.fullmatch(head)):
        file, line, title, text = found["file"], int(found["line"]), found["text"], rest
    message = "\n".join(each.removeprefix(_MARK) for each in text.strip().splitlines())
    return Annotation(file=file, line=line, title=title, message=message)


def of_problems(text: str) -> Iterator[Annotation]:
    """What a study's file is refused for: each line of the text that names a place."""
    for each in text.splitlines():
        if found := _WHERE.fullmatch(each.removeprefix(_MARK)):
            yield Annotation(
                file=found["file"], line=int(found["line"]), title="study", message=found["text"]
            )


def command(annotation: Annotation) -> str:
    """The line for the log; without line ends, whatever the texts hold."""
    file, title = map(_property, (annotation.file, annotation.title))
    message = _data(annotation.message)
    return f"::error file={file},line={annotation.line},title={title}::{message}"


def _data(text: str) -> str:
    """Escaped as GitHub's own toolkit does: the percent sign first, as the others bring some."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """The same between commas."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
