"""What the fields of a report mean: for its JSON Schema, and for the tables of report.md.

A key is ``Class.field``, or ``field`` where it means the same in every class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["WORDS", "plain"]

_MISSING = "null where it could not be read"

WORDS: Mapping[str, str] = {
    # --- everywhere ------------------------------------------------------------------------
    "study": "name of the study",
    "file": "path of the study",
    "node": "pytest's id of the test",
    "experiment": "name of the experiment",
    "digest": "[digest](study.md#the-digest) of the experiment",
    "cycle": "which repetition, from 1",
    "domain": "what was read: `gpu:<uuid>`, `cpu:0`, `dram:0`",
    "meter": "who read it",
    "method": "how: `counter`, `power` or `estimate`",
    "systematic": "relative systematic uncertainty: 0.5 is 50 %",
    "quality": "`ok`, `short`, `degraded`, `shared`, `estimated` or `unmeasured`",
    "reason": "why the quality isn't `ok`",
    # --- the report ------------------------------------------------------------------------
    "Report.schema_version": "1; raised when a field changes its meaning or goes away",
    "Report.session": "name of the session's directory",
    "Report.exit_status": "pytest's exit status when the report was written",
    "Report.environment": "the [host](#environment)",
    "Report.measurements": "an [outcome](#outcome) for each measurement, in the order they ended;"
    " of a cycle that was run again there are several, and the last counts",
    "Report.experiments": "[statistics](#experiments) over the cycles",
    "Report.notices": "what was said about runners, settings, order, and what was"
    " [resumed](resume.md)",
    "Report.skipped_points": "[points of grids](#skipped-points) that could not be measured",
    "Report.gates": "[verdicts](#gates)",
    "Report.merged_from": "in a [merged](scale.md#one-pytest-per-host-and-their-reports-merged)"
    " report `session`, `exit_status` and `environment` of each session; in a session's own empty."
    " What `environment` above doesn't say alike for all is null there",
    "MergedFrom.session": "name of the session",
    "MergedFrom.exit_status": "of its pytest",
    "MergedFrom.environment": "its host",
    "Report.redacted": "whether names of hosts and users, and paths, were left out",
    "Report.extra": "what [hooks](#hooks) of yours added",
    "Environment.pytest_llem": "version of pytest-llem",
    "Environment.python": "version of Python that ran pytest",
    "Environment.system": "operating system",
    "Environment.git": "`commit` and whether it was `dirty`, of the project; null where there is"
    " none",
    "Environment.carbon": "the [settings](reference.md#lem-configyaml-carbon) that `carbon_g` and"
    " `cost` are made with, null where not set",
    "Git.commit": "hash of the commit",
    "Git.dirty": "whether files were changed since",
    "SkippedPoint.reasons": "each as `file:line: why`",
    # --- outcomes --------------------------------------------------------------------------
    "Outcome.runner": "[where it ran](runners.md), and who said so",
    "Outcome.finished": "when, in UTC, ISO 8601",
    "Outcome.config": "the experiment's [fields](reference.md#fields-of-an-experiment), defaults"
    " included",
    "Outcome.measurement": "the [measurement](#measurement)",
    "Outcome.failure": "why there is none",
    "Outcome.skipped": "the reason why none was made",
    "Outcome.raw": "file below the session's directory with the times of every request and the"
    " power trace; in a merged report it begins with that directory's name",
    "Outcome.gap": "what came of the [rest](study.md#gaps) before it; null where none was due",
    "Outcome.place": "what its runner tells of where the worker ran: of a"
    " [container](containers.md#how-a-container-is-run) its image, daemon, user, network, limits,"
    " restarts; its `lease`: the `gpus`, whether it had the host `alone`, the seconds it"
    " `waited_s`, and in `unshared` why others may [not know of it](scale.md#leases) or null;"
    " `python`, the interpreter where it isn't that of pytest; `not_forked` with the reason why a"
    " worker that was to be [forked](runners.md#kinds-of-workers) is fresh; of [another"
    " host](scale.md#one-pytest-workers-by-ssh) its name as `host`, and as `raw` why a raw file"
    " isn't here",
    "Outcome.arm": "of an [A/B comparison](compare.md#ab-base-and-head-in-one-session) `base` or"
    " `head`; null elsewhere",
    "Outcome.session": "in a [merged](scale.md#one-pytest-per-host-and-their-reports-merged) report"
    " the session that it was made in; null in a session's own",
    "Outcome.skip_wanted": "skipped because a fixture or a marker of the user said so",
    "Outcome.resumed": "the [earlier session](resume.md) that measured it; null where this one did",
    "RunnerSpec.mode": "`local`, `docker` or another runner's name",
    "RunnerSpec.argument": "what stood behind its name and a colon",
    "RunnerSpec.image": "of a container",
    "RunnerSpec.source": "[who chose it](runners.md#which-runner-a-backend-gets)",
    "RunnerSpec.image_source": "[who chose the image](runners.md#images)",
    "Failure.kind": "one of [these](runners.md#kinds-of-failure)",
    "Failure.message": "what happened",
    "Failure.fix": "what to do about it; empty where nobody knows",
    "Failure.log_tail": "the end of the worker's log",
    "FixedGap.mode": "`fixed` or `thermal`",
    "FixedGap.waited_s": "how long it was",
    "ThermalGap.idle_c": "temperature to come back to; null where none can be read",
    "ThermalGap.before_c": f"temperature before it; {_MISSING}",
    "ThermalGap.after_c": f"temperature after it; {_MISSING}",
    "ThermalGap.reached": "whether the device had cooled down",
    "ThermalGap.reason": "why not",
    # --- measurements ----------------------------------------------------------------------
    "Measurement.windows": "the [phases](#window) that took place, in order",
    "Measurement.metrics": "every [metric](methodology.md#metrics) to a [figure](#figure)",
    "Measurement.tokens": "`requests`, `input` and `output`: counts of the measured window",
    "Measurement.tokens_sha256": "over all token ids of the workload's first run: equal output has"
    " equal digests",
    "Measurement.repeats": "runs of the workload in the measured window; `energy_j` and"
    " `duration_s` are those of one",
    "Measurement.precision": "what came of `precision`; null where none was asked for",
    "Measurement.prefill": "`repeats` and `input_tokens` of the window `prefill`; null where there"
    " is none",
    "Measurement.warmup": "what the warm-up came to; null for none",
    "Measurement.traffic": "[how requests came](#traffic); null with the scenario `offline`",
    "Measurement.stages": "[where their time went](#stages); null in reports of versions that"
    " didn't have it",
    "Measurement.integrity": "what casts doubt on the figures; empty when all is well",
    "Measurement.warnings": "what to know beside the figures: a warm-up that ended early, an idle"
    " power that doesn't hold, a precision out of reach,"
    " [conditions](methodology.md#conditions) out of the ordinary",
    "Measurement.idle": "the [idle power](#idle-power) that the figures are made with; null with"
    " `idle: none`",
    "Measurement.testbed": "[what two measurements must share](#testbed) to be comparable",
    "Measurement.subject": "what was measured: `backend`, `versions`, `digest`, `engine` (what the"
    " engine says of itself)",
    "Measurement.conditions": "[conditions](#conditions) on the GPUs; empty on other devices",
    "Measurement.trace": "what the [power trace](methodology.md#power-trace) saw over the window;"
    " null on other devices",
    "Measurement.meters": "by meter and domain what was found out of its counter: on NVIDIA GPUs"
    " `method`, `period_s` and `step_j` of the counter, `sees` (`all`, `part` or `unknown` of the"
    " time), `instant_power`; without a counter `span_s`, over which power readings are means",
    "Measurement.workload": "[where its prompts come from](#workload)",
    "Measurement.model": "[facts of the model](#model)",
    "Measurement.derived": "figures made of these facts and of metrics; no gate judges them:"
    " `energy_per_flop_j`, `output_tokens_per_s_bound`, `bandwidth_share` (of that bound; 1 is all"
    " of it). See [methodology.md](methodology.md#facts-of-the-model)",
    "Tokens.requests": "requests that were answered",
    "Tokens.input": "tokens of their prompts",
    "Tokens.output": "tokens of their answers",
    "Window.phase": "`load`, `idle`, `warmup`, `pilot`, `ramp`, `measure`, `drain`, `prefill` or"
    " `close`; there may be several pilots",
    "Window.start_s": "seconds of the worker's monotonic clock; only differences mean something",
    "Window.duration_s": "seconds",
    "Window.readings": "energy of each domain; none for `load`, `ramp` and `drain`",
    "Reading.energy_j": "joules over the window",
    "Reading.uncertainty_j": "standard uncertainty in joules, without the systematic part",
    "Reading.before_w": "mean power just before the window; null where the meter didn't observe it",
    "Reading.to_idle": "energy until the device drew that again; null where the meter doesn't watch"
    " that",
    "ToIdle.above_j": "energy above `before_w`, from the window's start",
    "ToIdle.uncertainty_j": "its standard uncertainty",
    "ToIdle.settled_s": "time from the window's end until then",
    "ToIdle.reason": "why it isn't known",
    "Figure.value": "in the unit that the metric's name ends in",
    "Figure.uncertainty": "standard uncertainty in the same unit, without the systematic part; null"
    " where it isn't known",
    "Figure.systematic": "systematic part in the same unit, the same in each cycle; null for what"
    " no meter reads",
    "Idle.powers": "for each domain `domain`, `meter`, `method`, `power_w`, `uncertainty_w`,"
    " `systematic` (relative), `quality`, `reason`",
    "Idle.duration_s": "how long it was measured",
    "Idle.age_s": "from the end of that to the beginning of the measured window",
    "Idle.origin": "the measurement it was made in, `<experiment> c<cycle>`; null for this one",
    "Idle.drifted": "a device drew something else just before the window; `warnings` tells what",
    "IdlePower.power_w": "mean power in watts",
    "IdlePower.uncertainty_w": "standard uncertainty in watts, without the systematic part",
    "Precision.asked": "relative uncertainty that was asked for",
    "Precision.reached": "the one of the measured window; null where it can't be told",
    "Precision.tries": "long windows; 0 where the pilot was enough",
    "Precision.why_not": "why it wasn't reached; null where it was",
    "Prefill.repeats": "how often the prompts were run",
    "Prefill.input_tokens": "their tokens, all runs together",
    "WarmUp.batches": "how many were made",
    "WarmUp.stable": "with `until_stable`: whether the last batches' times no longer changed",
    "WarmUp.variation": "their standard deviation, relative to their mean",
    "WarmUp.drift": "slope of a line through them, per batch and relative to their mean",
    "TraceSummary.peak_w": "greatest power of all the experiment's own devices together",
    "TraceSummary.temperature_max_c": "temperature of the warmest of them",
    "TraceSummary.samples": "how many samples lie in the window",
    "TraceSummary.reason": "why a figure is null",
    # --- how requests came -----------------------------------------------------------------
    "Traffic.scenario": "`poisson` or `concurrency`",
    "Traffic.asked": "requests a second, or requests in flight",
    "Traffic.requests": "all that were made, ramp and drain included",
    "Traffic.counted": "those that the latencies are of",
    "Traffic.arrivals_per_s": "mean rate of the submissions, from the run's beginning to the last"
    " one",
    "Traffic.late_s": "the longest time that one was submitted after it was due; null with"
    " `concurrency`",
    "Traffic.in_flight_max": "most requests in flight at a time",
    "Traffic.in_flight": "requests in flight at the beginning and at the end of the window",
    "Traffic.steady_from_s": "when the run became steady; the window `measure` lies within; null"
    " where it never was",
    "Traffic.steady_to_s": "when it no longer was",
    "Traffic.reason": "why no figure is made of the window",
    "Stages.queue_s": "from submission until the engine began to compute it",
    "Stages.prefill_s": "from there to its first token",
    "Stages.decode_s": "from its first token to its last",
    "Stages.reason": "why stages are null: not every engine tells when it began with a request",
    "Spread.mean": "mean in seconds",
    "Spread.p50": "50th percentile",
    "Spread.p90": "90th percentile",
    "Spread.p95": "95th percentile",
    "Spread.p99": "99th percentile",
    "Spread.max": "maximum",
    # --- what it ran on, and of what -------------------------------------------------------
    "Testbed.device": "`cuda`, `cpu`, `mps`",
    "Testbed.cpu": "name of the processor",
    "Testbed.cpus": "logical processors that the worker might use",
    "Testbed.system": "operating system and architecture",
    "Testbed.meters": "meters that read, each with its domains",
    "Testbed.worker": "[kind of worker](runners.md#kinds-of-workers): `fresh`, `forked`, `reuse`",
    "Testbed.gpus": "on GPUs: their names",
    "Testbed.gpu_count": "on GPUs: how many",
    "Testbed.power_limits_w": f"on GPUs: their limits in force; {_MISSING}",
    "Testbed.driver_branch": "on GPUs: first part of the driver's version",
    "Testbed.mig": "on GPUs: whether one is divided into instances",
    "Subject.backend": "name of the backend",
    "Subject.versions": "packages of the engine and their versions",
    "Subject.engine": "what the engine says of itself",
    "Workload.source": "`synthetic`, or the file's name",
    "Workload.tokenizer": "what made token ids of text: `bytes`, or its class; null for none",
    "Workload.sha256": "of the file",
    "Workload.input_tokens": "lengths of the prompts: `min`, `median`, `max`",
    "Workload.equal_prompts": "of a file: prompts that are equal to one before them",
    "Workload.left_out": "of a file: conversations without a prompt",
    "Lengths.min": "of the shortest",
    "Lengths.median": "of half of them at most",
    "Lengths.max": "of the longest",
    "UnknownModel.source": "where the configuration is from; null where there is none",
    "UnknownModel.reason": "why nothing more is known",
    "Model.source": "where the configuration is from: `engine`, `directory`, `hub`",
    "Model.reason": "null; where nothing is known of a model this says why, and only `source` is"
    " beside it",
    "Model.family": "its `model_type`",
    "Model.parameters": "all of them, a tied table once",
    "Model.active_parameters": "those that take part in one token",
    "Model.embedding_parameters": "of them, tables that are looked up: of tokens, and of learned"
    " positions",
    "Model.dtype": "of the weights; null where they differ or aren't told",
    "Model.kv_dtype": "of the cache; null where it isn't told",
    "Model.weights_bytes": "null where the weights are quantised",
    "Model.kv_bytes_per_token": "keys and values of one token in all layers",
    "Model.sliding_layers": "layers that look back on so many tokens only, and keep no more",
    "Model.sliding_window": "how many",
    "Model.context_tokens": "mean length of the prompts, which the next two are for",
    "Model.prefill_flops_per_token": "operations for a prompt of that length, divided by it",
    "Model.decode_flops_per_token": "operations for the token after the first one",
    "Model.flops": "operations for one run of the workload",
    "Conditions.driver": "version of the driver",
    "Conditions.before": "a [state](#state-of-a-gpu) of each GPU, before the window",
    "Conditions.after": "the same after it",
    "Conditions.waited_s": "how long others were waited for before the engine was loaded",
    "Conditions.trace_cpu_s": "CPU time that the power trace took",
    "Conditions.seat": "`checked`: the engine's processes are on its own GPUs and on no other; or"
    " `unchecked` and why; null where the engine was loaded for an earlier measurement",
    "Conditions.unchecked": "what could not be checked, and why; null where all was",
    "Conditions.reason": "why a look was not possible; null where both were",
    "GpuState.gpu": "its number, as nvidia-smi shows it",
    "GpuState.uuid": "its UUID",
    "GpuState.name": "its model",
    "GpuState.at_s": "when, by the clock of the windows",
    "GpuState.temperature_c": "of the chip",
    "GpuState.sm_clock_mhz": "clock of the moment",
    "GpuState.memory_clock_mhz": "the same of its memory",
    "GpuState.events": "why the clocks aren't higher",
    "GpuState.power_limit_w": "the limit in force",
    "GpuState.power_limit_default_w": "the board's own",
    "GpuState.persistence": "persistence mode",
    "GpuState.memory_used_bytes": "without what the driver itself holds, where it tells that apart",
    "GpuState.utilisation": "share of time in which something computed, 0 to 1",
    "GpuState.mig": "divided into instances",
    "GpuState.processes": "`pid` and `memory_bytes` of each process with a context for computing",
    "GpuState.unread": "each field that could not be read, to the reason",
    "GpuProcess.pid": "its id",
    "GpuProcess.memory_bytes": "its memory; null where NVML doesn't tell",
    # --- what follows from it --------------------------------------------------------------
    "ExperimentReport.experiment": "name of the experiment; of cycles on several testbeds each has"
    " an entry of its own, with the difference behind its name",
    "ExperimentReport.arm": "of an [A/B comparison](compare.md#ab-base-and-head-in-one-session):"
    " `base` or `head`, a row for each",
    "ExperimentReport.config": "its [fields](reference.md#fields-of-an-experiment), defaults"
    " included; null where no cycle has an outcome",
    "ExperimentReport.cycles": "cycles of the experiment that have an outcome",
    "ExperimentReport.measured": "how many of them are measurements",
    "ExperimentReport.comparisons": "with `--llem-compare` or `--llem-ab`: speed and energy beside"
    " [earlier sessions](compare.md) or the base, where no gate judged them: a"
    " [comparison](#comparison), or only `text`, why there is none",
    "ExperimentReport.doubts": "what speaks against its figures: too few cycles, scatter, drift;"
    " see [methodology.md](methodology.md#cycles-and-statistics)",
    "ExperimentReport.statistics": "each metric to a [summary](#summary); empty when nothing was"
    " measured",
    "Summary.n": "cycles it is of",
    "Summary.median": "median over the cycles",
    "Summary.mean": "mean over the cycles",
    "Summary.stdev": "sample standard deviation; null of a single cycle",
    "Summary.low": "lower end of an [interval](methodology.md#cycles-and-statistics) for the"
    " median",
    "Summary.high": "its upper end",
    "Summary.confidence": "probability that the median lies in it",
    "GateReport.cycles": "cycles that were judged",
    "GateReport.limits": "what was judged",
    "Limit.metric": "which metric",
    "Limit.least": "at least; null for no such limit, as the next two",
    "Limit.most": "at most",
    "Limit.regression": "how much worse than the reference it may be, relative",
    "Limit.where": "`file:line` of the study; empty where an option asked",
    "GateReport.verdicts": "one for each limit",
    "GateReport.outcome": "`passed`, `failed` or `skipped`",
    "Verdict.metric": "which metric; `cycles` for a verdict on the cycles as such",
    "Verdict.outcome": "`passed`, `failed` or `skipped`",
    "Verdict.measured": "median of the cycles",
    "Verdict.limit": "what was asked",
    "Verdict.reason": "what came of it, for people",
    "Verdict.where": "`file:line` of the study; empty where an option asked",
    "Verdict.comparison": "with earlier sessions; null where a limit was judged",
    "Comparison.reference": "median of the sessions' medians, or of the base's cycles, in the"
    " metric's unit",
    "Comparison.sessions": "how many sessions it is compared with; 0 for a base",
    "Comparison.outcome": "`kept`, `worse` beyond noise, `within noise` over the budget, or"
    " `inconclusive`",
    "Comparison.text": "the same for people",
    "Comparison.change": "relative: 0.1 is 10 % more; null where it is inconclusive, as the next"
    " two",
    "Comparison.noise": "standard error of the change's logarithm",
    "Comparison.detectable": "the smallest worsening that would fail four times in five, relative",
    "Comparison.pairs": "of base and head; null for sessions, as the next two",
    "Comparison.low": "lower end of the 95 % interval for the change",
    "Comparison.high": "its upper end",
    "NotCompared.text": "why there is no comparison",
    "Experiment.options": "options of the engine: what stands under the backend's name",
}

_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def plain(text: str) -> str:
    """A meaning without the links of the page."""
    return _LINK.sub(r"\1", text)
