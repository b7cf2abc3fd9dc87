"""Runs the commands of a block as somebody would who copies it into a terminal, line by line."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.conftest import addopts
from tests.acceptance.template import Template

__all__ = ["Done", "Shell", "commands"]

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


class Shell:
    """A terminal in a folder, which must be the current one."""

    def __init__(self, template: Template, folder: Path) -> None:
        self._template = template
        self.folder = folder
        path = os.pathsep.join(map(str, (folder, STAND_INS)))
        self.environ = {
            **os.environ,
            "PYTHONPATH": path,
            # Once is enough to see that a command works; one that asks for more gets it.
            "PYTEST_ADDOPTS": f"{addopts()} --llem-cycles=1",
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
        pytests = words[:1] == ["pytest"]
        if pytests:
            status = self._template.run(words[1:where], out, out, self.environ)
        else:
            with out.open("w") as file:
                status = subprocess.run(
                    ["bash", "-c", command],
                    cwd=self.folder,
                    env=self.environ,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                ).returncode
        output = out.read_text(errors="replace")
        if pytests and where < len(words):
            (self.folder / words[where + 1]).write_text(output)
            output = ""
        return Done(command, status, output)


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
