"""Records: to plain data and back, and what is refused on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.demands import Limit, RunnerSpec
from pytest_llem.errors import RunnerError
from pytest_llem.experiment import Experiment, Prompts, Warmup
from pytest_llem.records import (
    Failure,
    Figure,
    Idle,
    IdlePower,
    Measurement,
    Reading,
    RequestTiming,
    Summary,
    ToIdle,
    TraceSummary,
    Verdict,
    Window,
)
from pytest_llem.results.outcome import Outcome
from pytest_llem.study.keys import Execution
from pytest_llem.traffic import Spread, Stages, Traffic
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
TRAFFIC = Traffic(
    scenario="poisson",
    asked=2.0,
    requests=9,
    counted=7,
    arrivals_per_s=1.9,
    late_s=0.001,
    in_flight_max=4,
    in_flight=(2, 3),
    steady_from_s=1.5,
    steady_to_s=None,
    reason="because",
)
SPREAD = Spread(mean=1.0, p50=1.0, p90=2.0, p95=2.5, p99=3.0, max=4.0)
STAGES = Stages(queue_s=SPREAD, prefill_s=SPREAD, decode_s=SPREAD)
FIGURES = st.builds(
    Figure,
    value=MAYBE,
    uncertainty=MAYBE,
    systematic=MAYBE,
    quality=QUALITY,
    reason=st.none() | st.text(),
)


@pytest.mark.parametrize(
    "record",
    [
        Prompts(),
        Warmup(prompts=1, timeout_s=0.5),
        Execution(cycles=1, gaps=2.5),
        Execution(gaps="none"),
        Limit(metric="energy_j", least=None, most=2.0, where="a:1"),
        Limit(metric="energy_j", regression=0.05),
        RunnerSpec(mode="docker", image="i", source="cli", image_source="runner"),
        RunnerSpec(mode="slurm", argument="gpu:2", source="ini"),
        reading(None, quality="unmeasured", reason="no meter"),
        window("measure", 2.0, reading(), reading(1.0, domain="cpu:1")),
        window("load", 1.0),
        timing(0.0, 1.0, 2.0),
        timing(0.0),
        Figure(value=None),
        Figure(value=1.0, uncertainty=0.1, systematic=0.05),
        reading(before_w=1.0, to_idle=ToIdle(above_j=2.0, uncertainty_j=0.1, settled_s=0.2)),
        Idle(
            powers=(IdlePower(domain="cpu:0", meter="m", method="counter", power_w=1.0),),
            duration_s=30.0,
            age_s=5.0,
            origin="a c1",
        ),
        TraceSummary(peak_w=300.0, temperature_max_c=60.0, samples=7),
        TRAFFIC,
        STAGES,
        measurement(traffic=TRAFFIC, stages=STAGES),
        measurement(stages=Stages(reason="the engine doesn't tell")),
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
                "to_idle": None,
                "before_w": None,
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
        (Figure, {"value": True}, "^value: expected float, got True"),
        (Figure, {"value": 10**400}, "^value: expected float, got 1000"),
        (Figure, {"value": -(10**301)}, "^value: expected float, got -1000"),
        (Prompts, {"count": 10**400}, "^count: expected int, got 1000"),
        (Figure, {"value": "1.0"}, "^value: expected float, got '1.0'"),
        (Figure, {"value": 1.0, "quality": "good"}, "'good'"),
        (Figure, {"value": 1.0, "reason": 5}, "^reason: expected str, got 5"),
        (Figure, None, "got None"),
        (Figure, [], r"got \[\]"),
        (Figure, "x", "got 'x'"),
        (Prompts, {"count": True}, "got True"),
        (Prompts, {"count": 1.0}, r"got 1\.0"),
        (Prompts, {"count": "1"}, "got '1'"),
        (Prompts, {"count": None}, "got None"),
        (Prompts, {"source": 5}, "got 5"),
        (Prompts, {"source": None}, "got None"),
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
            r"^readings\[0\]: Reading: unknown fields \['x'\]",
        ),
        (Experiment, {"model": "m", "warmup": "non"}, "expected one of"),
        (Experiment, {"model": "m", "warmup": {"prmpts": 1}}, "expected one of"),
        (Experiment, {"model": "m", "idle": True}, "expected one of"),
        (Experiment, {"model": "m", "meters": [1]}, "expected one of"),
        (Experiment, {"model": "m", "options": []}, r"got \[\]"),
        (Experiment, {"model": None}, "got None"),
        (Verdict, {**to_dict(verdict()), "outcome": "maybe"}, "got 'maybe'"),
        (
            Measurement,
            {**to_dict(measurement()), "metrics": {"energy_j": 1.0}},
            r"^metrics.energy_j: .*1\.0",
        ),
        (
            Measurement,
            {**to_dict(measurement()), "tokens": {"input": 1.5}},
            r"^tokens.input: .*got 1\.5",
        ),
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

DIGEST_OF_IMAGE = "sha256:" + "0" * 64
IMAGE = f"host:5000/group/img:tag@{DIGEST_OF_IMAGE}"


@pytest.mark.parametrize("value", ["local", "  local\n", "\tlocal"])
def test_local_is_read_from_text(value: str) -> None:
    assert RunnerSpec.parse(value, "ini") == RunnerSpec(mode="local", source="ini")


@pytest.mark.parametrize("value", ["docker", " docker "])
def test_docker_is_read_from_text_without_an_image(value: str) -> None:
    assert RunnerSpec.parse(value, "cli") == RunnerSpec(mode="docker", source="cli")


@pytest.mark.parametrize(
    "image",
    [
        "img",
        "img:1.2",
        "group/img",
        "host:5000/img",
        "host:5000/group/img:tag",
        f"img@{DIGEST_OF_IMAGE}",
        f"img:tag@{DIGEST_OF_IMAGE}",
        IMAGE,
    ],
)
def test_an_image_may_have_a_port_a_tag_and_a_digest(image: str) -> None:
    spec = RunnerSpec(mode="docker", image=image, source="study", image_source="runner")
    assert RunnerSpec.parse(f"docker:{image}", "study") == spec
    assert RunnerSpec.parse(f" docker: {image} ", "study") == spec


@pytest.mark.parametrize(
    ("value", "mode", "argument"),
    [
        ("slurm", "slurm", None),
        ("slurm:gpu", "slurm", "gpu"),
        ("slurm:gpu:2", "slurm", "gpu:2"),
        (" apptainer: /a/b.sif ", "apptainer", "/a/b.sif"),
    ],
)
def test_runners_of_other_packages_are_read_from_text(
    value: str, mode: str, argument: str | None
) -> None:
    spec = RunnerSpec(mode=mode, argument=argument, source="env")
    assert RunnerSpec.parse(value, "env", {"slurm", "apptainer"}) == spec


@pytest.mark.parametrize(
    "value", ["local", "docker", f"docker:{IMAGE}", "slurm", "slurm:gpu", "slurm:gpu:2"]
)
def test_a_runner_is_shown_as_it_was_written(value: str) -> None:
    assert RunnerSpec.parse(value, "cli", ["slurm"]).value == value


def test_the_image_that_somebody_else_named_is_shown_too() -> None:
    spec = RunnerSpec(mode="docker", image="img", source="cli", image_source="default")
    assert spec.value == "docker:img"


@UNHURRIED
@given(
    st.sampled_from(["docker", "slurm"]), st.from_regex(r"[a-z0-9][a-z0-9:@._-]*", fullmatch=True)
)
def test_an_argument_is_kept_as_it_is(mode: str, argument: str) -> None:
    spec = RunnerSpec.parse(f"{mode}:{argument}", "cli", ["slurm"])
    assert (spec.image if mode == "docker" else spec.argument) == argument
    assert (spec.argument if mode == "docker" else spec.image) is None
    assert RunnerSpec.parse(spec.value, "cli", ["slurm"]) == spec


@pytest.mark.parametrize(
    "value",
    ["", " ", "docker:", "docker: ", "local:", "local: ", "podman", "Docker", ":img", "slurm"],
)
def test_what_names_no_runner_is_refused(value: str) -> None:
    with pytest.raises(RunnerError) as caught:
        RunnerSpec.parse(value, "env PYTEST")
    assert str(caught.value) == (
        f"env PYTEST: {value!r} is no runner;"
        " accepted: local, local:<python>, docker, docker:<image>"
    )


@pytest.mark.parametrize("value", ["slurm:", "slurm: ", "slurmx", "Slurm", "slurm2:x"])
def test_a_refusal_names_the_runners_of_other_packages_sorted(value: str) -> None:
    with pytest.raises(RunnerError) as caught:
        RunnerSpec.parse(value, "study", {"slurm", "apptainer"})
    assert str(caught.value) == (
        f"study: {value!r} is no runner;"
        " accepted: local, local:<python>, docker, docker:<image>, apptainer, slurm"
    )


@pytest.mark.parametrize(
    ("source", "chosen"),
    [
        ("cli", True),
        ("env", True),
        ("study", True),
        ("ini", True),
        ("user_config", True),
        ("auto_detected", False),
        ("auto_elevated", False),
        ("default", False),
    ],
)
def test_a_runner_was_chosen_when_a_person_named_it(source: str, chosen: bool) -> None:
    assert RunnerSpec(mode="docker", source=source).chosen == chosen
