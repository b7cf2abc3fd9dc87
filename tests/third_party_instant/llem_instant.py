"""A third party's runner that has its measurements at once: no process, no engine, no wait.

For tests of what pytest does with measurements, of which they make thousands. Each is noted in the
file that LLEM_INSTANT_DIARY names, on the disk before it is answered.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Abilities, Engine, Launch
from pytest_llem.metrics import METRICS
from pytest_llem.records import Figure, Measurement, Window
from pytest_llem.wire import PROTOCOL, checksum, to_dict

_METRICS = {name: Figure(value=float(name != "cpu_steal_share")) for name in METRICS}
_NONE = Figure(value=None, quality="unmeasured", reason="there is no model")
_DERIVED = dict.fromkeys(
    ("energy_per_flop_j", "output_tokens_per_s_bound", "bandwidth_share"), _NONE
)


class InstantBackend:
    """No engine is ever loaded."""

    name = "instant"
    install = "pip install llem-instant"
    abilities = Abilities()

    def versions(self) -> Mapping[str, str | None]:
        return {"llem-instant": "1.0"}

    def preload(self) -> None:
        """Nothing is heavy here."""

    def load(self, experiment: Experiment) -> Engine:
        raise NotImplementedError


class InstantRunner:
    """Starts nothing."""

    name = "instant"

    def start(self, launch: Launch) -> InstantTransport:
        launch.log.touch()
        return InstantTransport()


class InstantTransport:
    """A worker that answers before anybody could wait for it."""

    def __init__(self) -> None:
        versions = {"llem-instant": "1.0"}
        self._frames = [
            {"frame": "hello", "protocol": PROTOCOL, "versions": versions, "install": ""}
        ]

    def send(self, data: bytes) -> None:
        for line in data.splitlines():
            frame = json.loads(line)
            if frame["frame"] == "request":
                self._frames += _answers(frame)

    def receive(self, timeout_s: float) -> bytes | None:
        if not self._frames:
            return b""
        return json.dumps(self._frames.pop(0)).encode() + b"\n"

    def wait(self, timeout_s: float) -> int | None:
        return 0

    def stop(self, grace_s: float) -> None:
        """Nothing is left."""

    def log_size(self) -> int:
        return 0

    def log_tail(self, lines: int) -> str:
        return ""


def _answers(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    name, cycle = request["experiment"]["id"], request["cycle"]
    with Path(os.environ["LLEM_INSTANT_DIARY"]).open("a") as diary:
        diary.write(f"{name} {cycle}\n")
    made = Measurement(
        experiment=name,
        digest=request["digest"],
        cycle=cycle,
        windows=(Window(phase="measure", start_s=0.0, duration_s=1.0),),
        metrics=_METRICS,
        tokens={"requests": 1, "input": 1, "output": 1},
        tokens_sha256="0" * 64,
        derived=_DERIVED,
        workload={
            "source": "synthetic",
            "tokenizer": None,
            "sha256": None,
            "input_tokens": {"min": 1, "median": 1.0, "max": 1},
        },
        model={"source": None, "reason": "there is none"},
        testbed={
            "device": "cpu",
            "cpu": "none",
            "cpus": 1,
            "system": "none",
            "meters": {},
            "worker": request["worker"],
        },
        subject={
            "backend": "instant",
            "versions": {"llem-instant": "1.0"},
            "digest": request["digest"],
            "engine": {},
        },
    )
    timing = {"submitted_s": 0.0, "token_s": [1.0], "input_tokens": 1, "output_tokens": 1}
    data = to_dict(made)
    return [
        {"frame": "series", "requests": [timing]},
        {"frame": "result", "measurement": data, "sha256": checksum(data)},
    ]
