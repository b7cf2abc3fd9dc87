"""The formulas, on numbers worked out by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.experiment import Slo
from pytest_llem.metrics import METRICS
from pytest_llem.records import Figure, Reading, RequestTiming
from pytest_llem.worker.figures import Facts, energy, figures, latencies, latency_figures
from tests.builders import UNHURRIED, completion, reading, timing, window

# Two requests of 4 input tokens; 3 and 2 output tokens.
TIMINGS = [timing(0.0, 1.0, 1.5, 2.5), timing(0.5, 1.0, 1.25)]

# Of windows of their own; see test_phase_energy.py.
BY_PHASE = {"prefill_energy_per_input_token_j", "decode_energy_per_output_token_j"}


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


def computed(
    measured: tuple[Reading, ...] = (reading(10.0, uncertainty_j=3.0),),
    idle: tuple[Reading, ...] | None = (reading(4.0, uncertainty_j=1.0),),
    *,
    duration_s: float = 2.0,
    idle_s: float = 4.0,
    timings: list[RequestTiming] | None = None,
    **of_facts: Any,
) -> dict[str, Figure]:
    windows = [window("load", 7.0), window("measure", duration_s, *measured)]
    if idle is not None:
        windows.insert(1, window("idle", idle_s, *idle))
    wanted = Slo(ttft_s=0.5)
    return figures(windows, TIMINGS if timings is None else timings, facts(**of_facts), wanted)


# --- every metric --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("energy_j", 10.0),
        ("idle_power_w", 1.0),  # 4 J in 4 s
        ("idle_energy_j", 2.0),  # 1 W for 2 s
        ("net_energy_j", 8.0),
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


def test_facts_are_counted_by_the_engines_own_counts() -> None:
    completions = [completion(timing(0.0, 1.0, 2.0, output_tokens=7, input_tokens=3))]
    assert Facts.of(completions, None, "cuda", "why") == Facts(
        requests=1, input=3, output=7, peak_memory_bytes=None, device="cuda", no_meter="why"
    )


def test_prefill_and_decode_are_null_without_windows_of_their_own() -> None:
    reasons = {computed()[name].reason for name in BY_PHASE}
    assert reasons == {"prefill was not measured by itself (phases: false)"}


# --- energy --------------------------------------------------------------------------------


def test_readings_of_one_device_are_added_and_their_uncertainties_in_quadrature() -> None:
    readings = [
        reading(1.0, domain="gpu:a", uncertainty_j=3.0),
        reading(2.0, domain="gpu:b", uncertainty_j=4.0),
        reading(50.0, domain="cpu:0", uncertainty_j=9.0),
        reading(None, domain="dram:0", reason="gone"),
    ]
    assert energy(readings, "gpu:", "") == Figure(value=3.0, uncertainty=5.0)


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
    of_energy = {name for name, metric in METRICS.items() if metric.uses_energy} - BY_PHASE
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
    null = {name for name, figure in found.items() if figure.value is None} - BY_PHASE
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
    assert {name for name, figure in found.items() if figure.value is None} - BY_PHASE == null
    assert all(found[name].reason and found[name].quality == "unmeasured" for name in null)


def test_a_window_of_no_length_has_no_rates() -> None:
    found = computed(duration_s=0.0)
    null = {name for name, figure in found.items() if figure.value is None} - BY_PHASE
    assert null == {
        "output_tokens_per_s",
        "total_tokens_per_s",
        "requests_per_s",
        "goodput_per_s",
        "power_mean_w",
    }
    assert all(found[name].reason for name in null)


def test_an_idle_phase_of_no_length_has_no_power() -> None:
    assert computed(idle_s=0.0)["idle_power_w"].reason == "there were no seconds of idle"


# --- latency -------------------------------------------------------------------------------


def test_latencies_are_taken_from_all_requests() -> None:
    assert latencies(TIMINGS) == {
        "ttft": [1.0, 0.5],
        "itl": [0.5, 1.0, 0.25],
        "tpot": [0.75, 0.25],
        "e2e": [2.5, 0.75],
    }


@pytest.mark.parametrize(
    ("suffix", "value"),
    # of 1 2 3 4 and 5, by rank 1 + 4 p
    [("p50", 3.0), ("p90", 4.6), ("p95", 4.8), ("p99", 4.96), ("mean", 3.0), ("max", 5.0)],
)
def test_percentiles_interpolate_between_order_statistics(suffix: str, value: float) -> None:
    timings = [timing(0.0, float(first)) for first in (3, 1, 5, 2, 4)]
    assert latency_figures(timings)[f"ttft_{suffix}_s"].value == pytest.approx(value)


@pytest.mark.parametrize("suffix", ["mean", "p50", "p90", "p95", "p99", "max"])
def test_a_single_request_is_its_own_percentile(suffix: str) -> None:
    found = latency_figures([timing(1.0, 3.0, 3.5)])
    assert found[f"ttft_{suffix}_s"].value == 2.0
    assert found[f"itl_{suffix}_s"].value == 0.5
    assert found[f"tpot_{suffix}_s"].value == 0.5
    assert found[f"e2e_{suffix}_s"].value == 2.5


@pytest.mark.parametrize("family", ["itl", "tpot"])
def test_one_output_token_has_no_gaps(family: str) -> None:
    found = latency_figures([timing(0.0, 1.0), timing(0.0, 2.0)])
    figure = found[f"{family}_p50_s"]
    assert figure == Figure(
        value=None, quality="unmeasured", reason="needs two output tokens or more"
    )
    assert found["ttft_p50_s"].value == 1.5
    assert found["e2e_max_s"].value == 2.0


def test_requests_of_one_token_do_not_count_where_others_have_more() -> None:
    found = latency_figures([timing(0.0, 1.0), timing(0.0, 1.0, 3.0)])
    assert found["tpot_mean_s"].value == 2.0


def test_no_request_has_no_latency() -> None:
    found = latency_figures([])
    assert {figure.reason for figure in found.values()} == {"no request was made"}
    assert {figure.value for figure in found.values()} == {None}


@UNHURRIED
@given(
    st.lists(
        st.lists(st.floats(0.0, 1e6), min_size=1, max_size=6).map(sorted), min_size=1, max_size=6
    )
)
def test_percentiles_rise_and_lie_in_the_range(times: list[list[float]]) -> None:
    found = latency_figures([timing(0.0, *tokens) for tokens in times])
    for family, values in latencies([timing(0.0, *tokens) for tokens in times]).items():
        if not values:
            continue
        row = [found[f"{family}_{s}_s"].value for s in ("p50", "p90", "p95", "p99", "max")]
        numbers = [number for number in row if number is not None]
        assert len(numbers) == 5
        slack = 1e-9 * max(values) + 1e-9
        assert all(low <= high + slack for low, high in itertools.pairwise(numbers))
        assert min(values) - slack <= numbers[0]
        assert numbers[-1] == max(values)
