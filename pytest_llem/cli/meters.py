"""Rows about meters, by what a worker of the role ``meter`` says of them."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import EntryPoint
from typing import Any

from pytest_llem.cli.check import Check
from pytest_llem.extensions import METERS, names

__all__ = ["broken_meters", "judge_meters", "owner"]

_DISTRIBUTION = "pytest-llem"
_NOT_A_MEASUREMENT = "a model, not a measurement"


def owner(group: str, name: str) -> EntryPoint:
    """The entry point that :func:`pytest_llem.extensions.find` would load."""
    return next(iter(importlib.metadata.entry_points(group=group, name=name)))


def judge_meters(frame: dict[str, Any]) -> list[Check]:
    """A row for each meter that a worker's hello names."""
    if frame["frame"] != "hello" or not isinstance(frame.get("meters"), list):
        return broken_meters(str(frame.get("message") or "its worker named no meters"))
    return [_judge(meter) for meter in frame["meters"] if isinstance(meter, dict)]


def broken_meters(detail: str) -> list[Check]:
    """Rows for all meters when their worker gave no answer."""
    fix = "pip uninstall the package of a meter that hangs or crashes when it is imported"
    listed = ", ".join(names(METERS))
    return [Check("meters", "problem", f"{detail}; registered: {listed}", fix)]


def _judge(meter: dict[str, Any]) -> Check:
    name = str(meter.get("name"))
    row = f"meter {name}"
    point = owner(METERS, name)
    if error := meter.get("error"):
        fix = f'python -c "import {point.module}"  # shows why'
        return Check(row, "problem", f"can't be used: {error}", fix)
    if problems := dict(meter.get("problems") or {}):
        why, fix = next(iter(problems.values()))
        detail = f"{', '.join(problems)}: {why}; the energy is null{_brought_by(point)}"
        return Check(row, "problem" if fix else "note", detail, fix or None)
    domains = {device: found for device, found in dict(meter.get("domains") or {}).items() if found}
    if not domains:
        why = "".join(f": {reason}" for reason in [meter.get("reason")] if reason)
        return Check(row, "note", f"nothing to read{why}{_brought_by(point)}")
    readable = "; ".join(f"{', '.join(found)} ({device})" for device, found in domains.items())
    kind = f"estimates {readable}: {_NOT_A_MEASUREMENT}" if meter.get("estimates") else readable
    return Check(row, "note" if meter.get("estimates") else "ok", f"{kind}{_brought_by(point)}")


def _brought_by(point: EntryPoint) -> str:
    """Whose meter it is, unless it is ours."""
    if point.dist is None or point.dist.name == _DISTRIBUTION:
        return ""
    return f", brought by {point.dist.name} {point.dist.version}"
