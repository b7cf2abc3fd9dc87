"""Files that would exhaust or end a process: refused, at little cost. Tried in another process."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="limits and measures a process as only Linux does"
)

PROGRAM = """
    import resource, sys
    from pathlib import Path
    import pydantic, yaml
    from pytest_llem.errors import StudyError
    from pytest_llem.study.load import load
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, size in zip(sys.argv[2::2], sys.argv[3::2]):
        resource.setrlimit(getattr(resource, name), (int(size), int(size)))
    def peak():
        # Not ru_maxrss: a process takes over the one of its parent.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])
    before = peak()
    try:
        print("x:", len(load(Path(sys.argv[1]), "x").experiments))
    except StudyError as error:
        print(str(error)[:1000])
    print("kilobytes:", peak() - before)
"""


def load_elsewhere(path: Path, **limits: int) -> tuple[str, float]:
    """What another process says of a file, and how many more megabytes it needed for that."""
    words = [str(word) for limit in limits.items() for word in limit]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(path), *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said, _, needed = done.stdout.rpartition("kilobytes: ")
    assert said.startswith("x:"), (done.returncode, done.stderr[-2000:])
    return said, int(needed) / 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.study.yaml"


@pytest.mark.parametrize("unit", ["[", "- ", "? ", "{a: "])
def test_deep_nesting_is_refused_before_the_parser_overflows_its_stack(
    path: Path, unit: str
) -> None:
    # The stack is made small here to keep the file small; 8 MiB take 40,000 levels.
    path.write_text(unit * 5000 + "x")
    said, _ = load_elsewhere(path, RLIMIT_STACK=1_000_000)
    assert said.startswith("x:1: ")


def test_a_bomb_of_aliases_is_refused(path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    path.write_text("\n".join(levels))
    said, megabytes = load_elsewhere(path)
    assert said == "x:6: more than 1,000,000 values, with those of aliases\n"
    assert megabytes < 20


def test_a_bomb_of_merge_keys_is_refused(path: Path) -> None:
    inner = "&a0 {k: 1}"
    for level in range(10):
        aliases = ", ".join([f"*a{level}"] * 8)
        inner = f"&a{level + 1} {{<<: [{inner}, {aliases}]}}"
    path.write_text(f"x: {inner}")
    said, megabytes = load_elsewhere(path)
    assert said.startswith("x:1: ")
    assert megabytes < 20


def test_a_file_of_too_many_values_is_refused(path: Path) -> None:
    path.write_text("x: [" + "a," * 1_100_000 + "]")
    said, megabytes = load_elsewhere(path)
    assert said.startswith("x:1: ")
    assert megabytes < 300


def test_many_values_at_a_great_depth_take_no_more_than_many_values(path: Path) -> None:
    path.write_text("x: " + "[" * 95 + "a," * 120_000 + "]" * 95)
    said, megabytes = load_elsewhere(path)
    assert said.startswith("x:1: ")
    assert megabytes < 50


def test_a_file_that_is_larger_than_memory_is_refused_by_its_size(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    said, megabytes = load_elsewhere(path, RLIMIT_AS=1_000_000_000)
    assert said == "x:1: larger than 10 MB\n"
    assert megabytes < 20


def test_a_long_value_is_not_copied_into_the_name_of_every_point(path: Path) -> None:
    seeds = ", ".join(map(str, range(60)))
    path.write_text(f"model: m\nsweep: {{env.A: [{'x' * 1_000_000}], seed: [{seeds}]}}")
    _, megabytes = load_elsewhere(path)
    assert megabytes < 60
