"""The commands of ``python -m pytest_llem``: what needs no pytest to be run."""
