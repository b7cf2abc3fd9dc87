"""Collecting a study pays for nothing that only measuring needs."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.conftest import Project

pytestmark = pytest.mark.once

CONFTEST = """
import json, sys, pathlib

def pytest_sessionfinish(session):
    names = sorted(name for name in sys.modules if name.startswith("pytest_llem."))
    pathlib.Path("modules.json").write_text(json.dumps(names))
"""
LATE = {
    "pytest_llem.plugin.reporting",
    "pytest_llem.plugin.running",
    "pytest_llem.results.journal",
    "pytest_llem.runners.conversation",
    "pytest_llem.runners.models",
    "pytest_llem.runners.thermal",
}


def modules(project: Project, *options: str) -> set[str]:
    """What a process of its own has imported of the plugin when it ends."""
    project.pytester.makeconftest(CONFTEST)
    result = project.pytester.runpytest_subprocess("benchmarks", *options)
    assert result.ret == 0, result.outlines
    return set(json.loads((project.pytester.path / "modules.json").read_text()))


def test_what_measures_is_imported_when_something_is_measured(project: Project) -> None:
    project.study("execution: {cycles: 1, gaps: none}\nexpect: {requests_per_s: {min: 0.001}}\n")
    collected = modules(project, "--collect-only")
    assert "pytest_llem.study.load" in collected
    assert collected & LATE == set()
    assert modules(project) >= LATE
