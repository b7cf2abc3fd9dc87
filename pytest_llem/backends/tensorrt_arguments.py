"""What TensorRT-LLM is told: arguments of its constructor, and of each request."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_llem.backends.arguments import hint
from pytest_llem.errors import LlemError
from pytest_llem.experiment import DECODING, Decoding, Experiment
from pytest_llem.extensions import Workload

__all__ = ["arguments", "sampling"]

_OWN = {
    "model": "model",
    "revision": "revision",
    "dtype": "dtype",
    "tensor_parallel_size": "tensor_parallel",
    "pipeline_parallel_size": "pipeline_parallel",
    "load_format": "weights",
}
"""Arguments that a study has fields of its own for."""

_FIXED = {
    "backend": "this is the PyTorch backend of TensorRT-LLM",
    "skip_tokenizer_init": "prompts are token ids here",
    "return_perf_metrics": "times are made of it",
}
"""Arguments that nobody but this module sets, and why."""


def arguments(experiment: Experiment, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for the constructor.

    Args:
        experiment: whose options are checked; nested ones are made into the class of their field.
        fields: name to field, as pydantic has them, of what the installed version takes.

    Raises:
        LlemError: for an option that it doesn't know, naming the nearest; for one that a field of
            the study stands for; for one whose class doesn't take its value.
    """
    options = dict(experiment.options)
    for name in options:
        if name in _OWN:
            raise LlemError(f"tensorrt.{name}: the study's own field for it is {_OWN[name]}")
        if name in _FIXED:
            raise LlemError(f"tensorrt.{name}: can't be set: {_FIXED[name]}")
        if name not in fields:
            raise _unknown_option(f"tensorrt.{name}", name, fields.keys() - {*_OWN, *_FIXED})
    cache = options.get("kv_cache_config") or {}
    if isinstance(cache, Mapping):
        options["kv_cache_config"] = {"enable_block_reuse": False, **cache}
    given = {name: _built(name, value, fields[name]) for name, value in options.items()}
    given |= {
        "model": experiment.model,
        "dtype": experiment.dtype,
        "tensor_parallel_size": experiment.tensor_parallel,
        "pipeline_parallel_size": experiment.pipeline_parallel,
        "skip_tokenizer_init": True,
        "return_perf_metrics": True,
    }
    if experiment.revision:
        given["revision"] = experiment.revision
    if experiment.weights == "random":
        given["load_format"] = "dummy"
    return given


def _built(name: str, value: Any, field: Any) -> Any:
    """A mapping as the one class that its field takes; everything else as it is."""
    classes = [c for c in _leaves(field.annotation) if hasattr(c, "model_fields")]
    if not isinstance(value, Mapping) or len(classes) != 1:
        return value
    (made,) = classes
    for key in value:
        if key not in made.model_fields:
            raise _unknown_option(f"tensorrt.{name}.{key}", str(key), made.model_fields)
    try:
        return made(**value)
    except ValueError as error:
        raise LlemError(f"tensorrt.{name}: {error}") from error


def _leaves(annotation: Any) -> Iterable[Any]:
    """The classes that an annotation is made of: ``Optional[A]`` of A and None."""
    parts = typing.get_args(annotation)
    if not parts:
        return [annotation]
    return [leaf for part in parts for leaf in _leaves(part)]


def _unknown_option(where: str, name: str, accepted: Iterable[str]) -> LlemError:
    return LlemError(f"{where}: the installed TensorRT-LLM doesn't know it{hint(name, accepted)}")


def sampling(workload: Workload, number: int, end_id: int) -> dict[str, Any]:
    """Sampling parameters of a request.

    ``min_tokens`` is left out on purpose: where the end is ignored, the engine's end id is -1, and
    its penalty for requests that are too short would rule out the vocabulary's last token instead.
    """
    return {
        "max_tokens": workload.output_tokens,
        "ignore_eos": True,
        "end_id": end_id,
        "pad_id": end_id,
        "detokenize": False,
        "add_special_tokens": False,
        "return_perf_metrics": True,
        # One for each, so that equal prompts need not have equal answers.
        "seed": workload.seed + number,
        **_decoding(workload.decoding),
    }


def _decoding(asked: Decoding) -> dict[str, Any]:
    """Its words for how the next token is chosen: it is greedy where none is said."""
    names = DECODING if asked.sampled else ("repetition_penalty",)
    chosen = {name: value for name in names if (value := getattr(asked, name)) is not None}
    # By min_p alone it would still be greedy.
    return {"temperature": 1.0, **chosen} if asked.sampled else chosen
