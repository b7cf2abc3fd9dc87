"""Which processes are ours, as the host calls them: in a container they have other numbers.

NVML tells the pids of the host, also to a container. Whoever started the worker knows those of the
container from its daemon, and is asked over the worker's own frames.
"""

from __future__ import annotations

from pytest_llem.worker.host_meter import Host

__all__ = ["HostPids"]


class HostPids:
    """Pids of all processes of this container.

    Attributes:
        reason: why they can't be told; empty where they can.
    """

    def __init__(self, host: Host) -> None:
        """Ask for the first time."""
        self._host = host
        self._known: frozenset[int] = frozenset()
        self.reason = self._ask()

    def __call__(self) -> frozenset[int]:
        """Those of now, and those of before: a question without an answer takes nothing away."""
        self._ask()
        return self._known

    def _ask(self) -> str:
        answer = self._host.ask("pids_request", "pids")
        self._known |= frozenset(answer["pids"])
        return str(answer["reason"])
