"""Our speed of vLLM beside that of vLLM's own benchmark, and the same tokens wherever it runs.

``vllm.benchmarks.latency`` runs as its makers wrote it, in this process; between any two of its
iterations one measurement is made by a worker of ours, kept with its engine, of the same model,
lengths, arguments and sampling. So both see the machine as it is at that time, and the figure that
counts is the median over such pairs of ours / theirs: of the time of a batch, and of output tokens
per second. Both must lie within 10 % of 1.

Then greedy tokens are compared: two cycles each with vLLM's core in the worker's process and in a
child. One that differs fails, as does a sampled one that differs between cycles above.

    python perf/vllm_oracle.py --json oracle.json

Needs vLLM beside pytest-llem: docs/engines.md says how it is installed for a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_llem.experiment import Decoding, Experiment, Prompts
from pytest_llem.extensions import Launch
from pytest_llem.records import Measurement
from pytest_llem.runners.conversation import Worker
from pytest_llem.runners.local import LocalRunner

WITHIN = 0.10
BATCH, INPUT, OUTPUT = 8, 128, 64
WARMUP = 3
CORE = "VLLM_ENABLE_V1_MULTIPROCESSING"

# Their benchmark draws token ids below 10,000, so a smaller vocabulary doesn't do.
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 10240,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "dtype": "float32",
}
OPTIONS: Mapping[str, Any] = {
    "max_model_len": 512,
    "max_num_seqs": 16,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 1 << 28,
}


def experiment(model: Path, **fields: Any) -> Experiment:
    """The same work as theirs."""
    return Experiment(
        id="oracle",
        model=str(model),
        backend="vllm",
        weights="random",
        device="cpu",
        dtype="float32",
        prompts=Prompts(count=BATCH, input_tokens=INPUT),
        output_tokens=OUTPUT,
        warmup="none",
        idle="none",
        meters=(),
        options=OPTIONS,
        **fields,
    )


@contextlib.contextmanager
def kept(asked: Experiment, log: Path) -> Iterator[Worker]:
    """A worker that keeps its engine."""
    launch = Launch(backend="vllm", log=log, environment=asked.env, experiment=asked)
    worker = Worker(LocalRunner().start(launch))
    try:
        yield worker
    finally:
        worker.close()


class Turns:
    """Stands in for their bar of progress: before each of their iterations there is one of ours."""

    def __init__(self, worker: Worker, asked: Experiment) -> None:
        """Measure nothing yet."""
        self.ours: list[Measurement] = []
        self._worker = worker
        self._asked = asked

    def __call__(self, iterations: Iterable[int], desc: str) -> Iterator[int]:
        """Their iterations, and ours between them."""
        for number in iterations:
            found = self._worker.measure(self._asked, "d" * 64, number + 1, keep=True)
            if not desc.startswith("Warmup"):
                self.ours.append(found)
            yield number


def theirs(turns: Turns, model: Path, iterations: int, out: Path) -> list[float]:
    """Seconds of each of their iterations."""
    from vllm.benchmarks import latency
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    latency.tqdm = turns
    parser = FlexibleArgumentParser()
    latency.add_cli_args(parser)
    settings = {
        "model": model,
        "load-format": "dummy",
        "dtype": "float32",
        "seed": 42,
        "input-len": INPUT,
        "output-len": OUTPUT,
        "batch-size": BATCH,
        "num-iters-warmup": WARMUP,
        "num-iters": iterations,
        "output-json": out,
        **{name.replace("_", "-"): value for name, value in OPTIONS.items() if value is not True},
    }
    arguments = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    flags = ["--enforce-eager", "--skip-tokenizer-init", "--disable-detokenize"]
    latency.main(parser.parse_args([*arguments, *flags]))
    return list(map(float, json.loads(out.read_text())["latencies"]))


def beside(folder: Path, model: Path, iterations: int) -> dict[str, Any]:
    """Both, pair by pair."""
    # As theirs, which is not greedy.
    asked = experiment(model, decoding=Decoding(temperature=1.0), env={CORE: "0"})
    with kept(asked, folder / "ours.log") as worker:
        # Loaded before theirs: a worker that has said nothing for a minute is taken for stuck.
        worker.measure(asked, "d" * 64, 1, keep=True)
        turns = Turns(worker, asked)
        their_s = theirs(turns, model, iterations, folder / "theirs.json")
    our_s = [value(found, "duration_s") for found in turns.ours]
    per_s = [value(found, "output_tokens_per_s") for found in turns.ours]
    tokens = BATCH * OUTPUT
    return {
        "versions": dict(turns.ours[0].subject["versions"]),
        "engine": dict(turns.ours[0].subject["engine"]),
        "ours_s": our_s,
        "theirs_s": their_s,
        "ours_tokens_per_s": per_s,
        "ratios": {
            "latency": [ours / other for ours, other in zip(our_s, their_s, strict=True)],
            "throughput": [
                ours * other / tokens for ours, other in zip(per_s, their_s, strict=True)
            ],
        },
        "cycles_agree": len({found.tokens_sha256 for found in turns.ours}) == 1,
        "integrity": sorted({line for found in turns.ours for line in found.integrity}),
    }


def value(found: Measurement, metric: str) -> float:
    """A metric that must be there."""
    number = found.metrics[metric].value
    assert number is not None, found.metrics[metric].reason
    return number


def greedy(folder: Path, model: Path) -> dict[str, list[str]]:
    """Digests of the tokens of two cycles, by where the core is."""
    found = {}
    for core, name in {"0": "in process", "1": "child process"}.items():
        asked = experiment(model, env={CORE: core})
        with kept(asked, folder / f"greedy-{core}.log") as worker:
            made = [worker.measure(asked, "d" * 64, n, keep=True) for n in (1, 2)]
        assert {m.subject["engine"]["core"] for m in made} == {name}
        found[name] = [m.tokens_sha256 for m in made]
    return found


def report(iterations: int) -> dict[str, Any]:
    """Everything measured, as plain JSON data."""
    # Both get the same surroundings: one core in each process, and nothing told to anybody.
    os.environ.update({CORE: "0", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"})
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model"
        model.mkdir()
        (model / "config.json").write_text(json.dumps(MODEL))
        data = beside(folder, model, iterations)
        data["greedy"] = greedy(folder, model)
    medians = {name: statistics.median(ratios) for name, ratios in data["ratios"].items()}
    agree = len({digest for both in data["greedy"].values() for digest in both}) == 1
    return {
        "schema_version": 1,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "workload": {"batch": BATCH, "input_tokens": INPUT, "output_tokens": OUTPUT},
        **data,
        "median_ratios": medians,
        "within": WITHIN,
        "greedy_agree": agree,
        "passed": all(abs(ratio - 1) <= WITHIN for ratio in medians.values())
        and agree
        and data["cycles_agree"]
        and not data["integrity"],
    }


def show(data: Mapping[str, Any]) -> None:
    """Print the table."""
    print(
        f"vLLM {data['versions']['vllm']}, {BATCH} x {INPUT} in / {OUTPUT} out,"
        f" {len(data['ours_s'])} pairs, {data['cpus']} CPUs"
    )
    print(f"{'':<26}{'ours':>10}{'theirs':>10}{'ratio':>8}{'least':>8}{'most':>8}")
    their_rate = [BATCH * OUTPUT / seconds for seconds in data["theirs_s"]]
    rows = {
        "latency": ("time of a batch, s", data["ours_s"], data["theirs_s"]),
        "throughput": ("output tokens per s", data["ours_tokens_per_s"], their_rate),
    }
    for name, (title, ours, other) in rows.items():
        ratios = data["ratios"][name]
        both = "".join(f"{statistics.median(values):>10.4g}" for values in (ours, other))
        kept = abs(data["median_ratios"][name] - 1) <= WITHIN
        spread = "".join(f"{x:>8.3f}" for x in (data["median_ratios"][name], *_ends(ratios)))
        print(f"{title:<26}{both}{spread}" + ("" if kept else "  NOT WITHIN 10 %"))
    for text, good in {
        "tokens of all cycles are equal": data["cycles_agree"],
        "greedy tokens are equal in both places of the core": data["greedy_agree"],
        "nothing casts doubt on a run": not data["integrity"],
    }.items():
        print(f"{text}: {'yes' if good else 'NO'}")


def _ends(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def main() -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=30, help="default: 30")
    parser.add_argument("--quick", action="store_true", help="10 pairs")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    options = parser.parse_args()
    data = report(10 if options.quick else options.pairs)
    show(data)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if data["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
