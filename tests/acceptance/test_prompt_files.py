"""Studies whose prompts are in a file."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.conftest import HEADER, Project

pytestmark = pytest.mark.once

ROWS = [{"prompt": "how are you"}, {"prompt_token_ids": [7] * 5}, {"prompt": "how are you"}]
FILE = HEADER.replace(
    "prompts: {count: 2, input_tokens: 4}", "prompts: {source: p.jsonl, count: 3}"
)


@pytest.fixture
def questions(project: Project) -> Project:
    text = "".join(f"{json.dumps(row)}\n" for row in ROWS)
    (project.folder / "p.jsonl").write_text(text)
    return project


def test_prompts_of_a_file_are_measured_and_told(questions: Project) -> None:
    questions.study("id: a\nexecution: {cycles: 1}\n", header=FILE.replace("some/model", "./m"))
    (questions.folder / "m").mkdir()
    (questions.folder / "m" / "config.json").write_text('{"model_type": "odd"}')
    result = questions.run("benchmarks", "-v", "--llem-json=report.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "a: warning: 1 of 3 prompts of p.jsonl are equal to one before them; *",
            "a: prompts: p.jsonl, 5 to 11 tokens, half of them up to 11, made by bytes",
            "a: model: unknown: architecture 'odd' is not among those known: *",
        ]
    )
    measurement = questions.report()["measurements"][0]["measurement"]
    assert measurement["tokens"]["input"] == 11 + 5 + 11
    assert measurement["integrity"] == []
    assert measurement["workload"]["input_tokens"] == {"min": 5, "median": 11, "max": 11}
    assert measurement["derived"]["energy_per_flop_j"]["value"] is None


def test_a_mistake_in_the_file_is_found_at_collection(questions: Project) -> None:
    (questions.folder / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    questions.study("id: a\n", header=FILE)
    result = questions.run("benchmarks", "--collect-only")
    result.stdout.fnmatch_lines(
        [f"benchmarks/s.study.yaml:4: prompts.source: {questions.folder}/p.jsonl:2: not JSON: *"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
