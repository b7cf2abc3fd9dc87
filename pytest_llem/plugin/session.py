"""What a pytest session knows of its studies; one object, kept in the config's stash."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pytest_llem.errors import ResultsError, RunnerError
from pytest_llem.extensions import BACKENDS, names
from pytest_llem.plugin.naming import SESSION_NAME
from pytest_llem.records import RunnerSpec
from pytest_llem.results.journal import Journal
from pytest_llem.results.outcome import Outcome
from pytest_llem.runners.resolve import parse_pairs, resolve
from pytest_llem.study.schema import nearest

_WELL_KNOWN = ("pytorch", "vllm", "tensorrt")
"""Backends with an option of their own, installed or not."""

__all__ = ["KEY", "LlemSession", "results_folder", "shown_path"]


class LlemSession:
    """Options, runners, journal and outcomes of one pytest process.

    Attributes:
        config: pytest's.
        strict: whatever isn't a clean pass fails.
        allow_estimated: gates judge estimates.
        outcomes: (study file, experiment) to cycle to what became of it.
        started: whether a measurement was made already, so that a gap is due before the next.
        unwritable: why results can't be kept any more, should that be so.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Read the options."""
        self.strict = bool(config.getoption("llem_strict"))
        self.allow_estimated = bool(config.getoption("llem_allow_estimated"))
        self.outcomes: dict[tuple[Path, str], dict[int, Outcome]] = {}
        self.started = False
        self.unwritable: ResultsError | None = None
        self.config = config
        self._journal: Journal | None = None

    def runner(self, backend: str, study: Mapping[str, str]) -> RunnerSpec:
        """Where a backend of a study runs.

        Raises:
            RunnerError: when the winning source names no runner, or a setting can't be read.
        """
        variable = f"LLEM_RUNNER_{backend.upper()}"
        cli, ini = self._settings()
        sources = {
            "cli": cli,
            "env": {backend: os.environ.get(variable, "")},
            "study": study,
            "ini": ini,
        }
        return resolve(backend, sources)

    def _settings(self) -> tuple[dict[str, str], dict[str, str]]:
        """What the command line and the ini file say; a backend nobody knows is a typo."""
        cli = _cli_runners(self.config)
        ini = parse_pairs(self.config.getini("llem_runners"), "ini llem_runners")
        known = {*_WELL_KNOWN, *names(BACKENDS)}
        for source, values in (("cli", cli), ("ini llem_runners", ini)):
            for name in values:
                if name not in known:
                    hint = nearest(name, known)
                    raise RunnerError(f"{source}: unknown backend {name!r}; {hint}")
        return cli, ini

    @property
    def journal(self) -> Journal:
        """The journal of this process, begun at first use.

        Raises:
            ResultsError: when it can't be written.
        """
        if self._journal is None:
            worker_input = getattr(self.config, "workerinput", {})
            writer = worker_input.get("workerid", "main")
            self._journal = Journal(results_folder(self.config), writer)
        return self._journal

    def keep(self, path: Path, outcome: Outcome) -> None:
        """Remember an outcome for the gate of its experiment."""
        self.outcomes.setdefault((path, outcome.experiment), {})[outcome.cycle] = outcome

    def close(self) -> None:
        """Close the journal."""
        if self._journal:
            self._journal.close()


KEY = pytest.StashKey[LlemSession]()


def results_folder(config: pytest.Config) -> Path:
    """Where the results of the session go."""
    root = config.rootpath / config.getini("llem_results_dir")
    return Path(root) / config.stash[SESSION_NAME]


def _cli_runners(config: pytest.Config) -> dict[str, str]:
    """Both spellings of the command line's choice; the specific one wins."""
    pairs: Sequence[str] = config.getoption("llem_runner") or []
    found = parse_pairs(pairs, "--llem-runner")
    for backend in _WELL_KNOWN:
        if value := config.getoption(f"llem_runner_{backend}"):
            found[backend] = value
    return found


def shown_path(config: pytest.Config, path: Path) -> str:
    """A path as messages name it: relative to where pytest was called, when below it."""
    for base in (config.invocation_params.dir, config.rootpath):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)
