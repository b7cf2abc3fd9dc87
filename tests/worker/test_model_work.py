"""Operations and bytes of a model's requests, beside a count of what torch is asked to do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.worker.model_shape import Shape, shape
from pytest_llem.worker.model_work import Work, bytes_read, decode_flops, kv_bytes, prefill_flops
from tests.worker.test_model_shape import LLAMA_8B, MIXTRAL, SHAPES

TINY = Shape(
    family="llama",
    heads=4,
    kv_heads=2,
    head_dim=8,
    windows=(None, 3),
    table=1000,
    positions=0,
    tied=False,
    matrices=500,
    small=10,
    expert=0,
    experts=0,
    chosen=0,
    sparse=0,
)


# One of each kind: shared heads; experts in some layers; learned positions; windows.
KINDS = [next(s for s in SHAPES if s[0] == f) for f in ("llama", "qwen2_moe", "gpt2", "gemma2")]


@pytest.mark.engine
@pytest.mark.parametrize(("family", "sizes"), KINDS, ids=[name for name, _ in KINDS])
def test_operations_are_those_that_torch_counts(family: str, sizes: dict[str, Any]) -> None:
    """But for the half of a prompt's scores that a causal mask throws away."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    config = transformers.AutoConfig.for_model(family, **sizes)
    found = shape(config.to_dict())
    # Where experts are one operation, torch doesn't count it.
    plain = {"experts_implementation": "eager"} if found.experts else {}
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", **plain
    ).eval()
    ids = torch.full((1, 9), 5)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as prefill:
            out = model(ids, use_cache=True, logits_to_keep=1)
        with FlopCounterMode(display=False) as decode:
            cache = out.past_key_values
            model(ids[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1)
    masked = len(found.windows) * 9 * 9 - sum(kept(9, window) for window in found.windows)
    scores = 4 * found.heads * found.head_dim
    assert prefill.get_total_flops() == prefill_flops(found, 9) + scores * masked
    assert decode.get_total_flops() == decode_flops(found, 10)


def kept(tokens: int, window: int | None) -> int:
    return sum(min(token, window or token) for token in range(1, tokens + 1))


@given(st.integers(1, 40), st.integers(0, 40))
def test_several_tokens_take_what_they_take_one_by_one(context: int, count: int) -> None:
    one_by_one = sum(decode_flops(TINY, context + number) for number in range(count))
    assert decode_flops(TINY, context, count) == one_by_one


@given(st.integers(1, 40))
def test_a_prompt_takes_what_its_tokens_take_but_for_their_logits(tokens: int) -> None:
    each = sum(decode_flops(TINY, number) for number in range(1, tokens + 1))
    assert prefill_flops(TINY, tokens) == each - (tokens - 1) * 2 * TINY.table


def test_a_large_model_takes_two_operations_a_parameter() -> None:
    found = shape(LLAMA_8B)
    # Of 8.03 G parameters 0.53 G are looked up, and 0.26 M are norms.
    assert decode_flops(found, 1) == pytest.approx(2 * (8.030e9 - 0.525e9), rel=1e-3)
    assert prefill_flops(found, 1000) / 1000 == pytest.approx(2 * 6.98e9 + 2.6e8, rel=1e-2)


def test_in_a_layer_with_a_window_a_cache_grows_no_further() -> None:
    assert [kv_bytes(TINY, tokens, 2) for tokens in (1, 3, 9)] == [128, 384, 768]


def test_each_pass_reads_the_weights_once_for_all_its_requests() -> None:
    alone = bytes_read(TINY, [Work(1, 1)] * 4, 1, 2, 2)
    together = bytes_read(TINY, [Work(1, 1)] * 4, 4, 2, 2)
    assert (alone, together) == (4 * 2 * 1510, 2 * 1510)


def test_decode_reads_the_cache_of_each_request() -> None:
    no_weights = bytes_read(TINY, [Work(5, 3)], 1, 0, 1)
    # Two tokens: 5 and 6 before them in one layer, 2 of a window of 3 in the other.
    assert no_weights == 2 * TINY.kv_heads * TINY.head_dim * ((5 + 2) + (6 + 2))


def test_more_tokens_choose_more_experts() -> None:
    found = shape(MIXTRAL)
    one = bytes_read(found, [Work(1, 1)], 1, 1, 0)
    many = bytes_read(found, [Work(1, 1)] * 64, 64, 1, 0)
    assert one == found.active_parameters - found.table
    assert many == pytest.approx(found.parameters - found.table, rel=1e-6)
