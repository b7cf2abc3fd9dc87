"""Reads the raw series of a measurement: what was written beside the journal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llem.records import Measurement
from pytest_llem.results.outcome import Outcome

__all__ = ["Series", "folders", "read", "read_all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Single requests of a measurement, and its power trace.

    Attributes:
        ttft_s: time to first token of the counted requests, in order.
        tpot_s: time per output token after the first, of those that have two or more; in order.
        trace: GPU to times and powers; seconds of the clock of the measurement's windows.
    """

    ttft_s: tuple[float, ...] = ()
    tpot_s: tuple[float, ...] = ()
    trace: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)

    def total(self) -> tuple[tuple[float, float], ...]:
        """Times and power of all GPUs together: the last that is known of each at a time."""
        merged = sorted((at, gpu, watts) for gpu, rows in self.trace.items() for at, watts in rows)
        latest: dict[str, float] = {}
        found = []
        for at, gpu, watts in merged:
            latest[gpu] = watts
            if len(latest) == len(self.trace):
                found.append((at, sum(latest.values())))
        return tuple(found)


def folders(session: str, around: Sequence[Path]) -> list[Path]:
    """Where the side files of a report may be: what its outcomes name is relative to one of these.

    Args:
        session: name of the report's session; of a merged report that of none.
        around: folders that are that session's, hold it, or hold the results of all sessions.
    """
    bases = [place for folder in around for place in (folder, folder / "results")]
    return [place for base in bases for place in (base / session, base)]


def read(path: Path, measurement: Measurement) -> Series | None:
    """The series of a side file; None where it can't be read.

    Requests that were submitted outside of the measured window are left out, as the latencies of
    the measurement leave them out.
    """
    window = next((w for w in measurement.windows if w.phase == "measure"), None)
    try:
        with path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        requests = [row for row in rows if "token_s" in row]
        if window is not None and measurement.traffic is not None:
            end_s = window.start_s + window.duration_s
            requests = [r for r in requests if window.start_s <= r["submitted_s"] < end_s]
        return Series(
            ttft_s=tuple(sorted(_ttft(requests))),
            tpot_s=tuple(sorted(_tpot(requests))),
            trace=_trace([row["trace"] for row in rows if "trace" in row]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_all(outcomes: Mapping[str, Outcome], places: Sequence[Path]) -> dict[str, Series]:
    """The series of some measurements, by the same keys, as far as they are there.

    Args:
        outcomes: of a report.
        places: that their side files may be in; the first that has one counts.
    """
    found = {}
    for key, outcome in outcomes.items():
        if outcome.raw and outcome.measurement:
            paths = [place / outcome.raw for place in places]
            path = next((path for path in paths if path.is_file()), None)
            series = None if path is None else read(path, outcome.measurement)
            if series is not None:
                found[key] = series
    return found


def _ttft(requests: Sequence[Mapping[str, Any]]) -> Iterator[float]:
    for request in requests:
        if request["token_s"]:
            yield float(request["token_s"][0]) - float(request["submitted_s"])


def _tpot(requests: Sequence[Mapping[str, Any]]) -> Iterator[float]:
    for request in requests:
        times = request["token_s"]
        if len(times) > 1:
            yield (float(times[-1]) - float(times[0])) / (len(times) - 1)


def _trace(samples: Sequence[Mapping[str, Any]]) -> dict[str, tuple[tuple[float, float], ...]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        if sample.get("power_w") is not None:
            rows = found.setdefault(str(sample["gpu"]), [])
            rows.append((float(sample["at_s"]), float(sample["power_w"])))
    return {gpu: tuple(sorted(rows)) for gpu, rows in found.items()}
