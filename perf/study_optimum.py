"""The same study by optimum-benchmark 0.6, in an environment of its own.

Run by ``perf/study.py`` as ``python study_optimum.py MODEL LAUNCHES ITERATIONS < shapes``: a JSON
list of ``{"batch_size": b, "input_tokens": n, "output_tokens": m}``. Each shape is launched so many
times, in a process of its own each time, with so many iterations; no warm-up, latency only.
It has no random weights without a hub: ``python study_optimum.py MODEL --save FOLDER`` makes some.
"""

from __future__ import annotations

import json
import sys

from optimum_benchmark import (  # type: ignore[import-not-found]
    Benchmark,
    BenchmarkConfig,
    InferenceConfig,
    ProcessConfig,
    PyTorchConfig,
)


def main(model: str, launches: int, iterations: int) -> None:
    """Launch everything, one after another."""
    for shape in json.load(sys.stdin):
        count = shape["output_tokens"]
        for _ in range(launches):
            Benchmark.launch(
                BenchmarkConfig(
                    name="study",
                    launcher=ProcessConfig(start_method="spawn"),
                    scenario=InferenceConfig(
                        latency=True,
                        memory=False,
                        energy=False,
                        iterations=iterations,
                        duration=0,
                        warmup_runs=0,
                        input_shapes={
                            "batch_size": shape["batch_size"],
                            "sequence_length": shape["input_tokens"],
                        },
                        generate_kwargs={"max_new_tokens": count, "min_new_tokens": count},
                    ),
                    backend=PyTorchConfig(
                        model=model,
                        library="transformers",
                        task="text-generation",
                        model_type="llama",
                        device="cpu",
                        torch_dtype="float32",
                    ),
                )
            )


def save(model: str, folder: str) -> None:
    """Random weights for a model that is a config alone."""
    from transformers import AutoConfig, AutoModelForCausalLM

    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model)).save_pretrained(folder)


if __name__ == "__main__":
    if sys.argv[2] == "--save":
        save(sys.argv[1], sys.argv[3])
    else:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
