"""Fixtures that measurements ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pytest_llem.plugin.collect import running

__all__ = ["llem_docker", "llem_journal", "llem_models"]


@pytest.fixture(scope="session")
def llem_journal(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The session's journal; an unwritable place is found before anything is measured."""
    yield running().journal(request.config)
    running().close(request.config)


@pytest.fixture(scope="session")
def llem_models(request: pytest.FixtureRequest) -> None:
    """Looks at the models of all selected experiments, and names every problem at once."""
    running().check_models(request.session)


@pytest.fixture(scope="session")
def llem_docker(request: pytest.FixtureRequest) -> Any:
    """Looks whether containers work, for the first item that needs one; then lets items pass.

    A failure is told to each item by itself: of a fixture's own, pytest would repeat the whole.
    """
    return running().containers(request.session)
