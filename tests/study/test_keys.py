"""Every key of a study and of the user's settings: its default, what it takes and refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pytest_llem.experiment import Warmup
from pytest_llem.study.keys import (
    Carbon,
    DockerSettings,
    Execution,
    Gaps,
    Requires,
    ThermalGaps,
    UserConfig,
)
from pytest_llem.study.schema import validate
from pytest_llem.study.yaml_lines import Key

DEFAULTS: dict[type, dict[str, Any]] = {
    Execution: {
        "cycles": 3,
        "order": "interleaved",
        "seed": 42,
        "gaps": "thermal",
        "skip_preflight": None,
        "max_failures": None,
        "time_budget_s": None,
    },
    Gaps: {"between_experiments": 60.0, "between_cycles": 300.0, "mode": "thermal"},
    Requires: {
        "gpus": None,
        "gpu_memory_bytes": None,
        "gpu_name": None,
        "backends": (),
        "power_limit_w": None,
        "docker": False,
    },
    DockerSettings: dict.fromkeys(
        [
            "strategy",
            "pull",
            "warmup_delay",
            "auto_teardown",
            "max_restarts",
            "gpu_memory_threshold_pct",
            "skip_preflight",
            "user",
            "read_only",
            "network",
            "shm_size",
            "ipc",
            "ulimits",
            "volumes",
        ]
    ),
    ThermalGaps: {"between_experiments": 60.0, "between_cycles": 300.0},
    Carbon: dict.fromkeys(["intensity_g_per_kwh", "pue", "price_per_kwh", "currency", "source"]),
    UserConfig: {
        "runners": {},
        "images": {},
        "thermal_gaps": ThermalGaps(),
        "docker": DockerSettings(),
        "default_backend": "pytorch",
        "results_dir": None,
        "cycles": None,
        "warmup": None,
        "carbon": Carbon(),
    },
}


@pytest.mark.parametrize("record", DEFAULTS)
def test_where_nothing_is_said_the_defaults_hold(record: Any) -> None:
    found, problems = validate(record, {})
    assert problems == []
    assert {f.name: getattr(found, f.name) for f in dataclasses.fields(record)} == DEFAULTS[record]


TAKEN: list[tuple[Any, str, Any, Any]] = [
    (Execution, "cycles", 1, 1),
    *(
        (Execution, "order", order, order)
        for order in ("sequential", "shuffled", "latin_square", "interleaved")
    ),
    (Execution, "seed", 0, 0),
    (Execution, "gaps", "none", "none"),
    (Execution, "gaps", 0, 0.0),
    (Execution, "gaps", 2.5, 2.5),
    (Execution, "gaps", {"between_cycles": 1}, Gaps(between_cycles=1.0)),
    (Execution, "skip_preflight", True, True),
    (Execution, "max_failures", 1, 1),
    (Execution, "time_budget_s", 0.5, 0.5),
    (Gaps, "between_experiments", 0, 0.0),
    (Gaps, "between_cycles", 0, 0.0),
    (Gaps, "mode", "fixed", "fixed"),
    (Requires, "gpus", 2, 2),
    (Requires, "gpu_memory_bytes", 80_000_000_000, 80_000_000_000),
    (Requires, "gpu_name", "H100", "H100"),
    (Requires, "backends", ["vllm", "pytorch"], ("vllm", "pytorch")),
    (Requires, "power_limit_w", 350, 350.0),
    (Requires, "docker", True, True),
    (DockerSettings, "strategy", "ephemeral", "ephemeral"),
    (DockerSettings, "strategy", "persistent", "persistent"),
    (DockerSettings, "pull", "missing", "missing"),
    (DockerSettings, "pull", "never", "never"),
    (DockerSettings, "warmup_delay", 0, 0.0),
    (DockerSettings, "auto_teardown", False, False),
    (DockerSettings, "max_restarts", 0, 0),
    (DockerSettings, "gpu_memory_threshold_pct", 12.5, 12.5),
    (DockerSettings, "skip_preflight", True, True),
    (DockerSettings, "user", "1000:1000", "1000:1000"),
    (DockerSettings, "read_only", False, False),
    (DockerSettings, "network", "host", "host"),
    *((DockerSettings, "shm_size", size, size) for size in ("8g", "512M", "1024", "64kB")),
    (DockerSettings, "ipc", "host", "host"),
    (DockerSettings, "ulimits", {"memlock": -1, "stack": 67108864}, None),
    (DockerSettings, "volumes", ["/data:/data:ro"], ("/data:/data:ro",)),
    (UserConfig, "runners", {"vllm": "docker"}, {"vllm": "docker"}),
    (UserConfig, "images", {"vllm": "img:1"}, {"vllm": "img:1"}),
    (UserConfig, "thermal_gaps", {"between_cycles": 1}, ThermalGaps(between_cycles=1.0)),
    (UserConfig, "docker", {"max_restarts": 1}, DockerSettings(max_restarts=1)),
    (UserConfig, "default_backend", "vllm", "vllm"),
    (UserConfig, "results_dir", "out", "out"),
    (UserConfig, "cycles", 5, 5),
    (UserConfig, "warmup", "none", "none"),
    (UserConfig, "warmup", {"prompts": 2}, Warmup(prompts=2)),
    (UserConfig, "carbon", {"pue": 1}, Carbon(pue=1.0)),
    (Carbon, "intensity_g_per_kwh", 380, 380.0),
    (Carbon, "pue", 1.2, 1.2),
    (Carbon, "price_per_kwh", 0.3, 0.3),
    (Carbon, "currency", "EUR", "EUR"),
    (Carbon, "source", "the grid's own table", "the grid's own table"),
    (ThermalGaps, "between_experiments", 0, 0.0),
    (ThermalGaps, "between_cycles", 5.5, 5.5),
]


@pytest.mark.parametrize(("record", "key", "value", "kept"), TAKEN)
def test_a_key_takes_its_values(record: Any, key: str, value: Any, kept: Any) -> None:
    found, problems = validate(record, {key: value})
    assert problems == []
    assert getattr(found, key) == (value if kept is None else kept)


def test_every_key_has_a_value_here() -> None:
    tried = {(record, key) for record, key, _, _ in TAKEN}
    assert tried == {(record, key) for record, keys in DEFAULTS.items() for key in keys}


NO_COUNTS = (0, -1, 1.5, "3", True, [3])
NO_SECONDS = (-1, "5", True, float("nan"), float("inf"))
REFUSED: list[tuple[Any, str, Any, Key]] = [
    *((Execution, "cycles", value, ()) for value in NO_COUNTS),
    *((Execution, "max_failures", value, ()) for value in NO_COUNTS),
    *((Execution, "seed", value, ()) for value in (-1, 0.5, "1", True)),
    *((Execution, "order", value, ()) for value in ("random", 5, True, ["shuffled"])),
    *((Execution, "gaps", value, ()) for value in (*NO_SECONDS, [1])),
    (Execution, "gaps", {"mode": "warm"}, ("mode",)),
    (Execution, "gaps", {"between_experiment": 1}, ("between_experiment",)),
    (Execution, "skip_preflight", "never", ()),
    *((Execution, "time_budget_s", value, ()) for value in (0, *NO_SECONDS)),
    *((Gaps, "between_cycles", value, ()) for value in NO_SECONDS),
    (Gaps, "mode", "none", ()),
    *((Requires, "gpus", value, ()) for value in NO_COUNTS),
    *((Requires, "gpu_memory_bytes", value, ()) for value in ("80GB", 8e10, 0)),
    *((Requires, "gpu_name", value, ()) for value in ("", 100, ["H100"])),
    (Requires, "backends", "vllm", ()),
    (Requires, "backends", ["vllm", 1], (1,)),
    (Requires, "backends", [""], (0,)),
    *((Requires, "power_limit_w", value, ()) for value in (0, -1, "350 W")),
    (Requires, "docker", "always", ()),
    (DockerSettings, "strategy", "forever", ()),
    (DockerSettings, "pull", "always", ()),
    *((DockerSettings, "warmup_delay", value, ()) for value in NO_SECONDS),
    *((DockerSettings, "max_restarts", value, ()) for value in (-1, 1.5, "3", True)),
    *((DockerSettings, "gpu_memory_threshold_pct", value, ()) for value in (0, -1, "5%")),
    *((DockerSettings, "user", value, ()) for value in (1000, "", True)),
    *((DockerSettings, "shm_size", value, ()) for value in (8, "8x", "-1g", "", "8 g", "8gb\n")),
    (DockerSettings, "ulimits", {"memlock": "much"}, ("memlock",)),
    (DockerSettings, "ulimits", {"mem lock": 1}, ("mem lock",)),
    (DockerSettings, "volumes", "/data:/data", ()),
    (DockerSettings, "volumes", ["/data:/data", 5], (1,)),
    *((UserConfig, "cycles", value, ()) for value in NO_COUNTS),
    *((UserConfig, "results_dir", value, ()) for value in ("", 5, ["a"])),
    (UserConfig, "runners", {"vllm": 5}, ("vllm",)),
    (UserConfig, "images", {"vllm": ""}, ("vllm",)),
    (UserConfig, "warmup", {"prompts": 0}, ("prompts",)),
    (UserConfig, "thermal_gaps", {"mode": "fixed"}, ("mode",)),
    (UserConfig, "carbon", {"pue": 0.9}, ("pue",)),
    *((Carbon, "intensity_g_per_kwh", value, ()) for value in (0, -1, "380")),
    *((Carbon, "price_per_kwh", value, ()) for value in (0, -1, "0.3 EUR")),
    *((ThermalGaps, "between_experiments", value, ()) for value in NO_SECONDS),
]


@pytest.mark.parametrize(("record", "key", "value", "inner"), REFUSED)
def test_a_key_refuses_what_it_can_not_mean_and_says_where(
    record: Any, key: str, value: Any, inner: Key
) -> None:
    found, problems = validate(record, {key: value})
    assert found is None
    assert [place for place, _ in problems] == [(key, *inner)]


@pytest.mark.parametrize("record", DEFAULTS)
def test_a_misspelt_key_is_refused_with_the_nearest(record: Any) -> None:
    name = next(iter(DEFAULTS[record]))
    misspelt = name[:-1] + "x"
    text = f"unknown field; did you mean {name}?"
    assert validate(record, {misspelt: 1}) == (None, [((misspelt,), text)])


@pytest.mark.parametrize(
    ("record", "key", "value"),
    [
        (Execution, "skip_preflight", "false"),
        (Requires, "docker", 1),
        (DockerSettings, "read_only", "no"),
        (DockerSettings, "ulimits", {"memlock": True}),
        (DockerSettings, "ulimits", {"memlock": "5"}),
    ],
)
def test_a_value_of_another_type_is_refused(record: Any, key: str, value: Any) -> None:
    found, _ = validate(record, {key: value})
    assert found is None
