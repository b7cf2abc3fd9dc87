"""How long a counter is watched for: a time in which this process runs.

On a busy host, and most of all on a virtual one, a process may be kept from running for seconds.
A counter can't be blamed for not having moved while nobody looked.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Clock", "Patience"]

_PASS_S = 0.02
"""No pass over some counters takes longer: beyond it the process didn't run."""

_MOST_AWAY_S = 10.0
"""For longer than this nothing is waited for, whatever it is that takes the time."""


class Clock(Protocol):
    """What is used of the module ``time``."""

    def monotonic(self) -> float:
        """Seconds."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


class Patience:
    """A time to watch counters for, pass by pass.

    Attributes:
        now_s: when the current pass began.
    """

    def __init__(self, longest_s: float, clock: Clock) -> None:
        """Begin a time of ``longest_s``, and of 10 s more where the process is kept from running.

        Args:
            longest_s: the time.
            clock: the module ``time``, or a test's own.
        """
        self._clock = clock
        self._left_s = longest_s
        self._slept_s = 0.0
        self.now_s = clock.monotonic()
        self._end_s = self.now_s + longest_s + _MOST_AWAY_S

    def lasts(self) -> bool:
        """Whether there is time for one more pass, which begins now."""
        before_s, self.now_s = self.now_s, self._clock.monotonic()
        self._left_s -= min(self.now_s - before_s, self._slept_s + _PASS_S)
        self._slept_s = 0.0
        return self._left_s > 0 and self.now_s < self._end_s

    def sleep(self, seconds: float) -> None:
        """Wait within a pass, at most as long as there is time."""
        seconds = max(0.0, min(seconds, self._left_s))
        self._slept_s += seconds
        self._clock.sleep(seconds)
