"""The reports that are wanted: checked before anything is measured, written at the end."""

from __future__ import annotations

import contextlib
import getpass
import importlib
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import ResultsError
from pytest_llem.plugin import comparing
from pytest_llem.plugin.naming import shown_path
from pytest_llem.plugin.session import results_folder
from pytest_llem.reports import files, json_report
from pytest_llem.reports.document import Report, from_document
from pytest_llem.results import raw

__all__ = ["Outputs"]

_IDLE = ("collectonly", "setupplan", "llem_plan")
_FILES = {
    "llem_json": "report",
    "llem_html": "HTML report",
    "llem_markdown": "Markdown report",
    "llem_save": "saved",
}
"""Option to what the terminal calls its file."""


def _late(name: str) -> Any:
    """A module of the reports, imported when it is asked for: most sessions don't."""
    return importlib.import_module(f"pytest_llem.reports.{name}")


class Outputs:
    """Where reports go, by the options of a session."""

    def __init__(self, config: pytest.Config) -> None:
        """Look at every path, and for what an HTML report needs.

        Raises:
            pytest.UsageError: when one can't be written.
        """
        self._config = config
        self._paths: dict[str, Path] = {}
        # A session that runs nothing must not write an empty report over a full one.
        if any(getattr(config.option, name, False) for name in _IDLE):
            return
        for name in _FILES:
            given = config.getoption(name)
            if name == "llem_save":
                path = comparing.saved_as(config)
            else:
                path = config.invocation_params.dir / given if given else None
            if path is not None:
                self._paths[name] = _writable(f"--{name.replace('_', '-')}", path)
        if "llem_html" in self._paths and (missing := _late("html_report").missing()):
            raise pytest.UsageError(f"--llem-html {missing}")

    @property
    def wanted(self) -> bool:
        """Whether there is any to write."""
        return bool(self._paths)

    def write(self, document: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
        """Write them all; what came of each as a line, and whether that is well.

        Args:
            document: of the session, as the user's hooks left it.
        """
        shown = document
        if self._config.getoption("llem_redact"):
            shown = _late("redact").redacted(document, _known_places(self._config))
        measured = any(row.get("measurement") for row in document.get("measurements", ()))
        for name, path in self._paths.items():
            if name == "llem_save" and not measured:
                continue
            title = _FILES[name]
            try:
                self._write(name, path, document, shown)
            # A fault in one report must cost neither the others nor the summary.
            except Exception as error:
                known = isinstance(error, (ResultsError, ValueError))
                cause = str(error) if known else f"{type(error).__name__}: {error}"
                yield f"the {title} was not written: {cause}; see the journal", False
            else:
                yield f"{title}: {shown_path(self._config, path)}", True

    def _write(
        self, name: str, path: Path, document: Mapping[str, Any], shown: Mapping[str, Any]
    ) -> None:
        if name == "llem_html":
            # The names of side files are paths too: they are read by the names they have.
            report = _late("html_report")
            wanted = report.wanted(from_document(document))
            series = raw.read_all(wanted, [results_folder(self._config)])
            files.write(path, report.page(from_document(shown), series))
        elif name == "llem_markdown":
            _write_markdown(path, from_document(shown))
        else:
            files.write(path, json_report.text(shown))


def _writable(option: str, path: Path) -> Path:
    try:
        files.check_writable(path)
    except ResultsError as error:
        raise pytest.UsageError(f"{option}: {error}") from error
    return path


def _write_markdown(path: Path, report: Report) -> None:
    """Write, or append to what others wrote into the summary of the same step of a CI job."""
    markdown = _late("markdown")
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if not summary or Path(summary).resolve() != path.resolve():
        files.write(path, markdown.page(report))
        return
    there = path.stat().st_size if path.exists() else 0
    files.append(path, markdown.page(report, most_bytes=markdown.MOST_BYTES - there))


def _known_places(config: pytest.Config) -> Any:
    """Who runs this, and where."""
    users, folders = set(), {config.invocation_params.dir}
    with contextlib.suppress(OSError, KeyError, ImportError):  # a uid without a name
        users.add(getpass.getuser())
    with contextlib.suppress(RuntimeError):  # nor a home
        folders.add(Path.home())
    return _late("redact").Known(
        root=str(config.rootpath),
        folders={str(folder) for each in folders for folder in (each, each.resolve())},
        hosts={socket.gethostname(), platform.node()} - {""},
        users=users,
    )
