"""The shape of a model: what its configuration says of layers, heads, experts and tables.

Only architectures whose parameters are known one by one are understood; of any other nothing is
told, as a guess would pass for a fact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["FAMILIES", "Shape", "Unknown", "shape"]

Config = Mapping[str, Any]


class Unknown(Exception):
    """A configuration of which nothing can be told; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder-only transformer. Sizes are numbers of weights, unless a name says otherwise.

    Attributes:
        family: its ``model_type``.
        heads, kv_heads, head_dim: of attention; fewer heads for keys and values share them.
        windows: of each layer, the tokens that attention looks back on; None for all.
        table: of token embeddings, which the output's matrix is of the same size as.
        positions: of learned position embeddings.
        tied: whether the output's matrix is the table itself.
        matrices: of all layers, that each token is multiplied by.
        small: norms and biases.
        expert: of one expert.
        experts: in each layer that has any.
        chosen: of them for each token.
        sparse: layers with experts.
    """

    family: str
    heads: int
    kv_heads: int
    head_dim: int
    windows: tuple[int | None, ...]
    table: int
    positions: int
    tied: bool
    matrices: int
    small: int
    expert: int
    experts: int
    chosen: int
    sparse: int

    @property
    def parameters(self) -> int:
        """All of them, a tied table once."""
        output = 0 if self.tied else self.table
        experts = self.sparse * self.experts * self.expert
        return self.embeddings + output + self.matrices + self.small + experts

    @property
    def active_parameters(self) -> int:
        """Those that take part in a token: of the experts only the chosen ones."""
        return self.parameters - self.sparse * (self.experts - self.chosen) * self.expert

    @property
    def embeddings(self) -> int:
        """What is looked up and not multiplied by: tokens and learned positions."""
        return self.table + self.positions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """What all models of a ``model_type`` have in common.

    Attributes:
        names: of its own for what others call otherwise.
        defaults: of keys that a configuration may leave out, those of transformers' own class.
        gated: whether an MLP has a third matrix, the gate.
        norms: of a layer, each of the hidden size.
        norm_bias: LayerNorm has one beside its weights, RMSNorm hasn't.
        head_norms: norms of queries and keys, each of a head's size.
        biases: (queries, keys and values; attention's output; MLP) by the configuration.
        windows: which layers look back on ``sliding_window`` tokens only.
    """

    names: Mapping[str, str]
    defaults: Mapping[str, Any]
    gated: bool = True
    norms: int = 2
    norm_bias: bool = False
    head_norms: bool = False
    biases: Callable[[Config], tuple[bool, bool, bool]] = lambda _: (False, False, False)
    windows: Callable[[Config, int], bool] = lambda _c, _i: False


def _attention_bias(config: Config) -> tuple[bool, bool, bool]:
    bias = bool(config["attention_bias"])
    return bias, bias, False


def _late(config: Config, layer: int) -> bool:
    """Qwen's: the layers from ``max_window_layers`` on."""
    return bool(config["use_sliding_window"]) and layer >= int(config["max_window_layers"])


def _all(_config: Config, _layer: int) -> bool:
    return True


_SAME: Mapping[str, str] = {}
_GPT2_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "positions": "n_positions",
}
_QWEN = {"use_sliding_window": False, "max_window_layers": 28, "tie_word_embeddings": False}
_SPARSE = {"decoder_sparse_step": 1, "mlp_only_layers": ()}
_GEMMA = {"attention_bias": False, "tie_word_embeddings": True, "head_dim": 256}

FAMILIES: Mapping[str, _Family] = {
    "llama": _Family(
        names=_SAME,
        defaults={"attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False},
        biases=lambda config: (*_attention_bias(config)[:2], bool(config["mlp_bias"])),
    ),
    "mistral": _Family(names=_SAME, defaults={"tie_word_embeddings": False}, windows=_all),
    "mixtral": _Family(names=_SAME, defaults={"tie_word_embeddings": False}, windows=_all),
    "phi3": _Family(names=_SAME, defaults={"tie_word_embeddings": False}, windows=_all),
    "qwen2": _Family(
        names=_SAME, defaults=_QWEN, biases=lambda _: (True, False, False), windows=_late
    ),
    "qwen2_moe": _Family(
        names=_SAME,
        defaults={**_QWEN, **_SPARSE, "qkv_bias": True},
        biases=lambda config: (bool(config["qkv_bias"]), False, False),
        windows=lambda config, layer: bool(
            config["use_sliding_window"] and layer % 2 == 0 and layer < config["max_window_layers"]
        ),
    ),
    "qwen3": _Family(
        names=_SAME,
        defaults={**_QWEN, "attention_bias": False, "head_dim": 128},
        head_norms=True,
        biases=_attention_bias,
        windows=_late,
    ),
    "qwen3_moe": _Family(
        names=_SAME,
        defaults={**_QWEN, **_SPARSE, "attention_bias": False},
        head_norms=True,
        biases=_attention_bias,
        windows=lambda config, _: bool(config["use_sliding_window"]),
    ),
    "gpt2": _Family(
        names=_GPT2_NAMES,
        defaults={"tie_word_embeddings": True},
        gated=False,
        norm_bias=True,
        biases=lambda _: (True, True, True),
    ),
    "gemma": _Family(names=_SAME, defaults=_GEMMA, biases=_attention_bias),
    "gemma2": _Family(
        names=_SAME,
        defaults=_GEMMA,
        norms=4,
        biases=_attention_bias,
        windows=lambda _, layer: layer % 2 == 0,
    ),
    "gemma3_text": _Family(
        names=_SAME,
        defaults={**_GEMMA, "sliding_window_pattern": 6},
        norms=4,
        head_norms=True,
        biases=_attention_bias,
        windows=lambda config, layer: (layer + 1) % int(config["sliding_window_pattern"]) != 0,
    ),
}
"""By ``model_type``; checked in the tests against the models that transformers builds."""


_OLDEST = frozenset({"gpt2", "llama", "phi3"})


def shape(config: Config) -> Shape:
    """The shape that a ``config.json`` describes.

    Args:
        config: its contents, or the same from a loaded model.

    Raises:
        Unknown: for another architecture, or where a size is missing.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise Unknown(f"architecture {kind!r:.40} is not among those known: {', '.join(FAMILIES)}")
    family = FAMILIES[kind]
    given = {key: value for key, value in config.items() if value is not None}
    # As many as there are heads, where it is null; or, of the oldest, where it isn't there at all.
    if "num_key_value_heads" in config or kind in _OLDEST:
        heads = family.names.get("num_attention_heads", "num_attention_heads")
        given.setdefault("num_key_value_heads", given.get(heads))
    try:
        return _shape(kind, family, {**family.defaults, **given})
    except KeyError as error:
        raise Unknown(f"config.json says nothing of {error.args[0]}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise Unknown(f"config.json holds a size that is none: {error}") from error


def _shape(kind: str, family: _Family, config: Config) -> Shape:
    def size(name: str) -> int:
        return int(config[family.names.get(name, name)])

    hidden, layers = size("hidden_size"), size("num_hidden_layers")
    heads = size("num_attention_heads")
    kv_heads = int(config["num_key_value_heads"])
    head_dim = int(config.get("head_dim", hidden // heads))
    learned = kind == "gpt2"  # positions; its MLP is four times as wide as the rest if not told
    inner = int(config.get("n_inner", 4 * hidden)) if learned else size("intermediate_size")
    at_input, at_output, in_mlp = family.biases(config)
    wide = (heads + 2 * kv_heads) * head_dim
    gates = 3 if family.gated else 2
    sparse, experts, chosen, expert_inner, shared = _experts(config, layers, inner)
    dense = layers - sparse
    router = hidden * (experts + bool(shared))
    norm = hidden * (2 if family.norm_bias else 1)
    mlp_bias = (gates - 1) * inner + hidden if in_mlp else 0
    small = family.norms * norm + (2 * head_dim if family.head_norms else 0)
    small += wide * at_input + hidden * at_output
    return Shape(
        family=kind,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        windows=_windows(family, config, layers),
        table=size("vocab_size") * hidden,
        positions=size("positions") * hidden if learned else 0,
        tied=bool(config["tie_word_embeddings"]),
        matrices=layers * hidden * (wide + heads * head_dim)
        + dense * gates * hidden * inner
        + sparse * (gates * hidden * shared + router),
        small=layers * small + dense * mlp_bias + norm,
        expert=gates * hidden * expert_inner,
        experts=experts,
        chosen=chosen,
        sparse=sparse,
    )


def _experts(config: Config, layers: int, inner: int) -> tuple[int, int, int, int, int]:
    """Layers with experts; experts in each, those chosen; the width of one, and of a shared one."""
    if config["model_type"] == "mixtral":
        experts = int(config["num_local_experts"])
        return layers, experts, int(config["num_experts_per_tok"]), inner, 0
    if "mlp_only_layers" not in config:
        return 0, 0, 0, 0, 0
    experts = int(config["num_experts"] if "num_experts" in config else config["num_local_experts"])
    step, plain = int(config["decoder_sparse_step"]), config["mlp_only_layers"]
    sparse = sum(
        layer not in plain and experts > 0 and (layer + 1) % step == 0 for layer in range(layers)
    )
    shared = 0
    if config["model_type"] == "qwen2_moe":
        shared = int(config["shared_expert_intermediate_size"])
    chosen = int(config["num_experts_per_tok"])
    return sparse, experts, chosen, int(config["moe_intermediate_size"]), shared


def _windows(family: _Family, config: Config, layers: int) -> tuple[int | None, ...]:
    width = config.get("sliding_window")
    if not width:
        return (None,) * layers
    kinds: Sequence[Any] = config.get("layer_types") or ()
    if len(kinds) == layers:
        return tuple(int(width) if kind == "sliding_attention" else None for kind in kinds)
    return tuple(int(width) if family.windows(config, i) else None for i in range(layers))
