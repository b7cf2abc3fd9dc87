"""Makes pytester, pytest's own tool for testing plugins, and simulated hardware available."""

import os

pytest_plugins = [
    "pytester",
    "tests.rig.fixtures",
    "tests.rig.docker.fixtures",
    "tests.rig.hosts.fixtures",
]

# Whether this host has counters of its own must make no difference: tests that want some say so.
os.environ["LLEM_POWERCAP"] = os.devnull
