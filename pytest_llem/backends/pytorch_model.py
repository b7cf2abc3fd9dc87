"""A model on its device: from a hub or a directory, with its own weights or random ones."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_llem.backends.pytorch_memory import out_of_memory
from pytest_llem.backends.pytorch_options import (
    Options,
    check_names,
    hub_arguments,
    known_arguments,
)
from pytest_llem.backends.pytorch_quantization import need, quantization_config
from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment

__all__ = ["build", "choose_device"]


def choose_device(wanted: str, torch: Any) -> str:
    """``cuda``, ``mps`` or ``cpu``: what was asked for, or the fastest that is there.

    Raises:
        LlemError: when torch sees no such device.
    """
    there = {
        "cuda": bool(torch.cuda.is_available()),
        "mps": bool(torch.backends.mps.is_available()),
        "cpu": True,
    }
    if wanted == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there[wanted]:
        name = {"cuda": "CUDA", "mps": "MPS"}[wanted]
        raise LlemError(f"device: {wanted} was asked for, but torch sees no {name} device here")
    return wanted


def build(
    experiment: Experiment, options: Options, device: str, torch: Any, transformers: Any
) -> Any:
    """The model of an experiment on its device, in inference mode.

    Raises:
        LlemError: for options that the installed versions don't know or can't do, for a directory
            that isn't there, and for a model that doesn't fit into memory.
    """
    if Path(experiment.model).is_absolute() and not Path(experiment.model).is_dir():
        raise LlemError(f"there is no model directory {experiment.model}")
    text = ""
    try:
        return _build(experiment, options, device, torch, transformers)
    except ImportError as error:
        raise LlemError(f"transformers can't build the model so: {error}") from error
    except (RuntimeError, MemoryError, ValueError) as error:
        if isinstance(error, ValueError):
            raise LlemError(f"transformers refuses to build the model so: {error}") from error
        if not out_of_memory(error):
            raise
        text = str(error).strip().partition("\n")[0]
    raise LlemError(
        f"out of memory while loading {experiment.model} as {experiment.dtype} on {device}: {text};"
        " take a smaller dtype, pytorch.quantization or more gpus"
    )


def _build(
    experiment: Experiment, options: Options, device: str, torch: Any, transformers: Any
) -> Any:
    pretrained = experiment.weights == "pretrained"
    config = _config(experiment, options, transformers, pretrained=pretrained)
    dtype = experiment.dtype if experiment.dtype == "auto" else getattr(torch, experiment.dtype)
    source = _source(experiment)
    placed = _placement(experiment, options, device, pretrained=pretrained)
    if options.quantization is not None:
        placed["quantization_config"] = quantization_config(options.quantization)
    auto = transformers.AutoModelForCausalLM
    if pretrained:
        model = auto.from_pretrained(
            experiment.model, dtype=dtype, **source, **options.rest, **placed
        )
    else:
        model = _random(config, dtype, options, device, placed, torch, auto)
    if "device_map" not in placed:
        model = model.to(device)
    _check_placement(model, options)
    return model.eval()


def _source(experiment: Experiment) -> dict[str, Any]:
    return {"revision": experiment.revision} if experiment.revision else {}


def _config(
    experiment: Experiment, options: Options, transformers: Any, *, pretrained: bool
) -> Any:
    """The model's config with the options that are its fields, all options checked."""
    where = hub_arguments(options.rest)
    plain = transformers.AutoConfig.from_pretrained(
        experiment.model, **_source(experiment), **where
    )
    known = known_arguments(plain, transformers.PreTrainedModel, pretrained=pretrained)
    check_names("pytorch", options.rest, known)
    return transformers.AutoConfig.from_pretrained(
        experiment.model, **_source(experiment), **options.rest
    )


def _placement(
    experiment: Experiment, options: Options, device: str, *, pretrained: bool
) -> dict[str, Any]:
    """Arguments that say where the layers go; empty for all of them on one device, afterwards."""
    if experiment.tensor_parallel > 1:
        raise LlemError(
            "tensor_parallel: transformers shares layers only under torchrun, a process for each"
            " GPU, which this backend doesn't start; use pipeline_parallel, or backend: vllm"
        )
    spread = options.device_map or ("auto" if experiment.devices > 1 else None)
    if experiment.devices > 1 and device != "cuda":
        raise LlemError(f"gpus: {experiment.devices} devices need GPUs; this one is {device}")
    if spread is not None:
        need("pytorch.device_map" if options.device_map else "more than one GPU", "accelerate")
        return {"device_map": spread if isinstance(spread, str) else dict(spread)}
    straight = pretrained and device == "cuda" and importlib.util.find_spec("accelerate")
    if options.quantization is not None or straight:
        # What is quantised can't be moved later; other weights save the way through host memory.
        return {"device_map": {"": device}}
    return {}


def _random(
    config: Any,
    dtype: Any,
    options: Options,
    device: str,
    placed: Mapping[str, Any],
    torch: Any,
    auto: Any,
) -> Any:
    """A model with random weights; quantised or spread as its own weights would be."""
    if dtype == "auto":
        dtype = config.dtype or torch.float32
    taken = {name: options.rest[name] for name in ("trust_remote_code",) if name in options.rest}
    # On a GPU billions of numbers are drawn in a moment.
    with torch.device("cuda" if device == "cuda" and not placed else "cpu"):
        model = auto.from_config(config, dtype=dtype, **taken)
    if not placed:
        return model
    # Weights must be loaded to be quantised or spread: these are, from where they are.
    return type(model).from_pretrained(
        None, config=config, state_dict=model.state_dict(), dtype=dtype, **placed
    )


def _check_placement(model: Any, options: Options) -> None:
    """Refuse a model that was put into host memory though nobody asked for that."""
    found = getattr(model, "hf_device_map", None) or {}
    outside = [name for name, place in found.items() if str(place) in {"cpu", "disk"}]
    inside = len(found) - len(outside)
    if outside and inside and not isinstance(options.device_map, Mapping):
        raise LlemError(
            f"the model doesn't fit on its GPUs: {len(outside)} of {len(found)} parts would be kept"
            " in host memory or on the disk; take more gpus or pytorch.quantization, or name each"
            " part's place by a mapping as pytorch.device_map"
        )
