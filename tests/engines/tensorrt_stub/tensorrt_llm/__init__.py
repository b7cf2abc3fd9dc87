"""A stub of TensorRT-LLM: what its LLM API promises, without a GPU and without a model.

Made from what NVIDIA publishes of the 1.2 line, in the repository NVIDIA/TensorRT-LLM:

* arguments, their defaults and classes: ``tests/unittest/api_stability/references_committed/
  llm.yaml`` at e00a186 (stable) and ``references/llm.yaml`` at ea35fd6 (the others),
* ``SamplingParams``: ``references_committed/sampling_params.yaml`` and its documentation,
* what is refused, and in which words: ``tensorrt_llm/llmapi/llm.py`` at 4c05a74,
* results that yield themselves, and their metrics: ``tensorrt_llm/executor/result.py`` at a678b91,
* ``KvCacheConfig``: the published API reference of 1.3.0rc27.

It computes nothing: tokens are drawn from what came before them, so that they depend on the prompt,
the way of decoding and the seed, as a model's do. ``tensorrt_llm.knobs`` sets what a test is about.
"""

from tensorrt_llm import knobs
from tensorrt_llm.llmapi import LLM, SamplingParams

__all__ = ["LLM", "SamplingParams", "__version__", "knobs"]

__version__ = "1.2.0"
