"""What an earlier session measured and a later one takes over, and why it doesn't take the rest.

Taken over is what has the same study, experiment, digest and testbed. What decides about figures
without being part of a digest must be the same too: how it is measured, by which runner and with
which version of an engine. Cycles that differ in that have no common median.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llem.demands import Arm
from pytest_llem.errors import ResultsError
from pytest_llem.experiment import NOT_IN_DIGEST
from pytest_llem.results.journal import Journal, read
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.sessions import lineage
from pytest_llem.wire import dotted

__all__ = ["Earlier", "Found", "Wanted", "adopt", "explained"]

_NO_MATTER = frozenset({"id", "timeout_s", "load_timeout_s", "image", "marks", "skip", "xfail"})
"""Fields that change no figure, or that are compared as what they come to."""

_NAMED = 3
_LONGEST = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A measurement that is about to be made.

    Attributes:
        file: of the study, as pytest's ids name it.
        config: the experiment's fields, as an outcome has them.
        arm: of an A/B comparison.
        runner: as a user would write it.
        versions: of its engine, as far as they are known before it is started.
    """

    study: str
    file: str
    experiment: str
    cycle: int
    arm: Arm | None = None
    digest: str
    config: Mapping[str, Any]
    runner: str
    versions: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """An earlier measurement of the same name.

    Attributes:
        folder: of the session that has it.
        differs: what makes it another one, then and now; empty where it can be taken over.
    """

    outcome: Outcome
    folder: Path
    differs: tuple[str, ...] = ()


class Earlier:
    """What a session, and those that it was resumed from, measured.

    Attributes:
        folder: of the session.
        problems: what can't be read of it, a line each.
    """

    def __init__(self, folder: Path) -> None:
        """Read the journals."""
        self.folder = folder
        folders, self.problems = lineage(folder)
        self._made: dict[tuple[str, str, int, Arm | None], list[Found]] = {}
        for each in folders:
            outcomes, unread = read(each)
            self.problems += unread
            for outcome in _newest_first(outcomes):
                if outcome.measurement is not None:
                    key = (outcome.study, outcome.experiment, outcome.cycle, outcome.arm)
                    self._made.setdefault(key, []).append(Found(outcome, each))

    def has_any(self, studies: Collection[str]) -> bool:
        """Whether it measured anything of studies of these names."""
        return any(study in studies for study, *_ in self._made)

    def find(
        self,
        wanted: Wanted,
        here: Callable[[Outcome], Sequence[str]],
        is_there: Callable[[str], bool] = lambda _: False,
    ) -> Found | None:
        """The newest measurement that can be taken over; else the newest, and how it differs.

        Args:
            wanted: what is about to be made.
            here: how this host differs from that of a measured outcome.
            is_there: whether a file of pytest's ids exists. One that doesn't may have been moved;
                one that does has measurements of its own, though its study has the same name.
        """
        first: Found | None = None
        key = (wanted.study, wanted.experiment, wanted.cycle, wanted.arm)
        for found in self._made.get(key, ()):
            file = found.outcome.node.partition("::")[0]
            if file != wanted.file and is_there(file):
                continue
            differs = (*_differences(wanted, found.outcome), *here(found.outcome))
            if not differs:
                return found
            first = first or dataclasses.replace(found, differs=differs)
        return first


def _newest_first(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Of a cycle that was measured twice the last counts, as it did then."""
    # Their times are whole seconds: of equal ones the later line is the newer.
    return sorted(outcomes, key=lambda outcome: outcome.finished)[::-1]


def _differences(wanted: Wanted, outcome: Outcome) -> Iterator[str]:
    """How an earlier measurement differs from what is wanted, then and now."""
    assert outcome.measurement is not None
    then, now = _fields(outcome.config), _fields(wanted.config)
    same = outcome.digest == wanted.digest
    # Paths may differ where a digest doesn't: it is made of what they lead to.
    looked_at = NOT_IN_DIGEST - _NO_MATTER if same else {*then, *now}
    changed = [
        f"{name} {_shown(then.get(name))} → {_shown(now.get(name))}"
        for name in sorted({*then, *now})
        if (root := name.partition(".")[0]) not in _NO_MATTER
        and (not same or root in looked_at)
        and then.get(name) != now.get(name)
    ]
    yield from changed
    if not same and not changed:
        yield "what its model directory or its file of prompts holds"
    if outcome.runner.value != wanted.runner:
        yield f"runner {outcome.runner.value} → {wanted.runner}"
    versions = outcome.measurement.subject.get("versions") or {}
    for name, version in wanted.versions.items():
        if name in versions and versions[name] != version:
            yield f"{name} {_shown(versions[name])} → {_shown(version)}"


def _fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by the names that a study has for them: an engine's options stand under its name."""
    fields = {name: value for name, value in config.items() if name != "options"}
    return dotted({**fields, str(config.get("backend")): config.get("options") or {}})


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def explained(changed: Iterable[tuple[str, str, Sequence[str]]], session: str) -> Iterator[str]:
    """Which experiments are measured anew for what differs, a line for each difference.

    Args:
        changed: file, experiment and differences.
        session: that would have been resumed.
    """
    grouped: dict[tuple[str, str], dict[str, None]] = {}
    for file, experiment, differs in changed:
        grouped.setdefault((file, "; ".join(differs)), {})[experiment] = None
    for (file, differs), names in grouped.items():
        listed = ", ".join([*names][:_NAMED])
        if len(names) > _NAMED:
            listed += f" and {len(names) - _NAMED} more"
        yield f"{file}: changed since {session}, so measured anew: {listed}: {differs}"


def adopt(journal: Journal, found: Found, outcome: Outcome, turn: str) -> Outcome:
    """Make what an earlier session measured this one's: raw series and log, then the journal.

    Args:
        journal: of this session.
        found: what is taken over.
        outcome: the same, as this session names it.
        turn: of its experiment, ``c1``.

    Returns:
        The outcome that was appended.

    Raises:
        ResultsError: when the disk doesn't take it.
    """
    earlier, place = found.outcome, (outcome.file, outcome.experiment, turn)
    raw = journal.raw_path(*place)
    kept = earlier.raw is not None and _shared(found.folder / earlier.raw, raw)
    then = journal.log_path(earlier.file, earlier.experiment, turn).name
    _shared(found.folder / "logs" / then, journal.log_path(*place))
    taken = dataclasses.replace(
        outcome,
        raw=f"raw/{raw.name}" if kept else None,
        resumed=earlier.resumed or found.folder.name,
    )
    journal.append(taken)
    return taken


def _shared(source: Path, target: Path) -> bool:
    """Have a file in a second place, without a copy where that can be; False where it is gone.

    Raises:
        ResultsError: when the disk doesn't take it.
    """
    if not source.is_file():
        return False
    if target.exists():
        return True
    with contextlib.suppress(OSError):
        os.link(source, target)
        return True
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ResultsError(f"{target} can't be written: {error.strerror}") from error
    return True
