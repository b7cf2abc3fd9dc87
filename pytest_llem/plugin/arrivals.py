"""Results of other hosts: they come with the reports of tests, and are kept here as our own are.

A worker of another host writes its journal, raw files and logs there. So that nothing is lost with
that host, its outcomes carry the files with them; whatever can't come is named.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pytest_llem.errors import ResultsError
from pytest_llem.results.journal import Journal
from pytest_llem.results.outcome import Outcome

__all__ = ["Arrivals", "away", "parcel"]

_MOST_BYTES = 64 * 2**20
"""Of a file, compressed: more of it would stop all other results on their way."""

Parcel = dict[str, str]
"""Names of files, relative to the session's directory, to what they hold: compressed, as text."""


def away(config: pytest.Config) -> str | None:
    """The name of this host, in a worker that has other files than its controller."""
    host = getattr(config, "workerinput", {}).get("llem_host")
    return None if host is None else str(host)


def parcel(
    outcome: Outcome, folder: Path, log: Path, host: str, most_bytes: int = _MOST_BYTES
) -> tuple[Outcome, Parcel]:
    """What is to be sent of a measurement: its outcome, and its files.

    Args:
        outcome: as it stands in this host's journal.
        folder: the session's, on this host.
        log: of its worker.
        host: this one's name.
        most_bytes: of a file, compressed.
    """
    found: Parcel = {}
    with contextlib.suppress(OSError):
        found[f"logs/{log.name}"] = _packed(log, most_bytes)
    if outcome.raw is not None:
        path = folder / outcome.raw
        try:
            found[outcome.raw] = _packed(path, most_bytes)
        except OSError as error:
            outcome = _without_raw(outcome, f"stays at {host}:{path}: {error.strerror}")
    return outcome, found


def _packed(path: Path, most_bytes: int) -> str:
    """A file as text.

    Raises:
        OSError: when it can't be read, or is too large.
    """
    packed = zlib.compress(path.read_bytes(), 1)
    if len(packed) > most_bytes:
        raise OSError(0, f"compressed it has {len(packed)} bytes, more than {most_bytes}")
    return base64.b64encode(packed).decode()


def _without_raw(outcome: Outcome, reason: str) -> Outcome:
    return dataclasses.replace(outcome, raw=None, place={**outcome.place, "raw": reason})


class Arrivals:
    """Keeps what comes from other hosts, in the controller's results."""

    def __init__(self, folder: Path) -> None:
        """Begin with nothing.

        Args:
            folder: the session's, on this host.
        """
        self._folder = folder
        self._journals: dict[str, Journal | None] = {}

    def keep(
        self, worker: str, outcomes: Sequence[Outcome], files: Mapping[str, str]
    ) -> tuple[list[Outcome], list[str]]:
        """Write files and journal as the worker would have done here.

        Args:
            worker: its name.
            outcomes: that it reported.
            files: that came with them.

        Returns:
            The outcomes as they are known from now on, and a line for each thing that isn't here.
        """
        try:
            journal = self._journal(worker)
        except ResultsError as error:
            return list(outcomes), [str(error)]
        if journal is None:
            return list(outcomes), []
        lost = dict(self._write(files))
        kept, problems = [], []
        for outcome in outcomes:
            if reason := lost.get(str(outcome.raw)):
                outcome = _without_raw(outcome, reason)
            if reason := outcome.place.get("raw"):
                cycle = f"{outcome.experiment} cycle {outcome.cycle}"
                problems.append(f"{cycle}: its raw file is missing here: {reason}")
            try:
                journal.append(outcome)
            except ResultsError as error:
                problems.append(str(error))
            kept.append(outcome)
        return kept, problems

    def _journal(self, worker: str) -> Journal | None:
        """The worker's journal; None where its results are here already: on a shared disk."""
        if worker not in self._journals:
            there = (self._folder / f"journal.{worker}.jsonl").exists()
            self._journals[worker] = None if there else Journal(self._folder, worker)
        return self._journals[worker]

    def _write(self, files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Write files; yields those that can't be, each with the reason."""
        for name, text in files.items():
            kind, _, plain = name.partition("/")
            path = self._folder / kind / plain
            if kind not in {"raw", "logs"} or not plain or os.sep in plain or plain.startswith("."):
                # A name is made by the worker: nothing is written elsewhere, whatever it says.
                yield name, f"{name!r} is no name of a result"
                continue
            try:
                path.write_bytes(zlib.decompress(base64.b64decode(text)))
            except (OSError, ValueError, zlib.error) as error:
                yield name, f"it can't be written here: {error}"

    def close(self) -> None:
        """Close the journals."""
        for journal in self._journals.values():
            if journal is not None:
                journal.close()
