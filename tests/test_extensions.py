"""Finding backends and meters through entry points."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.errors import LlemError
from pytest_llem.extensions import BACKENDS, METERS, find, names
from pytest_llem.meters.estimate import EstimateMeter


@pytest.mark.parametrize(("group", "name"), [(BACKENDS, "pytorch"), (METERS, "estimate")])
def test_the_built_in_ones_are_registered(group: str, name: str) -> None:
    assert name in names(group)
    assert names(group) == sorted(set(names(group)))


@pytest.mark.parametrize(("group", "name"), [(BACKENDS, "pytorch"), (METERS, "estimate")])
def test_what_is_registered_under_a_name_bears_it(group: str, name: str) -> None:
    assert find(group, name)().name == name


def test_a_meter_is_found_as_the_class_itself() -> None:
    assert find(METERS, "estimate") is EstimateMeter


def test_a_group_of_nothing_has_no_names() -> None:
    assert names("pytest_llem.no_such_group") == []


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(LlemError) as caught:
        find(BACKENDS, "pytroch")
    assert str(caught.value) == (
        f"pytest_llem.backends: nothing is called 'pytroch'; found: {', '.join(names(BACKENDS))}"
    )


def test_a_third_party_is_found_and_its_broken_import_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{METERS}]\nthird = no_such_module_of_llem:Meter\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "third" in names(METERS)
    with pytest.raises(LlemError) as caught:
        find(METERS, "third")
    assert str(caught.value) == (
        f"{METERS}: third (no_such_module_of_llem:Meter) can't be imported:"
        " No module named 'no_such_module_of_llem'"
    )
