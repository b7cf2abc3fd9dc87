"""Makes pytester, pytest's own tool for testing plugins, and simulated hardware available."""

import atexit
import os
import shutil
import tempfile

pytest_plugins = [
    "pytester",
    "tests.rig.fixtures",
    "tests.rig.docker.fixtures",
    "tests.rig.hosts.fixtures",
]

# Whether this host has counters of its own must make no difference: tests that want some say so.
os.environ["LLEM_POWERCAP"] = os.devnull

# Tests that run at the same time have nothing to measure for which they should wait.
os.environ["LLEM_LOCK_DIR"] = tempfile.mkdtemp(prefix="llem-locks-")
atexit.register(shutil.rmtree, os.environ["LLEM_LOCK_DIR"], ignore_errors=True)
