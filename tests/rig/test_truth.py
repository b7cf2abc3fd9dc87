"""The C library and truth.py, written apart, agree; and both with sums done by hand."""

from __future__ import annotations

import contextlib
import itertools
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import UNHURRIED
from tests.rig.nvml import Rig
from tests.rig.truth import Marks, Tail, Truth, Wave

pytestmark = pytest.mark.once

WAVES = (
    "const:400",
    "square:120,640,0.37",
    "square:0,700,0.0131,0.2",
    "ramp:80,700,0.61",
    "sine:350,250,0.23",
    "pwl:0,100,0.1,600,0.1,300,0.45,20",
    "steps:0.1,300,0.25,700,0.05,90",
)
SHAPES = ("linear", "exponential", "steps")
AGE_S = 100.0

watts = st.integers(0, 900)
# Not on the places where waves jump: which side of one a rounded time lies on is chance.
milliseconds = st.integers(1, 40_000).map(lambda ms: ms + 0.2347)


@st.composite
def scenarios(draw: st.DrawFn) -> tuple[dict[str, str | float], list[tuple[float, float]]]:
    """Settings of a board, and marks: gate, seconds after the epoch."""
    keys: dict[str, str | float] = {
        "wave": draw(st.sampled_from(WAVES)),
        "idle": draw(watts),
        "gated": draw(st.sampled_from((1, 1, 1, 0))),
        "origin": draw(st.sampled_from(("mark", "epoch"))),
        "wave_phase": draw(st.sampled_from((0, 0.0717))),
        "tail_ms": draw(st.sampled_from((0, 40, 180, 5000))),
        "tail_shape": draw(st.sampled_from(SHAPES)),
    }
    times_ms = sorted(draw(st.lists(milliseconds, max_size=12)))
    gates = [draw(st.sampled_from((0.0, 0.0, 1.0, 0.5))) for _ in times_ms]
    return keys, [(gate, ms / 1000) for gate, ms in zip(gates, times_ms, strict=True)]


@contextlib.contextmanager
def marked(marks: list[tuple[float, float]], **keys: str | float) -> Iterator[Rig]:
    """An opened rig with marks in its past."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), settings=keys, age_s=AGE_S)
        for gate, seconds in marks:
            rig.marks.mark(gate, rig.epoch_ns + round(seconds * 1e9))
        with rig.open():
            yield rig
        rig.marks.close()


# --- the two of them -----------------------------------------------------------------------


@pytest.mark.usefixtures("simnvml")
@settings(UNHURRIED, max_examples=80)
@given(
    scenario=scenarios(),
    points_ms=st.lists(milliseconds, min_size=2, max_size=8).map(sorted),
)
def test_library_and_truth_agree(
    scenario: tuple[dict[str, str | float], list[tuple[float, float]]],
    points_ms: list[float],
) -> None:
    keys, marks = scenario
    with marked(marks, **keys) as rig:
        truth, epoch_s, library = rig.truth(), rig.epoch_ns * 1e-9, rig.library
        points_s = [epoch_s + ms / 1000 for ms in points_ms]
        for at_s in points_s:
            watts = library.simnvml_true_power(0, at_s)
            assert truth.power(at_s) == pytest.approx(watts, rel=1e-6, abs=1e-6)
        for start_s, end_s in itertools.combinations(points_s, 2):
            joules = library.simnvml_true_energy(0, start_s, end_s)
            # As if it were at least a watt: no board draws less, but these examples may.
            tolerance_j = 1e-9 * max(joules, end_s - start_s, 1e-3)
            assert truth.energy(start_s, end_s) == pytest.approx(joules, rel=0, abs=tolerance_j)


# --- truth.py and its own power ------------------------------------------------------------


@pytest.mark.parametrize("spec", WAVES)
def test_a_waves_energy_is_the_integral_of_its_power(spec: str) -> None:
    wave = Wave(spec)
    start_s, step_s, steps = 0.0423, 2e-5, 50_000
    midpoints = (start_s + (number + 0.5) * step_s for number in range(steps))
    summed_j = math.fsum(wave.power(middle_s) for middle_s in midpoints) * step_s
    assert wave.energy(start_s, start_s + steps * step_s) == pytest.approx(summed_j, rel=5e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_tails_integral_is_that_of_its_share(shape: str) -> None:
    tail = Tail(0.18, shape)
    step_s = 2e-5
    for until_s in (0.01, 0.0613, 0.1, 0.18, 0.3):
        steps = round(until_s / step_s)
        summed_s = math.fsum(tail.share((number + 0.5) * step_s) for number in range(steps))
        assert tail.integral(until_s) == pytest.approx(summed_s * step_s, rel=5e-4)


# --- by hand -------------------------------------------------------------------------------


def load_then_tail(folder: Path, tail: Tail) -> Truth:
    """500 W for a second, 100 W before and after."""
    marks = Marks(folder / "marks")
    marks.mark(1, 1_000_000_000)
    marks.mark(0, 2_000_000_000)
    return Truth(wave="const:500", idle_w=100, marks=marks, tail=tail)


@pytest.mark.parametrize(
    ("shape", "above_idle_j"),
    [
        ("linear", 400 * 0.2 / 2),
        ("exponential", 400 * 0.05 * (1 - math.exp(-4))),
        ("steps", 400 * 0.2 / 2),
    ],
)
def test_a_tail_has_the_energy_of_its_closed_form(
    tmp_path: Path, shape: str, above_idle_j: float
) -> None:
    truth = load_then_tail(tmp_path, Tail(0.2, shape))
    assert truth.energy(1, 2) == pytest.approx(500)
    assert truth.energy(2, 2.2) == pytest.approx(20 + above_idle_j)
    assert truth.energy(0, 3) == pytest.approx(100 + 500 + 100 + above_idle_j)
    assert truth.power(2.2001) == 100


def test_a_new_load_ends_the_tail(tmp_path: Path) -> None:
    truth = load_then_tail(tmp_path, Tail(0.2))
    assert truth.marks is not None
    truth.marks.mark(1, 2_100_000_000)
    assert truth.energy(2, 2.1) == pytest.approx(10 + 400 * 0.1 * 0.75)
    assert truth.power(2.15) == 500


def test_a_second_mark_of_the_end_changes_nothing(tmp_path: Path) -> None:
    once = load_then_tail(tmp_path, Tail(0.2))
    before_j = once.energy(1.5, 2.5)
    assert once.marks is not None
    once.marks.mark(0, 2_050_000_000)
    assert once.energy(1.5, 2.5) == pytest.approx(before_j)


def test_a_square_begins_high_at_each_mark(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks")
    marks.mark(1, 3_300_000_000)
    marks.mark(0, 3_900_000_000)
    truth = Truth(wave="square:100,700,0.4", idle_w=50, marks=marks)
    assert truth.energy(3.3, 3.9) == pytest.approx(0.4 * 700 + 0.2 * 100)
    assert [truth.power(at_s) for at_s in (3.2, 3.4, 3.55, 3.75, 4.0)] == [50, 700, 100, 700, 50]


# --- marks ---------------------------------------------------------------------------------


def test_marks_are_seen_through_another_opening_of_the_file(tmp_path: Path) -> None:
    writer = Marks(tmp_path / "marks", capacity=2)
    reader = Marks(tmp_path / "marks", create=False)
    assert reader.entries() == []
    times = [writer.mark(1), writer.mark(0)]
    assert reader.entries() == [(times[0], 1.0), (times[1], 0.0)]
    with pytest.raises(ValueError, match="no room for more than 2"):
        writer.mark(1)


def test_marks_go_forward_in_time(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks")
    marks.mark(1, 5)
    with pytest.raises(ValueError, match="must not lie before"):
        marks.mark(0, 4)


def test_a_wave_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no such wave"):
        Wave("triangle:1,2")
