"""Finding backends, meters and runners through entry points, and what backends can do."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Decoding
from pytest_llem.extensions import (
    BACKENDS,
    METERS,
    RUNNERS,
    WELL_KNOWN,
    Abilities,
    Launch,
    abilities,
    find,
    names,
)
from pytest_llem.meters.estimate import EstimateMeter

BUILT_IN = [(BACKENDS, "pytorch"), (METERS, "estimate"), (RUNNERS, "local")]


@pytest.mark.parametrize(("group", "name"), BUILT_IN)
def test_the_built_in_ones_are_registered(group: str, name: str) -> None:
    assert name in names(group)
    assert names(group) == sorted(set(names(group)))


@pytest.mark.parametrize(("group", "name"), BUILT_IN)
def test_what_is_registered_under_a_name_bears_it(group: str, name: str) -> None:
    assert find(group, name).name == name


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


# --- what a backend can do -----------------------------------------------------------------

MODULE = """
from pytest_llem.extensions import Abilities

class Able:
    abilities = Abilities(scenarios=frozenset({"poisson"}), parallel=True, batches=False)

class Silent:
    pass

class Wrong:
    abilities = {"parallel": True}
"""
POINTS = """\
[pytest_llem.backends]
able_of_test = llem_of_test:Able
silent_of_test = llem_of_test:Silent
wrong_of_test = llem_of_test:Wrong
broken_of_test = no_such_module_of_llem:Backend
absent_of_test = llem_of_test:Absent
"""


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of other people's backends; their names are nobody else's in these tests."""
    info = tmp_path / "of_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: of-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (tmp_path / "llem_of_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("third_party")
def test_a_backend_can_do_what_it_says() -> None:
    assert abilities("able_of_test") == Abilities(
        scenarios=frozenset({"poisson"}), parallel=True, batches=False
    )


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize("backend", ["silent_of_test", "wrong_of_test"])
def test_a_backend_that_does_not_say_can_do_no_more_than_the_simplest(backend: str) -> None:
    found = abilities(backend)
    assert found == Abilities()
    assert found is not None
    assert found.scenarios == {"offline"}
    assert (found.batches, found.parallel, found.decoding) == (True, False, frozenset())


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize("backend", ["broken_of_test", "absent_of_test"])
def test_a_backend_that_can_not_be_imported_says_nothing_of_itself(backend: str) -> None:
    assert backend in names(BACKENDS)
    assert abilities(backend) is None


def test_a_backend_that_is_not_installed_says_nothing_of_itself() -> None:
    assert abilities("pytroch") is None


def test_the_built_in_backend_says_what_it_can_do() -> None:
    found = abilities("pytorch")
    assert found is not None
    assert "offline" in found.scenarios
    assert {"cpu", "cuda"} <= found.devices
    assert found.batches
    assert found.decoding <= {field.name for field in dataclasses.fields(Decoding)}


def test_asking_what_a_backend_can_do_imports_no_engine() -> None:
    program = (
        "import sys; from pytest_llem.extensions import abilities; abilities('pytorch');"
        " print(sorted({'torch', 'transformers', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_backends_that_a_study_may_name_are_those_published() -> None:
    assert WELL_KNOWN == ("pytorch", "tensorrt", "vllm")


def test_a_launch_is_of_an_engine_in_the_environment_as_it_is() -> None:
    launch = Launch(backend="pytorch", log=Path("log"))
    assert (launch.role, launch.argument, launch.environment) == ("engine", None, {})
