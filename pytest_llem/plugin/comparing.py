"""What a session is compared with: earlier reports, and budgets that hold for every study."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pytest_llem.demands import Limit
from pytest_llem.errors import LlemError, ResultsError
from pytest_llem.plugin.naming import SESSION_NAME
from pytest_llem.plugin.session import results_root
from pytest_llem.results.references import References, load
from pytest_llem.study.budgets import parse
from pytest_llem.study.load import Planned

__all__ = ["budgeted", "budgets", "references", "references_sent", "saved_as", "saved_folder"]

_REFERENCES = pytest.StashKey["References | None"]()
_BUDGETS = pytest.StashKey[dict[str, float]]()


def references(config: pytest.Config) -> References | None:
    """All that ``--llem-compare`` names, read once; None where nothing is compared.

    Raises:
        pytest.UsageError: when something of it isn't a report.
    """
    sent = getattr(config, "workerinput", {}).get("llem_references")
    if _REFERENCES not in config.stash and sent is not None:
        # The paths are those of the controller's host.
        config.stash[_REFERENCES] = References.from_plain(json.loads(sent))
    if _REFERENCES not in config.stash:
        given: Sequence[str] = config.getoption("llem_compare") or ()
        try:
            found = load([_path(config, text) for text in given]) if given else None
        except ResultsError as error:
            raise pytest.UsageError(f"--llem-compare: {error}") from error
        config.stash[_REFERENCES] = found
    return config.stash[_REFERENCES]


def references_sent(config: pytest.Config) -> str | None:
    """The same as text, for a worker on another host; None where nothing is compared."""
    found = references(config)
    return None if found is None else json.dumps(found.plain(), separators=(",", ":"))


def _path(config: pytest.Config, text: str) -> Path:
    """A path; or the name that a session was saved under."""
    path = config.invocation_params.dir / text
    saved = saved_folder(config) / f"{text}.json"
    return saved if not path.exists() and saved.exists() else path


def saved_folder(config: pytest.Config) -> Path:
    """Where ``--llem-save`` keeps reports."""
    return results_root(config) / "references"


def saved_as(config: pytest.Config) -> Path | None:
    """Where the session's report is to be saved, for others to compare with."""
    name = config.getoption("llem_save")
    if name is None:
        return None
    return saved_folder(config) / f"{name or config.stash[SESSION_NAME]}.json"


def budgets(config: pytest.Config) -> dict[str, float]:
    """How much worse metrics may be, in every study: 0.05 for 5 %.

    Raises:
        pytest.UsageError: for what is no metric, or no percentage.
    """
    if _BUDGETS not in config.stash:
        option: Sequence[str] = config.getoption("llem_compare_fail") or ()
        ini: Sequence[str] = config.getini("llem_compare_fail")
        try:
            config.stash[_BUDGETS] = {
                **parse(ini, "ini llem_compare_fail"),
                **parse(option, "--llem-compare-fail"),
            }
        except LlemError as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[_BUDGETS]


def budgeted(planned: Planned, shown: str, given: Mapping[str, float]) -> Planned:
    """An experiment with budgets of its own and these, which win.

    Args:
        planned: the experiment.
        shown: its study's path, as messages show it.
        given: of :func:`budgets`.
    """
    if not given:
        return planned
    limits = {limit.metric: limit for limit in planned.limits}
    for metric, budget in given.items():
        own = limits.get(metric) or Limit(metric=metric, where=f"{shown}:{planned.line}")
        limits[metric] = dataclasses.replace(own, regression=budget)
    return dataclasses.replace(planned, limits=tuple(limits.values()))
