"""Facts of a model in a measurement, and figures made of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.pytorch import PytorchBackend
from pytest_llem.experiment import Concurrency, Poisson
from pytest_llem.extensions import EngineFacts
from pytest_llem.records import Figure
from pytest_llem.worker import bandwidth
from pytest_llem.worker.model_facts import DERIVED, Known, Served, derived, flops, known
from pytest_llem.worker.model_shape import shape
from pytest_llem.worker.model_work import Work
from tests.builders import completion, experiment, timing, unmeasured
from tests.worker.test_model_shape import GEMMA2_9B, LLAMA_8B

H100: dict[str, Any] = {"device": "cuda", "gpus": ["NVIDIA H100 80GB HBM3"]}
FACTS = EngineFacts(
    vocab_size=10, device="cuda", details={"dtype": "bfloat16"}, config={**LLAMA_8B, "dtype": "x"}
)
METRICS = {
    "energy_j": Figure(value=2e3, uncertainty=20.0, systematic=2.0, quality="short", reason="why"),
    "output_tokens_per_s": Figure(value=100.0),
}


def served(testbed: dict[str, Any] = H100, repeats: int = 1, **fields: Any) -> Served:
    """Four requests of 100 tokens and 11 generated ones, for each repeat."""
    done = completion(timing(0.0, *range(1, 12), input_tokens=100))
    return Served.of(
        experiment(**fields),
        [done] * 4 * repeats,
        repeats,
        testbed,
        batches="scenario" not in fields,
    )


def found(facts: EngineFacts = FACTS, **fields: Any) -> Known:
    return known(experiment(**fields), facts)


def test_a_window_that_cuts_requests_has_no_energy_of_their_operations() -> None:
    figure = derived(found(), served(scenario=Concurrency(concurrency=2)), METRICS)[
        "energy_per_flop_j"
    ]
    assert figure.value is None
    assert figure.reason == "the window cuts requests, and their operations can't be told apart"


def test_the_report_holds_plain_facts() -> None:
    plain = found().plain(served().requests)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["source"], plain["family"], plain["reason"]) == ("engine", "llama", None)
    assert plain["parameters"] == plain["active_parameters"] == 8_030_261_248
    assert plain["embedding_parameters"] == 128256 * 4096
    assert plain["weights_bytes"] == 2 * 8_030_261_248
    assert plain["kv_bytes_per_token"] == 128 * 1024
    assert (plain["sliding_layers"], plain["sliding_window"]) == (0, None)
    assert plain["context_tokens"] == 100
    assert plain["decode_flops_per_token"] == pytest.approx(15.06e9, rel=0.01)
    assert plain["flops"] == 4 * flops(shape(LLAMA_8B), [Work(100, 11)])


def test_layers_with_a_window_are_told() -> None:
    facts = dataclasses.replace(FACTS, config=GEMMA2_9B)
    plain = found(facts).plain([Work(10, 2)])
    assert (plain["sliding_layers"], plain["sliding_window"]) == (21, 4096)


@pytest.mark.engine
def test_an_engine_tells_the_shape_that_its_options_made() -> None:
    pytest.importorskip("transformers")
    tiny = Path(__file__).parents[2] / "benchmarks" / "models" / "tiny-llama"
    given = experiment(
        model=str(tiny), weights="random", device="cpu", options={"num_hidden_layers": 2}
    )
    facts = PytorchBackend().load(given).facts()
    told = known(given, facts)
    assert told.shape is not None
    assert (told.source, len(told.shape.windows)) == ("engine", 2)
    assert told.shape.parameters == facts.details["parameters"]
    assert told.weight_bytes == 4


def test_where_the_engine_tells_nothing_the_directory_does(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA_8B, "torch_dtype": "float16"}))
    facts = EngineFacts(vocab_size=10, device="cpu")
    told = found(facts, model=str(tmp_path))
    assert (told.source, told.dtype, told.weight_bytes) == ("directory", "float16", 2)
    assert found(facts, model=str(tmp_path), dtype="float32").weight_bytes == 4
    for text in ("{", "[]", "9" * 5000):
        (tmp_path / "config.json").write_text(text)
        plain = found(facts, model=str(tmp_path)).plain([Work(1, 1)])
        assert plain["reason"].startswith("config.json of the model ")


def test_another_backends_model_is_not_looked_for() -> None:
    told = found(EngineFacts(vocab_size=10, device="cpu"), backend="fake")
    assert told.plain([Work(1, 1)]) == {
        "source": None,
        "reason": "backend fake doesn't tell the model's configuration",
    }


def test_weights_of_several_formats_have_no_size_that_is_known() -> None:
    config = {**LLAMA_8B, "quantization_config": {"bits": 4}}
    told = found(dataclasses.replace(FACTS, config=config))
    assert told.plain([Work(1, 1)])["weights_bytes"] is None
    assert found(options={"quantization": "fp8"}).weight_bytes is None
    assert found(options={"kv_cache_dtype": "fp8"}).element_bytes == 1


def test_energy_is_shared_by_the_operations_of_one_run() -> None:
    energy = derived(found(), served(repeats=3), METRICS)["energy_per_flop_j"]
    work = flops(shape(LLAMA_8B), [Work(100, 11)] * 4)
    assert energy == Figure(
        value=2e3 / work,
        uncertainty=20.0 / work,
        systematic=2.0 / work,
        quality="short",
        reason="why",
    )


def test_the_bound_is_what_memory_alone_allows() -> None:
    alone = derived(found(), served(), METRICS)
    bound = alone["output_tokens_per_s_bound"].value
    assert bound is not None
    # 3350 GB/s over 15.0 GB of weights, and 13 MB of cache.
    assert bound == pytest.approx(3350e9 / (2 * 7.505e9 + 13e6), rel=2e-3)
    assert alone["bandwidth_share"].value == pytest.approx(100.0 / bound)
    four = derived(found(), served(batch_size=4), METRICS)["output_tokens_per_s_bound"].value
    two = {"device": "cuda", "gpus": H100["gpus"] * 2}
    both = derived(found(), served(two, batch_size=4), METRICS)["output_tokens_per_s_bound"].value
    assert four is not None
    assert both == 2 * four
    assert 3.9 < four / bound < 4.0


def test_an_engine_that_batches_by_itself_may_have_all_or_as_many_as_are_in_flight() -> None:
    assert served(scenario="offline").together == 4
    assert served(scenario=Concurrency(concurrency=3)).together == 3
    assert served(batch_size=2).together == 2
    assert served(batch_size=8).together == 4


@pytest.mark.parametrize(
    ("facts", "given", "reason"),
    [
        (FACTS, served({"device": "cpu"}), "the memory bandwidth of this device isn't known"),
        (FACTS, served({**H100, "mig": True}), "the GPU is divided (MIG), and its memory with it"),
        (
            FACTS,
            served({**H100, "gpus": ["NVIDIA H100 80GB HBM3", "Voodoo 2"]}),
            "the memory bandwidth of Voodoo 2 isn't known",
        ),
        (
            FACTS,
            served(scenario=Poisson(poisson=1.0)),
            "it is the arrivals that say how many requests there are at a time",
        ),
        (
            dataclasses.replace(FACTS, details={}, config=LLAMA_8B),
            served(),
            "the bytes of a weight, or of an element of the cache, aren't known",
        ),
    ],
)
def test_a_bound_that_is_not_known_is_null(facts: EngineFacts, given: Served, reason: str) -> None:
    made = derived(found(facts), given, METRICS)
    assert made["output_tokens_per_s_bound"] == made["bandwidth_share"] == unmeasured(reason)
    assert (made["energy_per_flop_j"].value is not None) == given.whole


def test_what_was_not_computed_is_no_work() -> None:
    given = dataclasses.replace(served(), cached=5)
    made = derived(found(), given, METRICS)["energy_per_flop_j"]
    assert made == unmeasured("a part of the prompts came from a cache, and was not computed")


def test_of_an_unknown_model_all_is_null_with_the_reason() -> None:
    told = found(dataclasses.replace(FACTS, config={"model_type": "mamba"}))
    made = derived(told, served(), METRICS)
    assert set(made) == set(DERIVED)
    assert all("architecture 'mamba' is not" in str(figure.reason) for figure in made.values())
    assert all(figure.value is None for figure in made.values())
    gone = {**METRICS, "energy_j": unmeasured("no meter here")}
    assert derived(told, served(), gone)["energy_per_flop_j"] == unmeasured("no meter here")


@pytest.mark.parametrize("counts", [(), ((0, 0),), ((5, 0),), ((0, 3),)])
def test_an_engine_that_computed_nothing_breaks_nothing(
    counts: tuple[tuple[int, int], ...],
) -> None:
    requests = [Work(*count) for count in counts]
    given = dataclasses.replace(served(), requests=requests, together=len(requests))
    told = found()
    assert json.dumps(told.plain(requests), allow_nan=False)
    assert set(derived(told, given, METRICS)) == set(DERIVED)


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("NVIDIA H200", 4.8e12),
        ("Tesla T4", 3.2e11),
        ("NVIDIA A100-SXM4-80GB", 2.039e12),
        ("A100-SXM4-40GB", 1.555e12),
        ("NVIDIA GeForce RTX 4090", 1.008e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("", None),
    ],
)
def test_bandwidth_goes_by_the_whole_name(name: str, rate: float | None) -> None:
    assert bandwidth.of(name) == rate
