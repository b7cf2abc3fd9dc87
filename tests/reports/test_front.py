"""Names in the figure of energy against speed."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

from pytest_llem.reports.figures.canvas import WIDE
from pytest_llem.reports.figures.front import Point, draw


def points(count: int, spread: float = 2.0) -> list[Point]:
    """Each faster than the one before, for more energy: all are on the front."""
    return [
        Point(
            key=f"e{i}",
            name=f"batch_size-{i}",
            series="vllm",
            number=0,
            rate=100 * spread**i,
            energy_j=0.1 * spread**i,
        )
        for i in range(count)
    ]


def named(drawn: list[Point]) -> set[str]:
    """Names that are written beside their points."""
    figure = draw(drawn, width=WIDE)
    return {point.name for point in drawn if f">{point.name}</text>" in figure}


def test_all_points_have_a_name_where_there_is_room() -> None:
    assert named(points(8)) == {f"batch_size-{i}" for i in range(8)}


def test_of_many_points_the_front_alone_is_named() -> None:
    worse = Point(key="w", name="worse", series="vllm", number=0, rate=99.0, energy_j=50.0)
    assert named([*points(8), worse]) > {"worse"}
    cloud = [
        Point(key=f"c{i}", name=f"cloud-{i}", series="vllm", number=0, rate=90.0, energy_j=60.0 + i)
        for i in range(10)
    ]
    assert not named([*points(8), worse, *cloud]) & {"worse", *(point.name for point in cloud)}


def test_no_name_is_written_over_another() -> None:
    # All in one place: four sides have room, and no more.
    drawn = points(12, spread=1.0001)
    far = Point(key="f", name="far", series="vllm", number=0, rate=1e4, energy_j=9.0)
    assert 1 <= len(named([*drawn, far])) - 1 <= 4
