"""The experiments of a study: its grid, its list, what is kept once and what is left out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.study.identity import NAME
from pytest_llem.study.load import SkippedPoint, Study
from tests.builders import UNHURRIED
from tests.study.written import SHOWN, ids, only, problems, study


def values(found: Study, field: str) -> list[Any]:
    return [getattr(planned.experiment, field) for planned in found.experiments]


# --- sweep ---------------------------------------------------------------------------------


def test_a_sweep_is_every_combination_in_order(tmp_path: Path) -> None:
    found = study(tmp_path, "model: m\nsweep: {batch_size: [1, 4], prompts.count: [2, 3]}")
    assert ids(found) == [
        "batch_size-1-prompts_count-2",
        "batch_size-1-prompts_count-3",
        "batch_size-4-prompts_count-2",
        "batch_size-4-prompts_count-3",
    ]
    assert values(found, "batch_size") == [1, 1, 4, 4]
    assert [prompts.count for prompts in values(found, "prompts")] == [2, 3, 2, 3]


@pytest.mark.parametrize(
    "options",
    [
        "vllm.block_size: [16, 32], pytorch.a: [1]",
        "vllm: {block_size: [16, 32]}, pytorch: {a: [1]}",
    ],
    ids=["dotted", "nested"],
)
def test_options_are_swept_for_their_own_backend_alone(tmp_path: Path, options: str) -> None:
    found = study(tmp_path, f"model: m\nsweep: {{backend: [pytorch, vllm], {options}}}")
    assert ids(found) == [
        "backend-pytorch-pytorch_a-1",
        "backend-vllm-vllm_block_size-16",
        "backend-vllm-vllm_block_size-32",
    ]
    assert values(found, "options") == [{"a": 1}, {"block_size": 16}, {"block_size": 32}]


def test_a_list_of_whole_options_is_for_its_backend_alone(tmp_path: Path) -> None:
    text = "model: m\nsweep: {backend: [pytorch, vllm], vllm: [{a: 1}, {a: 2}]}"
    assert ids(study(tmp_path, text)) == [
        "backend-pytorch",
        "backend-vllm-vllm_a-1",
        "backend-vllm-vllm_a-2",
    ]


def test_an_option_that_is_swept_twice_is_refused(tmp_path: Path) -> None:
    text = "model: m\nbackend: vllm\nsweep:\n  vllm.a: [1]\n  vllm: {a: [2]}"
    assert problems(tmp_path, text)


def test_a_sweep_that_is_for_no_experiment_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(
        tmp_path, "model: m\nbackend: pytorch\nsweep: {vllm.block_size: [16, 32]}"
    )
    assert problem.startswith("3: sweep.vllm.block_size: ")


def test_null_in_a_sweep_is_not_set(tmp_path: Path) -> None:
    text = "model: m\nrevision: v1\nbackend: vllm\nvllm: {a: 1}\n"
    found = study(tmp_path, text + "sweep: {revision: [null, v2], vllm.a: [null]}")
    assert values(found, "revision") == [None, "v2"]
    assert values(found, "options") == [{}, {}]


def test_a_variable_may_be_swept(tmp_path: Path) -> None:
    found = study(tmp_path, "model: m\nenv: {A: x}\nsweep: {env.OMP_NUM_THREADS: [1, 2]}")
    assert values(found, "env") == [{"A": "x", "OMP_NUM_THREADS": n} for n in "12"]


def test_a_whole_mapping_may_be_swept(tmp_path: Path) -> None:
    text = "model: m\nprompts: {count: 9}\nsweep:\n  prompts: [{input_tokens: 2}, {count: 3}]"
    found = study(tmp_path, text)
    assert ids(found) == ["prompts_input_tokens-2", "prompts_count-3"]
    assert [(p.count, p.input_tokens) for p in values(found, "prompts")] == [(9, 2), (3, 512)]


# --- variants ------------------------------------------------------------------------------

VARIANTS = """\
model: m
backend: vllm
variants:
  quant:
    plain: {}
    fp8: {vllm: {quantization: fp8}}
sweep: {seed: [1, 4]}
"""


def test_names_of_variants_go_into_ids_but_for_the_one_that_changes_nothing(tmp_path: Path) -> None:
    found = study(tmp_path, VARIANTS)
    assert ids(found) == [
        "seed-1",
        "seed-4",
        "quant-fp8-seed-1",
        "quant-fp8-seed-4",
    ]


def test_ids_survive_a_new_group_of_variants(tmp_path: Path) -> None:
    before = ids(study(tmp_path, VARIANTS))
    more = VARIANTS.replace(
        "variants:", "variants:\n  size: {short: {}, long: {output_tokens: 999}}"
    )
    after = ids(study(tmp_path, more))
    assert set(before) < set(after)
    assert len(after) == 2 * len(before)


def test_what_a_sweep_says_counts_above_what_a_variant_says(tmp_path: Path) -> None:
    text = "model: m\nseed: 1\nvariants: {g: {a: {seed: 2}}}\nsweep: {seed: [3]}"
    assert only(study(tmp_path, text)).experiment.seed == 3


def test_a_variant_may_take_a_shared_field_back(tmp_path: Path) -> None:
    text = "model: m\nrevision: v1\nvariants: {g: {a: {revision: null}}}"
    assert only(study(tmp_path, text)).experiment.revision is None


def test_a_variant_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    text = "model: m\nvariants:\n  quant:\n    plain: {}\n    fp8: yes"
    assert problems(tmp_path, text) == [
        "5: variants.quant.fp8: should be a mapping of fields, not True"
    ]


# --- experiments ---------------------------------------------------------------------------


def test_the_list_comes_after_the_grid_and_is_not_swept(tmp_path: Path) -> None:
    text = (
        "model: m\nsweep: {seed: [1, 2]}\nvariants: {g: {a: {}}}\nexperiments: [{id: b, seed: 9}]"
    )
    found = study(tmp_path, text)
    assert (ids(found), values(found, "seed")) == (["seed-1", "seed-2", "b"], [1, 2, 9])


def test_a_list_without_a_grid_is_all_there_is(tmp_path: Path) -> None:
    assert ids(study(tmp_path, "model: m\nexperiments: [{id: a}]")) == ["a"]


def test_an_experiment_without_an_id_is_named_by_its_own_fields(tmp_path: Path) -> None:
    text = "model: m\nexperiments:\n- {batch_size: 2, prompts: {count: 3}}\n- {id: null, seed: 1}"
    assert ids(study(tmp_path, text)) == ["batch_size-2-prompts_count-3", "seed-1"]


def test_expectations_and_needs_are_no_part_of_a_name(tmp_path: Path) -> None:
    text = "model: m\nexperiments: [{seed: 1, expect: {load_s: {max: 1}}, requires: {gpus: 1}}]"
    assert ids(study(tmp_path, text)) == ["seed-1"]


def test_equal_experiments_with_names_of_their_own_are_kept(tmp_path: Path) -> None:
    found = study(
        tmp_path, "model: m\nexperiments: [{id: a}, {id: b}, {id: x}]\nsweep: {seed: [42]}"
    )
    assert ids(found) == ["seed-42", "a", "b", "x"]
    assert len({planned.digest for planned in found.experiments}) == 1


@pytest.mark.parametrize("written", ["0", "1.5", "false", "true"])
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, written: str) -> None:
    (problem,) = problems(tmp_path, f"model: m\nexperiments:\n- id: {written}")
    assert problem.startswith("3: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id: a b", "2: id: 'a b' may hold letters, digits and . _ + -"),
        ("id: 'a[1]'", "2: id: 'a[1]' may hold letters, digits and . _ + -"),
        ("experiments:\n- id: a/b", "3: experiments.0.id: 'a/b' may hold letters, digits and"),
        (
            "experiments:\n- id: a\n- seed: 2\n  id: a",
            "4: two experiments are called a, first on line 3; give them an id",
        ),
        (
            "sweep:\n  model:\n  - a/m\n  - b/m",
            "5: two experiments are called model-m, first on line 4; give them an id",
        ),
        (
            "sweep: {seed: [1]}\nexperiments:\n- id: seed-1\n  seed: 2",
            "4: two experiments are called seed-1, first on line 2; give them an id",
        ),
        (
            "id: a\nsweep:\n  seed:\n  - 1\n  - 2",
            "6: two experiments are called a, first on line 5; give them an id",
        ),
    ],
)
def test_a_name_is_plain_and_given_once(tmp_path: Path, text: str, said: str) -> None:
    (problem,) = problems(tmp_path, f"model: m\n{text}")
    assert problem.startswith(said)


# --- what is kept once ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sweep: {seed: [1, 2, 1]}", ["seed-1", "seed-2"]),
        ("sweep: {batch_size: [null, 1]}", ["batch_size-None"]),
        ("sweep: {batch_size: [1, null]}", ["batch_size-1"]),
        ("sweep: {backend: [null, pytorch]}", ["backend-None"]),
        ("sweep: {prompts.count: [100, null]}", ["prompts_count-100"]),
        ("sweep: {dtype: [auto, null], idle: [30, 30.0]}", ["dtype-auto-idle-30"]),
        ("sweep: {warmup: [{prompts: 5}, null]}", ["warmup_prompts-5"]),
        ("sweep: {env.A: ['1', 1]}", ["env_A-1"]),
        ("sweep: {model: [./m, m/../m]}", ["model-m"]),
        ("variants: {g: {a: {}, b: {seed: 42}}}", ["x"]),
        ("sweep: {pytorch.a: [1, true]}", ["pytorch_a-1", "pytorch_a-True"]),
        ("sweep: {pytorch.a: [1, '1.0']}", ["pytorch_a-1", "pytorch_a-1.0"]),
    ],
)
def test_equal_points_of_a_grid_are_kept_once_by_the_name_of_the_first(
    tmp_path: Path, text: str, names: list[str]
) -> None:
    (tmp_path / "m").mkdir()
    found = study(tmp_path, f"model: m\n{text}")
    assert found.skipped == ()
    assert ids(found) == names


@pytest.mark.parametrize(
    "variants",
    ["{b: {expect: {load_s: {max: 1}}}}", "{b: {requires: {gpus: 1}}}"],
    ids=["expect", "requires"],
)
def test_points_of_which_different_things_are_asked_are_not_equal(
    tmp_path: Path, variants: str
) -> None:
    text = f"model: m\nvariants:\n  g:\n    a: {{}}\n    {variants[1:-1]}"
    assert ids(study(tmp_path, text)) == ["x", "g-b"]


# --- what is left out ----------------------------------------------------------------------


def test_an_invalid_point_is_left_out_and_listed_with_every_reason(tmp_path: Path) -> None:
    text = """\
model: m
sweep:
  batch_size:
    - 1
    - 0
  seed: [1, -1]
"""
    found = study(tmp_path, text)
    zero = f"{SHOWN}:5: batch_size: should be greater than or equal to 1, not 0"
    negative = f"{SHOWN}:6: seed: should be greater than or equal to 0, not -1"
    assert ids(found) == ["batch_size-1-seed-1"]
    assert found.skipped == (
        SkippedPoint(name="batch_size-1-seed--1", line=4, reasons=(negative,)),
        SkippedPoint(name="batch_size-0-seed-1", line=5, reasons=(zero,)),
        SkippedPoint(name="batch_size-0-seed--1", line=5, reasons=(zero, negative)),
    )


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("backend: vllm\nsweep: {device: [cpu, mps]}", "device-mps", "device: vllm can't"),
        ("sweep: {backend: [pytorch, vlm]}", "backend-vlm", "unknown backend vlm; did you mean"),
        ("sweep: {pytorch.a: [1, .nan]}", "pytorch_a-nan", "pytorch: Out of range float values"),
        ("variants: {g: {a: {}, b: {tensor_parallel: 2}}}", "g-b", "tensor_parallel: pytorch"),
        ("backend: vllm\ntensor_parallel: 4\nsweep: {gpus: [4, 2]}", "gpus-2", "gpus: fewer than"),
    ],
)
def test_a_point_that_does_not_fit_together_is_left_out_too(
    tmp_path: Path, text: str, name: str, reason: str
) -> None:
    found = study(tmp_path, f"model: m\n{text}")
    (skipped,) = found.skipped
    assert len(found.experiments) == 1
    assert skipped.name == name
    assert skipped.reasons[0].startswith(f"{SHOWN}:{text.count(chr(10)) + 2}: {reason}")


@pytest.mark.parametrize("listed", ["", "experiments: [{id: a, batch_size: 1}]"])
def test_a_grid_without_any_valid_point_is_an_error(tmp_path: Path, listed: str) -> None:
    text = f"model: m\nsweep:\n  batch_size:\n  - 0\n  - -1\n{listed}"
    assert problems(tmp_path, text) == [
        "4: batch_size: should be greater than or equal to 1, not 0",
        "5: batch_size: should be greater than or equal to 1, not -1",
    ]


def test_an_invalid_experiment_of_the_list_is_an_error(tmp_path: Path) -> None:
    text = "model: m\nsweep: {seed: [1]}\nexperiments:\n- id: a\n- id: b\n  seed: -1"
    assert problems(tmp_path, text) == ["6: seed: should be greater than or equal to 0, not -1"]


@pytest.mark.parametrize(
    "text",
    [
        "variants: {g: {a: {}, b: {sede: 1}}}",
        "sweep: {sede: [null, 1]}",
        "sweep: {prompts: [{count: 1}, {cuont: 2}]}",
    ],
)
def test_a_misspelt_field_is_an_error_also_where_other_points_are_valid(
    tmp_path: Path, text: str
) -> None:
    (problem,) = problems(tmp_path, f"model: m\n{text}")
    assert "did you mean" in problem


# --- whatever is swept ---------------------------------------------------------------------

NUMBERS = st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True)
FIELDS = ["batch_size", "output_tokens", "prompts.count", "warmup.prompts", "seed", "pytorch.a"]


@UNHURRIED
@given(st.dictionaries(st.sampled_from(FIELDS), NUMBERS))
def test_a_study_has_every_combination_once_under_a_name_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, sweep: dict[str, list[int]]
) -> None:
    text = yaml.safe_dump({"model": "m", "sweep": sweep})
    names = ids(study(tmp_path_factory.getbasetemp(), text))
    assert len(names) == len(set(names)) == math.prod(map(len, sweep.values()))
    assert all(NAME.fullmatch(name) for name in names)
