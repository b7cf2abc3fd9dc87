"""A token in real containers: the engine has it, and it is found nowhere else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_llem.extensions import Launch
from pytest_llem.runners.conversation import Listener, Progress, converse
from pytest_llem.runners.docker.runner import DockerRunner
from pytest_llem.wire import to_dict
from tests.acceptance.conftest import THIRD_PARTY
from tests.builders import experiment
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import BASE

pytestmark = pytest.mark.docker

CANARY = "hf_canary52b1d0c9e7"
KEY = "sk-canary91f0a3"


@pytest.fixture
def runner(
    docker_daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DockerRunner]:
    """Of a user who logged in to the hub once; the token is in none of their variables."""
    (tmp_path / "login").mkdir()
    (tmp_path / "login" / "token").write_text(CANARY + "\n")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "login"))
    monkeypatch.setenv("DOCKER_HOST", docker_daemon.url)
    monkeypatch.syspath_prepend(THIRD_PARTY)
    made = DockerRunner()
    yield made
    made.close()


class Search(Listener):
    """Looks everywhere, once, while the engine runs."""

    def __init__(self, daemon: Daemon, *texts: str) -> None:
        self._daemon = daemon
        self._texts = texts
        self.found: dict[str, list[str]] = {}
        self.in_memory = ""

    def progress(self, progress: Progress) -> None:
        if progress.phase == "measure" and not self.found:
            self.found = {text: list(self._places(text)) for text in self._texts}
            self.in_memory = _secret_file()

    def _places(self, text: str) -> Iterator[str]:
        for container in self._daemon.client().containers.list(all=True):
            if text in repr(container.attrs):
                yield "inspect"
        for part in ("containers", "volumes"):
            if _holds(self._daemon.folder / "data" / part, text):
                yield part
        if _holds(self._daemon.log, text):
            yield "dockerd.log"
        for process in psutil.process_iter():
            for part in ("environ", "cmdline"):
                try:
                    content = Path(f"/proc/{process.pid}/{part}").read_bytes()
                except OSError:
                    continue
                if text.encode() in content:
                    yield part


def _holds(path: Path, text: str) -> bool:
    return subprocess.run(["grep", "-rqF", text, path], check=False).returncode == 0


def _secret_file() -> str:
    """What workers were handed in memory."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if "memfd:llem-secret" in str(link.readlink()):
                return link.read_text()
        except OSError:
            continue
    return ""


def test_a_token_is_in_the_workers_memory_and_nowhere_else(
    runner: DockerRunner, docker_daemon: Daemon, tmp_path: Path
) -> None:
    wanted = experiment(
        model="org/private",
        backend="fake",
        device="cpu",
        meters=("fixed",),
        idle="none",
        warmup="none",
        env={"SOME_API_KEY": KEY},
        output_tokens=8,
        options={"token_s": 0.3},
    )
    log = tmp_path / "worker.log"
    launch = Launch(backend="fake", log=log, environment=wanted.env, experiment=wanted, image=BASE)
    search = Search(docker_daemon, CANARY, KEY)
    transport = runner.start(launch)
    measurement: Any = converse(transport, wanted, "d" * 64, 1, search)
    assert search.in_memory == CANARY
    assert search.found[CANARY] == []
    # A variable is what an experiment asked for: of the worker's processes, and of nobody else.
    assert set(search.found[KEY]) == {"environ"}
    for text in (str(to_dict(measurement)), repr(measurement), log.read_text(), repr(transport)):
        assert CANARY not in text
        assert KEY not in text
