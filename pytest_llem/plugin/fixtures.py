"""Fixtures that measurements ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_llem.errors import ResultsError
from pytest_llem.extensions import BACKENDS, names
from pytest_llem.plugin.collect import LlemItem
from pytest_llem.plugin.session import KEY
from pytest_llem.results.journal import Journal
from pytest_llem.runners import models

__all__ = ["llem_docker", "llem_journal", "llem_models"]


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
def llem_models(request: pytest.FixtureRequest) -> None:
    """Looks at the models of all selected experiments, and names every problem at once."""
    nodes = dict.fromkeys(
        item.experiment
        for item in request.session.items
        if isinstance(item, LlemItem) and item.get_closest_marker("skip") is None
    )
    known = names(BACKENDS)
    uses = [
        models.Use(experiment=node.planned.experiment, where=f"{node.shown}:{node.planned.line}")
        for node in nodes
        # What isn't going to be measured needs no model.
        if not node.unmet and not node.refused and node.planned.experiment.backend in known
    ]
    if problems := models.check(uses):
        pytest.fail(models.listed(problems), pytrace=False)


@pytest.fixture(scope="session")
def llem_docker() -> None:
    """Refuses: containers come with a later version."""
    pytest.fail(
        "This version measures on this host only.\n"
        "  Fix: choose the local runner, for example --llem-runner-pytorch=local",
        pytrace=False,
    )
