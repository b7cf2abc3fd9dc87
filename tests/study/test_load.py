"""Whole study files: what becomes of each thing that they may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.demands import Limit
from pytest_llem.experiment import (
    Concurrency,
    Decoding,
    Experiment,
    Lognormal,
    Poisson,
    Prompts,
    Slo,
    Uniform,
    Warmup,
)
from pytest_llem.study.header import Surroundings
from pytest_llem.study.identity import digest
from pytest_llem.study.keys import Execution, Gaps, Requires
from tests.study.written import SHOWN, ids, only, problems, study

FULL = """\
name: everything
base: common.yaml
revision: v1
gpus: 4
tensor_parallel: 2
pipeline_parallel: 2
prompts: {count: 4, input_tokens: 8}
decoding: {temperature: 0.5, top_k: 4}
scenario: {poisson: 2}
slo: {ttft_s: 0.2}
warmup: {prompts: 1, timeout_s: 2}
idle: none
meters: [nvml]
timeout_s: 60
env: {OMP_NUM_THREADS: 4}
image: img:1
marks: [slow, {timeout: 30}]
vllm: {enforce_eager: true}

execution: {cycles: 2, order: shuffled, gaps: 1.5}
runners: {vllm: "docker:host:5000/img:tag"}
images: {vllm: "img:2"}
docker: {strategy: persistent}
requires: {gpus: 4}

variants:
  quant:
    plain: {}
    fp8: {vllm: {quantization: fp8}, requires: {gpu_name: H100}}
sweep:
  output_tokens: [16, 32]

experiments:
  - id: last
    scenario: offline
    skip: not now
    xfail: it never worked
    requires: {gpus: null}
    expect: {load_s: {max: 9}}

expect:
  - output_tokens_per_s: {min: 20}
  - where: {quant: fp8}
    output_tokens_per_s: {min: 30}
"""
COMMON = "model: org/m\nbackend: vllm\ndtype: bfloat16\ndevice: cuda\nseed: 7\nload_timeout_s: 90"


def shared(**fields: object) -> Experiment:
    """An experiment with what all of ``FULL`` share."""
    fields = {
        "model": "org/m",
        "backend": "vllm",
        "revision": "v1",
        "dtype": "bfloat16",
        "device": "cuda",
        "gpus": 4,
        "tensor_parallel": 2,
        "pipeline_parallel": 2,
        "prompts": Prompts(count=4, input_tokens=8),
        "decoding": Decoding(temperature=0.5, top_k=4),
        "seed": 7,
        "scenario": Poisson(poisson=2.0),
        "slo": Slo(ttft_s=0.2),
        "warmup": Warmup(prompts=1, timeout_s=2.0),
        "idle": "none",
        "meters": ("nvml",),
        "timeout_s": 60.0,
        "load_timeout_s": 90.0,
        "env": {"OMP_NUM_THREADS": "4"},
        "image": "img:1",
        "marks": ("slow", {"timeout": 30}),
        "options": {"enforce_eager": True},
        **fields,
    }
    return Experiment(**fields)  # type: ignore[arg-type]


def test_a_study_may_say_everything(tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text(COMMON)
    found = study(tmp_path, FULL)
    fp8 = {"enforce_eager": True, "quantization": "fp8"}
    expected = [
        shared(id="output_tokens-16", output_tokens=16),
        shared(id="output_tokens-32", output_tokens=32),
        shared(id="output_tokens-16-quant-fp8", output_tokens=16, options=fp8),
        shared(id="output_tokens-32-quant-fp8", output_tokens=32, options=fp8),
        shared(
            id="last",
            scenario="offline",
            skip="not now",
            xfail="it never worked",
        ),
    ]
    assert (found.path, found.name) == (tmp_path / "x.study.yaml", "everything")
    assert found.execution == Execution(cycles=2, order="shuffled", gaps=1.5)
    assert found.gaps == Gaps(between_experiments=1.5, between_cycles=1.5, mode="fixed")
    assert found.runners == {"vllm": "docker:host:5000/img:tag"}
    assert found.images == {"vllm": "img:2"}
    assert found.docker.strategy == "persistent"
    assert found.skipped == ()
    assert [planned.experiment for planned in found.experiments] == expected
    assert [planned.digest for planned in found.experiments] == [digest(e) for e in expected]
    assert [planned.line for planned in found.experiments] == [31, 31, 31, 31, 34]


def test_each_experiment_knows_its_variants_its_needs_and_its_limits(tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text(COMMON)
    plain, _, fp8, _, last = study(tmp_path, FULL).experiments
    assert (plain.variants, fp8.variants, last.variants) == (
        {"quant": "plain"},
        {"quant": "fp8"},
        {},
    )
    assert (plain.requires, last.requires) == (Requires(gpus=4), None)
    assert fp8.requires == Requires(gpus=4, gpu_name="H100")
    speed = Limit(metric="output_tokens_per_s", least=20.0, where=f"{SHOWN}:42")
    assert plain.limits == (speed,)
    assert [limit.least for limit in fp8.limits] == [30.0]
    assert set(last.limits) == {speed, Limit(metric="load_s", most=9.0, where=f"{SHOWN}:39")}


def test_a_study_of_a_model_alone_is_one_experiment_named_after_the_file(tmp_path: Path) -> None:
    found = study(tmp_path, "model: org/m")
    assert (found.name, found.execution, found.gaps) == ("x", Execution(), Gaps())
    planned = only(found)
    assert planned.experiment == Experiment(id="x", model="org/m")
    assert (planned.limits, planned.requires, planned.line) == ((), None, 1)


def test_an_experiment_may_have_an_id_without_any_list(tmp_path: Path) -> None:
    assert ids(study(tmp_path, "model: m\nid: a")) == ["a"]


@pytest.mark.parametrize(
    "empty", ["sweep:", "sweep: {}", "variants:", "variants: {}", "experiments:", "experiments: []"]
)
def test_empty_sections_are_as_good_as_none(tmp_path: Path, empty: str) -> None:
    assert ids(study(tmp_path, f"model: m\n{empty}")) == ["x"]


def test_null_is_not_set(tmp_path: Path) -> None:
    text = "model: m\nbatch_size:\npytorch:\nexpect:\nrevision: null\nprompts: {count: null}\nenv:"
    assert only(study(tmp_path, text)).experiment == Experiment(id="x", model="m")


def test_experiments_of_anchors_share_their_fields(tmp_path: Path) -> None:
    text = """\
model: m
experiments:
  - &base {id: a, batch_size: 2, seed: 5}
  - <<: *base
    id: b
"""
    found = study(tmp_path, text)
    assert ids(found) == ["a", "b"]
    assert {planned.experiment.seed for planned in found.experiments} == {5}


# --- what holds around it ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "backend"), [("", "vllm"), ("backend:", "vllm"), ("backend: pytorch", "pytorch")]
)
def test_a_users_default_backend_is_for_studies_that_name_none(
    tmp_path: Path, text: str, backend: str
) -> None:
    found = only(study(tmp_path, f"model: m\n{text}", Surroundings(backend="vllm")))
    assert found.experiment.backend == backend


def test_a_default_backend_counts_in_the_digest(tmp_path: Path) -> None:
    default = only(study(tmp_path, "model: m", Surroundings(backend="vllm")))
    named = only(study(tmp_path, "model: m\nbackend: vllm"))
    assert default.digest == named.digest != only(study(tmp_path, "model: m")).digest


def test_a_default_backend_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, "model: m", Surroundings(backend="vlm")) == [
        "1: default_backend: unknown backend vlm; did you mean vllm?"
    ]


@pytest.mark.parametrize(
    ("text", "user", "command", "warmup"),
    [
        ("", None, None, Warmup()),
        ("", "none", None, "none"),
        ("", {"prompts": 2}, None, Warmup(prompts=2)),
        ("", Warmup(prompts=2), None, Warmup(prompts=2)),
        ("warmup: {prompts: 3}", "none", None, Warmup(prompts=3)),
        ("warmup: none", {"prompts": 2}, None, "none"),
        ("warmup: null", {"prompts": 2}, None, Warmup(prompts=2)),
        ("warmup: {prompts: 3}", None, "none", "none"),
        ("warmup: none", "none", {"prompts": 4}, Warmup(prompts=4)),
    ],
)
def test_a_warm_up_is_the_command_lines_then_the_studys_then_the_users(
    tmp_path: Path, text: str, user: object, command: object, warmup: object
) -> None:
    around = Surroundings(warmup=user, over_warmup=command)
    assert only(study(tmp_path, f"model: m\n{text}", around)).experiment.warmup == warmup


def test_cycles_and_gaps_are_the_command_lines_then_the_studys_then_the_users(
    tmp_path: Path,
) -> None:
    user = {"cycles": 7, "gaps": 7}
    text = "model: m\nexecution: {gaps: 5}"
    found = study(tmp_path, text, Surroundings(execution=user, over_execution={"cycles": 1}))
    assert found.execution == Execution(cycles=1, gaps=5.0)


# --- one thing at a time -------------------------------------------------------------------


def test_variables_of_an_experiment_are_added_to_those_of_the_study(tmp_path: Path) -> None:
    text = "model: m\nenv: {A: 1, B: two}\nexperiments: [{id: a, env: {A: 0.5, C: x}}]"
    found = only(study(tmp_path, text)).experiment
    assert found.env == {"A": "0.5", "B": "two", "C": "x"}


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ("{A: true}", "3: env.A: should be a valid string, not True"),
        ("{A: yes}", "3: env.A: should be a valid string, not True"),
        ("{HF_TOKEN: x}", "3: env.HF_TOKEN: a secret doesn't belong in a study: its report shows"),
    ],
)
def test_variables_that_mislead_or_leak_are_refused(tmp_path: Path, env: str, said: str) -> None:
    (problem,) = problems(tmp_path, f"model: m\n\nenv: {env}")
    assert problem.startswith(said)


def test_reasons_marks_and_images_are_an_experiments_own(tmp_path: Path) -> None:
    text = """\
model: m
image: img:1
marks: [slow]
experiments:
  - {id: a, skip: broken, marks: [gpu, {timeout: 3}]}
  - {id: b, xfail: known, image: img:2}
"""
    a, b = (planned.experiment for planned in study(tmp_path, text).experiments)
    assert (a.skip, a.xfail, a.marks, a.image) == ("broken", None, ("gpu", {"timeout": 3}), "img:1")
    assert (b.skip, b.xfail, b.marks, b.image) == (None, "known", ("slow",), "img:2")


@pytest.mark.parametrize(
    ("requires", "merged"),
    [
        ("", Requires(gpus=1, gpu_name="H100")),
        ("requires: {gpus: 2}", Requires(gpus=2, gpu_name="H100")),
        ("requires: {gpu_name: null, docker: true}", Requires(gpus=1, docker=True)),
        ("requires:", Requires(gpus=1, gpu_name="H100")),
    ],
)
def test_what_an_experiment_requires_is_merged_onto_what_the_study_does(
    tmp_path: Path, requires: str, merged: Requires
) -> None:
    text = f"model: m\nrequires: {{gpus: 1, gpu_name: H100}}\nexperiments:\n- id: a\n  {requires}"
    assert only(study(tmp_path, text)).requires == merged


def test_what_a_variant_requires_is_merged_too(tmp_path: Path) -> None:
    text = """\
model: m
requires: {gpus: 1, gpu_name: H100}
variants: {g: {a: {}, b: {seed: 1, requires: {gpus: 2, power_limit_w: 350}}}}
"""
    a, b = study(tmp_path, text).experiments
    assert a.requires == Requires(gpus=1, gpu_name="H100")
    assert b.requires == Requires(gpus=2, gpu_name="H100", power_limit_w=350.0)


def test_of_two_groups_of_variants_the_later_says_what_is_required(tmp_path: Path) -> None:
    text = """\
model: m
variants:
  g: {a: {seed: 1, requires: {gpus: 1}}}
  h: {b: {seed: 2, requires: {gpus: 2}}}
"""
    found = only(study(tmp_path, text))
    assert (found.experiment.seed, found.requires) == (2, Requires(gpus=2))


def test_a_misspelt_backend_that_is_required_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, "model: m\nrequires:\n  backends: [pytorch, vlm]") == [
        "3: requires.backends.1: unknown backend; did you mean vllm?"
    ]


@pytest.mark.parametrize(
    ("text", "model"),
    [("model: models/tiny", "models/tiny"), ("model: ./none", "none"), ("model: ~/none", None)],
)
def test_a_directory_is_relative_to_the_study(tmp_path: Path, text: str, model: str | None) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    found = Path(only(study(tmp_path, text)).experiment.model)
    assert found == (tmp_path / model if model else Path("~/none").expanduser())


KINDS = """\
model: m
backend: vllm
scenario: {poisson: 2}
prompts: {input_tokens: {uniform: [1, 8]}}
experiments:
  - id: a
    scenario: {concurrency: 8}
  - id: b
    prompts: {input_tokens: {lognormal: {median: 4, sigma: 1, max: 8}}}
"""


def test_an_experiment_may_be_of_another_kind_than_the_study(tmp_path: Path) -> None:
    a, b = (planned.experiment for planned in study(tmp_path, KINDS).experiments)
    assert (a.scenario, b.scenario) == (Concurrency(concurrency=8), Poisson(poisson=2.0))
    assert isinstance(a.prompts.input_tokens, Uniform)
    assert isinstance(b.prompts.input_tokens, Lognormal)


# --- what a backend can do -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scenario: {poisson: 1}", "scenario: pytorch can't do poisson; it can do: offline"),
        ("backend: vllm\ndevice: mps", "device: vllm can't compute on mps; it can on: "),
        ("tensor_parallel: 2", "tensor_parallel: pytorch can't share layers; set pipeline"),
    ],
)
def test_what_the_backend_can_not_do_is_refused_at_collection(
    tmp_path: Path, text: str, said: str
) -> None:
    (problem,) = problems(tmp_path, f"model: m\n{text}")
    line = 2 + text.count("\n")
    assert problem.startswith(f"{line}: {said}")


def test_a_backend_that_is_not_installed_here_is_asked_for_anything(tmp_path: Path) -> None:
    text = "model: m\nbackend: tensorrt\nscenario: {poisson: 1}\ntensor_parallel: 8"
    assert only(study(tmp_path, text)).experiment.devices == 8
