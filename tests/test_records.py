"""Records: to plain data and back, and what is refused on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.errors import RunnerError
from pytest_llem.records import (
    Execution,
    Experiment,
    Failure,
    Figure,
    Limit,
    Measurement,
    Prompts,
    Reading,
    RequestTiming,
    RunnerSpec,
    Summary,
    Verdict,
    Warmup,
    Window,
)
from pytest_llem.results.outcome import Outcome
from pytest_llem.wire import from_dict, to_dict
from tests.builders import (
    UNHURRIED,
    experiment,
    measurement,
    outcome,
    reading,
    timing,
    verdict,
    window,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
MAYBE = st.none() | FINITE
QUALITY = st.sampled_from(["ok", "short", "degraded", "estimated", "unmeasured"])

READINGS = st.builds(
    Reading,
    domain=st.text(),
    meter=st.text(),
    method=st.sampled_from(["counter", "power", "estimate"]),
    energy_j=MAYBE,
    uncertainty_j=MAYBE,
    systematic=FINITE,
    quality=QUALITY,
    reason=st.none() | st.text(),
)
FIGURES = st.builds(
    Figure, value=MAYBE, uncertainty=MAYBE, quality=QUALITY, reason=st.none() | st.text()
)


@pytest.mark.parametrize(
    "record",
    [
        Prompts(),
        Warmup(prompts=1, timeout_s=0.5),
        Execution(cycles=1, gaps=2.5),
        Execution(gaps="none"),
        Limit(metric="energy_j", least=None, most=2.0, where="a:1"),
        RunnerSpec(mode="docker", image="i", source="cli"),
        reading(None, quality="unmeasured", reason="no meter"),
        window("measure", 2.0, reading(), reading(1.0, domain="cpu:1")),
        window("load", 1.0),
        timing(0.0, 1.0, 2.0),
        timing(0.0),
        Figure(value=None),
        Failure(kind="raised", message="x"),
        Summary(n=1, median=1.0, mean=1.0, low=1.0, high=1.0),
        verdict(),
        experiment(),
        experiment(warmup="none", idle="none", meters="auto"),
        experiment(warmup=Warmup(prompts=3), idle=0.5, meters=("a", "b")),
        experiment(meters=()),
        experiment(options={"attention": "eager", "deep": {"list": [1, None, {"x": 2.5}]}}),
        measurement(integrity=("bad",), warnings=("hm", "hmm")),
        outcome(),
        outcome(measurement=None, failure=Failure(kind="crashed", message="gone", fix="more")),
        outcome(measurement=None, skipped="because"),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_survives_the_wire(record: Any) -> None:
    wire = json.dumps(to_dict(record), allow_nan=False)
    assert from_dict(type(record), json.loads(wire)) == record


@UNHURRIED
@given(READINGS)
def test_any_reading_survives_the_wire(record: Reading) -> None:
    assert from_dict(Reading, json.loads(json.dumps(to_dict(record)))) == record


@UNHURRIED
@given(FIGURES)
def test_any_figure_survives_the_wire(record: Figure) -> None:
    assert from_dict(Figure, json.loads(json.dumps(to_dict(record)))) == record


def test_plain_data_hold_lists_and_mappings_only() -> None:
    data = to_dict(window("measure", 2.0, reading()))
    assert data == {
        "phase": "measure",
        "start_s": 100.0,
        "duration_s": 2.0,
        "readings": [
            {
                "domain": "cpu:0",
                "meter": "test",
                "method": "counter",
                "energy_j": 10.0,
                "uncertainty_j": None,
                "systematic": 0.0,
                "quality": "ok",
                "reason": None,
            }
        ],
    }


def test_what_has_a_default_may_be_left_out() -> None:
    assert from_dict(Experiment, {"model": "m"}) == Experiment(model="m")


def test_lists_become_tuples_again() -> None:
    assert from_dict(Experiment, {"model": "m", "meters": ["a"]}).meters == ("a",)


def test_an_integer_is_a_number() -> None:
    assert from_dict(Figure, {"value": 3}).value == 3


def test_keys_of_a_mapping_become_text() -> None:
    assert to_dict(experiment(options={1: {2: 3}}))["options"] == {"1": {"2": 3}}


READING = {"domain": "cpu:0", "meter": "m", "method": "counter"}
TIMING = {"submitted_s": 0.0, "token_s": [1.0], "input_tokens": 1, "output_tokens": 1}


@pytest.mark.parametrize(
    ("cls", "data", "message"),
    [
        (Figure, {"value": 1.0, "valeu": 2.0}, r"Figure: unknown fields \['valeu'\]"),
        (Figure, {}, "Figure: .*missing.*'value'"),
        (Figure, {"value": True}, "expected one of"),
        (Figure, {"value": "1.0"}, "expected one of"),
        (Figure, {"value": 1.0, "quality": "good"}, "'good'"),
        (Figure, {"value": 1.0, "reason": 5}, "expected one of"),
        (Figure, None, "got None"),
        (Figure, [], r"got \[\]"),
        (Figure, "x", "got 'x'"),
        (Prompts, {"count": True}, "got True"),
        (Prompts, {"count": 1.0}, r"got 1\.0"),
        (Prompts, {"count": "1"}, "got '1'"),
        (Prompts, {"count": None}, "got None"),
        (Prompts, {"source": "real"}, "got 'real'"),
        (Reading, {**READING, "method": "guess"}, "got 'guess'"),
        (Reading, {**READING, "systematic": False}, "got False"),
        (Reading, {**READING, "domain": 0}, "got 0"),
        (RequestTiming, {**TIMING, "token_s": 1.0}, r"got 1\.0"),
        (RequestTiming, {**TIMING, "token_s": ["x"]}, "got 'x'"),
        (RequestTiming, {**TIMING, "token_s": [True]}, "got True"),
        (RequestTiming, {**TIMING, "token_s": "12"}, "got '12'"),
        (Window, {"phase": "p", "start_s": 0.0, "duration_s": 1.0, "readings": [3]}, "got 3"),
        (
            Window,
            {"phase": "p", "start_s": 0.0, "duration_s": 1.0, "readings": [{**READING, "x": 1}]},
            r"Reading: unknown fields \['x'\]",
        ),
        (Experiment, {"model": "m", "warmup": "non"}, "expected one of"),
        (Experiment, {"model": "m", "warmup": {"prmpts": 1}}, "expected one of"),
        (Experiment, {"model": "m", "idle": True}, "expected one of"),
        (Experiment, {"model": "m", "meters": [1]}, "expected one of"),
        (Experiment, {"model": "m", "options": []}, r"got \[\]"),
        (Experiment, {"model": None}, "got None"),
        (Verdict, {**to_dict(verdict()), "outcome": "maybe"}, "got 'maybe'"),
        (Measurement, {**to_dict(measurement()), "metrics": {"energy_j": 1.0}}, r"got 1\.0"),
        (Measurement, {**to_dict(measurement()), "tokens": {"input": 1.5}}, r"got 1\.5"),
        (Measurement, {**to_dict(measurement()), "tokens": None}, "got None"),
        (Outcome, {**to_dict(outcome()), "runner": "local"}, "got 'local'"),
    ],
)
def test_data_of_another_shape_are_refused(cls: type[Any], data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(cls, data)


def test_a_refused_value_is_shown_shortened() -> None:
    with pytest.raises(ValueError, match="got 'xxx") as caught:
        from_dict(Prompts, {"count": "x" * 10_000})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["value", "uncertainty", "quality", "reason"])
def test_records_are_frozen(name: str) -> None:
    figure = Figure(value=1.0)
    with pytest.raises(AttributeError):
        setattr(figure, name, None)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (verdict(reason="too much"), "energy_j: too much"),
        (verdict(metric="cycles", reason="1 of 2 cycles failed"), "1 of 2 cycles failed"),
    ],
)
def test_a_verdict_is_told_in_a_line(given: Verdict, text: str) -> None:
    assert given.text == text


# --- runners -------------------------------------------------------------------------------

IMAGE = "host:5000/group/img:tag@sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("value", "mode", "image"),
    [
        ("local", "local", None),
        ("  local\n", "local", None),
        ("docker", "docker", None),
        ("docker:img", "docker", "img"),
        (f"docker:{IMAGE}", "docker", IMAGE),
    ],
)
def test_a_runner_is_read_from_text(value: str, mode: str, image: str | None) -> None:
    assert RunnerSpec.parse(value, "ini") == RunnerSpec(mode=mode, image=image, source="ini")


@pytest.mark.parametrize("value", ["local", "docker", f"docker:{IMAGE}"])
def test_a_runner_is_shown_as_it_was_written(value: str) -> None:
    assert RunnerSpec.parse(value, "cli").value == value


@pytest.mark.parametrize(
    "value", ["", " ", "docker:", "docker: ", "local:", "local:x", "podman", "Docker", ":img"]
)
def test_what_names_no_runner_is_refused(value: str) -> None:
    with pytest.raises(RunnerError) as caught:
        RunnerSpec.parse(value, "env PYTEST")
    assert str(caught.value) == (
        f"env PYTEST: {value!r} is no runner; accepted: local, docker, docker:<image>"
    )
