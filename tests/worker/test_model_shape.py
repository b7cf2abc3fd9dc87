"""Facts of models from their configuration, against the models that transformers builds of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.worker.model_shape import FAMILIES, Unknown, shape
from pytest_llem.worker.model_work import kv_bytes

SIZES = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "eos_token_id": 1,
    "bos_token_id": 1,
    "pad_token_id": 0,
}
MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GPT2 = {
    "n_embd": 64,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 50,
    "vocab_size": 200,
    "eos_token_id": 1,
    "bos_token_id": 1,
}

SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("llama", SIZES),
    ("llama", {**SIZES, "num_key_value_heads": None, "head_dim": 24}),
    ("llama", {**SIZES, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    ("mistral", {**SIZES, "sliding_window": 5}),
    ("mixtral", {**SIZES, "num_local_experts": 4, "num_experts_per_tok": 2}),
    ("phi3", SIZES),
    ("qwen2", SIZES),
    ("qwen2", {**SIZES, "tie_word_embeddings": True, "attention_bias": False}),
    ("qwen2", {**SIZES, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 3}),
    ("qwen3", {**SIZES, "head_dim": 24}),
    ("qwen3", {**SIZES, "head_dim": 24, "attention_bias": True, "mlp_bias": True}),
    ("qwen2_moe", {**SIZES, **MOE, "shared_expert_intermediate_size": 48}),
    (
        "qwen2_moe",
        {
            **SIZES,
            **MOE,
            "shared_expert_intermediate_size": 48,
            "decoder_sparse_step": 2,
            "qkv_bias": False,
            "mlp_only_layers": [3],
        },
    ),
    ("qwen3_moe", {**SIZES, **MOE, "attention_bias": True}),
    ("gpt2", GPT2),
    ("gpt2", {**GPT2, "n_inner": 100, "tie_word_embeddings": False}),
    ("gemma", {**SIZES, "head_dim": 24}),
    ("gemma2", {**SIZES, "head_dim": 24, "sliding_window": 5}),
    ("gemma3_text", {**SIZES, "head_dim": 24, "sliding_window": 5}),
    ("gemma3_text", {**SIZES, "head_dim": 24, "tie_word_embeddings": False}),
]


@pytest.mark.engine
@pytest.mark.parametrize(("family", "sizes"), SHAPES, ids=[name for name, _ in SHAPES])
def test_parameters_are_those_of_the_built_model(family: str, sizes: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(family, **sizes)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert shape(config.to_dict()).parameters == parameters
    # A file need not say what it leaves at its default.
    assert shape({"model_type": family, **sizes}).parameters == parameters
    assert shape(json.loads(config.to_json_string())) == shape(config.to_dict())


@pytest.mark.engine
@pytest.mark.parametrize(("family", "sizes"), SHAPES, ids=[name for name, _ in SHAPES])
def test_the_cache_is_as_large_as_that_of_the_built_model(
    family: str, sizes: dict[str, Any]
) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(family, **sizes)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for tokens in (3, 12):
        with torch.inference_mode():
            ids = torch.full((1, tokens), 5)
            cache = model(ids, use_cache=True).past_key_values
        found = shape(config.to_dict())
        # What transformers keeps of a window is without the token that is to come.
        kept = [min(tokens, tokens if w is None else w - 1) for w in found.windows]
        size = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        assert size == sum(kv_bytes(found, 1, 4) / len(kept) * each for each in kept)
    assert kv_bytes(found, 3, 4) == 3 * kv_bytes(found, 1, 4)


# Of each, what its config.json on the hub says of its shape.
LLAMA_8B = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}
MIXTRAL = {
    **LLAMA_8B,
    "model_type": "mixtral",
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": None,
}
QWEN_7B = {
    "model_type": "qwen2",
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
}
GEMMA2_9B = {
    "model_type": "gemma2",
    "vocab_size": 256000,
    "hidden_size": 3584,
    "head_dim": 256,
    "intermediate_size": 14336,
    "num_hidden_layers": 42,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
}
GPT2_SMALL = {
    "model_type": "gpt2",
    "vocab_size": 50257,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "n_ctx": 1024,
}


@pytest.mark.parametrize(
    ("config", "parameters", "active"),
    [
        (LLAMA_8B, 8_030_261_248, 8_030_261_248),
        (MIXTRAL, 46_702_792_704, 12_879_925_248),
        (QWEN_7B, 7_615_616_512, 7_615_616_512),
        (GEMMA2_9B, 9_241_705_984, 9_241_705_984),
        (GPT2_SMALL, 124_439_808, 124_439_808),
    ],
)
def test_models_that_everybody_knows_are_as_large_as_they_are_said_to_be(
    config: dict[str, Any], parameters: int, active: int
) -> None:
    found = shape(config)
    assert (found.parameters, found.active_parameters) == (parameters, active)


def test_a_cache_of_shared_heads_is_small() -> None:
    # 2 × 32 layers × 8 heads × 128 × 2 bytes: 128 KiB a token.
    assert kv_bytes(shape(LLAMA_8B), 1, 2) == 128 * 1024
    assert shape(GEMMA2_9B).windows[:4] == (4096, None, 4096, None)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "deepseek_v3"}, "architecture 'deepseek_v3' is not among those known: "),
        ({}, "architecture None is not among those known"),
        ({"model_type": ["llama"]}, "is not among those known"),
        ({"model_type": "gemma3", "text_config": SIZES}, "is not among those known"),
        ({"model_type": "llama", **SIZES, "hidden_size": None}, "says nothing of hidden_size"),
        ({"model_type": "qwen2", **LLAMA_8B, "vocab_size": "many"}, "holds a size that is none"),
        ({**LLAMA_8B, "num_attention_heads": 0}, "holds a size that is none"),
    ],
)
def test_of_what_is_not_known_nothing_is_told(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unknown) as caught:
        shape(config)
    assert reason in str(caught.value)


def test_a_size_that_is_missing_is_not_guessed() -> None:
    config = {key: value for key, value in MIXTRAL.items() if key != "num_key_value_heads"}
    with pytest.raises(Unknown, match="says nothing of num_key_value_heads"):
        shape(config)


def test_every_family_is_compared_with_its_model() -> None:
    assert {name for name, _ in SHAPES} == set(FAMILIES)


def test_the_models_of_the_benchmarks_are_known() -> None:
    root = Path(__file__).parents[2] / "benchmarks" / "models"
    configs = [json.loads(path.read_text()) for path in root.glob("*/config.json")]
    assert configs
    assert all(shape(config).parameters > 0 for config in configs)
