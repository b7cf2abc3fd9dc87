"""What is sent to a worker is all it needs, and no more."""

from __future__ import annotations

import importlib.metadata
import io
import json
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import pytest_llem
from pytest_llem.experiment import Decoding, Lognormal, LognormalShape, Poisson, Prompts, Slo
from pytest_llem.extensions import BACKENDS, METERS
from pytest_llem.runners.archive import bootstrap, build
from pytest_llem.wire import to_dict
from pytest_llem.worker.workload import measured
from tests.builders import experiment


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive.zip"
    path.write_bytes(build())
    return path


def python(archive: Path, program: str) -> str:
    """Output of a Python that has the standard library and the archive, and nothing else."""
    start = f"import sys; sys.path.insert(0, {str(archive)!r})\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def members() -> list[str]:
    with zipfile.ZipFile(io.BytesIO(build())) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_every_module_can_be_imported_from_it_with_the_standard_library_alone(
    archive: Path,
) -> None:
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in members()
        if name.endswith(".py") and not name.endswith("bootstrap.py")
    ]
    assert "pytest_llem.worker.__main__" in modules
    program = f"""
        import importlib
        for name in {modules!r}:
            assert importlib.import_module(name).__file__.startswith({str(archive)!r}), name
        print("torch" in sys.modules, "pydantic" in sys.modules, "yaml" in sys.modules)
    """
    assert python(archive, program) == "False False False\n"


def test_the_backends_and_meters_are_found_from_it(archive: Path) -> None:
    program = f"""
        import json
        from pytest_llem.extensions import find, names
        groups = {[BACKENDS, METERS]!r}
        print(json.dumps([[find(g, n).name for n in names(g)] for g in groups]))
    """
    found = json.loads(python(archive, program))
    distribution = importlib.metadata.distribution("pytest-llem")
    assert found == [
        sorted(point.name for point in distribution.entry_points.select(group=group))
        for group in (BACKENDS, METERS)
    ]


def test_it_knows_its_version(archive: Path) -> None:
    program = """
        import importlib.metadata, pytest_llem
        print(pytest_llem.__version__, importlib.metadata.version("pytest-llem"))
    """
    version = importlib.metadata.version("pytest-llem")
    assert python(archive, program).split() == [pytest_llem.__version__, version]


def test_an_experiment_is_understood_where_there_is_nothing_else(archive: Path) -> None:
    shape = Lognormal(lognormal=LognormalShape(median=20, sigma=0.7, max=90))
    given = experiment(
        prompts=Prompts(count=3, input_tokens=shape),
        scenario=Poisson(poisson=2.5),
        decoding=Decoding(top_p=0.9),
        slo=Slo(ttft_s=0.2),
        env={"A": "1"},
        marks=("slow", {"flaky": 2}),
    )
    program = f"""
        import json
        from pytest_llem.experiment import Experiment
        from pytest_llem.wire import from_dict, to_dict
        from pytest_llem.worker.workload import measured
        given = from_dict(Experiment, json.loads({json.dumps(to_dict(given))!r}))
        print(json.dumps([to_dict(given), measured(given, 1000).prompts]))
    """
    found = json.loads(python(archive, program))
    assert found == [to_dict(given), list(measured(given, 1000).prompts)]


def test_its_own_modules_are_those_that_both_sides_share() -> None:
    top = {name.removeprefix("pytest_llem/") for name in members() if name.count("/") == 1}
    assert {name for name in top if name.endswith(".py")} == {
        "__init__.py",
        "errors.py",
        "experiment.py",
        "extensions.py",
        "gpus.py",
        "metrics.py",
        "nvml.py",
        "powercap.py",
        "records.py",
        "rules.py",
        "wire.py",
    }


@pytest.mark.parametrize("part", ["study", "runners", "results", "reports", "cli", "plugin"])
def test_it_holds_nothing_of_the_host(part: str) -> None:
    path = Path(f"pytest_llem/{part}")
    assert [name for name in members() if Path(name).is_relative_to(path)] == []
    assert f"{path}.py" not in members()


@pytest.mark.parametrize("part", ["backends", "meters", "worker"])
def test_it_holds_every_module_of_the_worker(part: str) -> None:
    folder = Path(pytest_llem.__file__).parent / part
    assert {name for name in members() if name.startswith(f"pytest_llem/{part}/")} == {
        f"pytest_llem/{part}/{file.name}" for file in folder.glob("*.py")
    }


def test_it_holds_sources_and_metadata_once_each() -> None:
    assert len(set(members())) == len(members())
    assert all(name.endswith(".py") or ".dist-info/" in name for name in members())


def test_equal_sources_give_equal_archives() -> None:
    # Past the cache: made anew.
    assert build.__wrapped__() == build.__wrapped__() == build()


def test_the_first_program_compiles_and_defines_what_it_needs() -> None:
    code = compile(bootstrap(), "<bootstrap>", "exec", dont_inherit=True)
    found: dict[str, object] = {"__name__": "not main"}
    exec(code, found)
    assert callable(found["read_exactly"])
    assert callable(found["keep"])


def test_the_first_program_fits_the_command_line() -> None:
    # Linux allows 128 KiB for one argument.
    assert len(bootstrap().encode()) < 128 * 1024
    assert "\0" not in bootstrap()
