"""The worker's first program, with a package that only tells what it was started with."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from typing import Any

import pytest

from pytest_llem.runners.archive import bootstrap

TELLING = """
import json, os, pathlib, sys
def main(header):
    born = pathlib.Path("/proc/self/environ")
    print(json.dumps({
        "header": header,
        "environment": dict(os.environ),
        "born_with": born.read_text() if born.exists() else None,
        "arguments": sys.argv,
        "optimize": sys.flags.optimize,
        "rest": sys.stdin.readline(),
    }))
"""


def told(environment: dict[str, str] | None, flags: tuple[str, ...] = ()) -> dict[str, Any]:
    """What the package finds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("pytest_llem/__init__.py", "")
        archive.writestr("pytest_llem/worker/__init__.py", "")
        archive.writestr("pytest_llem/worker/__main__.py", TELLING)
    header: dict[str, Any] = {"archive_bytes": len(buffer.getvalue()), "role": "engine"}
    if environment is not None:
        header["environment"] = environment
    done = subprocess.run(
        [sys.executable, *flags, "-c", bootstrap()],
        input=json.dumps(header).encode() + b"\n" + buffer.getvalue() + b"a frame\n",
        capture_output=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_variables_of_the_header_are_there_from_the_beginning() -> None:
    found = told({"LLEM_A": "1", "LLEM_B": "grün = 2"})
    assert found["environment"]["LLEM_A"] == "1"
    assert found["environment"]["LLEM_B"] == "grün = 2"
    if found["born_with"] is not None:
        assert "LLEM_A=1\0" in found["born_with"]


def test_a_variable_that_counts_only_at_the_start_counts() -> None:
    assert told({"PYTHONOPTIMIZE": "2"})["optimize"] == 2


@pytest.mark.parametrize("environment", [None, {}, {"LLEM_A": "1"}], ids=str)
def test_header_and_frames_are_the_same_either_way(environment: dict[str, str] | None) -> None:
    found = told(environment)
    assert set(found["header"]) == {"archive_bytes", "role"}
    assert found["rest"] == "a frame\n"
    assert found["arguments"] == ["-c"]


def test_flags_of_the_interpreter_are_kept() -> None:
    assert told({"LLEM_A": "1"}, flags=("-OO",))["optimize"] == 2
