"""Hooks that pytest-llem calls; implement them in a conftest.py or a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_llem.runners.detect import Detected

__all__ = ["pytest_llem_detect", "pytest_llem_modify_report", "pytest_llem_result"]


@pytest.hookspec(firstresult=True)
def pytest_llem_detect(config: pytest.Config) -> Detected | None:
    """What there is of Docker on this host, where its files don't tell.

    The first answer that isn't None is taken. It decides about backends that nobody chose a
    runner for.

    Args:
        config: of the session.
    """


def pytest_llem_result(item: pytest.Item, result: dict[str, Any]) -> None:
    """A measurement was made, failed, or was taken over; it is in the journal already.

    Called where the test runs, so under xdist in a worker. What is added to
    ``item.user_properties`` shows up in junit.

    Args:
        item: the test.
        result: plain JSON data, as under ``measurements`` of the report; a copy.
    """


def pytest_llem_modify_report(config: pytest.Config, report: dict[str, Any]) -> None:
    """The JSON report is about to be written; change it in place.

    Called once a session, under xdist in the controller.

    Args:
        config: of the session.
        report: plain JSON data; see docs/report.md.
    """
