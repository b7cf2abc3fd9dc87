"""Under pytest-xdist: who deals out the tests.

A gate judges the cycles that ran in its own process, and xdist's default deals them out one by one;
it also has as many measured at once as there are workers, however many GPUs there are.
Its controller collects nothing itself: what there is to run, it learns from its workers. So its own
scheduler, whichever was chosen, gives way only once they told of a study.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_llem.plugin.naming import holds_study
from pytest_llem.plugin.wires import Wires

__all__ = ["Chooser", "Stopping", "choose"]

_LANES = "pytest_llem.plugin.lanes"

_DEALING_SINGLY = {"load", "worksteal", "loadgroup"}
"""The modes of xdist that part an experiment."""


def choose(config: pytest.Config, stock: Any, wires: Wires) -> Any:
    """The scheduler of a session: ``stock``, or one that gives way to ours for a study."""
    if config.getoption("llem_dist") == "off" or config.getoption("dist") not in _DEALING_SINGLY:
        return stock
    # A scheduler of somebody else's has its reasons.
    return Chooser(config, stock, wires) if type(stock).__module__.startswith("xdist.") else stock


class Chooser:
    """The stock scheduler in all it is and does; ours, once study items were collected."""

    def __init__(self, config: pytest.Config, stock: Any, wires: Wires) -> None:
        """Begin with the stock scheduler."""
        self._config = config
        self._chosen = stock
        self._wires = wires
        self._collected: dict[Any, list[str]] | None = {}

    def __getattr__(self, name: str) -> Any:
        """All but what is defined here."""
        return getattr(self._chosen, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """Of the scheduler chosen: xdist prints its name."""
        return type(self._chosen)

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Take the ids of a worker, and choose with those of the last one."""
        self._chosen.add_node_collection(node, collection)
        if self._collected is not None:
            self._collected[node] = ids = list(collection)
            if self._chosen.collection_is_completed:
                self._choose(ids, self._collected)
                self._collected = None

    def _choose(self, ids: list[str], collected: dict[Any, list[str]]) -> None:
        # Workers that disagree are the stock scheduler's to report.
        agreed = all(ids == other for other in collected.values())
        if agreed and holds_study(ids):
            nodes = self._chosen.nodes
            lanes: Any = importlib.import_module(_LANES)
            self._chosen = lanes.LaneScheduling(self._config, ids, nodes, self._wires)
            for node in nodes:
                if node in collected:
                    self._chosen.add_node_collection(node, ids)


class Stopping:
    """Ends a session after its last allowed failure without another measurement.

    A worker of xdist's runs the test that it holds besides, whatever is said; one of a study takes
    minutes. So workers are told not to begin with it.
    """

    def __init__(self, config: pytest.Config, wires: Wires) -> None:
        """Count from now on."""
        self._most = int(config.getoption("maxfail") or 0)
        self._wires = wires
        self._failures = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count as xdist is about to."""
        self._failures += report.failed
        if self._most and self._failures == self._most:
            self._wires.stop()
