"""The figures of latency, and the rate of requests that were fast enough."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence

from pytest_llem.experiment import Slo
from pytest_llem.metrics import PERCENTILES
from pytest_llem.records import Figure, RequestTiming
from pytest_llem.traffic import Spread, Stages
from pytest_llem.worker.quantity import null

__all__ = ["goodput", "latencies", "latency_figures", "stages"]

_SUFFIXES = ("mean", *PERCENTILES, "max")


def latencies(timings: Iterable[RequestTiming]) -> dict[str, list[float]]:
    """All values of each latency, in seconds.

    ``ttft``: first token − submission. ``itl``: gaps between neighbouring tokens, pooled over
    all requests. ``tpot``: (last − first) / (n − 1). ``e2e``: last token − submission.
    """
    found: dict[str, list[float]] = {"ttft": [], "itl": [], "tpot": [], "e2e": []}
    for timing in timings:
        times = timing.token_s
        if not times:
            continue
        found["ttft"].append(times[0] - timing.submitted_s)
        found["e2e"].append(times[-1] - timing.submitted_s)
        found["itl"].extend(after - before for before, after in itertools.pairwise(times))
        if len(times) > 1:
            found["tpot"].append((times[-1] - times[0]) / (len(times) - 1))
    return found


def latency_figures(timings: Sequence[RequestTiming]) -> dict[str, Figure]:
    """Mean, percentiles and maximum of each latency.

    Percentiles interpolate between order statistics: definition 7 in "Sample Quantiles in
    Statistical Packages", The American Statistician 50 (1996), the default of numpy.
    """
    has_tokens = any(timing.token_s for timing in timings)
    found: dict[str, Figure] = {}
    for family, values in latencies(timings).items():
        if not values:
            reason = "no token was produced" if timings else "no request was made"
            if has_tokens:
                reason = "needs two output tokens or more"
            found |= {f"{family}_{suffix}_s": null(reason).figure for suffix in _SUFFIXES}
            continue
        found |= {f"{family}_{suffix}_s": Figure(value=n) for suffix, n in _spread(values).items()}
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, percentiles and maximum of one value or more, by their suffixes."""
    # Two equal values stand for a single one, which quantiles() refuses before Python 3.13.
    points = [*values, *values] if len(values) == 1 else values
    cuts = statistics.quantiles(points, n=100, method="inclusive")
    numbers = {"mean": statistics.fmean(values), "max": max(values)}
    return numbers | {suffix: cuts[round(part * 100) - 1] for suffix, part in PERCENTILES.items()}


def stages(timings: Sequence[RequestTiming]) -> Stages:
    """Where the time of the requests went.

    Queue: scheduled − submitted. Prefill: first token − scheduled. Decode: last − first token.
    Each is one value a request.
    """
    answered = [timing for timing in timings if timing.token_s]
    if not answered:
        return Stages(reason="no token was produced" if timings else "no request was made")
    decode = Spread(**_spread([each.token_s[-1] - each.token_s[0] for each in answered]))
    begun = [(timing, timing.scheduled_s) for timing in answered if timing.scheduled_s is not None]
    if len(begun) < len(answered):
        reason = "the engine doesn't tell when it began with a request"
        return Stages(decode_s=decode, reason=reason)
    return Stages(
        queue_s=Spread(**_spread([at_s - each.submitted_s for each, at_s in begun])),
        prefill_s=Spread(**_spread([each.token_s[0] - at_s for each, at_s in begun])),
        decode_s=decode,
    )


def goodput(duration_s: float, timings: Sequence[RequestTiming], slo: Slo) -> Figure:
    """Requests per second that keep to all that the slo says.

    A request of a single token has no time per output token, so nothing to break there.
    """
    wanted = (slo.ttft_s, slo.tpot_s, slo.e2e_s)
    if wanted == (None, None, None):
        return null("the experiment has no slo").figure
    if duration_s <= 0:
        return null("the clock saw no time pass over the measured window").figure
    if any(not timing.token_s for timing in timings):
        return null("a request has no times of its tokens").figure
    good = sum(_keeps(timing, slo) for timing in timings)
    return Figure(value=good / duration_s)


def _keeps(timing: RequestTiming, slo: Slo) -> bool:
    first, last = timing.token_s[0], timing.token_s[-1]
    count = len(timing.token_s)
    taken = (
        (slo.ttft_s, first - timing.submitted_s),
        (slo.tpot_s, (last - first) / (count - 1) if count > 1 else 0.0),
        (slo.e2e_s, last - timing.submitted_s),
    )
    return all(longest is None or time_s <= longest for longest, time_s in taken)
