"""Requests that come one by one: in which order, when, and from when to when that is steady.

The loop's time is virtual, so every time is exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from pytest_llem.worker.drive import TOO_LATE, Driven, Driver
from tests.worker.loops import FakeBracket, StreamingFake, workload

Make = Callable[..., StreamingFake]


@pytest.fixture
def fake() -> Iterator[Make]:
    """Makes engines, whose loops are closed at the end."""
    made: list[StreamingFake] = []

    def make(token_s: float | Callable[[int], float] = 1.0, **fields: object) -> StreamingFake:
        made.append(StreamingFake(token_s, **fields))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def driver(
    engine: StreamingFake, count: int, edge_s: float = 0.0, output_tokens: int = 3
) -> tuple[Driver, FakeBracket]:
    bracket = FakeBracket(engine.loop, edge_s)
    requests = workload(count, output_tokens)
    return Driver(engine, requests, bracket, engine.loop.time), bracket


def submitted(driven: Driven) -> list[float]:
    return [completion.timing.submitted_s for completion in driven.completions]


def ended(driven: Driven) -> list[float]:
    return [completion.timing.token_s[-1] for completion in driven.completions]


# --- a fixed number in flight --------------------------------------------------------------


def test_each_request_that_ends_is_followed_by_the_next(fake: Make) -> None:
    engine = fake(token_s=1.0)
    driven = driver(engine, 7)[0].concurrency(2)
    assert engine.order == list(range(7))
    assert submitted(driven) == [0, 0, 3, 3, 6, 6, 9]
    assert ended(driven) == [3, 3, 6, 6, 9, 9, 12]
    assert {completion.timing.due_s for completion in driven.completions} == {None}


def test_answers_are_in_the_order_of_the_prompts_whatever_order_they_end_in(fake: Make) -> None:
    engine = fake(token_s=lambda number: 5.0 if number == 0 else 1.0)
    driven = driver(engine, 5)[0].concurrency(2)
    assert [c.timing.submitted_s for c in driven.completions] == [0, 0, 3, 6, 9]


@pytest.mark.parametrize("tells", [True, False])
def test_it_is_steady_from_all_slots_first_tokens_to_the_first_slot_without_a_request(
    fake: Make, tells: bool
) -> None:
    # The second of three slots is slow: its first token comes after 4 s, its request ends at 12 s.
    engine = fake(token_s=lambda number: 4.0 if number == 1 else 1.0, tells=tells)
    driven = driver(engine, 12)[0].concurrency(3)
    assert driven.steady_s == (4.0 if tells else 12.0)
    # At 12 s all slots are free, and take the last three requests.
    assert driven.over_s == 15
    assert driven.window is not None
    assert driven.window.start_s == driven.steady_s
    assert driven.window.start_s + driven.window.duration_s == driven.over_s
    assert driven.ended_s == max(ended(driven))


def test_one_slot_is_steady_from_its_first_token_to_its_last_requests_end(fake: Make) -> None:
    driven = driver(fake(), 4)[0].concurrency(1)
    assert (driven.steady_s, driven.over_s, driven.ended_s) == (1, 12, 12)


def test_requests_of_a_single_token_fill_their_slots_too(fake: Make) -> None:
    driven = driver(fake(), 9, output_tokens=1)[0].concurrency(3)
    assert (driven.steady_s, driven.over_s) == (1, 3)


def test_a_slot_that_is_filled_when_others_are_through_leaves_nothing_steady(fake: Make) -> None:
    engine = fake(token_s=lambda number: 50.0 if number == 1 else 1.0)
    driven = driver(engine, 4)[0].concurrency(2)
    assert (driven.steady_s, driven.over_s, driven.window) == (None, 9, None)


# --- random arrivals -----------------------------------------------------------------------


def test_requests_come_when_they_are_due_whatever_the_engine_does(fake: Make) -> None:
    engine = fake(token_s=10.0)
    driven = driver(engine, 4)[0].poisson([0.5, 0.75, 4.0, 4.0])
    assert submitted(driven) == [0.5, 0.75, 4.0, 4.0]
    assert [c.timing.due_s for c in driven.completions] == [0.5, 0.75, 4.0, 4.0]
    assert ended(driven) == [30.5, 30.75, 34.0, 34.0]
    assert driven.steady_s is None


def test_random_arrivals_are_steady_from_the_first_end_to_the_last_arrival(fake: Make) -> None:
    engine = fake(token_s=lambda number: 2.0 if number == 0 else 0.5)
    driven = driver(engine, 5)[0].poisson([1.0, 2.0, 5.0, 8.0, 9.25])
    # The second ends first.
    assert ended(driven) == [7.0, 3.5, 6.5, 9.5, 10.75]
    assert (driven.steady_s, driven.over_s, driven.ended_s) == (3.5, 9.25, 10.75)


def test_requests_overlap(fake: Make) -> None:
    driven = driver(fake(token_s=2.0), 3)[0].poisson([0.0, 1.0, 2.0])
    spans = zip(submitted(driven), ended(driven), strict=True)
    assert all(
        begun < other_end and other < end
        for (begun, end), (other, other_end) in itertools.combinations(spans, 2)
    )


# --- meters --------------------------------------------------------------------------------


def test_the_window_begins_when_the_meters_say_so_and_ends_at_the_mark(fake: Make) -> None:
    made, bracket = driver(fake(), 8, edge_s=1.75)
    driven = made.concurrency(2)
    assert (driven.steady_s, driven.over_s) == (1, 12)
    assert bracket.asked == [(2.75, 12)]
    assert driven.window is not None
    assert (driven.window.start_s, driven.window.duration_s) == (2.75, 9.25)
    assert [reading.energy_j for reading in driven.window.readings] == [92.5]
    assert driven.read


def test_the_window_ends_where_the_meters_tell_its_energy_best(fake: Make) -> None:
    engine = fake()
    bracket = FakeBracket(engine.loop, early_s=0.25)
    driven = Driver(engine, workload(8), bracket, engine.loop.time).concurrency(2)
    assert (driven.steady_s, driven.over_s) == (1, 12)
    assert driven.window is not None
    assert (driven.window.start_s, driven.window.duration_s) == (1, 10.75)


def test_requests_go_on_while_meters_take_their_time(fake: Make) -> None:
    slow = driver(fake(), 8, edge_s=4.0)[0].concurrency(2)
    quick = driver(fake(), 8)[0].concurrency(2)
    assert submitted(slow) == submitted(quick)
    assert ended(slow) == ended(quick)
    assert slow.ended_s == quick.ended_s


def test_meters_that_begin_too_late_are_ended_and_tell_nothing(fake: Make) -> None:
    made, bracket = driver(fake(), 8, edge_s=100.0)
    driven = made.concurrency(2)
    assert bracket.asked == [(101, 101)]
    assert driven.window is not None
    assert (driven.window.start_s, driven.window.duration_s) == (1, 11)
    (reading,) = driven.window.readings
    assert (reading.energy_j, reading.quality, reading.reason) == (None, "unmeasured", TOO_LATE)
    assert not driven.read


# --- failures ------------------------------------------------------------------------------


def test_a_slot_that_fails_ends_the_run(fake: Make) -> None:
    engine = fake(fails=[3])
    with pytest.raises(RuntimeError, match="no luck with 3"):
        driver(engine, 100)[0].concurrency(2)
    assert engine.loop.time() == 3
    assert engine.cancelled == [2]


def test_an_arrival_that_fails_ends_the_run_before_the_others_come(fake: Make) -> None:
    engine = fake(token_s=5.0, queue_s=0.25, fails=[1])
    with pytest.raises(RuntimeError, match="no luck with 1"):
        driver(engine, 3)[0].poisson([1.0, 2.0, 1000.0])
    assert engine.loop.time() == 2.25
    assert engine.order == [0, 1]
    assert engine.cancelled == [0]


def test_finished_requests_are_reported(fake: Make) -> None:
    engine = fake()
    told: list[int] = []
    bracket = FakeBracket(engine.loop)
    Driver(engine, workload(3), bracket, engine.loop.time, told.append).concurrency(2)
    assert told == [1, 2, 3]
