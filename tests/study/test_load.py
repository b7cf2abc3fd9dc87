"""Whole study files: what they become, and every problem with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.errors import StudyError
from pytest_llem.records import Execution, Experiment, Limit, Prompts, Warmup
from pytest_llem.study.load import Study, load
from pytest_llem.study.sweep import digest

SHOWN = "bench/x.study.yaml"


def study(folder: Path, text: str, name: str = "x.study.yaml") -> Study:
    path = folder / name
    path.write_text(text)
    return load(path, SHOWN)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(StudyError) as caught:
        study(folder, text)
    prefix = f"{SHOWN}:"
    assert all(problem.startswith(prefix) for problem in caught.value.problems)
    return [problem.removeprefix(prefix) for problem in caught.value.problems]


def names(found: Study) -> list[str]:
    return [planned.experiment.id for planned in found.experiments]


# --- valid ---------------------------------------------------------------------------------

FULL = """\
name: everything
model: models/tiny
weights: random
dtype: float32
device: cpu
prompts: {source: synthetic, count: 4, input_tokens: 8}
output_tokens: 6
seed: 7
warmup: none
idle: 0.5
meters: [estimate]
timeout_s: 60
load_timeout_s: 90
pytorch: {attention: eager}

execution: {cycles: 2, order: interleaved, gaps: 1.5}
runners: {pytorch: "docker:host:5000/img:tag"}

sweep:
  batch_size: [1, 4]
  prompts.count: [2]

experiments:
  - id: hub
    model: org/m
    revision: v1
    weights: pretrained
    warmup: {prompts: 1, timeout_s: 2}
    idle: none
    meters: auto
    pytorch: {compile: true}
    expect:
      load_s: {max: 9}
      energy_j: {max: 3}

expect:
  output_tokens_per_s: {min: 20}
  energy_j: {min: 0, max: 5e-3}
"""


def test_a_study_may_say_everything(tmp_path: Path) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    found = study(tmp_path, FULL)
    grid = [
        Experiment(
            id=f"batch_size-{batch}-prompts_count-2",
            model=str(tmp_path.resolve() / "models" / "tiny"),
            backend="pytorch",
            weights="random",
            dtype="float32",
            device="cpu",
            batch_size=batch,
            prompts=Prompts(count=2, input_tokens=8),
            output_tokens=6,
            seed=7,
            warmup="none",
            idle=0.5,
            meters=("estimate",),
            timeout_s=60.0,
            load_timeout_s=90.0,
            options={"attention": "eager"},
        )
        for batch in (1, 4)
    ]
    hub = Experiment(
        id="hub",
        model="org/m",
        revision="v1",
        dtype="float32",
        device="cpu",
        prompts=Prompts(count=4, input_tokens=8),
        output_tokens=6,
        seed=7,
        warmup=Warmup(prompts=1, timeout_s=2.0),
        idle="none",
        meters="auto",
        timeout_s=60.0,
        load_timeout_s=90.0,
        options={"attention": "eager", "compile": True},
    )
    assert found.name == "everything"
    assert found.path == tmp_path / "x.study.yaml"
    assert found.execution == Execution(cycles=2, gaps=1.5)
    assert found.runners == {"pytorch": "docker:host:5000/img:tag"}
    assert [planned.experiment for planned in found.experiments] == [*grid, hub]
    assert [planned.digest for planned in found.experiments] == [digest(e) for e in [*grid, hub]]
    assert [planned.line for planned in found.experiments] == [20, 20, 24]


def test_limits_know_their_lines_and_those_of_an_experiment_win(tmp_path: Path) -> None:
    (grid, _, hub) = study(tmp_path, FULL).experiments
    speed = Limit(metric="output_tokens_per_s", least=20.0, where=f"{SHOWN}:37")
    assert set(grid.limits) == {
        speed,
        Limit(metric="energy_j", least=0.0, most=0.005, where=f"{SHOWN}:38"),
    }
    assert set(hub.limits) == {
        speed,
        Limit(metric="energy_j", least=0.0, most=3.0, where=f"{SHOWN}:34"),
        Limit(metric="load_s", most=9.0, where=f"{SHOWN}:33"),
    }


def test_an_experiment_may_lift_a_limit_of_the_study(tmp_path: Path) -> None:
    text = """\
model: m
expect: {energy_j: {max: 1}, load_s: {max: 2}}
experiments:
  - id: a
    expect: {energy_j: null}
"""
    (planned,) = study(tmp_path, text).experiments
    assert [limit.metric for limit in planned.limits] == ["load_s"]


def test_a_study_of_a_model_alone_is_one_experiment_named_after_the_file(tmp_path: Path) -> None:
    found = study(tmp_path, "model: org/m", "night.v2.study.yaml")
    assert found.name == "night"
    assert found.execution == Execution()
    assert found.runners == {}
    (planned,) = found.experiments
    assert planned.experiment == Experiment(id="night", model="org/m")
    assert (planned.limits, planned.line) == ((), 1)


@pytest.mark.parametrize("empty", ["sweep:", "sweep: {}", "experiments:", "experiments: []"])
def test_empty_sections_are_as_good_as_none(tmp_path: Path, empty: str) -> None:
    assert names(study(tmp_path, f"model: m\n{empty}")) == ["x"]


def test_null_is_not_set(tmp_path: Path) -> None:
    text = "model: m\nbatch_size:\npytorch:\nexecution:\nrunners:\nexpect:\nrevision: null"
    (planned,) = study(tmp_path, text).experiments
    assert planned.experiment == Experiment(id="x", model="m")


def test_a_name_of_null_is_not_set(tmp_path: Path) -> None:
    assert study(tmp_path, "model: m\nname:").name == "x"


@pytest.mark.parametrize(
    "text",
    [
        "model: m\nprompts: {count: null}",
        "model: m\nsweep: {prompts.count: [null]}",
        "model: m\nexperiments:\n  - id: a\n    prompts: {count: null}",
    ],
    ids=["shared", "sweep", "listed"],
)
def test_null_inside_of_a_field_is_not_set(tmp_path: Path, text: str) -> None:
    (planned,) = study(tmp_path, text).experiments
    assert planned.experiment.prompts == Prompts()


@pytest.mark.parametrize(
    ("written", "number"),
    [("5e-3", 0.005), ("1", 1.0), ("-2.5", -2.5), ("1E3", 1000.0), ("0", 0.0)],
)
def test_a_bound_is_a_number_however_it_is_written(
    tmp_path: Path, written: str, number: float
) -> None:
    text = f"model: m\nexpect:\n  net_energy_j: {{min: {written}, max: 1e9}}"
    (planned,) = study(tmp_path, text).experiments
    where = f"{SHOWN}:3"
    assert planned.limits == (Limit(metric="net_energy_j", least=number, most=1e9, where=where),)


def test_seconds_may_be_written_as_5e_minus_3(tmp_path: Path) -> None:
    (planned,) = study(tmp_path, "model: m\nidle: 5e-3").experiments
    assert planned.experiment.idle == 0.005


@pytest.mark.parametrize("runner", ["local", "docker", "docker:img", "docker:a/b@sha256:00"])
def test_runners_are_kept_as_written(tmp_path: Path, runner: str) -> None:
    found = study(tmp_path, f"model: m\nrunners:\n  pytorch: {runner}")
    assert found.runners == {"pytorch": runner}


def test_experiments_of_anchors_share_their_fields(tmp_path: Path) -> None:
    text = """\
model: m
experiments:
  - &base {id: a, batch_size: 2, seed: 5}
  - <<: *base
    id: b
"""
    found = study(tmp_path, text)
    assert names(found) == ["a", "b"]
    assert {planned.experiment.seed for planned in found.experiments} == {5}


# --- wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed: 1", "1: model: required, and not given"),
        ("\n\nbach_size: 3\nmodel: m", "3: bach_size: unknown field; did you mean batch_size?"),
        ("model: m\nbatch_size: 0", "2: batch_size: should be greater than or equal to 1, not 0"),
        ("model: m\nbatch_size: '4'", "2: batch_size: should be a valid integer, not '4'"),
        (
            "model: m\nprompts:\n  input_tokens: 3\n  count: 0",
            "4: prompts.count: should be greater than or equal to 1, not 0",
        ),
        (
            "model: m\nwarmup:\n  prmpts: {}",
            "3: warmup.prmpts: unknown field; did you mean prompts?",
        ),
        ("model: m\nidle: -1", "2: idle: should be greater than 0 or should be 'none', not -1"),
        ("model: m\nname: 5", "2: name: should be text, not 5"),
        # sections
        ("model: m\nsweep: 3", "2: sweep: should be a mapping, not 3"),
        ("model: m\nexecution: [1]", "2: execution: should be a mapping, not [1]"),
        (
            "model: m\nexecution:\n  cycles: 0",
            "3: execution.cycles: should be greater than or equal to 1, not 0",
        ),
        ("model: m\nrunners: local", "2: runners: should be a mapping, not 'local'"),
        ("model: m\nexperiments: {a: 1}", "2: experiments: should be a list, not {'a': 1}"),
        (
            "model: m\nexperiments:\n- id: a\n- b",
            "4: experiments.1: should be a mapping, not 'b'",
        ),
        # sweeps
        (
            "model: m\nsweep:\n  seed: [1]\n  batch_size: 3",
            "4: sweep.batch_size: should be a list of values, not 3",
        ),
        (
            "model: m\nsweep:\n  batch_size: []",
            "3: sweep.batch_size: should be a list of values, not []",
        ),
        (
            "model: m\nsweep:\n  batch_size:\n  - 1\n  - 0",
            "5: batch_size: should be greater than or equal to 1, not 0",
        ),
        (
            "model: m\nsweep:\n  prompts.count:\n  - 1\n  - 0",
            "5: prompts.count: should be greater than or equal to 1, not 0",
        ),
        # lists
        (
            "model: m\nexperiments:\n- id: a\n- id: b\n  seed: -1",
            "5: seed: should be greater than or equal to 0, not -1",
        ),
        ("experiments:\n- model: m\n- id: b", "3: model: required, and not given"),
        # backends
        ("model: m\nbackend: pytroch", "2: unknown backend pytroch; did you mean pytorch?"),
        ("model: m\npytorch: 5", "2: pytorch: should be a mapping"),
        (
            "model: m\nexperiments:\n- id: a\n  options: {x: 1}",
            "4: options: unknown field; an engine's options stand under its name",
        ),
        # runners
        (
            "model: m\nrunners:\n  pytroch: local",
            "3: runners.pytroch: unknown backend; did you mean pytorch?",
        ),
        (
            "model: m\nrunners:\n  pytorch: podman",
            "3: runners.pytorch: 'podman' is no runner; accepted: local, docker, docker:<image>",
        ),
        (
            "model: m\nrunners:\n  pytorch:",
            "3: runners.pytorch: 'None' is no runner; accepted: local, docker, docker:<image>",
        ),
        # limits
        ("model: m\nexpect: 5", "2: expect: should be a mapping of metrics"),
        (
            "model: m\nexpect:\n  energi_j: {max: 1}",
            "3: expect.energi_j: unknown metric; did you mean energy_j?",
        ),
        *(
            (
                f"model: m\nexpect:\n  energy_j: {bounds}",
                "3: expect.energy_j: should be {min: number}, {max: number} or both",
            )
            for bounds in ("5", "{}", "{least: 5}", "[1]", "{min: 1, mx: 2}", "")
        ),
        *(
            (
                f"model: m\nexpect:\n  energy_j:\n    max: {number}",
                f"4: expect.energy_j.max: should be a number, not {shown}",
            )
            for number, shown in [
                ("low", "'low'"),
                (".nan", "nan"),
                ("-.inf", "-inf"),
                ("true", "True"),
                ("", "None"),
                ("[1]", "[1]"),
            ]
        ),
        # names
        ("model: m\nid: a b", "2: id: 'a b' may hold letters, digits and . _ + -"),
        (
            "model: m\nexperiments:\n- id: a\n- id: a\n  seed: 2",
            "4: two experiments are called a, first on line 3; give them an id",
        ),
        (
            "sweep:\n  model:\n  - a/m\n  - b/m",
            "4: two experiments are called model-m, first on line 3; give them an id",
        ),
    ],
)
def test_a_problem_has_its_line_and_says_what_is_wrong(
    tmp_path: Path, text: str, problem: str
) -> None:
    assert problems(tmp_path, text) == [problem]


def test_an_unknown_value_of_a_list_is_named_as_backend(tmp_path: Path) -> None:
    text = "model: m\nsweep:\n  backend: [pytorch,\n    vlm]"
    assert problems(tmp_path, text) == ["4: unknown backend vlm; accepted: pytorch"]


ALL_WRONG = """\
bach_size: 3
model: m
execution: {cycles: 0}
runners: {pytorch: podman}
prompts: {count: 0}
sweep:
  seed: [1, -1]
expect:
  energi_j: {max: 1}
experiments:
  - id: a
    dtype: int8
"""


def test_all_problems_are_told_at_once_in_the_order_of_lines_and_each_once(tmp_path: Path) -> None:
    assert problems(tmp_path, ALL_WRONG) == [
        "1: bach_size: unknown field; did you mean batch_size?",
        "3: execution.cycles: should be greater than or equal to 1, not 0",
        "4: runners.pytorch: 'podman' is no runner; accepted: local, docker, docker:<image>",
        "5: prompts.count: should be greater than or equal to 1, not 0",
        "7: seed: should be greater than or equal to 0, not -1",
        "9: expect.energi_j: unknown metric; did you mean energy_j?",
        "12: dtype: should be 'auto', 'float32', 'float16' or 'bfloat16', not 'int8'",
    ]


def test_options_of_a_study_are_refused_once(tmp_path: Path) -> None:
    assert problems(tmp_path, "model: m\noptions: {x: 1}") == [
        "2: options: unknown field; an engine's options stand under its name"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "model: ~no_such_user_of_this_host/m",
        f"model: {'x' * 300}",
        f"model: m\nexpect: {{energy_j: {{max: {'9' * 400}}}}}",
    ],
    ids=["expanduser", "name too long", "integer too large for a float"],
)
def test_odd_values_are_problems_or_taken_but_no_crash(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.study.yaml"
    path.write_text(text)
    try:
        told = str(load(path, SHOWN).path)
    except StudyError as error:
        told = str(error)
    assert told.startswith((f"{SHOWN}:", str(path)))
