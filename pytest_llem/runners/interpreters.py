"""Other Pythons of this host than the one that runs pytest: ``local:<python>``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pytest_llem.errors import RunnerError

__all__ = ["environment", "located"]

_PLACES = ("bin/python", "bin/python3", "Scripts/python.exe")
"""Of the interpreter in a virtual environment."""

_OF_OURS = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"})
"""Variables that would have another interpreter import what is meant for this one."""


def located(text: str, folder: Path) -> str:
    """The absolute path of an interpreter.

    Args:
        text: its path, that of a virtual environment, or the name of a program.
        folder: that paths are relative to.

    Raises:
        RunnerError: when there is none.
    """
    path = folder / Path(text).expanduser()
    found = next((str(path / place) for place in _PLACES if (path / place).exists()), str(path))
    if os.sep not in text and not path.exists():
        found = shutil.which(text) or found
    if not (os.path.isfile(found) and os.access(found, os.X_OK)):  # noqa: PTH113
        raise RunnerError(
            f"local:{text}: no Python is there; name an interpreter, or a virtual environment:"
            f" python -m venv {text}"
        )
    # A link is left as it is: by its own place an interpreter knows its environment.
    return os.path.abspath(found)  # noqa: PTH100


def environment(python: str, ours: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process of another interpreter, as if its environment were activated.

    Args:
        python: absolute path of the interpreter.
        ours: the variables of this process.
    """
    kept = {name: value for name, value in ours.items() if name not in _OF_OURS}
    programs = Path(python).parent
    kept["PATH"] = os.pathsep.join(filter(None, (str(programs), kept.get("PATH"))))
    if (programs.parent / "pyvenv.cfg").exists():
        kept["VIRTUAL_ENV"] = str(programs.parent)
    return kept
