"""Whether this host is the testbed of an earlier measurement, as far as its files and NVML tell.

An engine and meters say more, but only once there is a new measurement.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_llem.gpus import Found, greeting, look
from pytest_llem.machine import cpu_count, cpu_model, system
from pytest_llem.results.outcome import Outcome

__all__ = ["Here"]

_TOLERANCE_W = 1.0


@dataclass(frozen=True)
class Here:
    """This host, looked at when first asked for.

    Attributes:
        facts: by the names that a testbed has for them.
        find: looks for its GPUs.
        greet: asks for its driver.
        linux: whether containers here share the host's kernel, and see its processors.
    """

    facts: Callable[[], Mapping[str, Any]] = lambda: _facts()
    find: Callable[[], Found] = look
    greet: Callable[[], Mapping[str, Any]] = greeting
    linux: bool = sys.platform == "linux"

    def differs(self, outcome: Outcome) -> list[str]:
        """How this host differs from the testbed of a measured outcome, then and now.

        Nothing is told of other hosts: of a daemon elsewhere, of runners of a third party.
        """
        assert outcome.measurement is not None
        then = outcome.measurement.testbed
        mode = outcome.runner.mode
        if mode == "local":
            found = [*self._host(then, "cpu", "cpus", "system")]
        elif mode == "docker" and self.linux and not outcome.place.get("remote"):
            # A container may have been given fewer CPUs than the host has.
            found = [*self._host(then, "cpu")]
        else:
            return []
        return [*found, *self._gpus(then)]

    def _host(self, then: Mapping[str, Any], *names: str) -> Iterator[str]:
        for name in names:
            if name in then and then[name] != self._facts[name]:
                shown = {"cpu": "CPU", "cpus": "CPUs"}.get(name, name)
                yield f"{shown}: {then[name]} → {self._facts[name]}"

    def _gpus(self, then: Mapping[str, Any]) -> Iterator[str]:
        names = then.get("gpus") or []
        if not names:
            return
        now = self._found.gpus
        limits = then.get("power_limits_w") or [None] * len(names)
        for name, limit_w in zip(names, limits, strict=False):
            same = [gpu for gpu in now if gpu.name == name]
            if not same:
                here = ", ".join(sorted({gpu.name for gpu in now})) or self._found.reason or "none"
                yield f"GPU: {name} → {here}"
            elif not any(_equal(gpu.power_limit_w, limit_w) for gpu in same):
                yield f"power limit: {limit_w:g} W → {same[0].power_limit_w:g} W"
        branch = str(self._greeting.get("driver", "")).partition(".")[0]
        if now and then.get("driver_branch") and branch != then["driver_branch"]:
            yield f"driver: {then['driver_branch']} → {branch or 'unknown'}"

    @functools.cached_property
    def _facts(self) -> Mapping[str, Any]:
        return self.facts()

    @functools.cached_property
    def _found(self) -> Found:
        return self.find()

    @functools.cached_property
    def _greeting(self) -> Mapping[str, Any]:
        return self.greet()


def _facts() -> dict[str, Any]:
    return {"cpu": cpu_model(), "cpus": cpu_count(), "system": system()}


def _equal(one_w: float | None, other_w: float | None) -> bool:
    if one_w is None or other_w is None:
        return True
    return abs(one_w - other_w) <= _TOLERANCE_W
