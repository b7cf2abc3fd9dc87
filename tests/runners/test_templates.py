"""Forked workers, with real processes of the fake backend and, once, of a real engine."""

from __future__ import annotations

import dataclasses
import os
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pytest_llem.errors import ForkRefused, WorkerError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Launch
from pytest_llem.records import Measurement
from pytest_llem.runners.beside import HostMeters
from pytest_llem.runners.conversation import Listener, converse
from pytest_llem.runners.local import LocalRunner
from pytest_llem.runners.workers import Task, Workers
from tests.acceptance.conftest import THIRD_PARTY, marked
from tests.builders import DIGEST, experiment, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux")

FAKE = experiment(backend="fake", meters=("fixed",), idle="none", warmup="none", worker="forked")
MODEL = str(Path(__file__).parents[2] / "benchmarks" / "models" / "tiny-llama")


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the fake backend importable; marks all processes of a test."""
    value = secrets.token_hex(8)
    monkeypatch.setenv("PYTHONPATH", str(THIRD_PARTY))
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    monkeypatch.setenv("LLEM_TEST_TOKEN", value)
    return value


@pytest.fixture
def runner() -> Iterator[LocalRunner]:
    runner = LocalRunner()
    yield runner
    runner.close()


def others(token: str) -> list[psutil.Process]:
    """Processes of a test beside this one."""
    return [process for process in marked(token) if process.pid != os.getpid()]


def launch(tmp_path: Path, asked: Experiment = FAKE, **fields: object) -> Launch:
    base = Launch(backend="fake", log=tmp_path / "worker.log", experiment=asked)
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


def test_workers_come_from_one_template_and_leave_nothing(
    tmp_path: Path, token: str, runner: LocalRunner
) -> None:
    templates = []
    for number in range(2):
        log = tmp_path / f"{number}.log"
        asked = dataclasses.replace(FAKE, options={"print_in": "run"})
        made = converse(runner.fork(launch(tmp_path, log=log)), asked, DIGEST, 1)
        assert made.tokens["requests"] == FAKE.prompts.count
        assert log.read_text() == "engine chatter\n"
        # Between measurements there is the template, and nothing else.
        templates += others(token)
    assert len(templates) == 2
    assert templates[0] == templates[1]
    runner.close()
    assert others(token) == []


def test_another_environment_has_another_template(
    tmp_path: Path, token: str, runner: LocalRunner
) -> None:
    words = []
    for word in ("one", "two", "two"):
        forked = runner.fork(launch(tmp_path, environment={"LLEM_FAKE_WORD": word}))
        words.append(converse(forked, FAKE, DIGEST, 1).subject["engine"]["word"])
    assert words == ["one", "two", "two"]
    assert len(others(token)) == 2


@pytest.mark.parametrize(
    ("way", "words"), [("thread", "it has 2 threads"), ("raise", "ImportError: no libfake.so")]
)
def test_a_template_that_would_do_harm_is_refused(
    tmp_path: Path,
    token: str,
    runner: LocalRunner,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    words: str,
) -> None:
    monkeypatch.setenv("LLEM_FAKE_PRELOAD", way)
    for _ in range(2):
        with pytest.raises(ForkRefused, match=words):
            runner.fork(launch(tmp_path))
    assert len(others(token)) == 1


def test_a_worker_that_crashes_leaves_the_template_as_it_was(
    tmp_path: Path, token: str, runner: LocalRunner
) -> None:
    asked = dataclasses.replace(FAKE, options={"segv_in": "run", "grandchild": True})
    with pytest.raises(WorkerError) as caught:
        converse(runner.fork(launch(tmp_path)), asked, DIGEST, 1)
    assert "SIGSEGV" in caught.value.message
    assert converse(runner.fork(launch(tmp_path)), FAKE, DIGEST, 1).digest == DIGEST
    assert len(others(token)) == 1


@pytest.mark.parametrize("how", ["stop", "kill template"])
def test_a_stuck_worker_ends(tmp_path: Path, token: str, runner: LocalRunner, how: str) -> None:
    mark = tmp_path / "mark"
    stuck = {"mark": str(mark), "hold_gil_in": "load", "grandchild": True, "ignore_term": True}
    transport = runner.fork(launch(tmp_path))
    (template,) = (p for p in others(token) if p.ppid() == os.getpid())
    transport.send(request(dataclasses.replace(FAKE, options=stuck)))
    deadline = time.monotonic() + 60
    while not (mark.exists() and len(others(token)) == 4) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(others(token)) == 4  # template, watch, worker, and its child
    if how == "kill template":
        template.kill()
    transport.stop(0.2)
    assert transport.wait(20.0) is not None
    left = others(token)
    assert left == ([] if how == "kill template" else [template])
    assert converse(runner.fork(launch(tmp_path)), FAKE, DIGEST, 1).digest == DIGEST


@pytest.mark.engine
def test_tokens_are_equal_in_all_modes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    told: list[str] = []
    workers = Workers(HostMeters(tmp_path / "meters"), notice=told.append)
    found: dict[str, list[Measurement]] = {}
    for mode, cycles in {"fresh": 1, "forked": 2, "reuse": 2}.items():
        given = experiment(
            model=MODEL,
            weights="random",
            device="cpu",
            idle="none",
            warmup="none",
            output_tokens=4,
            worker=mode,
        )
        for cycle in range(1, cycles + 1):
            task = Task(
                experiment=given,
                digest=DIGEST,
                cycle=cycle,
                mode="local",
                key=mode,
                launch=Launch(backend="pytorch", log=tmp_path / f"{mode}.c{cycle}.log"),
                keep=mode == "reuse",
            )
            found.setdefault(mode, []).append(workers.measure(task, Listener()))
    workers.close()
    every = [one for made in found.values() for one in made]
    assert len({one.tokens_sha256 for one in every}) == 1
    assert {m: {one.testbed["worker"] for one in made} for m, made in found.items()} == {
        mode: {mode} for mode in found
    }
    phases = [[window.phase for window in one.windows] for one in found["reuse"]]
    assert phases == [["load", "measure"], ["measure"]]
    reason = found["reuse"][1].metrics["load_s"].reason
    assert reason == "the engine was loaded for an earlier measurement"
    assert told == []
    assert "Traceback" not in "".join(log.read_text() for log in tmp_path.glob("*.log"))
