"""Fixtures that measurements ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_llem.errors import ResultsError
from pytest_llem.plugin.session import KEY
from pytest_llem.results.journal import Journal

__all__ = ["llem_docker", "llem_journal"]


@pytest.fixture(scope="session")
def llem_journal(request: pytest.FixtureRequest) -> Iterator[Journal]:
    """The session's journal; an unwritable place is found before anything is measured."""
    session = request.config.stash[KEY]
    try:
        journal = session.journal
    except ResultsError as error:
        pytest.fail(str(error), pytrace=False)
    yield journal
    session.close()


@pytest.fixture(scope="session")
def llem_docker() -> None:
    """Refuses: containers come with a later version."""
    pytest.fail(
        "This version measures on this host only.\n"
        "  Fix: choose the local runner, for example --llem-runner-pytorch=local",
        pytrace=False,
    )
