"""A session as a user might have it, made up: for reports to show."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Sequence
from typing import Any

from pytest_llem.demands import RunnerSpec
from pytest_llem.metrics import METRICS
from pytest_llem.records import (
    Comparison,
    Failure,
    Figure,
    Measurement,
    Reading,
    Verdict,
    Window,
)
from pytest_llem.reports import html_report
from pytest_llem.reports.document import ExperimentReport, GateReport, NotCompared, Report
from pytest_llem.results.outcome import Outcome
from pytest_llem.results.raw import Series
from pytest_llem.results.statistics import summarise
from pytest_llem.runners import resolve
from tests.builders import DIGEST

__all__ = ["HOSTILE", "experiment", "hostile", "page", "raw", "report", "session"]

HOSTILE = (
    "<script>window.hit=1</script>",
    "</script><img src=x onerror='window.hit=1'>",
    "\"'><svg onload=window.hit=1>",
    "line\nbreak|pipe`tick` $\\frac{1}{2}$ {{ 7*7 }} \x1b[31m\x00",
    "שלום \u202egnorw\u202c 模型",
)
"""Names that break a page, a table or a formula where somebody forgets to escape them."""

STUDY, FILE = "serving", "benchmarks/serving.study.yaml"
GPU = "gpu:GPU-6f2c1a"
SLOWED = (
    "the GPU was slowed down (sw_thermal_slowdown) in 12 % of the samples; cool it better, or lower"
    " its power limit: nvidia-smi -pl"
)
ESTIMATE = "modelled from CPU time; nothing here measures the CPU's energy"


def measurement(
    name: str, cycle: int, *, rate: float, energy_j: float, estimated: bool, noise: random.Random
) -> Measurement:
    """A cycle of a workload of 100 requests with 128 output tokens each."""
    rate *= noise.gauss(1, 0.008)
    energy_j *= noise.gauss(1, 0.012)
    quality: Any = "estimated" if estimated else "ok"
    reason = ESTIMATE if estimated else None
    tokens = 12_800
    duration_s = tokens / rate
    total_j = energy_j * tokens

    def energy(value: float | None) -> Figure:
        if value is None:
            return Figure(value=None, quality="unmeasured", reason="phases: true was not asked for")
        uncertainty = None if estimated else value * 0.003
        return Figure(
            value=value,
            uncertainty=uncertainty,
            systematic=value * (0.5 if estimated else 0.05),
            quality=quality,
            reason=reason,
        )

    idle_w = 4.0 if estimated else 62.0
    ttft_s, tpot_s = 9.0 / rate, 1.3 / rate * 4
    values: dict[str, Figure] = {n: Figure(value=1.0) for n in METRICS}
    values["cpu_steal_share"] = Figure(value=0.0)
    values |= {
        "energy_j": energy(total_j),
        "net_energy_j": energy(total_j - idle_w * duration_s),
        "energy_per_output_token_j": energy(energy_j),
        "power_mean_w": energy(total_j / duration_s),
        "idle_power_w": energy(idle_w),
        "output_tokens_per_s": Figure(value=rate),
        "output_tokens_per_j": energy(1 / energy_j),
        "duration_s": Figure(value=duration_s),
        "carbon_g": energy(total_j / 3.6e6 * 380 * 1.2),
        "cost": energy(total_j / 3.6e6 * 0.31 * 1.2),
        "prefill_energy_per_input_token_j": energy(None),
        "decode_energy_per_output_token_j": energy(None),
        "peak_memory_bytes": Figure(value=31.2e9),
    }
    for family, base in (
        ("ttft", ttft_s),
        ("itl", tpot_s),
        ("tpot", tpot_s),
        ("e2e", base_e2e(rate)),
    ):
        for suffix, factor in zip(
            ("mean", "p50", "p90", "p95", "p99", "max"), (1.1, 1.0, 1.5, 1.7, 2.2, 2.6), strict=True
        ):
            values[f"{family}_{suffix}_s"] = Figure(value=base * factor * noise.gauss(1, 0.02))
    return Measurement(
        experiment=name,
        digest=DIGEST,
        cycle=cycle,
        windows=tuple(_windows(duration_s, total_j, idle_w, estimated)),
        metrics=values,
        tokens={"requests": 100, "input": 51_200, "output": tokens},
        tokens_sha256="e" * 64,
        warnings=(SLOWED,) if name.endswith("-32") and not estimated else (),
        testbed=_testbed(estimated),
        subject={"backend": "vllm", "versions": {"vllm": "0.32.0", "torch": "2.13.0"}},
    )


def base_e2e(rate: float) -> float:
    return 9.0 / rate + 127 * 5.2 / rate


def _testbed(estimated: bool) -> dict[str, Any]:
    if estimated:
        return {"device": "cpu", "cpu": "AMD EPYC 7763", "cpus": 16, "worker": "fresh"}
    return {
        "device": "cuda",
        "cpu": "AMD EPYC 7763",
        "cpus": 64,
        "gpus": ["NVIDIA A100-SXM4-80GB"],
        "gpu_count": 1,
        "power_limits_w": [400.0],
        "driver_branch": "570",
        "worker": "fresh",
    }


def _windows(duration_s: float, total_j: float, idle_w: float, estimated: bool) -> Sequence[Window]:
    power_w = total_j / duration_s

    def read(watts: float, seconds: float) -> tuple[Reading, ...]:
        energy_j = watts * seconds
        return (
            Reading(
                domain="cpu:0" if estimated else GPU,
                meter="estimate" if estimated else "nvml",
                method="estimate" if estimated else "counter",
                energy_j=energy_j,
                uncertainty_j=None if estimated else energy_j * 0.003,
                systematic=0.5 if estimated else 0.05,
                quality="estimated" if estimated else "ok",
                reason=ESTIMATE if estimated else None,
            ),
        )

    plan = [
        ("load", -75.0, 41.0, None),
        ("idle", -33.0, 30.0, idle_w),
        ("warmup", -2.8, 2.6, power_w * 0.8),
        ("measure", 0.0, duration_s, power_w),
        ("close", duration_s + 0.3, 1.2, idle_w * 1.4),
    ]
    return [
        Window(
            phase=phase,
            start_s=5000.0 + start,
            duration_s=length,
            readings=() if watts is None else read(watts, length),
        )
        for phase, start, length, watts in plan
    ]


def raw(outcome: Outcome, seed: int = 1) -> Series:
    """Requests and the power trace of a measurement of :func:`session`."""
    noise = random.Random(f"{outcome.node}{seed}")
    found = outcome.measurement
    assert found is not None
    window = next(w for w in found.windows if w.phase == "measure")

    def spread(metric: str) -> tuple[float, ...]:
        middle = found.metrics[metric].value or 1.0
        return tuple(sorted(middle * noise.lognormvariate(0, 0.3) for _ in range(100)))

    power_w = found.metrics["power_mean_w"].value or 1.0
    times = [window.start_s + 0.1 * i for i in range(int(window.duration_s * 10))]
    trace = (
        {}
        if found.testbed["device"] == "cpu"
        else {
            "GPU-6f2c1a": tuple(
                (at, power_w * (0.55 + 0.5 * min(1.0, (at - times[0]) / 0.6)) + noise.gauss(0, 6))
                for at in times
            )
        }
    )
    return Series(ttft_s=spread("ttft_p50_s"), tpot_s=spread("tpot_p50_s"), trace=trace)


def experiment(
    name: str,
    *,
    backend: str = "vllm",
    batch: int = 1,
    rate: float = 100.0,
    energy_j: float = 0.5,
    estimated: bool = False,
    cycles: int = 3,
    file: str = FILE,
    seed: int = 1,
) -> list[Outcome]:
    """The cycles of an experiment."""
    noise = random.Random(f"{name}{seed}")
    config = {
        "id": name,
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "backend": backend,
        "dtype": "bfloat16",
        "device": "cpu" if estimated else "cuda",
        "batch_size": batch,
        "prompts": {"source": "synthetic", "count": 100, "input_tokens": 512},
        "output_tokens": 128,
    }
    return [
        Outcome(
            study=STUDY,
            file=file,
            node=f"{file}::{name}::c{cycle}",
            experiment=name,
            digest=DIGEST,
            cycle=cycle,
            runner=RunnerSpec(mode="local"),
            finished=f"2026-11-22T14:{cycle:02d}:07+00:00",
            config=config,
            measurement=measurement(
                name, cycle, rate=rate, energy_j=energy_j, estimated=estimated, noise=noise
            ),
        )
        for cycle in range(1, cycles + 1)
    ]


def report(
    outcomes: Sequence[Outcome],
    gates: Sequence[GateReport] = (),
    *,
    comparisons: dict[str, dict[str, Comparison | NotCompared]] | None = None,
    **fields: Any,
) -> Report:
    """A report of some outcomes."""
    grouped: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        grouped.setdefault((outcome.study, outcome.file, outcome.experiment), []).append(outcome)
    base = Report(
        schema_version=1,
        session="20261122T140003Z-9c1e",
        exit_status=1 if any(gate.outcome == "failed" for gate in gates) else 0,
        environment={
            "pytest_llem": "0.1.0",
            "python": "3.12.4",
            "system": "Linux-6.8.0-x86_64-with-glibc2.39",
            "git": {"commit": "52c165507b9d2b2bd9c", "dirty": True},
            "carbon": {
                "intensity_g_per_kwh": 380.0,
                "pue": 1.2,
                "price_per_kwh": 0.31,
                "currency": "EUR",
                "source": "Ember 2025, Germany",
            },
        },
        measurements=tuple(outcomes),
        experiments=tuple(
            ExperimentReport(
                study=study,
                file=file,
                experiment=name,
                config=own[0].config,
                cycles=len(own),
                measured=sum(o.measurement is not None for o in own),
                comparisons=(comparisons or {}).get(name, {}),
                doubts=(),
                statistics=summarise([o.measurement for o in own if o.measurement]),
            )
            for (study, file, name), own in grouped.items()
        ),
        notices=(resolve.NOT_DETECTED,),
        skipped_points=(),
        gates=tuple(gates),
    )
    return dataclasses.replace(base, **fields)


def gate(name: str, *verdicts: Verdict, outcome: Any = "passed", file: str = FILE) -> GateReport:
    return GateReport(
        study=STUDY,
        file=file,
        node=f"{file}::{name}::gate",
        experiment=name,
        cycles=3,
        verdicts=verdicts,
        outcome=outcome,
    )


def verdict(metric: str, outcome: Any, reason: str, **fields: Any) -> Verdict:
    base = Verdict(
        metric=metric, outcome=outcome, measured=1.0, limit="", reason=reason, where=f"{FILE}:14"
    )
    return dataclasses.replace(base, **fields)


def session(count: int = 12) -> Report:
    """A sweep over two engines and their batch sizes; some of it failed, one part is estimated.

    Args:
        count: of experiments.
    """
    outcomes: list[Outcome] = []
    gates: list[GateReport] = []
    comparisons: dict[str, dict[str, Comparison | NotCompared]] = {}
    noise = random.Random(7)
    for number in range(count):
        backend = "vllm" if number % 2 else "pytorch"
        step = number // 2
        batch = 2 ** (step % 10)
        extra = f"-seed-{step // 10}" if count > 20 else ""
        name = f"{backend}-batch_size-{batch}{extra}"
        # One is the faster at each batch size; the other needs less energy at the greatest.
        estimated = number == 10
        rate = 42 * (2.4 if backend == "vllm" else 1.0) * batch**0.78 * noise.uniform(0.85, 1.15)
        energy_j = 0.2 + (3.4 / batch**0.5 if backend == "vllm" else 4.2 / batch**0.74)
        energy_j *= noise.uniform(0.95, 1.05)
        outcomes += experiment(
            name, backend=backend, batch=batch, rate=rate, energy_j=energy_j, estimated=estimated
        )
        change = noise.gauss(0, 0.02) if number != 5 else 0.118
        found = Comparison(
            reference=energy_j / (1 + change),
            sessions=5,
            noise=0.021,
            detectable=0.067,
            change=change,
            outcome="worse" if number == 5 else "kept",
            text=f"{energy_j * 1000:.0f} mJ, {abs(change) * 100:.1f} %"
            f" {'worse' if change > 0 else 'better'} than {energy_j / (1 + change) * 1000:.0f} mJ"
            " (median of 5 references), noise 2.1 %, budget 5 %; finds 6.7 % or more;"
            " with vllm 0.31.2 → 0.32.0",
        )
        metric = "energy_per_output_token_j"
        if estimated:
            text = "estimated, not measured, so not judged; --llem-allow-estimated judges it"
            gates.append(gate(name, verdict(metric, "skipped", text), outcome="skipped"))
            comparisons[name] = {metric: NotCompared(text="no reference to compare with")}
        elif number == 5:
            gates.append(
                gate(
                    name, verdict(metric, "failed", found.text, comparison=found), outcome="failed"
                )
            )
        elif number == 2:
            text = "0.894 s > 0.500 s, +78.8 % (median of 3)"
            gates.append(gate(name, verdict("ttft_p95_s", "failed", text), outcome="failed"))
            comparisons[name] = {metric: found}
        else:
            gates.append(gate(name, verdict(metric, "passed", found.text, comparison=found)))
    if count > 6:
        crashed = outcomes[3 * 6]
        outcomes[3 * 6] = dataclasses.replace(
            crashed,
            measurement=None,
            failure=Failure(
                kind="crashed",
                message="the worker ran out of the GPU's memory in the phase load",
                fix="lower batch_size, or gpu_memory_utilization under vllm:",
                log_tail="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
                "GPU 0 has a total capacity of 79.25 GiB of which 1.31 GiB is free.",
            ),
        )
    return report(outcomes, gates, comparisons=comparisons)


def hostile() -> Report:
    """The session, and experiments, errors and notes that break what doesn't escape them."""
    base = session(2)
    outcomes, gates = list(base.measurements), list(base.gates)
    for number, name in enumerate(HOSTILE):
        outcomes += experiment(name, rate=100.0 + number, energy_j=0.9, file=f"{name}.study.yaml")
        text = f"{name}: {name}"
        gates.append(
            gate(
                name,
                verdict("energy_j", "failed", text, where=name),
                outcome="failed",
                file=f"{name}.study.yaml",
            )
        )
        broken = Failure(kind="raised", message=name, fix=name, log_tail=name)
        outcomes.append(
            dataclasses.replace(
                outcomes[-1],
                experiment=f"{name} broken",
                node=name,
                measurement=None,
                failure=broken,
            )
        )
    return report(
        outcomes,
        gates,
        notices=HOSTILE,
        session=HOSTILE[0],
        environment={**base.environment, "system": HOSTILE[2]},
    )


@functools.cache
def page(which: str) -> str:
    """The HTML report of a session of so many experiments, or of the ``hostile`` one.

    Made once for all tests of a process: a page takes seconds.
    """
    found = hostile() if which == "hostile" else session(int(which))
    series = {key: raw(outcome) for key, outcome in html_report.wanted(found).items()}
    return html_report.page(found, series)
