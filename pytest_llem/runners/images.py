"""Which container image a backend runs in, and who said so. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_llem.demands import RunnerSpec

__all__ = ["DEFAULTS", "choose"]

DEFAULTS: Mapping[str, str] = {
    # Ours, made from images/pytorch: no upstream image of PyTorch has transformers in it.
    "pytorch": "pytest-llem/pytorch:2.13.0",
    "tensorrt": "nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc24",
    "vllm": "vllm/vllm-openai:v0.32.0",
}
"""One image for each backend, pinned; never another backend's."""


def choose(
    backend: str,
    spec: RunnerSpec,
    own: str | None,
    sources: Mapping[str, Mapping[str, str]],
) -> tuple[str | None, str | None]:
    """The image and its source; None twice where nobody names one.

    Args:
        backend: its name.
        spec: of its runner, whose value may hold an image.
        own: the experiment's own image.
        sources: name of a source (``env study ini user_config``), highest first, to what it says
            for each backend. An empty text counts as not set.
    """
    if own and own.strip():
        return own.strip(), "experiment"
    if spec.image:
        return spec.image, "runner"
    for source, values in sources.items():
        if value := values.get(backend, "").strip():
            return value, source
    if backend in DEFAULTS:
        return DEFAULTS[backend], "default"
    return None, None
