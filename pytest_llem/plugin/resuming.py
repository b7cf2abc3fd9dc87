"""``--llem-resume``: which session is gone on with, and what of it is taken over.

Under pytest-xdist the controller chooses, so that all of its workers go on with the same.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.demands import Arm
from pytest_llem.errors import LlemError, ResultsError
from pytest_llem.extensions import BACKENDS, find, names
from pytest_llem.plugin import stopping
from pytest_llem.plugin.collect import ExperimentNode, LlemItem
from pytest_llem.plugin.execute import Turn
from pytest_llem.plugin.naming import SESSION_NAME, shown_path
from pytest_llem.plugin.run import Run
from pytest_llem.plugin.session import KEY, results_root
from pytest_llem.results import sessions
from pytest_llem.results.carbon import with_carbon
from pytest_llem.results.here import Here
from pytest_llem.results.masks import masked
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.resume import Earlier, Found, Wanted, adopt, explained
from pytest_llem.wire import to_dict

__all__ = ["choose", "take", "take_over", "told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """What may be gone on with.

    Attributes:
        folders: of sessions, newest first; a single one where the user named it.
        running: names of those that aren't over.
        named: whether the user named it.
    """

    folders: tuple[Path, ...]
    running: frozenset[str] = frozenset()
    named: bool = False


_CHOSEN = pytest.StashKey[_Chosen]()


def choose(config: pytest.Config) -> None:
    """Look for what the user named; without a name, for all that there is before this session.

    Raises:
        pytest.UsageError: when what was named isn't there, or is still running.
    """
    text, root = config.getoption("llem_resume"), results_root(config)
    sent: Mapping[str, Any] | None = getattr(config, "workerinput", {}).get("llem_resume")
    if sent is not None:
        folders = tuple(map(Path, sent["folders"]))
        chosen = _Chosen(folders=folders, running=frozenset(sent["running"]), named=sent["named"])
    elif text:
        try:
            folder = sessions.find(text, root, config.invocation_params.dir)
            sessions.refuse_running(folder)
        except ResultsError as error:
            raise pytest.UsageError(f"--llem-resume: {error}") from error
        chosen = _Chosen(folders=(folder,), named=True)
    else:
        own = config.stash[SESSION_NAME]
        found = [path.resolve() for path in sessions.sessions(root) if path.name != own]
        running = frozenset(path.name for path in found if sessions.is_running(path))
        chosen = _Chosen(folders=tuple(found), running=running)
    config.stash[_CHOSEN] = chosen


def told(config: pytest.Config) -> dict[str, Any]:
    """The choice as plain data, for a worker of pytest-xdist."""
    chosen = config.stash[_CHOSEN]
    return {
        "folders": [str(folder) for folder in chosen.folders],
        "running": sorted(chosen.running),
        "named": chosen.named,
    }


def take_over(session: pytest.Session) -> None:
    """Find what of the selected measurements needn't be made again, and say so.

    Raises:
        pytest.UsageError: when the session to go on with is still running.
    """
    config = session.config
    nodes = list(dict.fromkeys(i.experiment for i in session.items if isinstance(i, LlemItem)))
    if _CHOSEN not in config.stash or not nodes:
        return
    llem = config.stash[KEY]
    try:
        earlier = _earlier(config, {study.name for study in llem.studies.values()})
    except ResultsError as error:
        if not hasattr(config, "workerinput"):
            raise pytest.UsageError(f"--llem-resume: {error}") from error
        # From here a worker can't end the whole session: each of its measurements says so.
        llem.refusal = f"--llem-resume: {error}"
        return
    if earlier is None:
        where = shown_path(config, results_root(config))
        llem.notice(f"nothing to resume: no earlier session of these studies in {where}")
        return
    llem.resumes = earlier.folder
    for line in _taken(config, nodes, earlier):
        llem.notice(line)


def _earlier(config: pytest.Config, studies: Collection[str]) -> Earlier | None:
    """The session to go on with; None where there is none of these studies.

    Raises:
        ResultsError: when it is still running.
    """
    chosen = config.stash[_CHOSEN]
    for folder in chosen.folders:
        earlier = Earlier(folder)
        if chosen.named or earlier.has_any(studies):
            if folder.name in chosen.running:
                sessions.refuse_running(folder)
                # It ended meanwhile; what it wrote last was perhaps not there when it was read.
                earlier = Earlier(folder)
            return earlier
    return None


def _taken(
    config: pytest.Config, nodes: Collection[ExperimentNode], earlier: Earlier
) -> Iterator[str]:
    """Note on the experiments what is taken over; lines on what is, what isn't, and why."""
    name, here = earlier.folder.name, Here()
    taken = wanted = 0
    changed: list[tuple[str, str, tuple[str, ...]]] = []
    strict = config.stash[KEY].strict

    def is_there(file: str) -> bool:
        return (config.rootpath / file).exists()

    for node in nodes:
        if node.unmet or node.get_closest_marker("skip") is not None:
            continue
        differs: dict[str, None] = {}
        for turn in node.wanted:
            wanted += 1
            found = earlier.find(_wanted(node, *turn), here.differs, is_there)
            if found is None or (strict and _flawed(found.outcome)):
                continue
            if found.differs:
                differs |= dict.fromkeys(found.differs)
            else:
                node.taken[turn] = found
                taken += 1
        if differs:
            changed.append((node.shown, node.name, tuple(differs)))
    yield f"resuming {name}: {taken or 'none'} of {wanted} measurements taken over"
    yield from explained(changed, name)
    for problem in earlier.problems:
        yield problem.replace(
            f"{earlier.folder.parent}/", f"{shown_path(config, earlier.folder.parent)}/"
        )


def _wanted(node: ExperimentNode, cycle: int, arm: Arm | None) -> Wanted:
    experiment, runner = node.planned.experiment, node.runner_of(arm)
    # Another interpreter has an engine of its own.
    ours = runner.mode == "local" and runner.argument is None
    return Wanted(
        study=node.study.name,
        file=node.nodeid.partition("::")[0],
        experiment=node.name,
        cycle=cycle,
        arm=arm,
        digest=node.planned.digest,
        config=masked(to_dict(experiment)),
        runner=runner.value,
        versions=_versions(experiment.backend) if ours else {},
    )


@functools.cache
def _versions(backend: str) -> Mapping[str, str | None]:
    """Of an engine of this host, those that are known."""
    if backend not in names(BACKENDS):
        return {}
    try:
        found = find(BACKENDS, backend)().versions()
    except LlemError:
        return {}
    # Without the engine nothing can be measured anew, so that nothing is gained by asking for it.
    return {name: version for name, version in found.items() if version is not None}


def _flawed(outcome: Outcome) -> bool:
    """Whether strict has it failed."""
    return outcome.measurement is not None and bool(outcome.measurement.integrity)


def take(run: Run, turn: Turn, found: Found) -> Outcome:
    """Take over a measurement, as one of this session."""
    earlier = found.outcome.measurement
    assert earlier is not None
    outcome = dataclasses.replace(
        found.outcome,
        file=turn.file,
        node=turn.node,
        config=masked(to_dict(turn.planned.experiment)),
        # What a joule costs may have changed since.
        measurement=with_carbon(earlier, run.carbon),
    )
    try:
        outcome = adopt(run.journal, found, outcome, turn.name)
    except ResultsError as error:
        run.unwritable = error
    run.keep(turn.study.path, outcome)
    stopping.note(run, turn, outcome, sum(window.duration_s for window in earlier.windows))
    return outcome
