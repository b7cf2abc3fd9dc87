"""When to stop measuring: too many failures of a backend, or no time left. Pure but for the clock.

Both hold for a study and a process: each worker of pytest-xdist counts for itself.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

__all__ = ["Stopping", "failed_too_often"]

_FAILURES, _BUDGET = "max_failures", "time_budget_s"


@dataclass(slots=True)
class Stopping:
    """What a study allows, and what was spent of it.

    Attributes:
        max_failures: measurements of a backend that may fail before its others are skipped.
        time_budget_s: from the study's first measurement to the end of its last.
        clock: time in seconds.
    """

    max_failures: int | None = None
    time_budget_s: float | None = None
    clock: Callable[[], float] = time.monotonic
    _began_s: float | None = None
    _failed: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    _took_s: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def begin(self) -> None:
        """Begin with the study; the time that is left is counted from the first call."""
        if self._began_s is None:
            self._began_s = self.clock()

    def refusal(self, backend: str, experiment: str, cycle: int, gap_s: float = 0.0) -> str:
        """Why a measurement isn't to be made any more; empty where it is.

        Args:
            backend: of the experiment.
            experiment: its name.
            cycle: of it.
            gap_s: how long the rest before it is going to be.
        """
        failed = self._failed.get(backend, set())
        # Another try of one that failed is no other measurement.
        spent = self.max_failures is not None and len(failed) >= self.max_failures
        if spent and (experiment, cycle) not in failed:
            many = "1 measurement" if len(failed) == 1 else f"{len(failed)} measurements"
            return f"{_FAILURES}: {many} of {backend} failed, the rest of this backend is skipped"
        if self.time_budget_s is None or self._began_s is None:
            return ""
        left_s = self.time_budget_s - (self.clock() - self._began_s)
        if left_s <= 0:
            return f"{_BUDGET}: the {self.time_budget_s:g} s are over"
        needs_s, source = self._needs(backend, experiment)
        if needs_s + gap_s <= left_s:
            return ""
        rest = f" after a gap of {gap_s:.3g} s" if gap_s else ""
        return (
            f"{_BUDGET}: {left_s:.3g} s of {self.time_budget_s:g} s are left, and it takes about"
            f" {needs_s:.3g} s{rest}, as {source} did"
        )

    def made(
        self, backend: str, experiment: str, cycle: int, took_s: float | None, *, failed: bool
    ) -> None:
        """Take note of a measurement.

        Args:
            backend: of the experiment.
            experiment: its name.
            cycle: of it.
            took_s: without the rest before it; None where that says nothing of others.
            failed: whether it did, and was not expected to.
        """
        if took_s is not None:
            self._took_s.setdefault(backend, {}).setdefault(experiment, []).append(took_s)
        known = self._failed.setdefault(backend, set())
        if failed:
            known.add((experiment, cycle))
        else:
            known.discard((experiment, cycle))

    def _needs(self, backend: str, experiment: str) -> tuple[float, str]:
        """Seconds that a measurement is going to take, and what says so; 0 where nothing does."""
        known = self._took_s.get(backend, {})
        if own := known.get(experiment):
            return max(own), f"the longest of {experiment}"
        if known:
            others = [seconds for took in known.values() for seconds in took]
            return statistics.median(others), f"half of the others of {backend}"
        return 0.0, ""


def failed_too_often(reasons: Iterable[str | None]) -> bool:
    """Whether anything was skipped for the failures of its backend."""
    return any(reason is not None and reason.startswith(f"{_FAILURES}: ") for reason in reasons)
