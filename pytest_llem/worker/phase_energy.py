"""Energy of prefill and of decode: prefill in a window of its own, decode by difference.

A window of prefill alone holds requests of the same lengths that end with their first token, which
comes from prefill. Decode makes the others, with what the measured window took beside prefill.
"""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_llem.extensions import Completion
from pytest_llem.records import Figure, Prefill, Window
from pytest_llem.worker.facts import Facts
from pytest_llem.worker.quantity import Quantity, null, total
from pytest_llem.worker.repeats import Repeater, Run

__all__ = [
    "PREFILL_LEAST_S",
    "PREFILL_MOST_S",
    "Outcome",
    "phase_figures",
    "run_prefill",
    "warnings",
]

PREFILL_LEAST_S = 1.0
PREFILL_MOST_S = 30.0

_PREFILL = "prefill_energy_per_input_token_j"
_DECODE = "decode_energy_per_output_token_j"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A prefill window, or why there is none."""

    run: Run | None = None
    why_not: str = ""

    @property
    def record(self) -> Prefill | None:
        """What stands in the report of it."""
        if self.run is None:
            return None
        return Prefill(repeats=self.run.repeats, input_tokens=_input(self.run.completions))


def run_prefill(repeater: Repeater, measured_s: float, most: int, latest_s: float) -> Outcome:
    """Run prefill alone about as long as the measured window: at least 1 s, at most 30 s.

    A first run in a window of its own, the phase ``pilot``, warms it up and tells how long one
    takes. What the engine raises is no reason to lose the measurement made before.

    Args:
        repeater: runs the prompts for one token each.
        measured_s: length of the measured window.
        most: runs of the longest window.
        latest_s: time of the repeater's clock by which all must be done.
    """
    no_time = "timeout_s left no time for a window of prefill; raise it"
    if repeater.clock() >= latest_s:
        return Outcome(why_not=no_time)
    wanted_s = min(max(measured_s, PREFILL_LEAST_S), PREFILL_MOST_S)
    try:
        pilot = repeater.run("pilot", 1, exact=False)
        left_s = latest_s - repeater.clock()
        fits = pilot.fits(left_s)
        wanted = math.ceil(wanted_s / max(pilot.window.duration_s, 1e-9))
        if fits < 1:
            return Outcome(why_not=no_time)
        run = repeater.run("prefill", min(wanted, fits, most), latest_s)
    except Exception as error:  # an engine's code: whatever it is, the rest was measured
        traceback.print_exc(file=sys.stderr)
        return Outcome(why_not=f"the engine refused it: {str(error) or type(error).__name__}")
    if wrong := sum(completion.timing.output_tokens != 1 for completion in run.completions):
        return Outcome(why_not=f"the engine produced more or less than one token in {wrong} cases")
    return Outcome(run=run)


def phase_figures(
    measured: Window, facts: Facts, outcome: Outcome, energy: Callable[[Window], Quantity]
) -> dict[str, Figure]:
    """Energy of prefill per input token, and of decode per output token after the first.

    Args:
        measured: the window of the whole workload.
        facts: counts of the requests in it.
        outcome: of the prefill window.
        energy: of a window.
    """
    if outcome.run is None:
        return dict.fromkeys((_PREFILL, _DECODE), null(outcome.why_not).figure)
    tokens = _input(outcome.run.completions)
    prefill = energy(outcome.run.window).per(tokens, "input tokens")
    return {_PREFILL: prefill.figure, _DECODE: _decode(energy(measured), prefill, facts).figure}


def _decode(gross: Quantity, prefill: Quantity, facts: Facts) -> Quantity:
    """(energy − prefill's) / (output tokens − requests); not clipped where that is negative."""
    tokens = facts.output - facts.requests
    if tokens <= 0:
        return null("needs two output tokens or more")
    return total([(1.0, gross), (-float(facts.input), prefill)]).times(1 / tokens)


def warnings(outcome: Outcome, figures: Mapping[str, Figure]) -> tuple[str, ...]:
    """What to know about the figures of prefill and decode."""
    if outcome.why_not:
        return (f"no energy of prefill and decode: {outcome.why_not}",)
    decode = figures[_DECODE]
    if decode.value is not None and decode.value <= (decode.uncertainty or 0.0):
        text = "the energy of decode is not larger than its uncertainty"
        return (f"{text}; raise output_tokens, or prompts.count",)
    return ()


def _input(completions: Sequence[Completion]) -> int:
    return sum(completion.timing.input_tokens for completion in completions)
