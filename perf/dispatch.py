"""What a measurement costs beyond its phases: by a new worker, a forked one, one that is kept.

Run it with: python perf/dispatch.py [--engine fake|pytorch] [--runs N] [--quick] [--json PATH]
             [--image IMAGE | --rig]

A worker is started and makes one tiny measurement, as the plugin has it done. From the wall time
of that are taken the durations of its windows, and the time of an interpreter that imports the
worker's program. What is left is ours: finding the backend, the archive that the worker imports
from, the frames, ending the process; for ``ephemeral`` the container too, its interpreter and
imports slower on a cold read-only root. All are timed in turn, so that a busy machine slows all.

``forked`` is a worker from a process that has imported the engine; the first one, which starts
that process, isn't counted. ``reuse`` measures once more with an engine that is kept. Neither has
an interpreter to start, nor imports. Meters here have no edges to wait for: there is no edge time
to take off.

A worker imports its engine inside the window ``load``: with the windows the imports are gone, and
taking them off a second time would hide seconds of ours. An interpreter that imports the same is
timed beside it and shown, but not used.

Containers are measured where there is an image with the engine: ``--image`` names one that the
daemon has; ``--rig`` starts a daemon of the tests, with an image made from this interpreter (as
root). ``reuse in container`` is the strategy ``persistent``.

``fake`` is the third party's backend of the tests, which needs no engine; ``pytorch`` measures the
tiny model of the examples on the CPU. The first run builds the archive and fills the caches; it is
shown, and not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_llem.experiment import Experiment, Prompts
from pytest_llem.extensions import Launch, Runner
from pytest_llem.runners.conversation import Worker
from pytest_llem.runners.docker.runner import DockerRunner
from pytest_llem.runners.local import LocalRunner

LIMITS_S = {
    "local": 0.3,
    "local, forked": 0.3,
    "local, reuse": 0.05,
    "ephemeral": 0.8,
    "persistent": 0.8,
    "persistent, reuse": 0.05,
}
"""Of the median overhead; a first measurement in a kept container is one of a new worker."""

ROOT = Path(__file__).parents[1]
THIRD_PARTY = ROOT / "tests" / "third_party"
IMPORTS = {
    "fake": "pass",
    "pytorch": "import torch; from transformers import AutoModelForCausalLM",
}
MODEL = str(ROOT / "benchmarks" / "models" / "tiny-llama")
WORKER = "import pytest_llem.worker.__main__"
"""The program of a worker; what its engine imports is within the window of loading."""

PARTS = ("wall_s", "phases_s")
METERS = {"fake": "fixed", "pytorch": "estimate"}


def experiment(engine: str) -> Experiment:
    """The least an engine can be asked for."""
    return Experiment(
        id="dispatch",
        model=MODEL,
        backend=engine,
        weights="random",
        dtype="float32",
        device="cpu",
        prompts=Prompts(count=2, input_tokens=4),
        output_tokens=3,
        warmup="none",
        idle="none",
        meters=(METERS[engine],),
    )


def timed(measure: Callable[[], Any]) -> dict[str, float]:
    """Wall time of a measurement, and of it the sum of the windows."""
    start_s = time.perf_counter()
    result = measure()
    wall_s = time.perf_counter() - start_s
    return {"wall_s": wall_s, "phases_s": sum(window.duration_s for window in result.windows)}


def forked(runner: LocalRunner, launch: Launch) -> dict[str, float]:
    """A measurement with a forked worker, from its fork to its end."""

    def measure() -> Any:
        worker = Worker(runner.fork(launch))
        result = worker.measure(wanted(launch), "d" * 64, 1, mode="forked")
        worker.close()
        return result

    return timed(measure)


def fresh(runner: Runner, launch: Launch) -> dict[str, float]:
    """A measurement with a worker of its own, from its start to its end."""

    def measure() -> Any:
        worker = Worker(runner.start(launch))
        result = worker.measure(wanted(launch), "d" * 64, 1)
        worker.close()
        return result

    return timed(measure)


def reused(runner: Runner, launch: Launch) -> dict[str, float]:
    """A second measurement with an engine that is loaded; the first one isn't timed."""
    worker = Worker(runner.start(launch))
    worker.measure(wanted(launch), "d" * 64, 1, keep=True)
    times = timed(lambda: worker.measure(wanted(launch), "d" * 64, 2, keep=True))
    worker.close()
    return times


def wanted(launch: Launch) -> Experiment:
    """What a launch is for."""
    assert launch.experiment is not None
    return launch.experiment


def interpreter(code: str) -> float:
    """Seconds that an interpreter takes for a program, from its start to its end."""
    start_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start_s


def run(places: Mapping[str, Callable[[], dict[str, float]]], engine: str) -> dict[str, Any]:
    """One measurement at each place and, right beside them, the interpreters."""
    bare_s, worker_s = interpreter("pass"), interpreter(WORKER)
    found: dict[str, Any] = {"bare_s": bare_s, "worker_s": worker_s}
    found["imports_s"] = bare_s if engine == "fake" else interpreter(IMPORTS[engine])
    for name, measure in places.items():
        times = measure()
        off_s = 0.0 if name.endswith(("reuse", "forked")) else worker_s
        found[name] = times | {"overhead_s": times["wall_s"] - times["phases_s"] - off_s}
    return found


@contextlib.contextmanager
def containers(image: str | None, *, rig: bool, engine: str) -> Iterator[tuple[Runner, str] | None]:
    """The runner of containers with an image for it; None where none is wanted."""
    with contextlib.ExitStack() as open_:
        environ = dict(os.environ)
        if rig:
            url, image = open_.enter_context(own_daemon(engine))
            environ["DOCKER_HOST"] = url
        if image is None:
            yield None
            return
        runner = DockerRunner(environ)
        open_.callback(runner.close)
        yield runner, image


@contextlib.contextmanager
def own_daemon(engine: str) -> Iterator[tuple[str, str]]:
    """A daemon of the tests, and an image of its own."""
    from tests.rig.docker.daemon import Daemon
    from tests.rig.docker.images import base_image, torch_image

    with (
        tempfile.TemporaryDirectory(prefix="llem-perf-") as folder,
        Daemon(Path(folder) / "d", gpus=False) as daemon,
    ):
        client = daemon.client(timeout_s=600)
        made = base_image(client, ROOT / "build" / "docker")
        yield daemon.url, torch_image(client) if engine == "pytorch" else made


def places(
    engine: str, folder: Path, local: LocalRunner, docker: tuple[Runner, str] | None
) -> dict[str, Callable[[], dict[str, float]]]:
    """What is to be timed, by name."""
    least = experiment(engine)
    here = Launch(backend=engine, log=folder / "worker.log", experiment=least)
    found: dict[str, Callable[[], dict[str, float]]] = {
        "local": lambda: fresh(local, here),
        "local, forked": lambda: forked(local, here),
        "local, reuse": lambda: reused(local, here),
    }
    if docker is not None:
        runner, image = docker
        once = Launch(backend=engine, log=here.log, experiment=least, image=image)
        kept = Launch(
            backend=engine,
            log=here.log,
            experiment=least,
            image=image,
            settings={"strategy": "persistent"},
        )
        found |= {
            "ephemeral": lambda: fresh(runner, once),
            "persistent": lambda: fresh(runner, kept),
            "persistent, reuse": lambda: reused(runner, kept),
        }
    return found


def report(engine: str, count: int, docker: tuple[Runner, str] | None) -> dict[str, Any]:
    """Everything measured, as plain JSON data."""
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(LocalRunner()) as local:
        measured = places(engine, Path(folder), local, docker)
        first, *runs = [run(measured, engine) for _ in range(count + 1)]
    medians = {
        name: statistics.median(times[name]["overhead_s"] for times in runs) for name in measured
    }
    return {
        "schema_version": 3,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "engine": engine,
        "image": None if docker is None else docker[1],
        "imports": IMPORTS[engine],
        "first": first,
        "runs": runs,
        "median_overhead_s": medians,
        "limits_s": {name: LIMITS_S[name] for name in measured},
        "passed": all(medians[name] <= LIMITS_S[name] for name in measured),
    }


def show(data: Mapping[str, Any]) -> None:
    """Print the table."""
    runs = data["runs"]
    print(
        f"engine {data['engine']}, {len(runs)} runs, Python {data['python']},"
        f" {data['cpus']} CPUs; times in s"
    )
    columns = ("wall", "windows", "overhead", "least", "most", "first", "limit")
    print(f"{'':<20}" + "".join(f"{column:>10}" for column in columns))
    for name, limit_s in data["limits_s"].items():
        over = [times[name]["overhead_s"] for times in runs]
        cells = (
            *(statistics.median(times[name][part] for times in runs) for part in PARTS),
            *(data["median_overhead_s"][name], min(over), max(over)),
            *(data["first"][name]["overhead_s"], limit_s),
        )
        missed = "" if data["median_overhead_s"][name] <= limit_s else "  NOT KEPT"
        print(f"{name:<20}" + "".join(f"{cell:>10.3f}" for cell in cells) + missed)
    beside = {"bare_s": "pass", "worker_s": WORKER, "imports_s": data["imports"]}
    for part, text in beside.items():
        print(
            f"{statistics.median(times[part] for times in runs):.3f} beside it: python -c {text!r}"
        )


def main() -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", choices=sorted(IMPORTS), default="fake")
    parser.add_argument("--runs", type=int, default=15, help="default: 15")
    parser.add_argument("--quick", action="store_true", help="5 runs")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--image", help="also in containers of this image, at the user's daemon")
    where.add_argument("--rig", action="store_true", help="also in containers of the tests' daemon")
    options = parser.parse_args()
    # Where the worker finds the fake backend: it is installed nowhere.
    sys.path.append(str(THIRD_PARTY))
    path = [str(THIRD_PARTY), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    # The tests' daemon is found from the root, from wherever this is run.
    sys.path.append(str(ROOT))
    count = 5 if options.quick else options.runs
    with containers(options.image, rig=options.rig, engine=options.engine) as docker:
        data = report(options.engine, count, docker)
    show(data)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if data["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
