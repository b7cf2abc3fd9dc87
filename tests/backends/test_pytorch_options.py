"""Options of the pytorch backend: ours, transformers' own, and those that nobody knows."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.pytorch_options import Options
from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment

TINY = Path(__file__).parents[2] / "benchmarks" / "models" / "tiny-llama"


def compile_function(model: Any = None, *, fullgraph: bool = False, mode: str = "") -> None:
    """A stand-in for torch.compile, of which the signature alone is looked at."""


def parse(options: Mapping[str, Any]) -> Options:
    return Options.parse(options, compile_function)


# --- without an engine ---------------------------------------------------------------------


def test_nothing_set_is_the_default() -> None:
    assert parse({}) == parse({"cache": None, "compile": False}) == Options()


def test_ours_are_taken_out_of_the_rest() -> None:
    found = parse({"compile": {"mode": "x"}, "threads": 2, "attn_implementation": "eager"})
    assert found == Options(
        compile={"mode": "x"}, cache="static", threads=2, rest={"attn_implementation": "eager"}
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cache": "sttic"}, "pytorch.cache: should be dynamic or static, not 'sttic'"),
        ({"cache": "dynamic", "compile": True}, "pytorch.cache: compile needs a static cache"),
        ({"compile": "yes"}, "pytorch.compile: should be true or a mapping, not 'yes'"),
        ({"compile": {"mod": "x"}}, "doesn't know mod; did you mean mode?"),
        ({"threads": 0}, "pytorch.threads: should be a whole number from 1, not 0"),
        ({"threads": True}, "pytorch.threads: should be a whole number"),
        ({"device_map": 3}, "pytorch.device_map: should be a word such as auto"),
        ({"quantization": "fp8"}, "pytorch.quantization: should be a mapping with the key method"),
        ({"dtype": "float16"}, "pytorch.dtype: set dtype of the experiment"),
        ({"torch_dtype": "float16"}, "pytorch.torch_dtype: set dtype of the experiment"),
        ({"revision": "main"}, "pytorch.revision: set revision of the experiment"),
        ({"batch_size": 2}, "pytorch.batch_size: set batch_size of the experiment"),
        ({"max_new_tokens": 2}, "pytorch.max_new_tokens: set output_tokens of the experiment"),
        ({"temperature": 1}, "pytorch.temperature: set decoding of the experiment"),
        ({"tp_plan": "auto"}, "pytorch.tp_plan: needs torchrun"),
        ({"quantization_config": {}}, "pytorch.quantization_config: set quantization"),
        ({"token": "hf_x"}, "pytorch.token: a secret doesn't belong in a study"),
        ({"state_dict": {}}, "pytorch.state_dict: a study can't say that"),
        ({"_from_auto": True}, "pytorch._from_auto: a study can't say that"),
    ],
)
def test_what_can_not_be_is_refused_by_its_name(options: Mapping[str, Any], said: str) -> None:
    with pytest.raises(LlemError) as caught:
        parse(options)
    assert said in str(caught.value)


# --- with the installed versions -----------------------------------------------------------

EXPERIMENT = Experiment(model=str(TINY), weights="random", device="cpu", dtype="float32")


def refused(**changes: Any) -> str:
    """What is said of an experiment that can't be loaded."""
    pytest.importorskip("transformers")
    from pytest_llem.backends.pytorch import PytorchBackend

    with pytest.raises(LlemError) as caught:
        PytorchBackend().load(dataclasses.replace(EXPERIMENT, **changes))
    return str(caught.value)


engine = pytest.mark.engine


@engine
@pytest.mark.parametrize("weights", ["random", "pretrained"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_thing", "pytorch: the installed version doesn't know no_such_thing"),
        ("attn_implementaton", "doesn't know attn_implementaton; did you mean attn_implementation"),
        ("num_hiden_layers", "doesn't know num_hiden_layers; did you mean num_hidden_layers?"),
        ("to_dict", "doesn't know to_dict"),
    ],
)
def test_an_option_nobody_knows_is_an_error(weights: str, name: str, said: str) -> None:
    assert said in refused(options={name: 1}, weights=weights)


@engine
def test_an_argument_for_weights_is_of_no_use_without_them() -> None:
    assert "doesn't know use_safetensors" in refused(options={"use_safetensors": True})


@engine
def test_an_attention_that_does_not_exist_or_is_not_there_is_named() -> None:
    assert "spda" in refused(options={"attn_implementation": "spda"})
    if importlib.util.find_spec("flash_attn") is None:
        said = refused(options={"attn_implementation": "flash_attention_2"})
        assert "flash_attn" in said or "FlashAttention2" in said


@engine
@pytest.mark.parametrize(
    ("quantization", "said"),
    [
        ({"method": "bitsandbyte"}, "doesn't know bitsandbyte; did you mean bitsandbytes"),
        ({"method": "bitsandbytes"}, "needs load_in_4bit: true or load_in_8bit: true"),
        ({"method": "fp16"}, "pytorch.quantization.method: the installed version doesn't know"),
    ],
)
def test_a_quantisation_that_can_not_be_is_named(
    quantization: Mapping[str, Any], said: str
) -> None:
    assert said in refused(options={"quantization": quantization})


@engine
@pytest.mark.parametrize(
    ("quantization", "packages"),
    [
        ({"method": "bitsandbytes", "load_in_4bit": True}, ["bitsandbytes", "accelerate"]),
        ({"method": "torchao", "quant_type": "Int8WeightOnlyConfig"}, ["torchao", "accelerate"]),
    ],
)
def test_a_library_that_is_missing_comes_with_its_command(
    quantization: Mapping[str, Any], packages: list[str]
) -> None:
    if any(importlib.util.find_spec(package) for package in packages):
        pytest.skip("one of the libraries is installed")
    said = refused(options={"quantization": quantization})
    assert said.endswith(f"installed where the worker runs: pip install {' '.join(packages)}")


@engine
def test_a_device_map_needs_accelerate() -> None:
    if importlib.util.find_spec("accelerate"):
        pytest.skip("accelerate is installed")
    assert "pytorch.device_map needs accelerate" in refused(options={"device_map": "auto"})


@engine
@pytest.mark.parametrize(
    ("asked", "bits"),
    [
        ({"method": "bitsandbytes_8bit", "llm_int8_threshold": 5.0}, 8),
        ({"method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, 4),
    ],
)
def test_arguments_reach_the_config_of_transformers(asked: Mapping[str, Any], bits: int) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("accelerate")
    from pytest_llem.backends.pytorch_quantization import quantization_config

    config = quantization_config(asked)
    assert (config.load_in_4bit, config.load_in_8bit) == (bits == 4, bits == 8)
    with pytest.raises(LlemError, match="did you mean llm_int8_threshold"):
        quantization_config({**asked, "llm_int8_treshold": 5.0})


@engine
@pytest.mark.parametrize(
    "quantization",
    [
        {"method": "bitsandbytes", "load_in_8bit": True},
        {"method": "torchao", "quant_type": {"Int8WeightOnlyConfig": {"version": 2}}},
    ],
    ids=lambda quantization: quantization["method"],
)
def test_random_weights_are_quantised_too(quantization: Mapping[str, Any]) -> None:
    pytest.importorskip(quantization["method"])
    pytest.importorskip("accelerate")
    from pytest_llem.backends.pytorch import PytorchBackend
    from pytest_llem.extensions import Workload

    experiment = dataclasses.replace(EXPERIMENT, options={"quantization": quantization})
    engine = PytorchBackend().load(experiment)
    assert str(engine.facts().details["quantization"]).startswith(quantization["method"])
    workload = Workload(prompts=[[1, 2, 3], [4]], output_tokens=3, batch_size=2, seed=0)
    assert [len(c.token_ids) for c in engine.run(workload, lambda _: None)] == [3, 3]
