"""Configurations, strict as the real ones are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LoadFormat(IntEnum):
    AUTO = 0
    DUMMY = 1
    VISION_ONLY = 2


class QuantAlgo(str, Enum):
    FP8 = "FP8"
    NVFP4 = "NVFP4"
    W4A16_AWQ = "W4A16_AWQ"
    NO_QUANT = "NO_QUANT"


class QuantConfig(Strict):
    quant_algo: QuantAlgo | None = None
    kv_cache_quant_algo: QuantAlgo | None = None
    group_size: int = 128


class KvCacheConfig(Strict):
    enable_block_reuse: bool = True
    max_tokens: int | None = None
    max_attention_window: list[int] | None = None
    sink_token_length: int | None = None
    free_gpu_memory_fraction: float | None = Field(default=0.9, ge=0, le=1)
    host_cache_size: int | None = None
    event_buffer_max_size: int = 0
    enable_partial_reuse: bool = True
    copy_on_partial_reuse: bool = True
    use_uvm: bool = False
    dtype: str = "auto"
    tokens_per_block: int = 32


class CudaGraphConfig(Strict):
    batch_sizes: list[int] | None = None
    max_batch_size: int = 0
    enable_padding: bool = False


class SchedulerConfig(Strict):
    capacity_scheduler_policy: str = "GUARANTEED_NO_EVICT"
    context_chunking_policy: str | None = None


class MoeConfig(Strict):
    backend: str = "CUTLASS"
    max_num_tokens: int | None = None


class TorchCompileConfig(Strict):
    enable_fullgraph: bool = True
    enable_inductor: bool = False


class NGramDecodingConfig(Strict):
    decoding_type: Literal["NGram"] = "NGram"
    max_draft_len: int = 1


class MTPDecodingConfig(Strict):
    decoding_type: Literal["MTP"] = "MTP"
    num_nextn_predict_layers: int = 1


class TorchLlmArgs(Strict):
    model: str
    tokenizer: Any = None
    tokenizer_mode: Literal["auto", "slow"] = "auto"
    skip_tokenizer_init: bool = False
    trust_remote_code: bool = False
    tensor_parallel_size: int = 1
    dtype: str = "auto"
    revision: str | None = None
    tokenizer_revision: str | None = None
    pipeline_parallel_size: int = 1
    context_parallel_size: int = 1
    gpus_per_node: int | None = None
    moe_cluster_parallel_size: int | None = None
    moe_tensor_parallel_size: int | None = None
    moe_expert_parallel_size: int | None = None
    enable_attention_dp: bool = False
    cp_config: dict[str, Any] | None = None
    enable_lora: bool = False
    lora_config: Any = None
    guided_decoding_backend: Literal["xgrammar", "llguidance"] | None = None
    batched_logits_processor: Any = None
    speculative_config: NGramDecodingConfig | MTPDecodingConfig | None = None
    max_batch_size: int | None = None
    max_input_len: int | None = None
    max_seq_len: int | None = None
    max_beam_width: int | None = None
    max_num_tokens: int | None = 8192
    load_format: str | LoadFormat = LoadFormat.AUTO
    enable_tqdm: bool = False
    enable_chunked_prefill: bool = False
    kv_cache_config: KvCacheConfig = Field(default_factory=KvCacheConfig)
    stream_interval: int = 1
    iter_stats_max_iterations: int | None = None
    request_stats_max_iterations: int | None = None
    return_perf_metrics: bool = False
    scheduler_config: SchedulerConfig = Field(default_factory=SchedulerConfig)
    gather_generation_logits: bool = False
    num_postprocess_workers: int = 0
    postprocess_tokenizer_dir: str | None = None
    reasoning_parser: str | None = None
    fail_fast_on_attention_window_too_large: bool = False
    garbage_collection_gen0_threshold: int = 20000
    backend: str | None = "pytorch"
    cuda_graph_config: CudaGraphConfig | None = None
    checkpoint_format: str | None = None
    disable_overlap_scheduler: bool = False
    moe_config: MoeConfig = Field(default_factory=MoeConfig)
    attn_backend: str = "TRTLLM"
    sampler_type: str = "auto"
    enable_iter_perf_stats: bool = False
    enable_iter_req_stats: bool = False
    batch_wait_timeout_ms: float = 0
    print_iter_log: bool = False
    perf_metrics_max_requests: int = 0
    torch_compile_config: TorchCompileConfig | None = None
    enable_autotuner: bool = True
    enable_min_latency: bool = False
    force_dynamic_quantization: bool = False
    allreduce_strategy: str | None = "AUTO"
    orchestrator_type: Literal["rpc", "ray"] | None = None

    @field_validator("load_format", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return LoadFormat[value.upper()] if isinstance(value, str) else value


@dataclass(kw_only=True)
class SamplingParams:
    """What a request asks for; ``max_tokens`` is 32 where nobody says."""

    end_id: int | None = None
    pad_id: int | None = None
    max_tokens: int = 32
    min_tokens: int | None = None
    n: int = 1
    best_of: int | None = None
    use_beam_search: bool = False
    seed: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    detokenize: bool = True
    add_special_tokens: bool = True
    skip_special_tokens: bool = True
    return_perf_metrics: bool = False

    def __post_init__(self) -> None:
        self.pad_id = self.end_id if self.pad_id is None else self.pad_id
        if self.top_p is not None and not 0 <= self.top_p <= 1:
            raise ValueError(f"require 0 <= top_p <= 1, got top_p={self.top_p}")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError(f"require temperature >= 0, got temperature={self.temperature}")

    @property
    def greedy(self) -> bool:
        said = (self.temperature, self.top_p, self.top_k)
        return said == (None, None, None) or self.top_k == 1 or 0 in (self.top_p, self.temperature)
