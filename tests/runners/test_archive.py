"""What is sent to a worker is all it needs, and no more."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import marshal
import py_compile
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import pytest_llem
from pytest_llem.experiment import Decoding, Lognormal, LognormalShape, Poisson, Prompts, Slo
from pytest_llem.extensions import BACKENDS, METERS
from pytest_llem.runners.archive import bootstrap, build, build_for
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
        return [name for name in archive.namelist() if not name.endswith(".pyc")]


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
        "machine.py",
        "metrics.py",
        "nvml.py",
        "powercap.py",
        "prompt_file.py",
        "records.py",
        "rules.py",
        "traffic.py",
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


def test_every_source_is_compiled_for_this_python(archive: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        compiled = {name[:-1] for name in file.namelist() if name.endswith(".pyc")}
    assert compiled == {name for name in members() if name.endswith(".py")}
    program = "import pytest_llem.records; print(pytest_llem.records.__spec__.origin[-11:])"
    assert python(archive, program) == "records.pyc\n"


def test_another_python_takes_the_sources(tmp_path: Path) -> None:
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(io.BytesIO(build())) as ours, zipfile.ZipFile(other, "w") as theirs:
        for name in ours.namelist():
            content = ours.read(name)
            # Compiled by a Python of another version: its first bytes tell.
            theirs.writestr(name, b"\0\0\r\n" + content[4:] if name.endswith("c") else content)
    program = "import pytest_llem.records; print(pytest_llem.records.__spec__.origin[-10:])"
    assert python(other, program) == "records.py\n"


@pytest.mark.parametrize("stale", ["of an older source", "of another Python", "nothing"])
def test_what_python_keeps_of_a_module_is_sent_if_it_is_of_its_source(
    others: Path, stale: str
) -> None:
    source = others / "one_file.py"
    kept = Path(importlib.util.cache_from_source(str(source)))
    py_compile.compile(str(source), doraise=True)
    made = kept.read_bytes()
    if stale == "of an older source":
        source.write_text("B = 11\n")
    else:
        kept.write_bytes(b"\0\0\r\n" + made[4:] if stale == "of another Python" else b"")
    content = build_for.__wrapped__(frozenset({(BACKENDS, "one")}))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found: dict[str, object] = {}
        exec(marshal.loads(archive.read("one_file.pyc")[16:]), found)
    assert found["B"] == (11 if stale == "of an older source" else 1)
    if not sys.dont_write_bytecode:
        # Made anew, so that the next session needn't.
        assert marshal.loads(kept.read_bytes()[16:]).co_consts[0] == found["B"]


def contents(archive: bytes) -> dict[str, object]:
    """What is in an archive; of compiled files the code, whose bytes depend on who made it."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    return {
        name: (data[:16], marshal.loads(data[16:])) if name.endswith(".pyc") else data
        for name, data in files.items()
    }


def test_equal_sources_give_equal_archives() -> None:
    # Past the cache: made anew.
    assert contents(build.__wrapped__()) == contents(build.__wrapped__()) == contents(build())


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


# --- for images, which have nothing of ours ------------------------------------------------------


def distribution(folder: Path, name: str, modules: dict[str, str], points: str) -> None:
    """Install a distribution with an entry point; its record lists its modules."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(points)
    rows = [f"{name}-1.0.dist-info/METADATA,,", "../../../bin/tool,,"]
    for path, text in modules.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        rows.append(f"{path},,")
    (about / "RECORD").write_text("\n".join(rows) + "\n")


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Distributions of all shapes, each with a backend; none of them can be imported yet."""
    folder = tmp_path / "site"
    point = "[pytest_llem.backends]\n{} = {}\n"
    distribution(folder, "one-file", {"one_file.py": "B = 1\n"}, point.format("one", "one_file:B"))
    package = {"pkg_a/__init__.py": "", "pkg_a/sub/b.py": "B = 2\n", "pkg_a/data.json": "{}"}
    package |= {"pkg_a/fast.so": "binary", "helper_a.py": ""}
    distribution(folder, "a_package", package, point.format("package", "pkg_a.sub.b:B"))
    shared = {"space/mine/__init__.py": "B = 3\n", "space/mine/c.py": ""}
    distribution(folder, "in-space", shared, point.format("spaced", "space.mine:B"))
    distribution(
        folder, "in_space_too", {"space/other.py": "B = 4\n"}, point.format("x", "space.other:B")
    )
    monkeypatch.syspath_prepend(str(folder))
    return folder


def sent(*backends: str) -> set[str]:
    """What is sent beside what every worker is sent."""
    content = build_for.__wrapped__(frozenset((BACKENDS, name) for name in backends))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        names = {name for name in archive.namelist() if not name.endswith(("/", ".pyc"))}
        return names - set(members())


METADATA = ("METADATA", "entry_points.txt")
_VERSION = importlib.metadata.version("nvidia-ml-py")
NVML = {"pynvml.py", *(f"nvidia_ml_py-{_VERSION}.dist-info/{name}" for name in METADATA)}


def test_the_bindings_of_nvml_go_to_every_image() -> None:
    assert sent() == NVML


@pytest.mark.parametrize(
    ("backend", "files"),
    [
        ("one", {"one_file.py", "one_file-1.0.dist-info/"}),
        (
            "package",
            {
                *("pkg_a/__init__.py", "pkg_a/sub/b.py", "pkg_a/data.json", "helper_a.py"),
                "a_package-1.0.dist-info/",
            },
        ),
        ("spaced", {"space/mine/__init__.py", "space/mine/c.py", "in_space-1.0.dist-info/"}),
        ("x", {"space/other.py", "in_space_too-1.0.dist-info/"}),
        ("pytorch", set()),
        ("nobodys", set()),
    ],
)
def test_a_third_partys_distribution_is_sent_whole_and_no_other(
    others: Path, backend: str, files: set[str]
) -> None:
    found = sent(backend) - NVML
    metadata = {name.partition("/")[0] + "/" for name in found if ".dist-info/" in name}
    assert {name for name in found if ".dist-info/" not in name} | metadata == files


def test_what_was_sent_is_found_where_there_is_nothing_else(others: Path, tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    path.write_bytes(build_for(frozenset({(BACKENDS, "package"), (BACKENDS, "x")})))
    program = f"""
        from pytest_llem.extensions import WELL_KNOWN, find, names
        others = [name for name in names({BACKENDS!r}) if name not in WELL_KNOWN]
        print([(name, find({BACKENDS!r}, name)) for name in others])
        import pynvml, importlib.metadata
        print(importlib.metadata.version("nvidia-ml-py") != "")
    """
    assert python(path, program).splitlines() == ["[('package', 2), ('x', 4)]", "True"]


def test_without_a_record_the_module_itself_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As an installation for development leaves it.
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "third_party"))
    found = sent("fake") - NVML
    assert "llem_fake.py" in found
    assert found == {"llem_fake.py", *(f"llem_fake-1.0.dist-info/{n}" for n in METADATA)}


def test_equal_packages_give_equal_archives(others: Path) -> None:
    chosen = frozenset({(BACKENDS, "package"), (BACKENDS, "spaced")})
    first, second = (contents(build_for.__wrapped__(chosen)) for _ in range(2))
    assert first == second
