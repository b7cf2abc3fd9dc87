"""Under pytest-xdist: who deals out the tests.

A gate judges the cycles that ran in its own process, and xdist's default deals them out one by one.
Its controller collects nothing itself: what there is to run, it learns from its workers. So its own
scheduler, whichever was chosen, gives way only once they told of a study.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pytest_llem.plugin.lanes import LaneScheduling, Node, holds_study

__all__ = ["Chooser", "choose"]

_DEALING_SINGLY = {"load", "worksteal", "loadgroup"}
"""The modes of xdist that part an experiment."""


def choose(config: pytest.Config, stock: Any) -> Any:
    """The scheduler of a session: ``stock``, or one that gives way to ours for a study."""
    if config.getoption("llem_dist") == "off" or config.getoption("dist") not in _DEALING_SINGLY:
        return stock
    # A scheduler of somebody else's has its reasons.
    return Chooser(config, stock) if type(stock).__module__.startswith("xdist.") else stock


class Chooser:
    """The stock scheduler in all it is and does; ours, once study items were collected."""

    def __init__(self, config: pytest.Config, stock: Any) -> None:
        """Begin with the stock scheduler."""
        self._config = config
        self._chosen = stock
        self._collected: dict[Node, list[str]] | None = {}

    def __getattr__(self, name: str) -> Any:
        """All but what is defined here."""
        return getattr(self._chosen, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """Of the scheduler chosen: xdist prints its name."""
        return type(self._chosen)

    def add_node_collection(self, node: Node, collection: Sequence[str]) -> None:
        """Take the ids of a worker, and choose with those of the last one."""
        self._chosen.add_node_collection(node, collection)
        if self._collected is not None:
            self._collected[node] = ids = list(collection)
            if self._chosen.collection_is_completed:
                self._choose(ids, self._collected)
                self._collected = None

    def _choose(self, ids: list[str], collected: dict[Node, list[str]]) -> None:
        # Workers that disagree are the stock scheduler's to report.
        agreed = all(ids == other for other in collected.values())
        if agreed and holds_study(ids):
            nodes = self._chosen.nodes
            self._chosen = LaneScheduling(self._config, ids, nodes)
            for node in nodes:
                if node in collected:
                    self._chosen.add_node_collection(node, ids)
