"""Runs pytest and the commands of this package in forks of one process that has imported them.

A program for :mod:`tests.docs.shell`: it reads a JSON line for each command and prints its exit
status. What is run is what a new process would run; only its imports were made before.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    """Answer until standard input ends."""
    import pydantic
    import pytest
    import yaml

    import pytest_llem.__main__
    import pytest_llem.plugin.collect
    import pytest_llem.study.load

    assert (pydantic, pytest, yaml, pytest_llem) is not None
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


def _run(asked: dict[str, Any]) -> None:
    """In the child: never returns."""
    import pytest

    from pytest_llem.__main__ import main as llem

    out = os.open(asked["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environ"])
    # As a new interpreter would, and as python -m and the command pytest do.
    sys.path[:0] = [asked["folder"], *filter(None, asked["environ"]["PYTHONPATH"].split(":"))]
    program, *arguments = asked["command"]
    status: int = 70
    try:
        sys.argv = [program, *arguments]
        status = int(pytest.main(arguments) if program == "pytest" else llem(arguments))
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
