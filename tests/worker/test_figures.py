"""The formulas, on numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pytest_llem.experiment import Slo
from pytest_llem.metrics import METRICS
from pytest_llem.records import Figure, Reading, RequestTiming, ToIdle, TraceSummary
from pytest_llem.worker.energy import energy
from pytest_llem.worker.facts import Facts
from pytest_llem.worker.figures import figures
from pytest_llem.worker.idle import measured as idle_of
from tests.builders import completion, reading, timing, window

# Two requests of 4 input tokens; 3 and 2 output tokens.
TIMINGS = [timing(0.0, 1.0, 1.5, 2.5), timing(0.5, 1.0, 1.25)]


def facts(**fields: Any) -> Facts:
    base: dict[str, Any] = {
        "requests": 2,
        "input": 8,
        "output": 5,
        "peak_memory_bytes": 1000,
        "device": "cpu",
        "no_meter": "no meter here",
    }
    return Facts(**(base | fields))


MEASURED = (
    reading(
        10.0,
        uncertainty_j=3.0,
        systematic=0.05,
        before_w=1.5,
        to_idle=ToIdle(above_j=9.0, uncertainty_j=0.5, settled_s=0.3),
    ),
    reading(6.0, domain="dram:0", uncertainty_j=1.0, systematic=0.1),
)
TRACE = TraceSummary(peak_w=8.0, temperature_max_c=61.0, samples=20)
LATER = {
    "prefill_energy_per_input_token_j": "phases: true was not asked for",
    "decode_energy_per_output_token_j": "phases: true was not asked for",
    "carbon_g": "no carbon intensity is given: set carbon: intensity_g_per_kwh in .lem-config.yaml",
    "cost": "no price is given: set carbon: price_per_kwh in .lem-config.yaml",
}
"""What none of this knows, and why."""


def nulls(found: dict[str, Figure]) -> set[str]:
    """Metrics without a value that could have one."""
    return {name for name, figure in found.items() if figure.value is None} - LATER.keys()


def computed(
    measured: tuple[Reading, ...] = MEASURED,
    idle: tuple[Reading, ...] | None = (reading(4.0, uncertainty_j=1.0, systematic=0.05),),
    *,
    duration_s: float = 2.0,
    idle_s: float = 4.0,
    timings: list[RequestTiming] | None = None,
    trace: TraceSummary | None = TRACE,
    **of_facts: Any,
) -> dict[str, Figure]:
    windows = [window("load", 7.0), window("measure", duration_s, *measured)]
    return figures(
        windows,
        TIMINGS if timings is None else timings,
        facts(**of_facts),
        Slo(ttft_s=0.5),
        idle=None if idle is None else idle_of(window("idle", idle_s, *idle)),
        trace=trace,
        steal=Figure(value=0.0),
    )


# --- every metric --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("energy_j", 10.0),
        ("idle_power_w", 1.0),  # 4 J in 4 s
        ("idle_energy_j", 2.0),  # 1 W for 2 s
        ("net_energy_j", 8.0),
        ("energy_to_idle_j", 12.0),  # 9 J above 1.5 W for 2 s
        ("cpu_energy_j", 10.0),
        ("dram_energy_j", 6.0),
        ("power_peak_w", 8.0),
        ("temperature_max_c", 61.0),
        ("energy_per_output_token_j", 2.0),
        ("net_energy_per_output_token_j", 1.6),
        ("energy_per_token_j", 10.0 / 13.0),
        ("energy_per_request_j", 5.0),
        ("power_mean_w", 5.0),
        ("output_tokens_per_s", 2.5),
        ("total_tokens_per_s", 6.5),
        ("requests_per_s", 1.0),
        ("goodput_per_s", 0.5),  # one of two had its first token within half a second
        ("output_tokens_per_j", 0.5),
        ("duration_s", 2.0),
        ("load_s", 7.0),
        ("peak_memory_bytes", 1000.0),
        # ttft: 1.0 and 0.5
        ("ttft_mean_s", 0.75),
        ("ttft_p50_s", 0.75),
        ("ttft_p90_s", 0.95),
        ("ttft_max_s", 1.0),
        # itl: 0.5, 1.0 and 0.25
        ("itl_mean_s", 1.75 / 3),
        ("itl_p50_s", 0.5),
        ("itl_p90_s", 0.9),
        ("itl_max_s", 1.0),
        # tpot: 1.5 / 2 and 0.25 / 1
        ("tpot_mean_s", 0.5),
        ("tpot_p50_s", 0.5),
        ("tpot_max_s", 0.75),
        # e2e: 2.5 and 0.75
        ("e2e_mean_s", 1.625),
        ("e2e_p50_s", 1.625),
        ("e2e_p99_s", 0.75 + 0.99 * 1.75),
        ("e2e_max_s", 2.5),
    ],
)
def test_a_metric_is_what_its_formula_says(name: str, value: float) -> None:
    figure = computed()[name]
    assert figure.value == pytest.approx(value)
    assert (figure.quality, figure.reason) == ("ok", None)


def test_every_metric_is_there_in_order() -> None:
    assert list(computed()) == list(METRICS)


@pytest.mark.parametrize(
    ("name", "uncertainty"),
    [
        ("energy_j", 3.0),
        ("idle_power_w", 0.25),
        ("idle_energy_j", 0.5),
        ("net_energy_j", math.hypot(3.0, 0.5)),
        ("energy_to_idle_j", 0.5),
        ("cpu_energy_j", 3.0),
        ("dram_energy_j", 1.0),
        ("energy_per_output_token_j", 0.6),
        ("net_energy_per_output_token_j", math.hypot(3.0, 0.5) / 5),
        ("energy_per_token_j", 3.0 / 13),
        ("energy_per_request_j", 1.5),
        ("power_mean_w", 1.5),
        ("output_tokens_per_j", 5 * 3.0 / 100),
        ("output_tokens_per_s", None),
        ("duration_s", None),
        ("ttft_p50_s", None),
    ],
)
def test_uncertainty_is_carried_along(name: str, uncertainty: float | None) -> None:
    assert computed()[name].uncertainty == pytest.approx(uncertainty)


@pytest.mark.parametrize(
    ("name", "systematic"),
    [
        ("energy_j", 0.5),
        ("idle_power_w", 0.05),
        ("idle_energy_j", 0.1),
        ("net_energy_j", 0.4),  # one gain for both: its share of the difference
        ("energy_to_idle_j", 0.6),
        ("dram_energy_j", 0.6),
        ("energy_per_output_token_j", 0.1),
        ("net_energy_per_output_token_j", 0.08),
        ("power_mean_w", 0.25),
        ("output_tokens_per_j", 5 * 0.5 / 100),
        ("output_tokens_per_s", None),
        ("duration_s", None),
        ("carbon_g", None),
    ],
)
def test_the_meters_gain_is_carried_along(name: str, systematic: float | None) -> None:
    assert computed()[name].systematic == pytest.approx(systematic)


@pytest.mark.parametrize("name", LATER)
def test_what_is_not_known_here_is_null_with_what_to_do(name: str) -> None:
    assert computed()[name] == Figure(value=None, quality="unmeasured", reason=LATER[name])


def test_facts_are_counted_by_the_engines_own_counts() -> None:
    completions = [completion(timing(0.0, 1.0, 2.0, output_tokens=7, input_tokens=3))]
    assert Facts.of(completions, None, "cuda", "why") == Facts(
        requests=1, input=3, output=7, peak_memory_bytes=None, device="cuda", no_meter="why"
    )


# --- energy --------------------------------------------------------------------------------


def test_readings_of_one_device_are_added_and_their_uncertainties_in_quadrature() -> None:
    readings = [
        reading(1.0, domain="gpu:a", uncertainty_j=3.0),
        reading(2.0, domain="gpu:b", uncertainty_j=4.0),
        reading(50.0, domain="cpu:0", uncertainty_j=9.0),
        reading(None, domain="dram:0", reason="gone"),
    ]
    found = energy(readings, "gpu:", "").figure
    assert found == Figure(value=3.0, uncertainty=5.0, systematic=0.0)


@pytest.mark.parametrize(("device", "value"), [("cpu", 50.0), ("cuda", 3.0)])
def test_only_the_experiments_own_device_counts(device: str, value: float) -> None:
    readings = (reading(3.0, domain="gpu:a"), reading(50.0, domain="cpu:0"))
    assert computed(readings, device=device)["energy_j"].value == value


def test_no_reading_of_the_device_is_null_with_the_reason() -> None:
    found = computed((reading(domain="gpu:a"),))
    figure = Figure(value=None, quality="unmeasured", reason="no meter here")
    assert found["energy_j"] == figure
    assert found["energy_per_output_token_j"] == figure
    assert found["power_mean_w"] == figure
    assert found["output_tokens_per_j"] == figure
    assert found["net_energy_j"] == figure
    assert found["idle_power_w"].value == 1.0


@pytest.mark.parametrize(
    ("reason", "told"), [("sensor gone", "cpu:1: sensor gone"), (None, "cpu:1: could not be read")]
)
def test_one_reading_that_is_null_makes_the_sum_null(reason: str | None, told: str) -> None:
    lost = reading(None, domain="cpu:1", quality="unmeasured", reason=reason)
    figure = computed((reading(10.0), lost))["energy_j"]
    assert figure == Figure(value=None, quality="unmeasured", reason=told)


def test_estimates_are_never_added_to_measurements() -> None:
    estimate = reading(5.0, domain="cpu:1", method="estimate", quality="estimated")
    figure = computed((reading(10.0), estimate))["energy_j"]
    assert (figure.value, figure.quality) == (None, "unmeasured")
    assert "measured" in str(figure.reason)
    assert "estimated" in str(figure.reason)


def test_estimates_alone_make_every_figure_of_energy_estimated() -> None:
    estimate = reading(10.0, method="estimate", quality="estimated", reason="modelled")
    found = computed((estimate,), (estimate,))
    of_energy = {name for name, metric in METRICS.items() if metric.uses_energy}
    # Of these there is none, estimated or not.
    of_energy -= {"energy_to_idle_j", "dram_energy_j", "power_peak_w", *LATER}
    assert {name for name, figure in found.items() if figure.quality == "estimated"} == of_energy
    assert {found[name].reason for name in of_energy} == {"modelled"}


@pytest.mark.parametrize("quality", ["short", "degraded"])
def test_a_doubtful_reading_makes_the_sum_doubtful(quality: Any) -> None:
    doubtful = reading(1.0, domain="cpu:1", quality=quality, reason="few updates")
    figure = computed((reading(10.0), doubtful))["energy_j"]
    assert (figure.value, figure.quality, figure.reason) == (11.0, quality, "few updates")


def test_a_doubtful_idle_reading_makes_the_net_energy_doubtful_only() -> None:
    found = computed(idle=(reading(4.0, quality="short", reason="few updates"),))
    assert (found["net_energy_j"].quality, found["net_energy_j"].reason) == ("short", "few updates")
    assert found["energy_j"].quality == "ok"


def test_no_idle_phase_makes_what_needs_it_null() -> None:
    found = computed(idle=None)
    null = nulls(found)
    assert null == {
        "idle_power_w",
        "idle_energy_j",
        "net_energy_j",
        "net_energy_per_output_token_j",
    }
    reasons = {found[name].reason for name in null}
    assert reasons == {"idle power was not measured (idle: none)"}


def test_an_idle_reading_that_is_null_leaves_the_energy_alone() -> None:
    found = computed(idle=(reading(None, quality="unmeasured", reason="gone"),))
    assert found["net_energy_j"].reason == "cpu:0: gone"
    assert found["energy_j"].value == 10.0


def test_net_energy_may_be_negative() -> None:
    found = computed(idle=(reading(80.0),))
    assert found["net_energy_j"].value == -30.0
    assert found["net_energy_per_output_token_j"].value == -6.0


def test_no_energy_at_all_gives_no_tokens_per_joule() -> None:
    found = computed((reading(0.0),))
    assert found["energy_j"].value == 0.0
    assert found["energy_per_output_token_j"].value == 0.0
    assert found["output_tokens_per_j"].value is None
    assert found["output_tokens_per_j"].reason


def test_an_uncertainty_that_nobody_knows_is_not_zero() -> None:
    found = computed((reading(10.0, uncertainty_j=None),))
    assert found["energy_j"].uncertainty is None


# --- divisors of nothing -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_facts", "null"),
    [
        (
            {"output": 0},
            {"energy_per_output_token_j", "net_energy_per_output_token_j"},
        ),
        (
            {"output": 0, "input": 0},
            {"energy_per_output_token_j", "net_energy_per_output_token_j", "energy_per_token_j"},
        ),
        ({"requests": 0}, {"energy_per_request_j"}),
        ({"peak_memory_bytes": None}, {"peak_memory_bytes"}),
    ],
)
def test_a_quotient_of_nothing_is_null_with_a_reason(
    of_facts: dict[str, Any], null: set[str]
) -> None:
    found = computed(**of_facts)
    assert nulls(found) == null
    assert all(found[name].reason and found[name].quality == "unmeasured" for name in null)


def test_a_window_of_no_length_has_no_rates() -> None:
    found = computed(duration_s=0.0)
    null = nulls(found)
    assert null == {
        "output_tokens_per_s",
        "total_tokens_per_s",
        "requests_per_s",
        "goodput_per_s",
        "power_mean_w",
    }
    assert all(found[name].reason for name in null)


def test_an_idle_phase_of_no_length_has_no_power() -> None:
    assert computed(idle_s=0.0)["idle_power_w"].reason == "cpu:0: there was no idle time"


# --- energy until idle ---------------------------------------------------------------------


def to_idle(**fields: Any) -> Figure:
    """That of a window of two seconds with one reading of 10 J."""
    given = reading(10.0, **({"before_w": 1.0, "to_idle": ToIdle(above_j=9.0)} | fields))
    return computed((given,))["energy_to_idle_j"]


def test_without_a_tail_the_energy_to_idle_is_that_of_the_window() -> None:
    # 10 J in 2 s at 1 W before: 8 J above it.
    assert to_idle(to_idle=ToIdle(above_j=8.0, uncertainty_j=0.1, settled_s=0.0)).value == 10.0


def test_when_it_settled_makes_no_difference_to_the_energy_to_idle() -> None:
    values = {to_idle(to_idle=ToIdle(above_j=9.0, settled_s=s)).value for s in (0.1, 0.4, None)}
    assert values == {11.0}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"to_idle": None}, "cpu:0: meter test doesn't watch the time after the window"),
        ({"to_idle": ToIdle(reason="still 90 W after 5 s")}, "cpu:0: still 90 W after 5 s"),
        ({"to_idle": ToIdle()}, "cpu:0: it did not come back to idle"),
        ({"before_w": None}, "cpu:0: its power before the window wasn't observed"),
    ],
)
def test_an_energy_to_idle_that_nobody_saw_is_null(fields: dict[str, Any], reason: str) -> None:
    assert to_idle(**fields) == Figure(value=None, quality="unmeasured", reason=reason)


def test_every_device_must_have_come_back_to_idle() -> None:
    first, second = (
        reading(10.0, domain=f"gpu:{name}", before_w=1.0, to_idle=ToIdle(above_j=above_j))
        for name, above_j in (("a", 9.0), ("b", None))
    )
    found = computed((first, second), device="cuda")
    assert found["energy_to_idle_j"].value is None
    assert found["energy_j"].value == 20.0


# --- the host beside a GPU -----------------------------------------------------------------


def test_processors_and_memory_beside_a_gpu_are_figures_of_their_own() -> None:
    readings = (
        reading(100.0, domain="gpu:a", meter="nvml"),
        reading(10.0),
        reading(20.0, domain="cpu:1"),
        reading(3.0, domain="dram:0"),
    )
    found = computed(readings, device="cuda")
    names = ("energy_j", "cpu_energy_j", "dram_energy_j")
    assert [found[name].value for name in names] == [100.0, 30.0, 3.0]


def test_a_host_that_nothing_reads_is_null_and_leaves_the_gpu_alone() -> None:
    found = computed((reading(100.0, domain="gpu:a"),), device="cuda")
    assert found["cpu_energy_j"].reason == (
        "no meter here reads the host's processors; see python -m pytest_llem doctor"
    )
    assert "memory" in str(found["dram_energy_j"].reason)
    assert found["energy_j"].value == 100.0


def test_memory_is_never_part_of_the_experiments_energy() -> None:
    assert computed()["energy_j"].value == 10.0


# --- the trace -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (None, "no trace of power and temperature was taken"),
        (TraceSummary(reason="off for a CPU"), "off for a CPU"),
        (TraceSummary(), "the trace has no sample in the window"),
    ],
)
def test_without_a_trace_there_is_no_peak(trace: TraceSummary | None, reason: str) -> None:
    found = computed(trace=trace)
    for name in ("power_peak_w", "temperature_max_c"):
        assert found[name] == Figure(value=None, quality="unmeasured", reason=reason)


def test_a_peak_of_power_that_was_averaged_is_degraded() -> None:
    found = computed(trace=TraceSummary(peak_w=300.0, temperature_max_c=60.0, reason="a mean"))
    assert found["power_peak_w"] == Figure(value=300.0, quality="degraded", reason="a mean")
    assert found["temperature_max_c"] == Figure(value=60.0)
