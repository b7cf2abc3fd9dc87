"""What a pytest session knows of its studies; one object, kept in the config's stash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llem.plugin.choices import Choices
from pytest_llem.plugin.naming import SESSION_NAME
from pytest_llem.study.load import Study

__all__ = ["KEY", "LlemSession", "results_folder", "results_root"]


class LlemSession:
    """Options, runners and studies of one pytest process.

    Attributes:
        config: pytest's.
        choices: what is set outside of studies.
        strict: whatever isn't a clean pass fails.
        studies: collected so far.
        resumes: folder of the session that this one resumes.
        refusal: why nothing may be measured, should that be so.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Read the options."""
        self.config = config
        self.choices = Choices(config)
        self.strict = bool(config.getoption("llem_strict"))
        self.studies: dict[str, Study] = {}
        self.resumes: Path | None = None
        self.refusal = ""
        self._notices: dict[str, None] = {}
        self._told = 0
        self._points_told = False

    def notice(self, line: str) -> None:
        """Something the user should know, said once."""
        self._notices[line] = None

    def news(self) -> dict[str, Any]:
        """Notices and skipped points for the controller, as plain data; each only once."""
        notices = self.notices[self._told :]
        points = [] if self._points_told else self.skipped_points
        self._told, self._points_told = len(self._notices), True
        return {"notices": notices, "skipped_points": points} if notices or points else {}

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


KEY = pytest.StashKey[LlemSession]()
_FOLDER = pytest.StashKey[Path]()


def results_folder(config: pytest.Config) -> Path:
    """Where the results of the session go."""
    if _FOLDER not in config.stash:
        config.stash[_FOLDER] = results_root(config) / config.stash[SESSION_NAME]
    return config.stash[_FOLDER]


def results_root(config: pytest.Config) -> Path:
    """Where the results of all sessions go."""
    given = config.getini("llem_results_dir") or Choices(config).user.settings.results_dir
    return config.rootpath / (given or "results")
