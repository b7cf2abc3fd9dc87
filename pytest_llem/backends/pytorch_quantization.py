"""Quantisation: from a study's mapping to a config class of transformers."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any

from pytest_llem.backends.pytorch_options import check_names
from pytest_llem.errors import LlemError

__all__ = ["need", "quantization_config"]

_NEEDS = {
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "bitsandbytes_4bit": ("bitsandbytes",),
    "bitsandbytes_8bit": ("bitsandbytes",),
    "compressed-tensors": ("compressed-tensors",),
    "gptq": ("gptqmodel", "optimum"),
    "hqq": ("hqq",),
    "quanto": ("optimum-quanto",),
    "torchao": ("torchao",),
}
"""Method to the distributions it needs beside accelerate; transformers itself names others'."""

_MODULES = {"compressed-tensors": "compressed_tensors", "optimum-quanto": "optimum.quanto"}
"""Distribution to the module it is imported as, where that isn't the same."""

_BITS = ("load_in_4bit", "load_in_8bit")


def need(what: str, *distributions: str) -> None:
    """Refuse what can't be done without distributions that aren't installed.

    Raises:
        LlemError: with the command that installs them.
    """
    missing = [name for name in distributions if not _installed(_MODULES.get(name, name))]
    if missing:
        plural = "are" if len(missing) > 1 else "is"
        raise LlemError(
            f"{what} needs {' and '.join(missing)}, which {plural} not installed where the worker"
            f" runs: pip install {' '.join(missing)}"
        )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def quantization_config(asked: Mapping[str, Any]) -> Any:
    """The config object of a method, which transformers applies while it loads weights.

    Args:
        asked: the key ``method``, as transformers calls it, and arguments of its config class.
            ``bitsandbytes`` may say how many bits by its method, ``bitsandbytes_4bit``, too.
            ``quant_type`` of torchao is the name of one of its config classes, or a mapping of
            that name to the class's arguments.

    Raises:
        LlemError: for a method or an argument that the installed version doesn't know, and for a
            library that isn't there.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as CONFIGS

    where = "pytorch.quantization"
    method = asked["method"]
    arguments = {name: value for name, value in asked.items() if name != "method"}
    check_names(f"{where}.method", [method], {*CONFIGS, "bitsandbytes"})
    if method.startswith("bitsandbytes"):
        method, arguments = _bits(method, arguments)
    need(f"{where} {method}", *_NEEDS.get(method, ()), "accelerate")
    if method == "torchao" and "quant_type" in arguments:
        arguments["quant_type"] = _torchao(arguments["quant_type"])
    return _made(where, CONFIGS[method], arguments)


def _bits(method: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Method and arguments of bitsandbytes, each saying the bits."""
    said = [name for name in _BITS if arguments.get(name)]
    if method == "bitsandbytes":
        if len(said) != 1:
            raise LlemError(
                "pytorch.quantization: bitsandbytes needs load_in_4bit: true or load_in_8bit: true"
            )
        method = said[0].replace("load_in", "bitsandbytes")
    return method, {**arguments, method.replace("bitsandbytes", "load_in"): True}


def _torchao(quant_type: Any) -> Any:
    """A config object of torchao, from its class's name, alone or with arguments."""
    import torchao.quantization
    from torchao.core.config import AOBaseConfig

    where = "pytorch.quantization.quant_type"
    found = vars(torchao.quantization)
    known = {
        name: value
        for name, value in found.items()
        if isinstance(value, type) and issubclass(value, AOBaseConfig)
    }
    if isinstance(quant_type, str):
        quant_type = {quant_type: {}}
    if not isinstance(quant_type, Mapping) or len(quant_type) != 1:
        raise LlemError(f"{where}: should be the name of a config class of torchao")
    ((name, arguments),) = quant_type.items()
    check_names(where, [name], known)
    return _made(f"{where}.{name}", known[name], arguments or {})


def _made(where: str, config_class: Any, arguments: Mapping[str, Any]) -> Any:
    """An object of a config class, its arguments checked against the class's signature."""
    parameters = inspect.signature(config_class).parameters.values()
    named = {p.name for p in parameters if p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}}
    check_names(where, arguments, named)
    try:
        return config_class(**arguments)
    except (TypeError, ValueError, ImportError) as error:
        raise LlemError(f"{where}: {error}") from error
