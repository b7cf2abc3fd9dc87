"""The conformance kit finds what a meter gets wrong, and nothing in one that gets all right."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_llem.errors import LlemError
from pytest_llem.extensions import Target
from pytest_llem.records import Reading
from pytest_llem.testing import METER_PROMISES, MeterTrial, meter_conformance

BY_NAME = {promise.name: promise for promise in METER_PROMISES}


class GoodMeter:
    """A watt, whatever happens."""

    name = "good"
    estimates = False
    domains: Sequence[str] = ("cpu:0", "dram:0")
    reason = ""
    about: dict[str, Any] = {"period_s": 0.1}  # noqa: RUF012

    def __init__(self, target: Target) -> None:
        assert target.device == "cpu"

    def start(self, exact: bool = True) -> object:
        """There is nothing to wait for."""

    def close(self) -> None:
        """Nothing is held."""

    def stop(self, token: object, start_s: float, end_s: float) -> Sequence[Reading]:
        return [
            Reading(
                domain=domain,
                meter=self.name,
                method="counter",
                energy_j=end_s - start_s,
                uncertainty_j=0.001,
            )
            for domain in self.domains
        ]


def other(**members: Any) -> type[GoodMeter]:
    return type("Broken", (GoodMeter,), members)


def reading(**fields: Any) -> type[GoodMeter]:
    """A meter whose readings have other fields."""

    def stop(self: GoodMeter, *window: Any) -> list[Reading]:
        return [dataclasses.replace(r, **fields) for r in GoodMeter.stop(self, *window)]

    return other(stop=stop)


class Growing(GoodMeter):
    """Each window it ends takes less than the one before."""

    left_j = 10.0

    def stop(self, token: object, start_s: float, end_s: float) -> Sequence[Reading]:
        self.left_j -= 4.0
        readings = super().stop(token, start_s, end_s)
        return [dataclasses.replace(r, energy_j=self.left_j) for r in readings]


class Single(GoodMeter):
    """Holds on to what only one may have."""

    held = 0

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        if Single.held:
            raise LlemError("somebody else reads it")
        Single.held += 1


BROKEN = (
    ("names", "name is ''", other(name="")),
    ("names", "estimates is 'no'", other(estimates="no")),
    ("domains", "there is gpu0", other(domains=("gpu0",))),
    ("domains", "one is there twice", other(domains=("cpu:0", "cpu:0"))),
    ("domains", "neither a domain nor a reason", other(domains=())),
    ("readings", "it read []", other(stop=lambda *_: [])),
    ("readings", "name another as their meter", reading(meter="another")),
    ("honest", "energy_j is None and quality ok", reading(energy_j=None)),
    (
        "honest",
        "energy_j is 0.0 and quality unmeasured",
        reading(quality="unmeasured", energy_j=0.0),
    ),
    ("honest", "unmeasured without a reason", reading(quality="unmeasured", energy_j=None)),
    ("honest", "energy_j is -1.0", reading(energy_j=-1.0)),
    ("honest", "uncertainty_j is nan", reading(uncertainty_j=float("nan"))),
    ("honest", "quality 'fine'", reading(quality="fine")),
    ("estimates", "estimates is True", other(estimates=True)),
    ("estimates", "method estimate", reading(method="estimate", quality="estimated", reason="x")),
    ("nested", "6 J of 2 J", Growing),
    ("json", "not JSON serializable", other(about={"handle": object()})),
    ("closes", "somebody else reads it", Single),
)


def test_a_good_meter_keeps_all() -> None:
    meter_conformance(GoodMeter, window_s=0.01)
    with MeterTrial(GoodMeter, window_s=0.01) as trial:
        assert [reading.domain for reading in trial.readings()] == ["cpu:0", "dram:0"] * 2


@pytest.mark.parametrize(
    ("name", "found", "meter"), BROKEN, ids=[f"{name}-{found}" for name, found, _ in BROKEN]
)
def test_what_breaks_a_promise_is_found(name: str, found: str, meter: type[GoodMeter]) -> None:
    with pytest.raises(AssertionError) as caught:
        meter_conformance(meter, window_s=0.001, skip=BY_NAME.keys() - {name})
    assert f"the meter {meter.name} doesn't keep 1 of 1 promises" in str(caught.value)
    assert found in str(caught.value)


def test_there_is_a_meter_that_breaks_each_promise() -> None:
    assert {name for name, _, _ in BROKEN} == BY_NAME.keys()


def test_one_that_reads_nothing_and_says_why_is_no_worse() -> None:
    meter_conformance(other(domains=(), reason="there is no counter here"), window_s=0.001)
    assert "domains" in BY_NAME


def test_what_goes_on_in_a_window_may_be_said() -> None:
    worked: list[float] = []
    meter_conformance(GoodMeter, window_s=4.0, work=worked.append)
    assert worked == [2.0, 2.0]
