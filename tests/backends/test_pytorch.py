"""The pytorch backend on the real engine, checked against transformers' own generate()."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.pytorch import PytorchBackend
from pytest_llem.backends.pytorch_steps import left_pad
from pytest_llem.errors import LlemError
from pytest_llem.experiment import Decoding, Experiment, Prompts
from pytest_llem.extensions import Completion, Workload

pytestmark = pytest.mark.engine

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TINY = Path(__file__).parents[2] / "benchmarks" / "models" / "tiny-llama"
EXPERIMENT = Experiment(model=str(TINY), weights="random", device="cpu", dtype="float32")


def load(**changes: Any) -> Any:
    return PytorchBackend().load(dataclasses.replace(EXPERIMENT, **changes))


def run(
    engine: Any, prompts: list[list[int]], count: int, batch: int, **more: Any
) -> tuple[Completion, ...]:
    workload = Workload(
        prompts=prompts, output_tokens=count, batch_size=batch, **{"seed": 0, **more}
    )
    done: tuple[Completion, ...] = engine.run(workload, lambda _: None)
    return done


def tokens(*arguments: Any, **more: Any) -> list[tuple[int, ...]]:
    return [completion.token_ids for completion in run(*arguments, **more)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The model is so small that two threads wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


# --- caches and compiled steps -------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_static_cache_gives_the_tokens_of_a_growing_one(engine: Any, attention: str) -> None:
    static = load(options={"cache": "static", "attn_implementation": attention})
    details = static.facts().details
    assert (details["cache"], details["attention"]) == ("static", attention)
    for batch in (1, 4):
        assert tokens(static, PROMPTS, 12, batch) == tokens(engine, PROMPTS, 12, batch)


def test_a_static_cache_has_room_for_the_longest_request_that_may_be_drawn() -> None:
    prompts = Prompts(count=3, input_tokens=20)
    static = load(options={"cache": "static"}, prompts=prompts, output_tokens=8)
    assert static._steps.least == 27
    # A run of its own may need more, and a shorter one has no less.
    for length, room in ((30, 37), (5, 27)):
        run(static, [[1] * length], 8, 1)
        assert static._steps.room == room


def test_steps_are_compiled_while_loading_and_not_again(engine: Any) -> None:
    from torch._dynamo.utils import counters

    counters.clear()
    compiled = load(
        # Traced as for any backend, and then run as it is: in a moment.
        options={"compile": {"backend": "eager", "fullgraph": True}},
        prompts=Prompts(count=4, input_tokens=7),
        output_tokens=12,
        batch_size=4,
    )
    graphs = counters["stats"]["unique_graphs"]
    assert graphs >= 1
    assert tokens(compiled, PROMPTS, 12, 4) == tokens(engine, PROMPTS, 12, 4)
    assert counters["stats"]["unique_graphs"] == graphs
    details = compiled.facts().details
    assert details["compile"] == {"backend": "eager", "fullgraph": True}
    assert details["cache"] == "static"


COMPILED = """
import torch
from pytest_llem.experiment import Prompts
from tests.backends.test_pytorch import PROMPTS, load, tokens

torch.set_num_threads(1)
small = {"num_hidden_layers": 1}
shape = {"prompts": Prompts(count=2, input_tokens=4), "output_tokens": 8, "batch_size": 2}
# Without looking for the processor's vectors, which takes as long as all else.
compiled = load(options={**small, "compile": {"options": {"cpp.simdlen": 1}}}, **shape)
plain = load(options=small, **shape)
assert tokens(compiled, PROMPTS[:2], 8, 2) == tokens(plain, PROMPTS[:2], 8, 2)
print("equal")
"""


@pytest.mark.once
def test_compiled_machine_code_gives_the_same_tokens() -> None:
    # In a process of its own, as a worker is: torch's compiler minds who imported distutils before.
    done = subprocess.run(
        [sys.executable, "-c", COMPILED],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split()[-1:] == ["equal"], done.stderr[-2000:]


# --- sampling ------------------------------------------------------------------------------

WARM = Decoding(temperature=1.5, top_k=200, top_p=0.95, min_p=0.001, repetition_penalty=1.2)


def test_a_seed_gives_its_tokens_again_and_another_gives_others(engine: Any) -> None:
    first, again, other = (
        tokens(engine, PROMPTS, 12, 3, seed=seed, decoding=WARM) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert first != tokens(engine, PROMPTS, 12, 3)


@pytest.mark.parametrize(
    "decoding",
    [Decoding(top_k=1), Decoding(temperature=0.7, top_p=1e-9), Decoding(min_p=1.0)],
    ids=["top_k", "top_p", "min_p"],
)
def test_draws_among_one_are_greedy(engine: Any, decoding: Decoding) -> None:
    assert tokens(engine, PROMPTS, 8, 2, decoding=decoding) == tokens(engine, PROMPTS, 8, 2)


def test_temperature_0_is_greedy(engine: Any) -> None:
    cold = Decoding(temperature=0, top_p=0.9)
    assert tokens(engine, PROMPTS, 8, 2, decoding=cold) == tokens(engine, PROMPTS, 8, 2)


def test_a_penalty_is_that_of_generate_and_padding_is_no_repetition(engine: Any) -> None:
    penalty = Decoding(repetition_penalty=1.8)
    config = transformers.GenerationConfig(
        max_new_tokens=12, eos_token_id=None, pad_token_id=0, repetition_penalty=1.8
    )
    expected = [
        tuple(
            engine._model.generate(torch.tensor([prompt]), generation_config=config)[
                0, len(prompt) :
            ].tolist()
        )
        for prompt in PROMPTS
    ]
    assert tokens(engine, PROMPTS, 12, 4, decoding=penalty) == expected
    assert expected != tokens(engine, PROMPTS, 12, 4)


def test_draws_follow_the_models_probabilities(engine: Any) -> None:
    prompt = PROMPTS[0]
    logits = engine._model(torch.tensor([prompt])).logits[0, -1].detach()
    top = logits.topk(3)
    expected = (top.values / 0.5).softmax(-1)
    decoding = Decoding(temperature=0.5, top_k=3)
    drawn = [t[0] for t in tokens(engine, [prompt] * 2000, 1, 500, decoding=decoding)]
    assert set(drawn) <= set(top.indices.tolist())
    for index, probability in zip(top.indices.tolist(), expected.tolist(), strict=True):
        # Four standard deviations.
        allowed = 4 * (probability * (1 - probability) / 2000) ** 0.5
        assert drawn.count(index) / 2000 == pytest.approx(probability, abs=allowed)


# --- devices -------------------------------------------------------------------------------


def test_several_devices_need_gpus_and_layers_are_not_shared() -> None:
    with pytest.raises(LlemError, match="2 devices need GPUs"):
        load(pipeline_parallel=2)
    with pytest.raises(LlemError, match="only under torchrun"):
        load(tensor_parallel=2)


def test_threads_are_set_and_told() -> None:
    try:
        assert load(options={"threads": 2}).facts().details["threads"] == 2
    finally:
        torch.set_num_threads(1)


def test_preload_starts_no_thread_and_opens_no_device() -> None:
    code = """
import os
from pytest_llem.backends.pytorch import PytorchBackend
backend = PytorchBackend()
assert backend.abilities.forks
backend.preload()
import torch
print(len(os.listdir("/proc/self/task")), torch.cuda.is_initialized())
"""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["1", "False"]
