"""Whether the cycles of an experiment have a common figure: one testbed, one subject. Pure.

What a session takes over from an earlier one was looked at before it was; a host and an engine that
can't be asked then tell in a new measurement that they are others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llem.records import Measurement
from pytest_llem.results.testbeds import TESTBED, shown

__all__ = ["mixed_subjects", "mixed_testbeds"]


def mixed_testbeds(measurements: Sequence[Measurement]) -> str:
    """How testbeds of cycles differ; empty where they don't."""
    return _mixed([(m.cycle, _named(m.testbed)) for m in measurements])


def mixed_subjects(measurements: Sequence[Measurement]) -> str:
    """How versions differ; empty where they don't."""
    return _mixed([(m.cycle, m.subject.get("versions") or {}) for m in measurements])


def _named(testbed: Mapping[str, Any]) -> dict[str, Any]:
    return {title: testbed[key] for key, title in TESTBED.items() if key in testbed}


def _mixed(cycles: Sequence[tuple[int, Mapping[str, Any]]]) -> str:
    """The first fact that two cycles don't share; what one of them lacks is none."""
    if not cycles:
        return ""
    first, then = cycles[0]
    for cycle, now in cycles[1:]:
        for name in then:
            if name in now and now[name] != then[name]:
                return f"{name}: c{first} {shown(then[name])}, c{cycle} {shown(now[name])}"
    return ""
