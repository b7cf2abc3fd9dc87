"""When requests of the scenario ``poisson`` are due."""

from __future__ import annotations

import itertools
import random

__all__ = ["arrivals"]


def arrivals(rate_per_s: float, count: int, seed: int) -> list[float]:
    """Times of a Poisson process, in seconds after its beginning.

    The times between two requests, and that before the first, are independent of each other and
    exponentially distributed with mean 1 / rate. The same arguments give the same times on every
    host and Python version.

    Args:
        rate_per_s: mean number of requests per second.
        count: of requests.
        seed: of the experiment.
    """
    generator = random.Random(f"{seed}/arrivals")
    gaps = (generator.expovariate(rate_per_s) for _ in range(count))
    return list(itertools.accumulate(gaps))
