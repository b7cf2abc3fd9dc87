"""Times of a batch: from the host's clock, or from a device's events by a fake source of them."""

from __future__ import annotations

import itertools

import pytest

from pytest_llem.backends.pytorch_clock import EventClock, HostClock


class Device:
    """A device and its host: each has a clock of its own, and both move when told to."""

    def __init__(self, late_s: tuple[float, ...]) -> None:
        self.host_s = 1000.0
        self._late = iter(late_s)
        self._busy_until_s = self.host_s

    def now(self) -> float:
        return self.host_s

    def work(self, duration_s: float) -> None:
        """Give the device work; the host goes on at once."""
        self._busy_until_s = max(self._busy_until_s, self.host_s) + duration_s

    def record(self) -> float:
        # The device's clock is 400 s behind.
        return max(self._busy_until_s, self.host_s) - 400.0

    def synchronize(self) -> None:
        self.host_s = max(self._busy_until_s, self.host_s) + next(self._late)

    def elapsed_s(self, first: float, last: float) -> float:
        return last - first


def stamps(late_s: tuple[float, float, float]) -> tuple[float, list[float]]:
    """Of a batch of steps of 0.5, 0.1 and 0.1 s, with synchronises that return late."""
    device = Device(late_s)
    clock = EventClock(device, device.now)
    clock.start()
    for duration_s in (0.5, 0.1, 0.1):
        device.work(duration_s)
        clock.mark()
    found = clock.stop()
    return found.submitted_s, list(found.token_s)


def test_events_are_mapped_onto_the_hosts_clock() -> None:
    submitted_s, token_s = stamps((0.0, 0.0, 0.0))
    assert submitted_s == pytest.approx(1000)
    assert token_s == pytest.approx([1000.5, 1000.6, 1000.7])


@pytest.mark.parametrize("late_s", [(0.0, 0.25, 0.0), (0.0, 0.0, 0.25), (0.0, 0.01, 0.25)])
def test_a_host_that_is_late_moves_no_step_by_more_than_its_better_reading(
    late_s: tuple[float, float, float],
) -> None:
    submitted_s, token_s = stamps(late_s)
    # A host that is late at the origin submits the work late: that much is the device's own time.
    first = 1000.5 + late_s[1]
    assert [b - a for a, b in itertools.pairwise(token_s)] == pytest.approx([0.1, 0.1])
    assert token_s[0] == pytest.approx(first, abs=0.011)
    assert submitted_s <= token_s[0]


def test_nothing_lies_before_its_batch_began() -> None:
    submitted_s, _ = stamps((0.5, 0.0, 0.0))
    assert submitted_s == pytest.approx(1000.5)


def test_the_next_batch_begins_anew() -> None:
    device = Device((0.0,) * 6)
    clock = EventClock(device, device.now)
    for begin_s in (1000.0, 1000.2):
        clock.start()
        device.work(0.2)
        clock.mark()
        found = clock.stop()
        assert found.submitted_s == pytest.approx(begin_s)
        assert found.token_s == pytest.approx((begin_s + 0.2,))


def test_the_hosts_clock_is_read_when_the_device_is_done() -> None:
    said: list[str] = []
    times = iter([1.0, 2.0, 3.5])

    def now() -> float:
        said.append("now")
        return next(times)

    clock = HostClock(lambda: said.append("waited"), now)
    clock.start()
    clock.mark()
    clock.mark()
    found = clock.stop()
    assert (found.submitted_s, found.token_s) == (1.0, (2.0, 3.5))
    assert said == ["waited", "now"] * 3
