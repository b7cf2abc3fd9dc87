"""The hub's token in the worker: found by who asks for it, in nobody's environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="the system has no files without a name"
)

CANARY = "hf_canary0123456789"

_GIVE = f"""
import os
from pytest_llem.worker.secret import take
take({{"HF_TOKEN": "{CANARY}"}})
"""

_ASK = """
import pathlib, os, sys
environment = pathlib.Path("/proc/self/environ").read_bytes() + repr(dict(os.environ)).encode()
print(pathlib.Path(os.environ["HF_TOKEN_PATH"]).read_text(), "canary" in environment.decode())
"""


def said(program: str) -> str:
    """What an interpreter prints that nobody gave a token."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_token_is_where_the_variable_points_and_in_no_environment() -> None:
    assert said(_GIVE + _ASK) == f"{CANARY} False"


def test_a_process_below_finds_it_too() -> None:
    below = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {_ASK!r}])"
    assert said(_GIVE + below) == f"{CANARY} False"


def test_huggingface_hub_finds_it() -> None:
    pytest.importorskip("huggingface_hub")
    asked = "import huggingface_hub\nprint(huggingface_hub.get_token())"
    assert said(_GIVE + asked) == CANARY


def test_a_second_token_takes_the_place_of_the_first_whatever_its_length() -> None:
    again = _GIVE + 'take({"HF_TOKEN": "other"})\n'
    assert said(again + _ASK) == "other False"


def test_without_a_token_nothing_is_said_of_one() -> None:
    program = "import os\nfrom pytest_llem.worker.secret import take\ntake({})\n"
    assert said(program + "print('HF_TOKEN_PATH' in os.environ)") == "False"
