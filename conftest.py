"""Makes pytester, pytest's own tool for testing plugins, available to the tests."""

pytest_plugins = ["pytester"]
