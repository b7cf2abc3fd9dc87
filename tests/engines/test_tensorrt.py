"""The tensorrt backend on a stub of TensorRT-LLM's published API."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_llem.backends.tensorrt import TensorrtBackend, on_our_clock
from pytest_llem.backends.tensorrt_arguments import sampling
from pytest_llem.errors import LlemError
from pytest_llem.experiment import Decoding, Experiment
from pytest_llem.extensions import Completion, Workload
from pytest_llem.testing import TINY_MODEL
from tests.engines import stub

EXPERIMENT = Experiment(model=str(TINY_MODEL), backend="tensorrt", weights="random", seed=3)
REUSE = "enable_block_reuse"
UNKNOWN = "the installed TensorRT-LLM doesn't know it"
PROMPTS = tuple(tuple(range(n, n + 40)) for n in (5, 90, 200))


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stub, where nothing but these tests finds it; every engine has to be shut down."""
    for module in stub.lent(monkeypatch):
        yield module
        assert module.knobs.open_engines == 0


@pytest.fixture
def made(trt: Any) -> Iterator[Any]:
    """Makes engines, and closes them."""
    engines: list[Any] = []

    def make(**fields: Any) -> Any:
        engines.append(TensorrtBackend().load(dataclasses.replace(EXPERIMENT, **fields)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def work(tokens: int = 6, prompts: Any = PROMPTS, **decoding: Any) -> Workload:
    return Workload(
        prompts=prompts,
        output_tokens=tokens,
        batch_size=1,
        seed=11,
        decoding=Decoding(**decoding),
    )


def run(engine: Any, workload: Workload | None = None) -> tuple[Completion, ...]:
    found: tuple[Completion, ...] = engine.run(workload or work(), lambda _: None)
    return found


# --- the stub is as strict as the published API --------------------------------------------------


def test_the_stub_refuses_what_the_real_one_refuses(trt: Any) -> None:
    with pytest.raises(ValueError, match="LLM got invalid argument: max_model_len"):
        trt.LLM(str(TINY_MODEL), max_model_len=1)
    llm = trt.LLM(str(TINY_MODEL), load_format="dummy", skip_tokenizer_init=True, max_num_tokens=8)
    with pytest.raises(ValueError, match="explicitly specify the end_id"):
        llm.generate([1, 2, 3])
    with pytest.raises(ValueError, match="should not exceed max_num_tokens"):
        llm.generate([1] * 9, trt.SamplingParams(end_id=2))
    with pytest.raises(RuntimeError, match="can not be pickled"):
        pickle.dumps(llm)
    # One prompt, 32 tokens where nobody says, an end that is listened to, and blocks used again.
    alone = llm.generate([1, 2, 3], trt.SamplingParams(end_id=2, ignore_eos=True))
    assert len(alone.outputs[0].token_ids) == 32
    assert len(llm.generate([1, 2], trt.SamplingParams(end_id=2)).outputs[0].token_ids) == 3
    assert llm.args.kv_cache_config.enable_block_reuse
    llm.shutdown()
    with pytest.raises(RuntimeError, match="shutting down"):
        llm.generate([1], trt.SamplingParams(end_id=2))


# --- what it is told -----------------------------------------------------------------------------


def test_its_constructor_gets_the_fields_of_the_study(made: Any) -> None:
    args = made(dtype="bfloat16", tensor_parallel=2, pipeline_parallel=3)._llm.args
    assert (args.tensor_parallel_size, args.pipeline_parallel_size) == (2, 3)
    assert (args.dtype, args.load_format.name, args.model) == ("bfloat16", "DUMMY", str(TINY_MODEL))
    assert args.skip_tokenizer_init
    assert args.return_perf_metrics
    assert not args.kv_cache_config.enable_block_reuse


def test_options_are_its_arguments_and_nested_ones_become_their_classes(
    made: Any, trt: Any
) -> None:
    engine = made(
        options={
            "max_batch_size": 8,
            "kv_cache_config": {"free_gpu_memory_fraction": 0.5, "dtype": "fp8"},
            "cuda_graph_config": {"max_batch_size": 8, "enable_padding": True},
            "speculative_config": {"decoding_type": "NGram", "max_draft_len": 4},
        }
    )
    args = engine._llm.args
    assert isinstance(args.kv_cache_config, trt.llmapi.KvCacheConfig)
    assert (args.kv_cache_config.dtype, args.kv_cache_config.free_gpu_memory_fraction) == (
        "fp8",
        0.5,
    )
    # Said of the cache, and still nothing of it is used again.
    assert not args.kv_cache_config.enable_block_reuse
    assert isinstance(args.cuda_graph_config, trt.llmapi.CudaGraphConfig)
    assert args.speculative_config.max_draft_len == 4
    assert engine.facts().details["max_batch_size"] == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_batchsize": 8},
            f"tensorrt.max_batchsize: {UNKNOWN}; did you mean max_batch_size?",
        ),
        ({"zzz": 1}, f"tensorrt.zzz: {UNKNOWN}"),
        (
            {"kv_cache_config": {"enable_block_resue": True}},
            f"tensorrt.kv_cache_config.enable_block_resue: {UNKNOWN}; did you mean {REUSE}?",
        ),
        (
            {"tensor_parallel_size": 2},
            "tensorrt.tensor_parallel_size: the study's own field for it is tensor_parallel",
        ),
        (
            {"load_format": "dummy"},
            "tensorrt.load_format: the study's own field for it is weights",
        ),
        (
            {"skip_tokenizer_init": False},
            "tensorrt.skip_tokenizer_init: can't be set: prompts are token ids here",
        ),
    ],
)
def test_an_option_that_can_not_be_is_refused(
    made: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(LlemError, match=f"^{re.escape(message)}$"):
        made(options=options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kv_cache_config": {"free_gpu_memory_fraction": 2}}, "less than or equal to 1"),
        ({"max_num_tokens": "many"}, "valid integer"),
        ({"kv_cache_config": 7}, "kv_cache_config"),
    ],
)
def test_a_value_that_it_does_not_take_is_refused(
    made: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(LlemError, match=words):
        made(options=options)


def test_a_version_before_1_is_refused(
    made: Any, trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(trt.llmapi, "TorchLlmArgs")
    with pytest.raises(LlemError, match=r"needs TensorRT-LLM 1.0 or later; 1\.2\.0\+stub is"):
        made()


def test_a_model_that_is_not_there_is_named(made: Any, tmp_path: Path) -> None:
    with pytest.raises(LlemError, match="there is no model directory /nowhere"):
        made(model="/nowhere")
    with pytest.raises(LlemError, match=re.escape(f"config.json of {tmp_path} can't be read")):
        made(model=str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(LlemError, match="has no vocab_size"):
        made(model=str(tmp_path))


def test_a_models_text_part_has_its_vocabulary(made: Any, tmp_path: Path) -> None:
    config = {"text_config": {"vocab_size": 777, "eos_token_id": [5, 6]}, "vocab_size": 3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    engine = made(model=str(tmp_path))
    assert engine.facts().vocab_size == 777
    assert engine._about.end_id == 5


@pytest.mark.parametrize(("devices", "alone"), [(1, "1"), (2, "0")])
def test_one_device_is_computed_in_this_process(made: Any, devices: int, alone: str) -> None:
    made(tensor_parallel=devices)
    assert os.environ["TLLM_WORKER_USE_SINGLE_PROCESS"] == alone
    made(tensor_parallel=devices, env={"TLLM_WORKER_USE_SINGLE_PROCESS": "0"})
    assert os.environ["TLLM_WORKER_USE_SINGLE_PROCESS"] == "0"
    assert os.environ["TRTLLM_NO_USAGE_STATS"] == "1"


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({}, {}),
        ({"temperature": 0.0, "top_k": 5}, {}),
        ({"temperature": 0.7, "top_p": 0.9}, {"temperature": 0.7, "top_p": 0.9}),
        ({"min_p": 0.1}, {"temperature": 1.0, "min_p": 0.1}),
        ({"repetition_penalty": 1.2}, {"repetition_penalty": 1.2}),
        ({"temperature": 0, "repetition_penalty": 1.2}, {"repetition_penalty": 1.2}),
    ],
)
def test_decoding_is_told_in_its_words(asked: dict[str, Any], given: dict[str, Any]) -> None:
    told = sampling(work(7, **asked), 2, end_id=9)
    assert {name: told[name] for name in told if name in dataclasses.asdict(Decoding())} == given
    # A penalty on the end id, which is -1 where it is ignored, would hit another token.
    assert "min_tokens" not in told
    assert (told["max_tokens"], told["ignore_eos"], told["detokenize"]) == (7, True, False)
    assert (told["end_id"], told["pad_id"], told["seed"]) == (9, 9, 13)


# --- what it gives -------------------------------------------------------------------------------


def test_requests_are_in_flight_together_and_come_back_in_order(made: Any) -> None:
    told: list[int] = []
    done = made().run(work(30), told.append)
    assert told == [1, 2, 3]
    submitted = [completion.timing.submitted_s for completion in done]
    assert submitted == sorted(submitted)
    assert max(submitted) < min(completion.timing.token_s[-1] for completion in done)


def test_blocks_are_used_again_only_when_asked(made: Any) -> None:
    plain, reusing = made(), made(options={"kv_cache_config": {"enable_block_reuse": True}})
    for engine, cached in ((plain, 0), (reusing, 32)):
        run(engine)
        assert [completion.cached_tokens for completion in run(engine)] == [cached] * 3
        assert engine.facts().reuses is bool(cached)


def test_a_count_of_blocks_does_where_there_is_none_of_tokens(made: Any) -> None:
    engine = made(options={"kv_cache_config": {"tokens_per_block": 16}})
    measured = SimpleNamespace(kv_cache_metrics=SimpleNamespace(num_reused_blocks=3))
    nothing = SimpleNamespace(kv_cache_metrics=None)
    # A block may be used in part: never more than the prompt has.
    assert engine._cached(SimpleNamespace(), measured, 50) == 48
    assert engine._cached(SimpleNamespace(cached_tokens=0), measured, 40) == 40
    assert engine._cached(SimpleNamespace(cached_tokens=5), measured, 40) == 5
    assert engine._cached(SimpleNamespace(cached_tokens=0), nothing, 40) == 0
    assert engine._cached(SimpleNamespace(), nothing, 40) is None


def test_tokens_that_come_together_have_a_time_each(made: Any, trt: Any) -> None:
    trt.knobs.per_response = 4
    (completion, *_) = run(made(), work(10))
    times = completion.timing.token_s
    assert len(times) == 10
    assert list(times) == sorted(times)
    # The first is the executor's: by our arrivals it would be that of the fourth.
    assert times[0] < times[1]


def test_a_request_that_is_too_long_says_what_to_set(made: Any) -> None:
    with pytest.raises(
        LlemError, match=r"40 tokens: .*max_num_tokens \(16\); tensorrt.max_num_tok"
    ):
        run(made(options={"max_num_tokens": 16}))


def test_a_request_without_times_is_an_error(made: Any, trt: Any) -> None:
    trt.knobs.metrics = False
    with pytest.raises(LlemError, match="without request_perf_metrics"):
        run(made())


def test_a_request_that_nobody_waits_for_any_longer_is_aborted(made: Any, trt: Any) -> None:
    engine = made()

    async def leave() -> None:
        task = asyncio.ensure_future(engine.answer(0, work(10_000), lambda _: None))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    engine.loop.run_until_complete(leave())
    assert trt.knobs.aborted == 1


def test_closing_twice_does_nothing_more(made: Any, trt: Any) -> None:
    engine = made()
    engine.close()
    assert trt.knobs.open_engines == 0
    engine.close()
    assert engine.loop.is_closed()


def test_memory_is_unknown_where_others_compute(made: Any) -> None:
    assert made(tensor_parallel=2).peak_memory_bytes() is None


# --- clocks --------------------------------------------------------------------------------------


def theirs(*times_s: float) -> Any:
    """Metrics of a request: arrival, schedule, first and last token."""
    names = ("arrival_time", "first_scheduled_time", "first_token_time", "last_token_time")
    return SimpleNamespace(
        **{name: datetime.timedelta(seconds=at) for name, at in zip(names, times_s, strict=True)}
    )


@pytest.mark.parametrize(
    ("stamps", "metrics", "tokens", "scheduled"),
    [
        # The same clock: first and last are theirs, those between as they came.
        ((2.1, 3.1, 4.1), (1.0, 1.5, 2.0, 4.0), (2.0, 3.1, 4.0), 1.5),
        # All arrived at once.
        ((4.1, 4.1, 4.1), (1.0, 1.5, 2.0, 4.0), (2.0, 4.0, 4.0), 1.5),
        ((2.1,), (1.0, 1.5, 2.0, 2.0), (2.0,), 1.5),
        # Cut to microseconds: not before its submission.
        ((2.0, 3.0), (0.999999, 0.999999, 2.0, 3.0), (2.0, 3.0), 1.0),
        # Another clock, behind and ahead: put so that it arrived when it was submitted.
        ((2.1, 3.1), (0.5, 0.75, 1.5, 2.5), (2.0, 3.0), 1.25),
        ((2.1, 3.1), (501.0, 501.25, 502.0, 503.0), (2.0, 3.0), 1.25),
        ((), (1.0, 1.5, 2.0, 4.0), (), None),
    ],
)
def test_their_clock_is_made_ours(
    stamps: Any, metrics: Any, tokens: Any, scheduled: float | None
) -> None:
    assert on_our_clock(1.0, stamps, theirs(*metrics)) == (tokens, scheduled)


@pytest.mark.parametrize("ahead_s", [0.0, 5000.0, -5000.0])
def test_times_lie_within_the_run_whatever_clock_they_are_of(
    made: Any, trt: Any, ahead_s: float
) -> None:
    trt.knobs.clock_ahead_s = ahead_s
    engine = made()
    began_s = time.monotonic()
    done = run(engine)
    ended_s = time.monotonic()
    for timing in (completion.timing for completion in done):
        assert timing.scheduled_s is not None
        times = [began_s, timing.submitted_s, timing.scheduled_s, *timing.token_s, ended_s]
        assert times == sorted(times)


# --- the backend ---------------------------------------------------------------------------------


def test_versions_are_read_and_nothing_is_imported(trt: Any) -> None:
    found = TensorrtBackend().versions()
    assert found["tensorrt_llm"] == "1.2.0+stub"
    program = (
        "import sys; from pytest_llem.backends.tensorrt import TensorrtBackend as B;"
        " B().versions(); print(sorted({'torch', 'tensorrt_llm', 'transformers'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_an_engine_that_is_not_here_has_no_version() -> None:
    assert TensorrtBackend().versions()["tensorrt_llm"] is None
