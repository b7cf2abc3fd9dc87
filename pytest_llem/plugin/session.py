"""What a pytest session knows of its studies; one object, kept in the config's stash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import ResultsError
from pytest_llem.plugin.choices import Choices
from pytest_llem.plugin.naming import SESSION_NAME
from pytest_llem.plugin.rest import Rests
from pytest_llem.results.journal import Journal, read
from pytest_llem.results.outcome import Outcome
from pytest_llem.study.load import Study

__all__ = ["KEY", "LlemSession", "results_folder"]


class LlemSession:
    """Options, runners, journal and outcomes of one pytest process.

    Attributes:
        config: pytest's.
        choices: what is set outside of studies.
        rests: gaps between measurements.
        strict: whatever isn't a clean pass fails.
        allow_estimated: gates judge estimates.
        studies: collected so far.
        outcomes: (study file, experiment) to cycle to what became of it.
        unwritable: why results can't be kept any more, should that be so.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Read the options."""
        self.config = config
        self.choices = Choices(config)
        self.rests = Rests(config)
        self.strict = bool(config.getoption("llem_strict"))
        self.allow_estimated = bool(config.getoption("llem_allow_estimated"))
        self.studies: dict[str, Study] = {}
        self.outcomes: dict[tuple[Path, str], dict[int, Outcome]] = {}
        self.unwritable: ResultsError | None = None
        self._notices: dict[str, None] = {}
        self._reported = False
        self._journal: Journal | None = None

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

    def notice(self, line: str) -> None:
        """Something the user should know, said once."""
        self._notices[line] = None

    def news(self) -> dict[str, Any]:
        """Notices and skipped points for the controller, as plain data; the first time only."""
        if self._reported:
            return {}
        self._reported = True
        data = {"notices": self.notices, "skipped_points": self.skipped_points}
        return data if any(data.values()) else {}

    @property
    def skipped_points(self) -> list[dict[str, Any]]:
        """Points of the studies' grids that can't be measured, as plain data."""
        return [
            {
                "file": file,
                "study": study.name,
                "experiment": point.name,
                "reasons": list(point.reasons),
            }
            for file, study in self.studies.items()
            for point in study.skipped
        ]

    @property
    def notices(self) -> list[str]:
        """All that was noticed so far."""
        return list(self._notices)

    def elsewhere(self, file: str, experiment: str, digest: str) -> dict[int, Outcome]:
        """An experiment's cycles in the journals of all the session's processes."""
        wanted = (file, experiment, digest)
        outcomes, _ = read(results_folder(self.config))
        found = [o for o in outcomes if (o.file, o.experiment, o.digest) == wanted]
        # Of a cycle that was run again the last counts, as it does within a process.
        return {o.cycle: o for o in sorted(found, key=lambda o: o.finished)}

    def close(self) -> None:
        """Close the journal."""
        if self._journal:
            self._journal.close()


KEY = pytest.StashKey[LlemSession]()
_FOLDER = pytest.StashKey[Path]()


def results_folder(config: pytest.Config) -> Path:
    """Where the results of the session go."""
    if _FOLDER not in config.stash:
        given = config.getini("llem_results_dir") or Choices(config).user.settings.results_dir
        config.stash[_FOLDER] = config.rootpath / (given or "results") / config.stash[SESSION_NAME]
    return config.stash[_FOLDER]
