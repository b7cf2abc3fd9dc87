"""The rule for GPUs of containers that are kept."""

from __future__ import annotations

import pytest

from pytest_llem.runners.docker.health import (
    LOST_GPUS,
    Gpu,
    Reading,
    Rule,
    limits,
    read,
    verdict,
    worst,
)

GIB = 2**30
TOTAL = 80 * GIB


def percent(share: float) -> int:
    return round(TOTAL * share / 100)


def gpu(used_bytes: int, uuid: str = "a") -> Gpu:
    return Gpu(uuid=uuid, total_bytes=TOTAL, used_bytes=used_bytes)


def fit(rule: Rule, *used_bytes: int) -> bool:
    gpus = tuple(gpu(used, uuid) for used, uuid in zip(used_bytes, "abcd", strict=False))
    return not verdict(Reading(gpus=gpus), rule)


@pytest.mark.parametrize(
    ("used", "well"),
    [(92.0, True), (92 + 4.9, True), (92 + 5.1, False), (98.0, False), (50.0, True), (0.0, True)],
)
def test_a_loaded_engine_may_hold_five_percent_more_than_after_loading(
    used: float, well: bool
) -> None:
    rule = Rule(start={"a": GIB}, loaded={"a": percent(92)})
    assert fit(rule, percent(used)) is well


@pytest.mark.parametrize(("used", "well"), [(0, True), (3 * GIB, True), (3 * GIB + 1, False)])
def test_with_nothing_loaded_one_gibibyte_more_than_at_the_start_is_allowed(
    used: int, well: bool
) -> None:
    assert fit(Rule(start={"a": 2 * GIB}), used) is well


@pytest.mark.parametrize("loaded", [None, {"a": percent(92)}])
@pytest.mark.parametrize(("used", "well"), [(69.9, True), (70.1, False)])
def test_a_threshold_of_the_users_counts_instead_of_both(
    loaded: dict[str, int] | None, used: float, well: bool
) -> None:
    rule = Rule(start={"a": 0}, loaded=loaded, threshold_percent=70)
    assert fit(rule, percent(used)) is well
    assert limits(Reading(gpus=(gpu(0),)), rule) == {"a": percent(70)}


def test_each_gpu_is_judged_and_the_unwell_one_is_named() -> None:
    rule = Rule(start={"a": 0, "b": 0}, count=2)
    why = verdict(Reading(gpus=(gpu(0), gpu(2 * GIB, "b"))), rule)
    assert why == (
        "GPU 1: 2.0 GiB of 80.0 GiB memory in use, over 1.0 GiB (1 GiB more than at the start)"
    )


def test_a_gpu_that_was_never_seen_before_has_no_level_to_exceed() -> None:
    assert fit(Rule(start={}), percent(90))


def test_fewer_gpus_than_there_were_are_unwell() -> None:
    rule = Rule(start={}, count=2)
    assert verdict(Reading(gpus=(gpu(0),)), rule) == "NVML shows 1 of 2 GPUs"


def test_the_level_of_a_loaded_engine_is_the_highest_seen() -> None:
    assert worst(None, [gpu(5)]) == {"a": 5}
    assert worst({"a": 9}, [gpu(5)]) == {"a": 9}
    assert worst({"a": 3}, [gpu(5)]) == {"a": 5}


def test_answers_from_inside_are_read() -> None:
    rows = {"gpus": [{"uuid": "a", "total": TOTAL, "used": GIB}], "oom_kills": 0}
    assert read(rows) == Reading(gpus=(gpu(GIB),))
    lost = read({"error": LOST_GPUS, "words": "Unknown Error"})
    assert (lost.error, verdict(lost, Rule(start={}))) == (999, "NVML error 999 (Unknown Error)")
    missing = read({"missing": "libnvidia-ml.so.1: no such file"})
    assert "NVML can't be loaded: libnvidia-ml" in verdict(missing, Rule(start={}))
