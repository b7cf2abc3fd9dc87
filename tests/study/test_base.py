"""``base:``: fields of other files under those of a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.errors import StudyError
from pytest_llem.study.base import STUDY_KEYS
from tests.study.written import ids, only, problems, study


def base(folder: Path, text: str, name: str = "base.yaml") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# --- what it gives -------------------------------------------------------------------------


def test_a_study_has_the_fields_of_its_base_and_its_own_over_them(tmp_path: Path) -> None:
    base(tmp_path, "model: m\nseed: 1\nprompts: {count: 3, input_tokens: 4}\nvllm: {a: 1, b: 2}")
    text = "base: base.yaml\nseed: 2\nbackend: vllm\nprompts: {count: 9}\nvllm: {b: 3}"
    experiment = only(study(tmp_path, text)).experiment
    assert (experiment.model, experiment.seed) == ("m", 2)
    assert (experiment.prompts.count, experiment.prompts.input_tokens) == (9, 4)
    assert experiment.options == {"a": 1, "b": 3}


def test_a_base_may_have_a_base_beside_itself(tmp_path: Path) -> None:
    base(tmp_path, "base: far/b.yaml\nseed: 2", "near/a.yaml")
    base(tmp_path, "base: ../../c.yaml\nseed: 1\nbatch_size: 2", "near/far/b.yaml")
    base(tmp_path, "model: m\nseed: 0\nbatch_size: 1\noutput_tokens: 7", "c.yaml")
    experiment = only(study(tmp_path, "base: near/a.yaml")).experiment
    assert (experiment.seed, experiment.batch_size, experiment.output_tokens) == (2, 2, 7)


def test_a_base_may_be_named_by_an_absolute_path(tmp_path: Path) -> None:
    base(tmp_path, "model: m", "deep/b.yaml")
    text = f"base: {tmp_path / 'deep' / 'b.yaml'}"
    assert only(study(tmp_path, text)).experiment.model == "m"


def test_a_base_of_null_is_none(tmp_path: Path) -> None:
    assert ids(study(tmp_path, "model: m\nbase:")) == ["x"]


STUDYS_OWN = """\
model: m
name: other
sweep: {seed: [1, 2]}
variants: {g: {a: {}, b: {seed: 3}}}
experiments: [{id: c}]
execution: {cycles: 7, no_such: 1}
runners: {pytroch: podman}
images: {pytorch: img}
docker: {strategy: persistent}
expect: {energi_j: {max: 1}}
requires: {gpus: 9}
"""


def test_what_a_base_says_of_itself_as_a_study_is_dropped(tmp_path: Path) -> None:
    base(tmp_path, STUDYS_OWN)
    found = study(tmp_path, "base: base.yaml")
    alone = study(tmp_path, "model: m")
    for key in ("name", "execution", "gaps", "runners", "images", "docker"):
        assert getattr(found, key) == getattr(alone, key)
    planned = only(found)
    assert planned.experiment == only(alone).experiment
    assert (planned.limits, planned.requires, planned.variants) == ((), None, {})


def test_all_keys_of_a_study_are_dropped_but_the_base_itself() -> None:
    named = {line.partition(":")[0] for line in STUDYS_OWN.splitlines()} - {"model"}
    assert named == set(STUDY_KEYS) - {"base"}


def test_a_model_directory_is_looked_for_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    base(tmp_path, "model: models/tiny", "common/base.yaml")
    found = only(study(tmp_path, "base: common/base.yaml"))
    assert found.experiment.model == str(tmp_path / "models" / "tiny")


@pytest.mark.parametrize("written", ["revision:", "revision: null"])
def test_null_takes_back_what_the_base_says(tmp_path: Path, written: str) -> None:
    base(tmp_path, "model: m\nrevision: v1")
    assert only(study(tmp_path, f"base: base.yaml\n{written}")).experiment.revision is None


def test_null_in_a_base_is_not_set(tmp_path: Path) -> None:
    base(tmp_path, "model: m\nseed: null\nprompts: {count: null}")
    assert only(study(tmp_path, "base: base.yaml")).experiment.seed == 42


def test_an_experiment_may_take_back_what_the_base_says(tmp_path: Path) -> None:
    base(tmp_path, "model: m\nrevision: v1")
    text = "base: base.yaml\nexperiments: [{id: a, revision: null}]"
    assert only(study(tmp_path, text)).experiment.revision is None


# --- what is wrong in it -------------------------------------------------------------------


def test_an_unknown_key_of_a_base_has_the_bases_file_and_line(tmp_path: Path) -> None:
    base(tmp_path, "model: m\n\nbach_size: 3", "common/b.yaml")
    assert problems(tmp_path, "base: common/b.yaml\nsede: 1") == [
        "2: sede: unknown field; did you mean seed?",
        "bench/common/b.yaml:3: bach_size: unknown field; did you mean batch_size?",
    ]


def test_a_base_outside_of_the_studys_folder_is_named_by_its_own_path(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    base(tmp_path, "model: m\nbach_size: 3")
    (problem,) = problems(tmp_path / "bench", "base: ../base.yaml")
    assert problem.startswith("base.yaml:2: bach_size: ")


def test_an_error_is_told_of_the_file_that_has_it(tmp_path: Path) -> None:
    base(tmp_path, "model: m\nseed: -1\nprompts:\n  input_tokens: 4\n  count: 0")
    text = "base: base.yaml\nbatch_size: 0\nprompts:\n  source: 5"
    assert problems(tmp_path, text) == [
        "2: batch_size: should be greater than or equal to 1, not 0",
        "4: prompts.source: should be a valid string, not 5",
        "bench/base.yaml:2: seed: should be greater than or equal to 0, not -1",
        "bench/base.yaml:5: prompts.count: should be greater than or equal to 1, not 0",
    ]


def test_what_the_study_mends_is_not_wrong(tmp_path: Path) -> None:
    base(tmp_path, "model: m\nseed: -1")
    assert only(study(tmp_path, "base: base.yaml\nseed: 1")).experiment.seed == 1


def test_a_second_base_is_named_by_its_own_path_too(tmp_path: Path) -> None:
    base(tmp_path, "base: ../b.yaml", "sub/a.yaml")
    base(tmp_path, "model: m\nseed: -1", "b.yaml")
    (problem,) = problems(tmp_path, "base: sub/a.yaml")
    assert problem.startswith("bench/b.yaml:2: seed: ")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("none.yaml", "there is no file bench/none.yaml"),
        ("sub/../none.yaml", "there is no file bench/none.yaml"),
        (".", "there is no file bench"),
        ("5", "should be a path, not 5"),
        ("[a]", "should be a path, not ['a']"),
        ("''", "should be a path, not ''"),
    ],
)
def test_a_base_that_is_no_file_is_refused(tmp_path: Path, written: str, said: str) -> None:
    assert problems(tmp_path, f"model: m\nbase: {written}") == [f"2: base: {said}"]


@pytest.mark.parametrize(
    "written", ["x" * 300, '"a\\0b"', '"/a\\0b"'], ids=["too long", "NUL", "absolute with NUL"]
)
def test_a_base_that_no_path_can_be_is_refused(tmp_path: Path, written: str) -> None:
    (problem,) = problems(tmp_path, f"model: m\nbase: {written}")
    assert problem.startswith("2: base: ")


def test_a_base_that_is_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").symlink_to(tmp_path / "base.yaml")
    (problem,) = problems(tmp_path, "model: m\nbase: base.yaml")
    assert problem.startswith("2: base: ")


@pytest.mark.parametrize("itself", ["x.study.yaml", "./x.study.yaml", "sub/../x.study.yaml"])
def test_a_study_is_not_its_own_base(tmp_path: Path, itself: str) -> None:
    (tmp_path / "sub").mkdir()
    (problem,) = problems(tmp_path, f"model: m\nbase: {itself}")
    assert problem == f"2: base: {itself} leads back to a file that it is a base of"


def test_a_circle_of_bases_is_refused_where_it_closes(tmp_path: Path) -> None:
    base(tmp_path, "base: b.yaml", "a.yaml")
    base(tmp_path, "\n\nbase: a.yaml", "b.yaml")
    (problem,) = problems(tmp_path, "base: a.yaml")
    assert problem == "bench/b.yaml:3: base: a.yaml leads back to a file that it is a base of"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\n\tb: 2", "bench/base.yaml:2: not valid YAML: "),
        (b"a: 1\nb: \xff", "bench/base.yaml:2: not UTF-8 text"),
        (b"", "bench/base.yaml:1: a base is a mapping of fields, this file is empty"),
        (b"- a", "bench/base.yaml:1: a base is a mapping of fields, this file is a list"),
        (b"seed: 1\nseed: 2", "bench/base.yaml:2: seed is given twice, first on line 1"),
    ],
)
def test_a_base_that_can_not_be_read_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "base.yaml").write_bytes(content)
    (problem,) = problems(tmp_path, "model: m\nbase: base.yaml")
    assert problem.startswith(said)


@pytest.mark.parametrize("text", [None, "a: [1", "base: x.study.yaml"], ids=str)
def test_a_base_that_can_not_be_used_does_not_hide_what_else_is_wrong(
    tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        base(tmp_path, text)
    with pytest.raises(StudyError) as caught:
        study(tmp_path, "model: m\nbase: base.yaml\nbach_size: 3")
    assert any("bach_size" in problem for problem in caught.value.problems)
    assert len(caught.value.problems) == 2
