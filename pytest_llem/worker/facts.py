"""Counts of a measured run, and what else its figures are made of beside windows and times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llem.extensions import Completion

__all__ = ["OWN_DOMAIN", "Facts"]

OWN_DOMAIN = {"cuda": "gpu:", "mps": "gpu:", "cpu": "cpu:"}
"""Device of an experiment to the prefix of the domains whose energy is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Counts of a run and what else is known about it.

    Attributes:
        requests: finished requests.
        input: input tokens, as the engine counted them.
        output: output tokens, as the engine counted them.
        peak_memory_bytes: None where the engine can't tell.
        device: ``cpu``, ``cuda`` or ``mps``.
        no_meter: why there is no energy, should no meter read the device.
    """

    requests: int
    input: int
    output: int
    peak_memory_bytes: int | None
    device: str
    no_meter: str

    @classmethod
    def of(
        cls, completions: Sequence[Completion], peak: int | None, device: str, no_meter: str
    ) -> Facts:
        """Count the tokens of the requests."""
        return cls(
            requests=len(completions),
            input=sum(c.timing.input_tokens for c in completions),
            output=sum(c.timing.output_tokens for c in completions),
            peak_memory_bytes=peak,
            device=device,
            no_meter=no_meter,
        )

    @property
    def own_domain(self) -> str:
        """Prefix of the domains whose energy is the experiment's own."""
        return OWN_DOMAIN[self.device]
