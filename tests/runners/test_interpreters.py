"""Other interpreters: where they are, and what their workers don't see of this one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_llem.errors import EngineMissing, RunnerError
from pytest_llem.extensions import Launch
from pytest_llem.runners.conversation import converse
from pytest_llem.runners.interpreters import environment, located
from pytest_llem.runners.local import LocalRunner
from tests.acceptance.conftest import THIRD_PARTY, environment_with
from tests.builders import experiment

FAKE = experiment(backend="fake", meters=("fixed",), idle="none", warmup="none")


@pytest.mark.parametrize("text", ["envs/old", "envs/old/bin/python", "{tmp}/envs/old"])
def test_an_interpreter_is_named_by_itself_or_by_its_environment(tmp_path: Path, text: str) -> None:
    python = tmp_path / "envs" / "old" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    # The link itself: by its place an interpreter knows its environment.
    assert located(text.format(tmp=tmp_path), tmp_path) == str(python)


def test_an_interpreter_is_found_among_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python9").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert located("python9", tmp_path / "elsewhere") == str(tmp_path / "python9")


@pytest.mark.parametrize("text", ["nowhere", "/no/where", "file"])
def test_where_none_is_it_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text("no program")
    with pytest.raises(RunnerError, match=f"^local:{text}: no Python is there; name an inter"):
        located(text, tmp_path)


def test_its_processes_have_the_variables_of_its_environment(tmp_path: Path) -> None:
    python = environment_with(tmp_path / "env") / "bin" / "python"
    ours = {"PATH": "/usr/bin", "PYTHONPATH": "/ours", "VIRTUAL_ENV": "/ours", "HOME": "/me"}
    assert environment(str(python), ours) == {
        "PATH": f"{python.parent}:/usr/bin",
        "VIRTUAL_ENV": str(tmp_path / "env"),
        "HOME": "/me",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux")
def test_a_worker_is_of_its_environment_and_of_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What pytest itself was started with would be imported in place of the environment's own.
    shadow = "raise SystemExit('of the working directory')\n"
    (tmp_path / "llem_fake.py").write_text(shadow)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(THIRD_PARTY))
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    python = located(str(environment_with(tmp_path / "env", LLEM_FAKE_VERSION="2.0")), tmp_path)
    log = tmp_path / "log"
    launch = Launch(backend="fake", log=log, argument=python, environment={"LLEM_FAKE_WORD": "hi"})
    runner = LocalRunner()
    try:
        for start in (runner.start, runner.fork):
            transport = start(launch)
            assert transport.about == {"python": python}
            found = converse(transport, FAKE, "d", 1)
            assert found.subject["versions"] == {"llem-fake-engine": "2.0"}
            assert found.subject["engine"]["word"] == "hi"
    finally:
        runner.close()


def test_an_engine_that_it_lacks_is_installed_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    python = located(str(environment_with(tmp_path / "env", LLEM_FAKE_MISSING="1")), tmp_path)
    transport = LocalRunner().start(Launch(backend="fake", log=tmp_path / "log", argument=python))
    with pytest.raises(EngineMissing) as caught:
        converse(transport, FAKE, "d", 1)
    assert caught.value.message == (
        f"backend fake: llem-fake-engine not installed in the environment of {python}"
    )
    assert caught.value.fix == f"{python} -m pip install llem-fake-engine"
