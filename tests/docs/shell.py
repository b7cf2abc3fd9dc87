"""Runs the commands of a block as somebody would who copies it into a terminal, line by line."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.conftest import addopts

__all__ = ["Done", "Server", "Shell", "commands"]

TESTS = Path(__file__).parents[1]
STAND_INS = TESTS / "third_party_stand_ins"


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    command: str
    status: int
    output: str

    def __str__(self) -> str:
        return f"$ {self.command}\n{self.output}(exit status {self.status})"


class Server:
    """One process for many commands: see :mod:`tests.docs.server`."""

    def __init__(self) -> None:
        program = [sys.executable, str(Path(__file__).with_name("server.py"))]
        self._process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def run(self, command: list[str], folder: Path, environ: dict[str, str], out: Path) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"command": command, "folder": str(folder), "environ": environ, "out": str(out)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


class Shell:
    """A terminal in a folder."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self.folder = folder
        path = os.pathsep.join(map(str, (folder, STAND_INS)))
        self.environ = {
            **os.environ,
            "PYTHONPATH": path,
            "PYTEST_ADDOPTS": addopts(),
            "LLEM_LOCK_DIR": str(folder / ".locks"),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "80",
            # What is installed already is all there is, and stays as it is.
            "PIP_NO_INDEX": "1",
            "PIP_DRY_RUN": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "DOCKER_HOST"):
            self.environ.pop(name, None)

    def run(self, command: str) -> Done:
        """Run one command; ``python`` and ``pytest`` are those of these tests."""
        out = self.folder / ".output"
        out.unlink(missing_ok=True)
        words = shlex.split(command, comments=True)
        where = words.index(">") if ">" in words else len(words)
        own = _own(words[:where])
        if own is not None:
            status = self._server.run(own, self.folder, self.environ, out)
        else:
            with out.open("w") as file:
                status = subprocess.run(
                    ["bash", "-c", command], cwd=self.folder, env=self.environ, stdout=file,
                    stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                ).returncode  # fmt: skip
        output = out.read_text(errors="replace")
        if own is not None and where < len(words):
            (self.folder / words[where + 1]).write_text(output)
            output = ""
        return Done(command, status, output)


def _own(words: list[str]) -> list[str] | None:
    """The command for the server, if it is one for it."""
    if words[:1] == ["pytest"]:
        return words
    if words[:3] == ["python", "-m", "pytest_llem"]:
        return words[2:]
    return None


def commands(text: str, *, but: Callable[[str], bool]) -> Iterator[str]:
    """The commands of a block: a line each, but for those that go on after a backslash.

    Args:
        text: of the block.
        but: whether a line is left out.
    """
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        for command in () if but(line) else line.split(" && "):
            if shlex.split(command, comments=True):
                yield command.strip()
