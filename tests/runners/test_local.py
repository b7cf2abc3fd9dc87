"""The local transport, with real workers of the fake backend."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import sys
import time
from pathlib import Path

import pytest

from pytest_llem.errors import WorkerError
from pytest_llem.extensions import Launch
from pytest_llem.runners.conversation import Listener, Progress, converse
from pytest_llem.runners.local import LocalTransport, start
from tests.acceptance.conftest import THIRD_PARTY, marked
from tests.builders import experiment, request

FAKE = experiment(backend="fake", meters=("estimate",), idle="none", warmup="none")


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the fake backend importable; marks all processes of a test."""
    value = secrets.token_hex(8)
    monkeypatch.setenv("PYTHONPATH", str(THIRD_PARTY))
    monkeypatch.setenv("LLEM_TEST_TOKEN", value)
    return value


def workers(token: str) -> int:
    """How many processes of a test there are beside this one."""
    return len([process for process in marked(token) if process.pid != os.getpid()])


def busy(tmp_path: Path, **options: object) -> LocalTransport:
    """A worker that has begun to load and doesn't end."""
    transport = start(Launch(backend="fake", log=tmp_path / "log"))
    mark = tmp_path / "mark"
    asked = dataclasses.replace(FAKE, options={"mark": str(mark), "hang_in": "load", **options})
    transport.send(request(asked))
    deadline = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    return transport


def test_a_measurement_over_the_local_transport(tmp_path: Path, token: str) -> None:
    measurement = converse(start(Launch(backend="fake", log=tmp_path / "log")), FAKE, "d", 1)
    assert measurement.tokens["requests"] == FAKE.prompts.count
    assert workers(token) == 0


def test_the_listener_hears_every_phase(tmp_path: Path, token: str) -> None:
    class Phases(Listener):
        def __init__(self) -> None:
            self.seen: dict[str, None] = {}

        def progress(self, progress: Progress) -> None:
            self.seen[progress.phase] = None

    listener = Phases()
    converse(start(Launch(backend="fake", log=tmp_path / "log")), FAKE, "d", 1, listener)
    assert [phase for phase in listener.seen if phase != "start"] == ["load", "measure", "close"]
    assert token


def test_stop_ends_a_worker_that_obeys_politely(tmp_path: Path, token: str) -> None:
    transport = busy(tmp_path, grandchild=True)
    before = workers(token)
    transport.stop(20.0)
    assert transport.wait(20.0) == -15
    if sys.platform == "linux":
        assert before == 3
        assert workers(token) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="process adoption is Linux's")
@pytest.mark.parametrize("options", [{"ignore_term": True}, {"gil_thread": True}], ids=str)
def test_stop_ends_a_worker_that_does_not(
    tmp_path: Path, token: str, options: dict[str, object]
) -> None:
    transport = busy(tmp_path, grandchild=True, **options)
    assert workers(token) == 3
    transport.stop(0.3)
    assert transport.wait(20.0) is not None
    assert workers(token) == 0


@pytest.mark.parametrize("way", ["exit", "kill", "segv"])
def test_how_a_worker_ended_is_told(tmp_path: Path, token: str, way: str) -> None:
    asked = dataclasses.replace(FAKE, options={f"{way}_in": "run"})
    with pytest.raises(WorkerError) as caught:
        converse(start(Launch(backend="fake", log=tmp_path / "log")), asked, "d", 1)
    expected = {"exit": "exit status 3", "kill": "SIGKILL", "segv": "SIGSEGV"}[way]
    assert expected in caught.value.message
    assert workers(token) == 0


def test_a_worker_of_the_role_meter_names_the_meters_and_ends_when_asked(
    tmp_path: Path, token: str
) -> None:
    transport = start(Launch(backend="", log=tmp_path / "log", role="meter"))
    transport.send(b'{"frame": "close"}\n')
    output = b""
    while chunk := transport.receive(60):
        output += chunk
    hello = json.loads(output)
    found = {meter["name"]: meter for meter in hello["meters"]}
    assert found["estimate"]["estimates"] is True
    assert found["fixed"]["domains"] == {"cpu": ["cpu:0"], "cuda": []}
    assert transport.wait(10) == 0
    transport.stop(0)
    assert workers(token) == 0
