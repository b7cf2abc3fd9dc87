"""Generated and damaged files: a study or a refusal, never a crash, a hang, or all the memory.

Runs for ``LLEM_FUZZ_S`` seconds (CI: a minute). A failure prints the smallest file that it found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("LLEM_FUZZ_S", "3"))
MOST_BYTES = 500_000_000


@pytest.mark.parametrize("what", ["study", "settings"])
def test_no_file_ends_a_process_hangs_it_or_takes_its_memory(what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.study.fuzzing", what, str(SECONDS / 2)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        # One file may take its time; a hundred are tried before the time is looked at.
        timeout=SECONDS + 600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert told["files"] >= 100
    assert told["peak_bytes"] < MOST_BYTES
