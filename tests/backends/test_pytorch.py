"""The pytorch backend on the real engine, checked against transformers' own generate()."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.pytorch import PytorchBackend
from pytest_llem.backends.pytorch_steps import left_pad
from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Completion, Workload

pytestmark = pytest.mark.engine

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TINY = Path(__file__).parents[2] / "benchmarks" / "models" / "tiny-llama"
EXPERIMENT = Experiment(model=str(TINY), weights="random", device="cpu", dtype="float32")


def load(**changes: Any) -> Any:
    return PytorchBackend().load(dataclasses.replace(EXPERIMENT, **changes))


def run(engine: Any, prompts: list[list[int]], count: int, batch: int) -> tuple[Completion, ...]:
    workload = Workload(prompts=prompts, output_tokens=count, batch_size=batch, seed=0)
    done: tuple[Completion, ...] = engine.run(workload, lambda _: None)
    return done


@pytest.fixture(scope="module")
def engine() -> Any:
    return load()


PROMPTS = [[7, 8, 9, 10], [11, 12], [13, 14, 15, 16, 17, 18, 19], [20]]


def test_it_generates_the_tokens_that_generate_would(engine: Any) -> None:
    ids = torch.tensor([PROMPTS[0]])
    config = transformers.GenerationConfig(
        max_new_tokens=12, eos_token_id=None, pad_token_id=0, do_sample=False
    )
    expected = engine._model.generate(ids, generation_config=config)[0, 4:].tolist()
    (completion,) = run(engine, [PROMPTS[0]], 12, 1)
    assert list(completion.token_ids) == expected


def test_each_row_of_a_ragged_batch_gets_what_it_gets_alone(engine: Any) -> None:
    together = run(engine, PROMPTS, 10, len(PROMPTS))
    alone = run(engine, PROMPTS, 10, 1)
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]


def test_left_padding_puts_the_end_of_each_prompt_last() -> None:
    ids, mask = left_pad([[1, 2, 3], [4]])
    assert ids == [[1, 2, 3], [0, 0, 4]]
    assert mask == [[1, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("count", [1, 2, 17])
def test_every_request_gets_exactly_its_tokens_and_a_time_for_each(engine: Any, count: int) -> None:
    for completion, prompt in zip(run(engine, PROMPTS, count, 3), PROMPTS, strict=True):
        timing = completion.timing
        assert len(completion.token_ids) == timing.output_tokens == len(timing.token_s) == count
        assert timing.input_tokens == len(prompt)
        assert [timing.submitted_s, *timing.token_s] == sorted(
            [timing.submitted_s, *timing.token_s]
        )


def test_end_of_sequence_does_not_end_a_request() -> None:
    # Make the model produce nothing but EOS.
    broken = load()
    eos = broken._model.config.eos_token_id
    hidden = broken._model.lm_head.weight.shape[1]
    bias = torch.zeros(broken._model.config.vocab_size)
    bias[eos] = 1e3
    broken._model.lm_head = torch.nn.Linear(hidden, len(bias))
    with torch.no_grad():
        broken._model.lm_head.bias.copy_(bias)
    (completion,) = run(broken, [[5, 6, 7]], 6, 1)
    assert completion.token_ids == (eos,) * 6


def test_weights_come_from_the_seed() -> None:
    first, again, other = load(seed=1), load(seed=1), load(seed=2)
    tokens = [run(e, PROMPTS[:1], 8, 1)[0].token_ids for e in (first, again, other)]
    assert tokens[0] == tokens[1]
    assert tokens[0] != tokens[2]


def test_progress_counts_finished_requests(engine: Any) -> None:
    seen: list[int] = []
    workload = Workload(prompts=PROMPTS, output_tokens=2, batch_size=3, seed=0)
    engine.run(workload, seen.append)
    assert seen == [3, 4]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype_is_what_was_asked_for(dtype: str) -> None:
    engine = load(dtype=dtype)
    assert engine.facts().details["dtype"] == dtype
    assert len(run(engine, PROMPTS[:1], 2, 1)[0].token_ids) == 2


def test_facts_tell_the_shape_of_the_model(engine: Any) -> None:
    facts = engine.facts()
    config = json.loads((TINY / "config.json").read_text())
    assert facts.vocab_size == config["vocab_size"]
    assert facts.device == "cpu"
    assert facts.details["parameters"] == sum(p.numel() for p in engine._model.parameters())


def test_options_reach_the_configuration() -> None:
    engine = load(options={"num_hidden_layers": 1, "attn_implementation": "eager"})
    assert engine._model.config.num_hidden_layers == 1
    assert engine.facts().details["attention"] == "eager"


def test_an_option_nobody_knows_is_an_error() -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        load(options={"no_such_option": 1})


def test_pretrained_weights_are_read_from_a_directory(engine: Any, tmp_path: Path) -> None:
    engine._model.save_pretrained(tmp_path)
    read = load(model=str(tmp_path), weights="pretrained", seed=99)
    expected = [c.token_ids for c in run(engine, PROMPTS, 6, 2)]
    assert [c.token_ids for c in run(read, PROMPTS, 6, 2)] == expected


def test_a_model_that_takes_no_positions_is_run_without_them(tmp_path: Path) -> None:
    config = transformers.BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=2)
    config.save_pretrained(tmp_path)
    engine = load(model=str(tmp_path))
    together = run(engine, [[1, 2, 3], [4]], 5, 2)
    alone = run(engine, [[1, 2, 3], [4]], 5, 1)
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]


def test_a_directory_that_is_not_there_is_named() -> None:
    with pytest.raises(LlemError, match="there is no model directory /nowhere/model"):
        load(model="/nowhere/model")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a host without CUDA")
def test_cuda_without_a_device_is_refused() -> None:
    with pytest.raises(LlemError, match="torch sees no CUDA device"):
        load(device="cuda")


def test_peak_memory_is_that_of_the_run_not_of_the_load(engine: Any) -> None:
    block = torch.ones(50_000_000)
    high = engine.peak_memory_bytes()
    assert block.sum() > 0
    del block
    engine.reset_peak_memory()
    low = engine.peak_memory_bytes()
    assert high is not None
    assert low is not None
    assert 0 < low < high


def test_versions_are_those_installed() -> None:
    found = PytorchBackend().versions()
    assert found["torch"] == torch.__version__
    assert found["transformers"] == transformers.__version__
