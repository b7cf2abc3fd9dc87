"""What stands under ``pytorch:`` in a study: our own options, and those that transformers takes.

Nothing is passed over in silence: a key that neither we nor the installed transformers know is an
error that names the nearest, and so is one that has a field of its own in a study.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_llem.backends.arguments import hint
from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment

__all__ = ["OWN", "Options", "check_names", "hub_arguments", "known_arguments"]

OWN = ("cache", "compile", "device_map", "quantization", "threads")
"""Options that this backend understands itself; all others are transformers' own."""

_FEW = 30
"""Names that can be listed where none is near."""

_CACHES = ("dynamic", "static")

_TORCHRUN = "needs torchrun, a process for each GPU, which this backend doesn't start; use vllm"
_ELSEWHERE = {
    **dict.fromkeys(("dtype", "torch_dtype"), "set dtype of the experiment"),
    **dict.fromkeys(("config", "pretrained_model_name_or_path"), "set model of the experiment"),
    **dict.fromkeys(("max_length", "max_new_tokens"), "set output_tokens of the experiment"),
    **dict.fromkeys(
        ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "do_sample"),
        "set decoding of the experiment",
    ),
    **dict.fromkeys(("tp_plan", "tp_size", "device_mesh", "distributed_config"), _TORCHRUN),
    "quantization_config": "set quantization, a mapping with the key method",
    "token": "a secret doesn't belong in a study; set HF_TOKEN where pytest runs",
    "use_cache": "keys and values are always cached",
    "device": "set device of the experiment",
}
"""Names that transformers takes and a study says in another place, and where."""

_OBJECTS = frozenset({"adapter_kwargs", "output_loading_info", "state_dict", "tqdm_class"})
"""Arguments that are objects of Python, or change what is returned."""

_HUB = ("cache_dir", "code_revision", "force_download", "local_files_only", "proxies", "subfolder")
_OF_ANY_MODEL = ("attn_implementation", "experts_implementation", "trust_remote_code")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options as they are used.

    Attributes:
        cache: of keys and values: ``dynamic`` grows, ``static`` has its room from the start.
        compile: arguments of ``torch.compile``; None for none. It needs a static cache: on one
            that grows, shapes change with every step.
        device_map: where accelerate is to put the layers; None leaves them on one device.
        quantization: the key ``method``, and arguments of its config; None for none.
        threads: of a CPU; None leaves it to torch.
        rest: for transformers.
    """

    cache: str = "dynamic"
    compile: Mapping[str, Any] | None = None
    device_map: str | Mapping[str, Any] | None = None
    quantization: Mapping[str, Any] | None = None
    threads: int | None = None
    rest: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def parse(cls, options: Mapping[str, Any], compile_function: Callable[..., Any]) -> Options:
        """Take our own options out, each checked.

        Args:
            options: as the study has them.
            compile_function: ``torch.compile``, whose signature says what it takes.

        Raises:
            LlemError: for a value that an option can't have, or a key said in another place.
        """
        given = {name: value for name, value in options.items() if value is not None}
        for name in given:
            _refuse_elsewhere(name)
        compiled = _compile(given.get("compile", False), compile_function)
        return cls(
            cache=_cache(given.get("cache"), compiled is not None),
            compile=compiled,
            device_map=_device_map(given.get("device_map")),
            quantization=_quantization(given.get("quantization")),
            threads=_threads(given.get("threads")),
            rest={name: value for name, value in given.items() if name not in OWN},
        )


def _refuse_elsewhere(name: str) -> None:
    """Refuse what a study says by a field of its own."""
    if where := _ELSEWHERE.get(name):
        raise LlemError(f"pytorch.{name}: {where}")
    if name in {field.name for field in dataclasses.fields(Experiment)}:
        raise LlemError(f"pytorch.{name}: set {name} of the experiment")
    if name.startswith("_") or name in _OBJECTS:
        raise LlemError(f"pytorch.{name}: a study can't say that")


def _cache(value: object, is_compiled: bool) -> str:
    if value is None:
        return "static" if is_compiled else "dynamic"
    if value not in _CACHES:
        raise LlemError(f"pytorch.cache: should be dynamic or static, not {value!r}")
    if is_compiled and value == "dynamic":
        raise LlemError("pytorch.cache: compile needs a static cache; leave this out")
    return str(value)


def _compile(value: object, function: Callable[..., Any]) -> Mapping[str, Any] | None:
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, Mapping):
        raise LlemError(f"pytorch.compile: should be true or a mapping, not {value!r}")
    check_names("pytorch.compile", value, set(inspect.signature(function).parameters) - {"model"})
    return dict(value)


def _device_map(value: object) -> str | Mapping[str, Any] | None:
    if value is None or isinstance(value, (str, Mapping)):
        return value
    raise LlemError(f"pytorch.device_map: should be a word such as auto, or a mapping: {value!r}")


def _quantization(value: object) -> Mapping[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not isinstance(value.get("method"), str):
        raise LlemError(
            "pytorch.quantization: should be a mapping with the key method, such as"
            f" {{method: bitsandbytes, load_in_4bit: true}}, not {value!r}"
        )
    return dict(value)


def _threads(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise LlemError(f"pytorch.threads: should be a whole number from 1, not {value!r}")


def known_arguments(config: Any, model_class: Any, *, pretrained: bool) -> set[str]:
    """What the installed transformers takes for a model: its config's fields, and arguments.

    Those of ``from_pretrained`` that it takes out of its keyword arguments are read from its
    source, the only place where they all stand.

    Args:
        config: of the model, as read from its directory.
        model_class: that has ``from_pretrained``.
        pretrained: whether weights are read.
    """
    known = {*config.to_dict(), *getattr(config, "attribute_map", {}), *_HUB, *_OF_ANY_MODEL}
    if pretrained:
        method = model_class.from_pretrained
        known |= set(inspect.signature(method).parameters) - {"model_args", "kwargs"}
        known |= set(re.findall(r'kwargs\.pop\("([a-z]\w*)"', inspect.getsource(method)))
    return {name for name in known if not name.startswith("_")} - _ELSEWHERE.keys() - _OBJECTS


def hub_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of transformers' options that say where a model's files come from."""
    return {name: options[name] for name in (*_HUB, "trust_remote_code") if name in options}


def check_names(where: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse the first name that isn't known.

    Raises:
        LlemError: names it, and the nearest of the known ones, or all where none is near.
    """
    for name in given:
        if name not in known:
            near = hint(name, known)
            if not near and len(known) <= _FEW:
                near = f"; known: {', '.join(sorted(known))}"
            raise LlemError(f"{where}: the installed version doesn't know {name}{near}")
