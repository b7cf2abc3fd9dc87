"""Files of prompts in a study: found beside it, refused at collection where they can't be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_llem.errors import StudyError
from pytest_llem.study.load import Study, load


def written(folder: Path, rest: str = "", count: int = 3, name: str = "p.jsonl") -> Path:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / name).write_text('{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}\n')
    path = folder / "a.study.yaml"
    path.write_text(
        f"model: org/m\nprompts: {{source: data/{name}, count: {count}}}\n"
        f"warmup: {{prompts: 2}}\n{rest}"
    )
    return path


def loaded(path: Path) -> Study:
    return load(path, path.name)


def refused(path: Path) -> str:
    with pytest.raises(StudyError) as caught:
        loaded(path)
    return str(caught.value)


def test_a_file_is_relative_to_the_study_and_its_prompts_are_whole(tmp_path: Path) -> None:
    (planned,) = loaded(written(tmp_path)).experiments
    assert planned.experiment.prompts.source == str(tmp_path / "data" / "p.jsonl")
    assert planned.experiment.prompts.input_tokens is None


def test_the_digest_knows_a_file_by_its_content(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        digests.append(loaded(written(folder)).experiments[0].digest)
    assert digests[0] == digests[1]
    path = written(folder)
    (folder / "data" / "p.jsonl").write_text('{"prompt": "other"}\n' * 3)
    assert loaded(path).experiments[0].digest != digests[0]


def test_more_prompts_than_there_are_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data" / "p.jsonl"
    assert refused(written(tmp_path, count=4)) == (
        f"a.study.yaml:2: prompts.count: 4 are asked for, and {file} has 3;"
        " lower it: no prompt is used twice"
    )


def test_a_bad_line_is_told_where_it_would_be_used(tmp_path: Path) -> None:
    path = written(tmp_path)
    file = tmp_path / "data" / "p.jsonl"
    file.write_text('{"prompt": "a"}\n{"prompt": ""}\n{"prompt": "c"}\n{"prompt": "d"}\n')
    assert refused(path) == f"a.study.yaml:2: prompts.source: {file}:2: prompt: is empty"
    path.write_text("model: org/m\nprompts: {source: data/p.jsonl, count: 1}\nwarmup: none\n")
    assert len(loaded(path).experiments) == 1


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("precision: 0.02\n", "a.study.yaml:4: precision: needs synthetic prompts: "),
        (
            "sweep: {prompts.input_tokens: [4, 8]}\n",
            "a.study.yaml:4: prompts.input_tokens: a file's prompts are taken whole; leave",
        ),
    ],
)
def test_what_a_file_can_not_do_is_refused(tmp_path: Path, rest: str, said: str) -> None:
    assert refused(written(tmp_path, rest)).startswith(said)


def test_points_of_a_grid_without_a_file_keep_their_lengths(tmp_path: Path) -> None:
    rest = "sweep: {prompts.source: [synthetic, data/p.jsonl]}\n"
    made, whole = (p.experiment.prompts for p in loaded(written(tmp_path, rest)).experiments)
    assert (made.input_tokens, whole.input_tokens) == (512, None)


def test_a_list_of_conversations_may_be_given(tmp_path: Path) -> None:
    path = written(tmp_path, name="s.json", count=1)
    talk = {"conversations": [{"from": "human", "value": "hello"}]}
    (tmp_path / "data" / "s.json").write_text(json.dumps([talk, {"conversations": []}]))
    assert len(loaded(path).experiments) == 1
    path.write_text(path.read_text().replace("count: 1", "count: 2"))
    assert "has 1 (1 conversations have none);" in refused(path)


@pytest.mark.parametrize("name", ["nowhere.jsonl", "..", "p.csv", '"a\\0.jsonl"'])
def test_what_is_no_file_of_prompts_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.study.yaml"
    path.write_text(f"model: org/m\nprompts: {{source: {name}}}\n")
    assert refused(path).startswith("a.study.yaml:2: prompts.source: ")


def test_a_large_sweep_reads_its_file_once(tmp_path: Path) -> None:
    path = written(tmp_path, "sweep: {seed: {from: 1, to: 400, steps: 400}}\n")
    experiments = loaded(path).experiments
    assert len({planned.digest for planned in experiments}) == 400
