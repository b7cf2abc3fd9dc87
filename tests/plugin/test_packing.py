"""Which worker measures what on which GPUs, in sessions whose time passes by itself."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.study.schedule import schedule
from tests.builders import UNHURRIED
from tests.plugin.test_lanes import FILE, PLAIN, Session


def study(count: int, cycles: int, order: Any = "interleaved") -> list[str]:
    """Ids of a study in its order, a gate behind the last cycle of each experiment."""
    ids = []
    for name, cycle in schedule([f"e{n}" for n in range(count)], cycles, order, 1):
        ids.append(f"{FILE}::{name}::c{cycle}")
        ids += [f"{FILE}::{name}::gate"] if cycle == cycles else []
    return ids


def experiment(nodeid: str) -> str:
    return nodeid.rpartition("::")[0]


def played(
    ids: Sequence[str],
    workers: int,
    gpus: int,
    needs: Mapping[str, int] | None = None,
    seconds: Mapping[str, float] | None = None,
    engines: Mapping[str, int] | None = None,
) -> Session:
    """A session that was played to its end; the rules that hold for all are checked."""
    known = dict(seconds or {})
    session = Session(
        ids,
        workers,
        gpus,
        needs={f"{FILE}::{name}": need for name, need in (needs or {}).items()},
        seconds=lambda nodeid: known.get(experiment(nodeid), 1.0) * ("::c" in nodeid),
        engines={f"{FILE}::{name}": number for name, number in (engines or {}).items()},
    )
    session.play()
    assert session.everything == sorted(ids)
    check(session)
    return session


def check(session: Session) -> None:
    """Nothing runs twice at once on a GPU; an experiment stays with its worker and its GPUs."""
    rows = []
    places: dict[str, set[tuple[str, ...]]] = {}
    for begin, end, nodeid, units in session.times:
        if FILE in nodeid:
            need = session.needs.get(experiment(nodeid), 1) or len(units)
            assert len(units) == need
            places.setdefault(experiment(nodeid), set()).add(units)
            rows += [(unit, begin, end, nodeid) for unit in units]
    for before, after in itertools.pairwise(sorted(rows)):
        assert before[0] != after[0] or before[2] <= after[1], (before, after)
    assert all(len(units) == 1 for units in places.values())
    of = {experiment(i): name for name, ran in session.ran.items() for i in ran if FILE in i}
    for name, ran in session.ran.items():
        assert all(of[experiment(nodeid)] == name for nodeid in ran if FILE in nodeid)


def on_gpus(session: Session) -> dict[str, list[str]]:
    """What ran on each GPU, in order, without gates."""
    found: dict[str, list[str]] = {}
    for _, _, nodeid, units in sorted(session.times):
        if "gate" not in nodeid:
            for unit in units:
                found.setdefault(unit, []).append(nodeid.removeprefix(f"{FILE}::"))
    return found


def test_experiments_of_a_gpu_take_turns_as_they_do_without_xdist() -> None:
    ids = study(6, 3)
    session = played(ids, workers=2, gpus=2, seconds={f"{FILE}::e0": 1.5, f"{FILE}::e3": 0.7})
    for ran in session.ran.values():
        assert [ids.index(nodeid) for nodeid in ran] == sorted(map(ids.index, ran))
        assert len({experiment(nodeid) for nodeid in ran}) == 3


@pytest.mark.parametrize("order", ["interleaved", "sequential"])
def test_engines_that_are_kept_are_loaded_once_where_there_is_a_gpu_for_each(order: str) -> None:
    engines = {f"e{n}": n % 2 + 1 for n in range(6)}
    session = played(study(6, 2, order), workers=2, gpus=2, engines=engines)
    for row in on_gpus(session).values():
        loaded = {engines[name.partition("::")[0]] for name in row}
        assert len(loaded) == 1
    # With one GPU they take turns, as they do without xdist.
    ids = study(6, 2, order)
    alone = played(ids, workers=2, gpus=1, engines=engines)
    (row,) = filter(None, alone.ran.values())
    assert row == ids


def test_an_engine_is_loaded_twice_rather_than_leaving_a_gpu_without_work() -> None:
    engines = {f"e{n}": 1 + (n == 5) for n in range(6)}
    session = played(study(6, 1), workers=2, gpus=2, engines=engines)
    assert max(end for _, end, _, _ in session.times) == 3.0


def test_base_and_head_of_an_experiment_stay_together() -> None:
    names = [f"e{n}::c1{arm}" for n in range(3) for arm in ("", "-base")]
    session = played([f"{FILE}::{name}" for name in names], workers=2, gpus=2)
    assert len(session.ran) == 2


def test_who_needs_most_comes_first_and_small_ones_fill_the_gaps() -> None:
    session = played(study(6, 1), workers=4, gpus=4, needs={"e1": 4, "e3": 2, "e5": 2})
    # The four that need one follow on whichever GPUs the others leave first.
    rows = list(on_gpus(session).values())
    assert [row[0] for row in rows] == ["e1::c1"] * 4
    assert sorted(row[1] for row in rows) == ["e3::c1", "e3::c1", "e5::c1", "e5::c1"]
    assert session.times[-1][1] == 3.0


def test_no_small_one_passes_a_big_one_that_waits() -> None:
    ids = study(5, 2, "sequential")
    session = Session(ids, 2, 2, needs={f"{FILE}::e3": 2})
    assert [node.received for node in session.nodes] == [[9, 10], []]
    lost = session.lose(session.nodes[0])
    assert lost == f"{FILE}::e3::c1"
    # What is left of it needs both GPUs still, and the worker that is there takes it on first.
    assert session.nodes[0].received == [10, 11]
    clone = session.replace()
    assert clone.received == []
    session.play()
    assert session.everything == sorted(set(ids) - {lost})


def test_a_host_without_gpus_measures_one_thing_at_a_time() -> None:
    ids = study(4, 2) + PLAIN
    session = Session(ids, 3, 0, needs={f"{FILE}::e{n}": 0 for n in range(4)})
    session.play()
    assert session.everything == sorted(ids)
    measuring = {name for name, ran in session.ran.items() if any(FILE in i for i in ran)}
    assert len(measuring) == 1
    # Whoever has nothing to measure on does the other tests.
    assert all(session.ran[name] for name in session.ran.keys() - measuring)


def test_what_needs_the_host_alone_has_it_alone() -> None:
    session = played(study(4, 2), workers=3, gpus=2, needs={"e2": 0})
    alone = [(begin, end) for begin, end, nodeid, _ in session.times if "e2::c" in nodeid]
    for begin, end, nodeid, _ in session.times:
        if "e2" not in nodeid and "gate" not in nodeid:
            assert all(end <= a or begin >= b for a, b in alone)


def test_more_gpus_than_there_are_need_no_more_than_all() -> None:
    session = Session(study(2, 1), 2, 2, needs={f"{FILE}::e0": 8})
    session.play()
    assert session.times[0][3] == ("GPU-0", "GPU-1")


def test_an_experiment_goes_to_a_host_that_has_enough_gpus() -> None:
    ids = study(4, 2)
    hosts = {"big": (2, 4)}
    session = Session(ids, 1, 1, needs={f"{FILE}::e2": 4}, hosts=hosts)
    session.play()
    assert session.everything == sorted(ids)
    where = {nodeid: units for _, _, nodeid, units in session.times}
    assert where[f"{FILE}::e2::c1"] == tuple(f"bigGPU-{n}" for n in range(4))
    assert {units[0].partition("GPU")[0] for units in where.values()} == {"", "big"}


def test_a_worker_is_told_the_gpus_of_a_lane_before_it_begins() -> None:
    session = Session(study(2, 1), 2)
    for node, expected in zip(session.nodes, (("GPU-0",), ("GPU-1",)), strict=True):
        assert session.units(node, node.received[0]) == expected
        kinds = [message[0] for message in node.channel.sent]
        assert kinds.index("lane") <= len(node.received)


@pytest.mark.parametrize("workers", [2, 8, 11])
@pytest.mark.parametrize("order", ["interleaved", "sequential"])
def test_gpus_are_kept_busy_though_nobody_knows_how_long_it_takes(order: str, workers: int) -> None:
    draw = random.Random(7)
    count, cycles, gpus = 50, 3, 8
    seconds = {f"{FILE}::e{n}": draw.uniform(1, 4) for n in range(count)}
    widths = {f"e{n}": draw.choice([1, 1, 2, 4]) for n in range(count)}
    needs = {name: width for name, width in widths.items() if width > 1}
    session = played(study(count, cycles, order), workers, gpus, needs, seconds)
    took_s = max(end for _, end, _, _ in session.times)
    area = sum(cycles * seconds[f"{FILE}::{name}"] * width for name, width in widths.items())
    work = sum(cycles * each for each in seconds.values())
    assert max(area / gpus, work / workers) / took_s > 0.88


@UNHURRIED
@given(
    widths=st.lists(st.integers(0, 4), min_size=1, max_size=7),
    cycles=st.integers(1, 3),
    workers=st.integers(1, 5),
    gpus=st.integers(4, 5),
    plain=st.integers(0, 4),
    order=st.sampled_from(["interleaved", "sequential", "shuffled"]),
    seed=st.integers(0, 99),
    kept=st.integers(0, 3),
)
def test_whatever_there_is_all_of_it_runs_once(
    widths: list[int],
    cycles: int,
    workers: int,
    gpus: int,
    plain: int,
    order: str,
    seed: int,
    kept: int,
) -> None:
    draw = random.Random(seed)
    ids = study(len(widths), cycles, order)
    for nodeid in PLAIN[:plain]:
        ids.insert(draw.randrange(len(ids) + 1), nodeid)
    needs = {f"e{n}": width for n, width in enumerate(widths) if width != 1}
    seconds = {f"{FILE}::e{n}": draw.uniform(0.1, 3) for n in range(len(widths))}
    engines = {f"e{n}": draw.randint(0, kept) for n in range(len(widths))}
    played(ids, workers, gpus, needs, seconds, engines)


@UNHURRIED
@given(
    widths=st.lists(st.integers(0, 2), min_size=1, max_size=5),
    losses=st.lists(st.integers(0, 30), max_size=4),
    workers=st.integers(1, 3),
)
def test_a_lost_worker_costs_one_test_whenever_it_is_lost(
    widths: list[int], losses: list[int], workers: int
) -> None:
    ids = study(len(widths), 2) + PLAIN[:2]
    needs = {f"{FILE}::e{n}": width for n, width in enumerate(widths) if width != 1}
    session = Session(ids, workers, 2, needs=needs)
    lost = []
    for steps in losses:
        for _, node in zip(range(steps), itertools.cycle(session.nodes), strict=False):
            session.step(node)
        lost += [session.lose(session.nodes[0])]
        session.replace()
    session.finish()
    gone = [nodeid for nodeid in lost if nodeid is not None]
    assert sorted([*session.everything, *gone]) == sorted(ids)
