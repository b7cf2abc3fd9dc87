"""pytest-llem: LLM inference energy benchmarks as tests.

A map of the package; data runs through it from top to bottom:

* ``errors``, ``records``, ``wire``, ``metrics``, ``extensions``: what every part may know.
* ``study``: YAML text becomes experiments, in order.
* ``runners``: decides where a worker runs, starts it, talks with it.
* ``worker``: runs beside the engine, in a process of its own; ``backends`` are the engines,
  ``meters`` the energy counters it uses.
* ``results``: the journal, statistics and gates.
* ``reports``: results as text.
* ``plugin``: the only folder that imports pytest; ``cli``: the commands beside it.

:func:`read_report` and its types are what users import from here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_llem.reports.document import Report, read_report

__all__ = ["Report", "__version__", "read_report"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported when asked for: pytest loads this package at each start, and workers do.
    if name in {"Report", "read_report"}:
        return getattr(importlib.import_module("pytest_llem.reports.document"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
