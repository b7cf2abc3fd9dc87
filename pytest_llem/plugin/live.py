"""The live line: what a measurement is doing, on a terminal and nowhere else."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest

from pytest_llem.errors import ResultsError
from pytest_llem.experiment import Experiment
from pytest_llem.metrics import show
from pytest_llem.plugin.wires import wire_of
from pytest_llem.results.side_file import SideFile
from pytest_llem.runners.conversation import Listener, Progress

__all__ = ["LiveLine", "Watcher", "describe", "say", "uncaptured", "watching"]

_LONG_S = 10.0
_SAVE, _RESTORE, _CLEAR = "\x1b7", "\x1b8", "\x1b[K"
_MIN_ROOM = 20


def describe(experiment: Experiment, turn: str, progress: Progress) -> str:
    """A line about a measurement: name, phase, requests done, seconds gone, power, seconds left."""
    parts = [f"{experiment.id} {turn}", progress.phase]
    if progress.total:
        parts.append(f"{progress.done}/{progress.total}")
    parts.append(f"{progress.elapsed_s:.0f} s")
    if progress.power_w is not None:
        parts.append(show(progress.power_w, "W"))
    left_s = _left_s(experiment, progress)
    if left_s is not None:
        parts.append(f"{left_s:.0f} s left")
    return "  ".join(parts)


def _left_s(experiment: Experiment, progress: Progress) -> float | None:
    """Seconds to the end of the phase; None where that can't be told."""
    if progress.phase == "idle" and experiment.idle != "none":
        return max(0.0, experiment.idle - progress.elapsed_s)
    if progress.done and progress.total:
        return progress.elapsed_s * (progress.total - progress.done) / progress.done
    return None


def uncaptured(config: pytest.Config) -> AbstractContextManager[Any]:
    """A block in which what is written is seen, also while a test runs."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is None:
        return contextlib.nullcontext()
    suspended: AbstractContextManager[Any] = capture.global_and_fixture_disabled()
    return suspended


def say(config: pytest.Config, text: str) -> None:
    """Write a line while a test runs; a worker of pytest-xdist has its controller write it."""
    if (wire := wire_of(config)) is not None:
        wire.tell("says", text)
        return
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and config.getoption("verbose") >= 0:
        with uncaptured(config):
            reporter.ensure_newline()
            reporter.write_line(f"llem: {text}")


class LiveLine:
    """A text on the current line of a terminal; nothing where there is none.

    The line is written behind pytest's own text, and taken away again: cursor saved before,
    restored behind, so that pytest goes on where it was.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Find pytest's terminal writer."""
        self._writer: Any = None
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        shown = reporter is not None and reporter.isatty and os.environ.get("TERM") != "dumb"
        quiet = hasattr(config, "workerinput") or config.getoption("verbose") < 0
        if shown and not quiet:
            self._writer = config.get_terminal_writer()
        self._config = config

    def show(self, text: str) -> None:
        """Replace the line's text."""
        if self._writer is None:
            return
        room = self._writer.fullwidth - self._writer.width_of_current_line - 2
        if room >= _MIN_ROOM:
            self._write(f"{_SAVE}{_CLEAR}  {text[:room]}{_RESTORE}")

    def clear(self) -> None:
        """Take the text away."""
        if self._writer is not None:
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        # While a test runs, what is written is captured of it. Past pytest's writer, which would
        # count the line's characters as its own.
        with uncaptured(self._config):
            sys.stdout.write(text)
            sys.stdout.flush()


class Watcher(Listener):
    """Puts raw series into a side file, and progress on the live line.

    Attributes:
        lost: why the raw series could not be kept, should that be so.
    """

    def __init__(
        self,
        line: LiveLine,
        experiment: Experiment,
        turn: str,
        side_file: SideFile,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take what to show it on, what is measured, where raw series go, and who says lines."""
        self._line = line
        self._experiment = experiment
        self._turn = turn
        self._side_file = side_file
        self._name = f"{experiment.id} {turn}"
        self._say = say
        self._said = False
        self.lost: ResultsError | None = None

    def series(self, requests: Sequence[Any]) -> None:
        """Write some requests' times."""
        self._add(requests)

    def trace(self, samples: Sequence[Any]) -> None:
        """Write samples of the power trace, marked as such."""
        self._add([{"trace": sample} for sample in samples])

    def _add(self, rows: Sequence[Any]) -> None:
        """Write rows; a full disk must not cost the measurement itself."""
        if self.lost is None:
            try:
                self._side_file.add(rows)
            except ResultsError as error:
                self.lost = error

    def keep(self) -> str | None:
        """Put the side file in place; its name, None when there is none."""
        if self.lost is None:
            try:
                return self._side_file.keep()
            except ResultsError as error:
                self.lost = error
        return None

    def waits(self, what: str, waited_s: float) -> None:
        """Show it; where there is no terminal, or it takes long, also as a line that stays."""
        self._line.show(f"{self._name}  waits for {what}  {waited_s:.0f} s")
        if waited_s >= _LONG_S and not self._said:
            self._said = True
            self._say(f"{self._name} waits for {what}")

    def progress(self, progress: Progress) -> None:
        """Replace the live line."""
        self._line.show(describe(self._experiment, self._turn, progress))


@contextlib.contextmanager
def watching(
    config: pytest.Config, experiment: Experiment, turn: str, side_file: SideFile
) -> Iterator[Watcher]:
    """A watcher for one measurement; its line is gone afterwards."""
    line = LiveLine(config)
    try:
        yield Watcher(line, experiment, turn, side_file, functools.partial(say, config))
    finally:
        line.clear()
