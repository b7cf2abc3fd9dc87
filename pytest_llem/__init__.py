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
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
