"""What ``-v`` adds below the table."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.records import Figure, Measurement
from pytest_llem.reports.collected import Collected
from pytest_llem.reports.details import lines
from tests.builders import estimated, measurement, outcome, unmeasured

PROMPTS = {
    "source": "p.jsonl",
    "tokenizer": "bytes",
    "input_tokens": {"min": 3, "median": 4.5, "max": 9},
}
MODEL = {
    "reason": None,
    "parameters": 8_030_261_248,
    "active_parameters": 8_030_261_248,
    "kv_bytes_per_token": 131_072,
}


def derived(energy: Figure, rate: float | None) -> dict[str, Figure]:
    share = unmeasured("no") if rate is None else Figure(value=rate / 200)
    bound = unmeasured("no") if rate is None else Figure(value=200.0)
    return {
        "energy_per_flop_j": energy,
        "output_tokens_per_s_bound": bound,
        "bandwidth_share": share,
    }


def said(*measurements: Measurement) -> list[str]:
    found = lines(Collected([outcome(measurement=m) for m in measurements], []))
    return [line for line in found if not line.startswith("a: energy: ")]


def measured(**fields: Any) -> Measurement:
    return measurement(workload=PROMPTS, model=MODEL, **fields)


def test_prompts_and_model_have_a_line_each() -> None:
    prompts, model = said(measured(derived=derived(Figure(value=2.5e-12), 90.0)))
    assert prompts == "a: prompts: p.jsonl, 3 to 9 tokens, half of them up to 4.5, made by bytes"
    start, end = "a: model: 8.03 G parameters, 131 kB of cache a token", "45 % of the 200/s that"
    assert model == f"{start}, 2.50 pJ per FLOP, {end} its memory allows"


def test_prompts_of_one_length_say_it_once() -> None:
    same = {**PROMPTS, "tokenizer": None, "input_tokens": {"min": 8, "median": 8, "max": 8}}
    assert said(measurement(workload=same)) == ["a: prompts: p.jsonl, 8 tokens each"]


def test_what_is_not_known_is_left_out() -> None:
    _, line = said(measured(derived=derived(estimated(2e-9), None)))
    assert line == "a: model: 8.03 G parameters, 131 kB of cache a token, 2.00 nJ per FLOP est."
    model = {**MODEL, "active_parameters": 10**9, "kv_bytes_per_token": None}
    (line,) = said(measurement(model=model, derived=derived(unmeasured("no"), None)))
    assert line == "a: model: 8.03 G parameters, 1.00 G of them active"
    (line,) = said(measurement(model={"source": None, "reason": "why"}))
    assert line == "a: model: unknown: why"


def test_of_an_older_journal_nothing_is_said() -> None:
    assert said(measurement()) == []
    assert list(lines(Collected([outcome(measurement=None, skipped="no")], []))) == []


@pytest.mark.parametrize(
    ("energy", "mark"), [(Figure(value=7200.0), ""), (estimated(7200.0), " est.")]
)
def test_energy_is_told_in_joules_and_watt_hours(energy: Figure, mark: str) -> None:
    figures: dict[str, float | Figure] = {
        "energy_j": energy,
        "duration_s": 20.0,
        "power_mean_w": 360.0,
    }
    first, *_ = lines(Collected([outcome(measurement=measurement(metrics=figures))], []))
    assert first == f"a: energy: 7.20 kJ{mark} (2.00 Wh) in 20.0 s, 360 W"


def test_cycles_of_earlier_sessions_are_named_with_them() -> None:
    sessions = ("one", None, "two", "one")
    cycles = [outcome(cycle=cycle, resumed=name) for cycle, name in enumerate(sessions, 1)]
    first, second, *_ = lines(Collected(cycles, []))
    assert (first, second) == ("a: resumed: c1, c4 of one", "a: resumed: c3 of two")
