"""The keys of a study that are no fields of its experiments, and the user's own settings.

Like an experiment's, their rules stand in their types and their help in their ``metadata``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pytest_llem.experiment import Warmup
from pytest_llem.rules import (
    FORBID_UNKNOWN,
    Count,
    Factor,
    Flag,
    Name,
    Rule,
    Seconds,
    SecondsOrZero,
    Seed,
    Text,
    described,
)
from pytest_llem.study.schedule import Order

__all__ = [
    "BETWEEN_CYCLES_S",
    "BETWEEN_EXPERIMENTS_S",
    "Carbon",
    "DockerSettings",
    "Execution",
    "Gaps",
    "Requires",
    "ThermalGaps",
    "UserConfig",
]

BETWEEN_EXPERIMENTS_S = 60.0
BETWEEN_CYCLES_S = 300.0

_Percent = Annotated[float, Rule(gt=0, allow_inf_nan=False, strict=True)]
_Whole = Annotated[int, Rule(strict=True)]
_CountOrZero = Annotated[int, Rule(ge=0, strict=True)]
_Size = Annotated[str, Rule(pattern=r"^[0-9]+[kKmMgG]?[bB]?$", strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Rest before a measurement; where experiment and cycle both change the longer counts."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    between_experiments: SecondsOrZero = described(
        BETWEEN_EXPERIMENTS_S, "seconds before another experiment"
    )
    between_cycles: SecondsOrZero = described(BETWEEN_CYCLES_S, "seconds before another cycle")
    mode: Literal["thermal", "fixed"] = described(
        "thermal", "thermal: at most so long, until the device is as cool as when idle"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How often and in which order the experiments of a study are measured."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    cycles: Count = described(3, "repetitions of each experiment")
    order: Order = described(
        "interleaved",
        "interleaved: A1 B1 A2 B2; sequential: A1 A2 B1 B2; shuffled: each cycle in another"
        " random order; latin_square: each experiment follows each other equally often",
    )
    seed: Seed = described(42, "seed of the shuffled order")
    gaps: Literal["thermal", "none"] | SecondsOrZero | Gaps = described(
        "thermal", "rest between measurements: until cool, none, seconds, or both in detail"
    )
    skip_preflight: Flag | None = described(None, "start containers without looking first")
    max_failures: Count | None = described(
        None, "failed measurements of a backend after which its others of the study are skipped"
    )
    time_budget_s: Seconds | None = described(
        None, "no measurement is started that would end later than this after the study began"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Requires:
    """What a host must have; measurements that need more than it has are skipped."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    gpus: Count | None = described(None, "number of NVIDIA GPUs, at least")
    gpu_memory_bytes: Count | None = described(None, "memory of each of these GPUs, at least")
    gpu_name: Text | None = described(None, "text that the name of each of these GPUs holds")
    backends: tuple[Text, ...] = described((), "backends whose engines are installed here")
    power_limit_w: Factor | None = described(None, "power limit of each of these GPUs, to 1 W")
    docker: Flag = described(False, "containers can be started")


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerSettings:
    """How containers are run. What isn't set is left to the user's settings, then to defaults."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    strategy: Literal["ephemeral", "persistent"] | None = described(
        None, "ephemeral: a container for each measurement; persistent: one for each backend"
    )
    pull: Literal["missing", "never"] | None = described(None, "whether images are fetched")
    warmup_delay: SecondsOrZero | None = described(None, "seconds to wait after a start")
    auto_teardown: Flag | None = described(None, "remove the containers at the session's end")
    max_restarts: _CountOrZero | None = described(None, "restarts of a container that is unwell")
    gpu_memory_threshold_pct: _Percent | None = described(
        None, "GPU memory in use above which a container is unwell"
    )
    skip_preflight: Flag | None = described(None, "start containers without looking first")
    user: Text | None = described(None, "user in the container: uid[:gid]")
    read_only: Flag | None = described(None, "root directory read-only")
    network: Text | None = described(None, "network: none, host, bridge or a name")
    shm_size: _Size | None = described(None, "shared memory, for example 8g")
    ipc: Text | None = described(None, "ipc namespace: private or host")
    ulimits: Mapping[Name, _Whole] | None = described(None, "limits of processes; -1 for none")
    volumes: tuple[Text, ...] | None = described(None, "binds, host:container[:ro]")


# --- .lem-config.yaml ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ThermalGaps:
    """Longest rests of the mode ``thermal``."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    between_experiments: SecondsOrZero = described(
        BETWEEN_EXPERIMENTS_S, "seconds before another experiment, at most"
    )
    between_cycles: SecondsOrZero = described(
        BETWEEN_CYCLES_S, "seconds before another cycle, at most"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Carbon:
    """What a joule costs here."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    intensity_g_per_kwh: Factor | None = described(None, "grams of CO2 equivalent per kWh")
    pue: Annotated[float, Rule(ge=1, allow_inf_nan=False, strict=True)] | None = described(
        None, "power usage effectiveness of the data centre; 1 if not set"
    )
    price_per_kwh: Factor | None = described(None, "price of a kWh, in any currency")
    currency: Text | None = described(None, "of the price, as reports are to show it: EUR")
    source: Text | None = described(None, "where these numbers are from, for reports to say")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserConfig:
    """A user's own defaults, below what a study and the project's ini file say."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    runners: Mapping[str, Text] = field(
        default_factory=dict, metadata={"description": "backend to runner"}
    )
    images: Mapping[str, Text] = field(
        default_factory=dict, metadata={"description": "backend to container image"}
    )
    thermal_gaps: ThermalGaps = described(ThermalGaps(), "longest rests of the mode thermal")
    docker: DockerSettings = described(
        DockerSettings(), "strategy, warmup_delay, auto_teardown, max_restarts, skip_preflight"
    )
    default_backend: Text = described("pytorch", "backend of studies that name none")
    results_dir: Text | None = described(
        None, "where results go, relative to the root directory; results if not set"
    )
    cycles: Count | None = described(None, "repetitions where a study doesn't say")
    warmup: Warmup | Literal["none"] | None = described(None, "warm-up where a study doesn't say")
    carbon: Carbon = described(Carbon(), "what a joule costs here")
