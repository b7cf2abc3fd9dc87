"""``expect:``: what is asked of the figures, and of which experiments."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.demands import Limit
from pytest_llem.metrics import METRICS
from pytest_llem.study.expectations import parse
from pytest_llem.study.load import Study
from pytest_llem.study.problems import Problems
from pytest_llem.study.sweep import Source
from pytest_llem.study.yaml_lines import Document
from tests.builders import UNHURRIED
from tests.study.written import SHOWN, only, problems, study


def limits(found: Study) -> dict[str, dict[str, tuple[float | None, float | None]]]:
    """Experiment to metric to its bounds."""
    return {
        planned.experiment.id: {limit.metric: (limit.least, limit.most) for limit in planned.limits}
        for planned in found.experiments
    }


# --- what may be asked ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "expect",
    [
        "{output_tokens_per_s: {min: 20}, energy_j: {min: 0, max: 5e-3}}",
        "[{output_tokens_per_s: {min: 20}, energy_j: {min: 0, max: 5e-3}}]",
        "[{output_tokens_per_s: {min: 20}}, {energy_j: {min: 0, max: 5e-3}}]",
        "[{where: {}, output_tokens_per_s: {min: 20}}, {energy_j: {max: 5e-3, min: 0}}]",
    ],
    ids=["mapping", "list", "list of two", "empty where"],
)
def test_limits_are_a_mapping_or_a_list_of_mappings(tmp_path: Path, expect: str) -> None:
    found = only(study(tmp_path, f"model: m\nexpect: {expect}"))
    where = f"{SHOWN}:2"
    assert set(found.limits) == {
        Limit(metric="output_tokens_per_s", least=20.0, where=where),
        Limit(metric="energy_j", least=0.0, most=0.005, where=where),
    }


@pytest.mark.parametrize("expect", ["", "{}", "[]", "null"])
def test_an_empty_expect_asks_nothing(tmp_path: Path, expect: str) -> None:
    assert only(study(tmp_path, f"model: m\nexpect: {expect}")).limits == ()


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_may_have_a_limit(tmp_path: Path, metric: str) -> None:
    found = only(study(tmp_path, f"model: m\nexpect: {{{metric}: {{min: 1}}}}"))
    assert found.limits == (Limit(metric=metric, least=1.0, where=f"{SHOWN}:2"),)


@pytest.mark.parametrize(
    ("written", "number"),
    [("5e-3", 0.005), ("1", 1.0), ("-2.5", -2.5), ("1E3", 1000.0), ("0", 0.0), ("1_000", 1000.0)],
)
def test_a_bound_is_a_number_however_it_is_written(
    tmp_path: Path, written: str, number: float
) -> None:
    found = only(study(tmp_path, f"model: m\nexpect:\n  net_energy_j: {{min: {written}}}"))
    assert found.limits == (Limit(metric="net_energy_j", least=number, where=f"{SHOWN}:3"),)


@pytest.mark.parametrize(
    ("written", "regression"),
    [("5%", 0.05), ("5 %", 0.05), ("0.5%", 0.005), ("0%", 0.0), ("150%", 1.5), ("' 5% '", 0.05)],
)
def test_a_regression_is_a_percentage(tmp_path: Path, written: str, regression: float) -> None:
    text = f"model: m\nexpect: {{energy_j: {{max: 1, max_regression: {written}}}}}"
    (limit,) = only(study(tmp_path, text)).limits
    assert (limit.most, limit.regression) == (1.0, regression)


@pytest.mark.parametrize("written", ["5", "0.05", "-5%", "five", "5%%", "", "[5%]", "inf%", "true"])
def test_a_regression_that_is_no_percentage_is_refused(tmp_path: Path, written: str) -> None:
    (problem,) = problems(tmp_path, f"model: m\nexpect: {{load_s: {{max_regression: {written}}}}}")
    assert problem.startswith("2: expect.load_s.max_regression: should be percent, like 5%, not ")


SHAPE = "should be {min: number}, {max: number} or {max_regression: 5%}, or several of these"


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ("5", "2: expect: should be a mapping of metrics"),
        ("x", "2: expect: should be a mapping of metrics"),
        ("[5]", "2: expect.0: should be a mapping of metrics"),
        ("[{load_s: {max: 1}}, null]", "2: expect.1: should be a mapping of metrics"),
        ("{energi_j: {max: 1}}", "2: expect.energi_j: unknown metric; did you mean energy_j?"),
        (
            "[{tpot_mean: {max: 1}}]",
            "2: expect.0.tpot_mean: unknown metric; did you mean tpot_mean_s?",
        ),
        ("{zzz: {max: 1}}", "2: expect.zzz: unknown metric; no name is near"),
        *((f"{{load_s: {bounds}}}", f"2: expect.load_s: {SHAPE}") for bounds in ("5", "{}", "[1]")),
        ("{load_s: {least: 5}}", f"2: expect.load_s: {SHAPE}"),
        ("{load_s: {min: 1, mx: 2}}", f"2: expect.load_s: {SHAPE}"),
        ("{load_s: null}", f"2: expect.load_s: {SHAPE}"),
        ("{load_s: {max: low}}", "2: expect.load_s.max: should be a number, not 'low'"),
        ("{load_s: {max: .nan}}", "2: expect.load_s.max: should be a number, not nan"),
        ("{load_s: {max: -.inf}}", "2: expect.load_s.max: should be a number, not -inf"),
        ("{load_s: {max: 1e999}}", "2: expect.load_s.max: should be a number, not inf"),
        ("{load_s: {max: true}}", "2: expect.load_s.max: should be a number, not True"),
        ("{load_s: {min: null}}", "2: expect.load_s.min: should be a number, not None"),
        ("{load_s: {max: [1]}}", "2: expect.load_s.max: should be a number, not [1]"),
        (
            "{load_s: {min: 2, max: 1}}",
            "2: expect.load_s: no figure is at least 2 and at most 1",
        ),
        (
            "[{where: 5, load_s: {max: 1}}]",
            "2: expect.0.where: should be a mapping of fields",
        ),
    ],
)
def test_what_can_not_be_asked_is_refused(tmp_path: Path, expect: str, said: str) -> None:
    assert problems(tmp_path, f"model: m\nexpect: {expect}") == [said]


def test_a_misspelt_bound_is_told_by_its_own_line(tmp_path: Path) -> None:
    text = "model: m\nexpect:\n  - energy_j: {max: 1}\n    load_s:\n      min: 1\n      max: x"
    assert problems(tmp_path, text) == ["6: expect.0.load_s.max: should be a number, not 'x'"]


# --- whom it is asked of -------------------------------------------------------------------

GRID = """\
model: models/m
backend: vllm
prompts: {count: 3, input_tokens: {uniform: [1, 8]}}
env: {OMP_NUM_THREADS: four}
vllm: {enforce_eager: true, a: {b: 1}}
variants: {quant: {plain: {}, fp8: {vllm: {quantization: fp8}}}}
sweep: {output_tokens: [16, 32]}
"""
PLAIN = {"output_tokens-16", "output_tokens-32"}
FP8 = {f"{name}-quant-fp8" for name in PLAIN}


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("{}", PLAIN | FP8),
        ("{output_tokens: 16}", {"output_tokens-16", "output_tokens-16-quant-fp8"}),
        ("{output_tokens: 16.0}", {"output_tokens-16", "output_tokens-16-quant-fp8"}),
        ("{output_tokens: [16, 32, 64]}", PLAIN | FP8),
        ("{quant: fp8}", FP8),
        ("{quant: [plain]}", PLAIN),
        ("{quant: plain, output_tokens: 32}", {"output_tokens-32"}),
        ("{id: output_tokens-32}", {"output_tokens-32"}),
        ("{prompts.count: 3}", PLAIN | FP8),
        ("{prompts.input_tokens: {uniform: [1, 8]}}", PLAIN | FP8),
        ("{env.OMP_NUM_THREADS: four}", PLAIN | FP8),
        ("{vllm.quantization: fp8}", FP8),
        ("{vllm.enforce_eager: true}", PLAIN | FP8),
        ("{vllm.a.b: [1, 2]}", PLAIN | FP8),
        ("{backend: vllm}", PLAIN | FP8),
        ("{model: models/m}", PLAIN | FP8),
        ("{scenario: offline, dtype: auto}", PLAIN | FP8),
        ("{gpus: null}", PLAIN | FP8),
        ("{warmup.prompts: 5}", PLAIN | FP8),
    ],
)
def test_limits_are_for_the_experiments_that_have_what_where_says(
    tmp_path: Path, where: str, names: set[str]
) -> None:
    (tmp_path / "models" / "m").mkdir(parents=True)
    text = f"{GRID}expect: [{{where: {where}, load_s: {{max: 1}}}}]"
    found = limits(study(tmp_path, text))
    assert {name for name, asked in found.items() if asked} == names


def test_a_variable_is_matched_as_it_is_written(tmp_path: Path) -> None:
    text = "model: m\nenv: {A: 4}\nexpect: [{where: {env.A: 4}, load_s: {max: 1}}]"
    assert len(only(study(tmp_path, text)).limits) == 1


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("{output_tokens: 64}", 'where: no experiment of this study has {"output_tokens": 64}'),
        ("{output_tokens: true}", 'where: no experiment of this study has {"output_tokens": true}'),
        ("{output_tokens: '16'}", "where: no experiment of this study has "),
        ("{quant: fp4}", "where: no experiment of this study has "),
        ("{quant: fp8, vllm.quantization: fp4}", "where: no experiment of this study has "),
        ("{vllm.quantisation: fp8}", "where: no experiment of this study has "),
        ("{pytorch.a: 1}", "where: no experiment of this study has "),
        ("{output_token: 16}", "where.output_token: unknown field; did you mean output_tokens?"),
        ("{qant: fp8}", "where.qant: unknown field; did you mean quant?"),
        ("{prompts.cuont: 3}", "where.prompts.cuont: unknown field; did you mean count?"),
        ("{vlm.a: 1}", "where.vlm.a: unknown field; "),
    ],
)
def test_limits_for_nobody_are_refused(tmp_path: Path, where: str, said: str) -> None:
    text = f"{GRID}expect:\n  - where: {where}\n    load_s: {{max: 1}}"
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(f"9: expect.{said}")


def test_a_field_of_a_field_that_is_misspelt_under_where_gets_a_suggestion(tmp_path: Path) -> None:
    text = f"{GRID}expect: [{{where: {{prompts.cuont: 3}}, load_s: {{max: 1}}}}]"
    (problem,) = problems(tmp_path, text)
    assert problem.endswith("did you mean count?")


def test_a_misspelt_field_under_where_is_told_with_all_else(tmp_path: Path) -> None:
    text = f"{GRID}seed: -1\nexpect: [{{where: {{output_token: 3}}, load_s: {{max: 1}}}}]"
    assert [line.partition(":")[0] for line in problems(tmp_path, text)] == ["8", "9"]


def test_limits_for_a_skipped_point_alone_are_for_nobody(tmp_path: Path) -> None:
    text = "model: m\nsweep: {batch_size: [1, 0]}\n"
    text += "expect: [{where: {batch_size: 0}, load_s: {max: 1}}]"
    (problem,) = problems(tmp_path, text)
    assert problem.startswith("3: expect.where: no experiment of this study has ")


# --- what counts of what is said twice -----------------------------------------------------


def test_the_later_of_two_rules_counts_bound_by_bound(tmp_path: Path) -> None:
    text = """\
model: m
sweep: {batch_size: [1, 4]}
expect:
  - energy_j: {min: 1, max: 9, max_regression: 5%}
    load_s: {max: 2}
  - where: {batch_size: 4}
    energy_j: {max: 7}
"""
    one, four = study(tmp_path, text).experiments
    load = Limit(metric="load_s", most=2.0, where=f"{SHOWN}:5")
    energy = Limit(metric="energy_j", least=1.0, most=9.0, regression=0.05, where=f"{SHOWN}:4")
    assert set(one.limits) == {load, energy}
    changed = Limit(metric="energy_j", least=1.0, most=7.0, regression=0.05, where=f"{SHOWN}:7")
    assert set(four.limits) == {load, changed}


EVERYWHERE = """\
model: m
expect: {energy_j: {min: 1, max: 9}, load_s: {max: 9}, duration_s: {max: 9}}
variants:
  g:
    a: {}
    b: {seed: 1, expect: {energy_j: {max: 8}, load_s: null}}
experiments:
  - id: c
    seed: 2
    expect: [{energy_j: null}, {load_s: {max: 7}}]
"""


def test_a_variant_and_an_experiment_have_the_last_word_and_null_takes_back(tmp_path: Path) -> None:
    nine = (None, 9.0)
    assert limits(study(tmp_path, EVERYWHERE)) == {
        "x": {"energy_j": (1.0, 9.0), "load_s": nine, "duration_s": nine},
        "g-b": {"energy_j": (1.0, 8.0), "duration_s": nine},
        "c": {"load_s": (None, 7.0), "duration_s": nine},
    }


def test_a_limit_knows_where_it_was_said_last(tmp_path: Path) -> None:
    by_name = {p.experiment.id: p.limits for p in study(tmp_path, EVERYWHERE).experiments}
    lines = {
        name: {limit.metric: limit.where.rpartition(":")[2] for limit in asked}
        for name, asked in by_name.items()
    }
    assert lines["g-b"] == {"energy_j": "6", "duration_s": "2"}
    assert lines["c"] == {"load_s": "10", "duration_s": "2"}


def test_of_two_groups_of_variants_the_later_has_the_last_word(tmp_path: Path) -> None:
    text = """\
model: m
variants:
  g: {a: {seed: 1, expect: {load_s: {max: 1}}}}
  h: {b: {seed: 2, expect: {load_s: {max: 2}}}}
"""
    found = only(study(tmp_path, text))
    assert (found.experiment.seed, [limit.most for limit in found.limits]) == (2, [2.0])


def test_bounds_of_two_rules_that_no_figure_keeps_are_refused(tmp_path: Path) -> None:
    text = "model: m\nexpect:\n  - load_s: {min: 5}\n  - load_s: {max: 1}"
    (problem,) = problems(tmp_path, text)
    assert "no figure is at least 5 and at most 1" in problem


def test_limits_within_a_variant_that_are_wrong_are_told_though_the_point_is_skipped(
    tmp_path: Path,
) -> None:
    text = "model: m\nvariants:\n  g:\n    a: {}\n    b: {seed: -1, expect: {energi_j: {max: 1}}}"
    assert problems(tmp_path, text) == [
        "5: expect.energi_j: unknown metric; did you mean energy_j?"
    ]


# --- whatever is said ----------------------------------------------------------------------

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["min", "max", "max_regression", "where", "load_s", "x"]), inner
        )
    ),
    max_leaves=10,
)


@UNHURRIED
@given(ANYTHING, st.booleans())
def test_anything_under_expect_is_understood_or_refused(expect: object, removable: bool) -> None:
    found = Problems()
    source = Source(Document(Path("x"), "x", {}, {}, {}), (), (), {"expect": expect})
    for rule in parse(source, found, removable=removable):
        assert set(rule.metrics) <= set(METRICS)
    assert all(line.startswith("x:1: expect") for line in found.lines())


@UNHURRIED
@given(st.dictionaries(st.sampled_from(sorted(METRICS)), NUMBERS, max_size=4))
def test_every_limit_that_is_said_is_kept(bounds: dict[str, float]) -> None:
    expect = {metric: {"max": number} for metric, number in bounds.items()}
    source = Source(Document(Path("x"), "x", {}, {}, {}), (), (), {"expect": expect})
    (rule,) = parse(source, Problems())
    assert {m: b["max"] for m, (_, b) in rule.metrics.items() if b} == bounds
