"""Whether an engine sits on its own GPUs."""

from __future__ import annotations

import dataclasses
import os

import pytest

from pytest_llem.errors import LlemError
from pytest_llem.gpus import look
from pytest_llem.worker.conditions import Conditions
from pytest_llem.worker.seat import check_seat, engine_pids
from tests.builders import window
from tests.fakes import Board, FakeNvml, Process

A, B = Board(uuid="GPU-aa11"), Board(uuid="GPU-ab22")
OWN = frozenset({7, 8})


def nvml(*pids: tuple[int, ...]) -> FakeNvml:
    """Two GPUs with processes."""
    boards = zip((A, B), pids, strict=True)
    return FakeNvml(
        *(dataclasses.replace(board, processes=tuple(map(Process, ours))) for board, ours in boards)
    )


@pytest.mark.parametrize(
    ("pids", "hidden", "expected"),
    [
        (((7, 99), (99,)), "", ""),
        (((), (99,)), "", "no process of the engine is told of GPU 0"),
        (((7,), ()), "pids of a container", "pids of a container"),
    ],
    ids=["own", "not told", "hidden"],
)
def test_what_can_be_said_of_the_engines_seat(
    pids: tuple[tuple[int, ...], ...], hidden: str, expected: str
) -> None:
    library = nvml(*pids)
    assert check_seat(look(library, {}).gpus[:1], OWN, hidden, library) == expected


def test_an_engine_on_a_gpu_that_is_not_its_own_is_refused() -> None:
    library = nvml((7,), (99, 8))
    with pytest.raises(LlemError) as raised:
        check_seat(look(library, {}).gpus[:1], OWN, "", library)
    assert str(raised.value).startswith(
        "the engine computes on GPU 1 (process 8), and GPU 0 was leased for it: something sets"
    )


def test_a_driver_that_does_not_answer_is_the_reason() -> None:
    library = FakeNvml(A, errors={"nvmlDeviceGetHandleByUUID": 15})
    assert "can't reach the GPU any more" in check_seat(look(library, {}).gpus, OWN, "", library)


def test_the_seat_is_among_the_conditions_of_an_engine_that_was_just_loaded() -> None:
    library = nvml((7,), ())
    for engine, expected in ((lambda: OWN, "checked"), (None, None)):
        gpus = look(library, {}).gpus[:1]
        found = Conditions(gpus, None, nvml=library, own=lambda: OWN, engine=engine)
        found.settle("cuda")
        with found.around():
            pass
        conditions = found.observed(window("measure", 1.0)).conditions
        assert conditions.get("seat") == expected


def test_nobody_above_a_worker_is_its_engine() -> None:
    assert os.getpid() in engine_pids()
    assert os.getppid() not in engine_pids()
