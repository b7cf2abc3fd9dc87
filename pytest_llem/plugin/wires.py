"""What xdist's controller and a worker tell each other beside tests and their reports.

A channel of execnet, which carries xdist itself, goes to each worker with its ``workerinput``; what
is sent on it arrives in order with all else. So also a worker behind ssh says what it has, and
hears when there is to be no more. Messages are tuples of a kind and plain data:

* worker to controller: ``("inventory", {...})`` once it has collected; ``("says", text)``;
* controller to worker: ``("item", index, lane)``, ``("lane", number, GPUs)``, ``("stop",)``,
  ``("known", text)``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

__all__ = ["Wire", "Wires", "wire_of"]

_INPUT = "llem_channel"
_KEY = pytest.StashKey["Wire"]()


class Wires:
    """The controller's ends."""

    def __init__(self) -> None:
        """No worker was started yet."""
        self._channels: dict[Any, Any] = {}
        self._inventories: dict[Any, Mapping[str, Any]] = {}
        self.says: Callable[[str], None] = lambda _: None
        """Is given lines of workers for the terminal, in a thread of execnet's."""

    def connect(self, node: Any) -> None:
        """Give a worker that is about to be started its end."""
        channel = node.gateway.newchannel()
        node.workerinput[_INPUT] = channel
        self._channels[node] = channel

        def heard(message: Any) -> None:
            kind, data = message
            if kind == "inventory":
                self._inventories[node] = data
            elif kind == "says":
                self.says(f"{node.gateway.id}: {data}")

        channel.setcallback(heard)

    def inventory(self, node: Any) -> Mapping[str, Any]:
        """What a worker said it has; empty where it said nothing."""
        return self._inventories.get(node, {})

    def tell(self, node: Any, *message: Any) -> None:
        """Tell a worker; one that is gone is no error here."""
        if node in self._channels:
            with contextlib.suppress(OSError):
                self._channels[node].send(message)

    def stop(self) -> None:
        """Have no worker begin with anything of a study."""
        for node in self._channels:
            self.tell(node, "stop")


class Wire:
    """A worker's end.

    Attributes:
        stopped: nothing of a study is to be begun any more.
        known: outcomes of workers that were lost, where this one can't read their journals.
    """

    def __init__(self, channel: Any, known: tuple[str, ...] = ()) -> None:
        """Begin to listen."""
        self._channel = channel
        self._lane_of: dict[int, int] = {}
        self._units: dict[int, tuple[str, ...]] = {}
        self.stopped = False
        self.known = known
        channel.setcallback(self._hear)

    def tell(self, kind: str, data: Any) -> None:
        """Tell the controller; where it is gone, this process is about to end."""
        with contextlib.suppress(OSError):
            self._channel.send((kind, data))

    def lane(self, index: int) -> int | None:
        """Number of the lane that the session's item of an index is in; None for no lane."""
        return self._lane_of.get(index)

    def units(self, index: int) -> tuple[str, ...]:
        """Names of the GPUs that are meant for an item; none where nothing was said."""
        lane = self.lane(index)
        return () if lane is None else self._units.get(lane, ())

    def _hear(self, message: Sequence[Any]) -> None:
        # In a thread of execnet's: single assignments only.
        match tuple(message):
            case ("item", int(index), int(lane)):
                self._lane_of[index] = lane
            case ("lane", int(number), units):
                self._units[number] = tuple(units)
            case ("stop",):
                self.stopped = True
            case ("known", str(text)):
                self.known = (*self.known, text)


def wire_of(config: pytest.Config) -> Wire | None:
    """That of this process; None where it isn't a worker of xdist's."""
    if _KEY not in config.stash:
        given = getattr(config, "workerinput", {})
        if given.get(_INPUT) is None:
            return None
        config.stash[_KEY] = Wire(given[_INPUT], tuple(given.get("llem_known", ())))
    return config.stash[_KEY]
