"""The LLM API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from tensorrt_llm import knobs
from tensorrt_llm.arguments import (
    CudaGraphConfig,
    KvCacheConfig,
    LoadFormat,
    MoeConfig,
    QuantAlgo,
    QuantConfig,
    SamplingParams,
    SchedulerConfig,
    TorchCompileConfig,
    TorchLlmArgs,
)
from tensorrt_llm.executor import CompletionOutput, Executor, RequestOutput

__all__ = [
    "LLM",
    "CompletionOutput",
    "CudaGraphConfig",
    "KvCacheConfig",
    "LoadFormat",
    "MoeConfig",
    "QuantAlgo",
    "QuantConfig",
    "RequestOutput",
    "SamplingParams",
    "SchedulerConfig",
    "TorchCompileConfig",
    "TorchLlmArgs",
]


class LLM:
    """The class that people use; its keyword arguments are those of ``TorchLlmArgs``."""

    def __init__(
        self,
        model: str | Path,
        tokenizer: Any = None,
        tokenizer_mode: Literal["auto", "slow"] = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        for key in kwargs:
            if key not in {*TorchLlmArgs.model_fields, "_mpi_session", "backend"}:
                raise ValueError(f"{type(self).__name__} got invalid argument: {key}")
        self.args = TorchLlmArgs(
            model=str(model),
            tokenizer=tokenizer,
            tokenizer_mode=tokenizer_mode,
            skip_tokenizer_init=skip_tokenizer_init,
            trust_remote_code=trust_remote_code,
            tensor_parallel_size=tensor_parallel_size,
            dtype=dtype,
            revision=revision,
            tokenizer_revision=tokenizer_revision,
            **kwargs,
        )
        self.tokenizer = None if skip_tokenizer_init else object()
        config = json.loads((Path(model) / "config.json").read_text())
        if self.args.load_format != LoadFormat.DUMMY and not list(
            Path(model).glob("*.safetensors")
        ):
            raise RuntimeError(f"No weight files found in {model}.")
        slots = self.args.max_batch_size or 2048
        self._executor: Executor | None = Executor(
            self.args.kv_cache_config, slots, config["vocab_size"]
        )
        knobs.open_engines += 1

    def generate(
        self,
        inputs: Any,
        sampling_params: SamplingParams | list[SamplingParams] | None = None,
        use_tqdm: bool = True,
    ) -> RequestOutput | list[RequestOutput]:
        """A list of ids is one prompt; a list of lists are several."""
        alone = not isinstance(inputs, list) or isinstance(inputs[0], int)
        requests = [
            self.generate_async(
                each, sampling_params[n] if isinstance(sampling_params, list) else sampling_params
            )
            for n, each in enumerate([inputs] if alone else inputs)
        ]
        done = [request.result() for request in requests]
        return done[0] if alone else done

    def generate_async(
        self,
        inputs: Any,
        sampling_params: SamplingParams | None = None,
        streaming: bool = False,
    ) -> RequestOutput:
        if self._executor is None:
            raise RuntimeError("LLM is shutting down")
        params = SamplingParams() if sampling_params is None else sampling_params
        if not isinstance(params, SamplingParams):
            raise TypeError(
                "The sampling_params must be type SamplingParams or None, but got"
                f" {type(sampling_params)}"
            )
        if params.end_id is None:
            if self.tokenizer is None:
                raise ValueError(
                    "tokenizer is required to reset end_id if it is None, or you can explicitly"
                    " specify the end_id for sampling_params"
                )
            params.end_id = params.pad_id = 2
        params.return_perf_metrics |= self.args.return_perf_metrics
        ids = inputs["prompt_token_ids"] if isinstance(inputs, dict) else inputs
        if not isinstance(ids, list) or not all(type(i) is int for i in ids):
            raise TypeError(f"The inputs must be type str or list of int, but got {type(inputs)}")
        most = self.args.max_num_tokens
        if not self.args.enable_chunked_prefill and most and len(ids) > most:
            raise ValueError(
                f"The sum of prompt length ({len(ids)}), query length (0) should not exceed"
                f" max_num_tokens ({most})"
            )
        request = RequestOutput(ids, params, streaming)
        self._executor.submit(request)
        return request

    def shutdown(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()
            knobs.open_engines -= 1

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def __getstate__(self) -> Any:
        raise RuntimeError("LLM object can not be pickled.")
