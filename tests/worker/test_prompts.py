"""Prompts of a file in the worker: as token ids, in order, and never one for two purposes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment, Prompts, Warmup
from pytest_llem.worker import prompts, workload
from tests.builders import experiment

Make = Callable[..., Experiment]


@pytest.fixture
def of_file(tmp_path: Path) -> Make:
    """Makes an experiment whose prompts are in a file; its model has no tokenizer."""
    model = tmp_path / "model"
    model.mkdir()

    def make(*rows: Any, count: int, warmup: int = 2, **fields: Any) -> Experiment:
        path = tmp_path / "p.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return experiment(
            model=str(model),
            prompts=Prompts(source=str(path), count=count, input_tokens=None),
            warmup=Warmup(prompts=warmup),
            **fields,
        )

    return make


def ids(*rows: list[int]) -> list[dict[str, list[int]]]:
    return [{"prompt_token_ids": row} for row in rows]


def test_prompts_that_count_are_the_first_of_the_file(of_file: Make) -> None:
    given = of_file(*ids([1, 2], [3], [4, 5, 6], [7]), count=2)
    assert [list(p) for p in workload.measured(given, 10).prompts] == [[1, 2], [3]]
    assert workload.asked_lengths(given) == [2, 1]


def test_the_warm_up_has_the_prompts_behind_them(of_file: Make) -> None:
    given = of_file(*ids([1, 2], [3], [4, 5, 6], [7]), count=2, batch_size=3)
    requests = workload.warmup(given, 10)
    assert requests is not None
    assert [list(p) for p in requests.prompts] == [[4, 5, 6], [7]]
    assert [len(p) for p in workload.warmup_batch(given, 10, 4).prompts] == [3, 1, 3]


def test_where_a_file_has_no_more_the_warm_up_is_drawn_with_its_lengths(of_file: Make) -> None:
    rows = ids([1, 2, 3], [4] * 9, [5] * 7)
    given = of_file(*rows, count=2)
    requests = workload.warmup(given, 10)
    assert requests is not None
    assert [len(p) for p in requests.prompts] == [3, 9]
    assert [1, 2, 3] not in requests.prompts
    assert [len(p) for p in workload.warmup_batch(given, 10, 1).prompts] == [3]


def test_prefill_by_itself_has_the_same_lengths_and_other_prompts(of_file: Make) -> None:
    given = of_file(*ids([1] * 30, [2] * 20), count=2, warmup=1)
    runs = [workload.prefill(given, 1000, repeat) for repeat in (0, 1)]
    assert all([len(p) for p in run.prompts] == [30, 20] for run in runs)
    assert runs[0].prompts != runs[1].prompts
    assert runs[0].output_tokens == 1


def test_a_files_prompts_are_not_run_again(of_file: Make) -> None:
    with pytest.raises(LlemError, match="can't be run again: a cache would know them"):
        workload.measured(of_file(*ids([1]), count=1), 10, 1)


def test_text_is_bytes_where_the_model_has_no_tokenizer(of_file: Make) -> None:
    given = of_file({"prompt": "aé"}, {"token_ids": [400]}, count=2)
    found = workload.measured(given, 512).prompts
    assert [list(p) for p in found] == [[97, 195, 169], [400]]
    assert prompts.load(given).tokenizer == prompts.BYTES


def test_bytes_need_a_vocabulary_that_holds_them(of_file: Make) -> None:
    with pytest.raises(LlemError, match="a vocabulary of 256 or more, not 255; give prompt_token_"):
        workload.measured(of_file({"prompt": "a"}, count=1), 255)


def test_ids_that_the_model_does_not_know_are_told_with_their_line(of_file: Make) -> None:
    with pytest.raises(
        LlemError, match=r"p\.jsonl:2: token id 10 is not in the model's vocab.* 10"
    ):
        workload.measured(of_file(*ids([9], [3, 10]), count=2), 10)


def test_a_file_that_changed_since_it_was_collected_is_told(of_file: Make) -> None:
    short = of_file(*ids([1]), count=2)
    with pytest.raises(LlemError, match="2 prompts are asked for, and it has 1"):
        workload.measured(short, 10)
    with pytest.raises(LlemError, match=r"p\.jsonl:1: prompt: is empty"):
        workload.measured(of_file({"prompt": ""}, count=2), 10)
    Path(short.prompts.source).unlink()
    with pytest.raises(LlemError, match="can't be read"):
        workload.measured(short, 10)


def test_a_report_says_what_the_prompts_were(of_file: Make) -> None:
    given = of_file(*ids([1] * 4, [2], [1] * 4, [1] * 4), count=3)
    found = prompts.about(given, workload.asked_lengths(given))
    assert found["input_tokens"] == {"min": 1, "median": 4, "max": 4}
    assert (found["source"], found["tokenizer"], found["equal_prompts"]) == ("p.jsonl", None, 1)
    assert len(found["sha256"]) == 64
    assert prompts.about(experiment(), [4, 4])["source"] == "synthetic"


def test_equal_prompts_and_lengths_of_answers_are_warned_of(of_file: Make) -> None:
    rows = [{"prompt": "a", "output_tokens": 7}, {"prompt": "a"}, {"prompt": "b"}]
    equal, lengths = prompts.warnings(of_file(*rows, count=3, output_tokens=5))
    assert equal.startswith("1 of 3 prompts of p.jsonl are equal to one before them")
    assert lengths.startswith("p.jsonl says output_tokens on 1 lines, which is not looked at")
    assert prompts.warnings(of_file(*rows[1:], count=1)) == ()
    assert prompts.warnings(experiment()) == ()


def test_warm_up_prompts_differ_from_those_that_count_where_they_can() -> None:
    few = experiment(prompts=Prompts(count=100, input_tokens=1), warmup=Warmup(prompts=28))
    requests = workload.warmup(few, 128)
    assert requests is not None
    every = [tuple(p) for p in (*requests.prompts, *workload.measured(few, 128).prompts)]
    assert len(set(every)) == 128
    none_left = dataclasses.replace(few, warmup=Warmup(prompts=29))
    requests = workload.warmup(none_left, 128)
    assert requests is not None
    assert len(requests.prompts) == 29


# --- tokenizers of transformers ------------------------------------------------------------


@pytest.fixture
def with_tokenizer(of_file: Make) -> Make:
    """The same, of a model that has a tokenizer of words and begins each prompt with ``<s>``."""
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("transformers")
    words = tokenizers.models.WordLevel({"<s>": 0, "<unk>": 1, "how": 2, "are": 3}, "<unk>")
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )

    def make(*rows: Any, **fields: Any) -> Experiment:
        given = of_file(*rows, **fields)
        folder = Path(given.model)
        made.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(
            '{"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 2}'
        )
        return given

    return make


@pytest.mark.engine
def test_a_models_own_tokenizer_is_used_special_tokens_included(with_tokenizer: Make) -> None:
    given = with_tokenizer({"prompt": "how are you"}, {"prompt": "are"}, count=2)
    assert [list(p) for p in workload.measured(given, 10).prompts] == [[0, 2, 3, 1], [0, 3]]
    assert "Tokenizer" in str(prompts.load(given).tokenizer)
    elsewhere = dataclasses.replace(
        given, model="/nowhere", options={"tokenizer": given.model}, id="b"
    )
    assert workload.asked_lengths(elsewhere) == [4, 2]


@pytest.mark.engine
def test_a_tokenizer_that_can_not_be_loaded_is_told(with_tokenizer: Make) -> None:
    given = with_tokenizer({"prompt": "how"}, count=1)
    (Path(given.model) / "tokenizer.json").write_text("{")
    with pytest.raises(
        LlemError, match=r"its tokenizer can't be loaded: .*; give prompt_token_ids"
    ):
        workload.measured(given, 10)
