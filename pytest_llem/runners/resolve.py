"""The precedence chain: which runner a backend gets, and who said so. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_llem.errors import RunnerError
from pytest_llem.records import RunnerSpec

__all__ = ["parse_pairs", "resolve"]


def resolve(backend: str, sources: Mapping[str, Mapping[str, str]]) -> RunnerSpec:
    """The runner of a backend: the first source that sets it wins, else ``local``.

    Args:
        backend: its name.
        sources: name of a source (``cli env study ini``), highest first, to what it says for
            each backend. An empty text counts as not set.

    Raises:
        RunnerError: when the winning value names no runner.
    """
    for source, values in sources.items():
        if value := values.get(backend, "").strip():
            return RunnerSpec.parse(value, source)
    return RunnerSpec(mode="local", source="default")


def parse_pairs(pairs: Sequence[str], source: str) -> dict[str, str]:
    """``backend=value`` lines as a mapping; spaces around the sign are allowed, the last wins.

    Raises:
        RunnerError: for a line without the sign or without a name.
    """
    found = {}
    for pair in pairs:
        backend, equals, value = pair.partition("=")
        if not equals or not backend.strip():
            raise RunnerError(f"{source}: {pair!r} is not of the form BACKEND=RUNNER")
        found[backend.strip()] = value.strip()
    return found
