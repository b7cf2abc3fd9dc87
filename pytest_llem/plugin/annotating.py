"""GitHub annotations of what failed, where pytest runs in a workflow there."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llem.reports.annotations import Annotation, command, of_failure, of_problems

__all__ = ["Annotations"]

_OTHERS = "annotate_errors"
"""What pytest-github-actions-annotate-failures registers; it is for failures of the call only."""


class Annotations:
    """Failures of a session, to be printed at its end: in its middle a line may be half written."""

    def __init__(self, config: pytest.Config) -> None:
        """Look whether this is a workflow of GitHub's."""
        self._config = config
        self._wanted = os.environ.get("GITHUB_ACTIONS") == "true"
        self._found: dict[Annotation, None] = {}

    def failed(self, report: pytest.TestReport) -> None:
        """Note a failed measurement or gate, unless another plugin tells of it."""
        others = self._config.pluginmanager.has_plugin(_OTHERS) and report.when == "call"
        if not self._wanted or not report.failed or others:
            return
        file, line, title = report.location
        # Not longreprtext: under xdist that begins with the worker's name.
        text = str(report.longrepr)
        self._note(of_failure(text, file=file, line=(line or 0) + 1, title=title))

    def refused(self, report: pytest.CollectReport) -> None:
        """Note all that is wrong with a study."""
        if self._wanted:
            for each in of_problems(report.longreprtext):
                self._note(each)

    def lines(self) -> Iterator[str]:
        """Workflow commands, each failure once."""
        yield from map(command, self._found)

    def _note(self, annotation: Annotation) -> None:
        self._found[dataclasses.replace(annotation, file=self._shown(annotation.file))] = None

    def _shown(self, file: str) -> str:
        """A path as GitHub knows it: relative to the repository."""
        for base in (self._config.invocation_params.dir, self._config.rootpath):
            path = (base / file).resolve()
            workspace = Path(os.environ.get("GITHUB_WORKSPACE") or base).resolve()
            if path.exists() and path.is_relative_to(workspace):
                return path.relative_to(workspace).as_posix()
        return file
