"""Makes pytester, pytest's own tool for testing plugins, and simulated hardware available."""

pytest_plugins = ["pytester", "tests.rig.fixtures"]
