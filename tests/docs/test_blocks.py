"""Every block of code in the documents is run, or says why not; what it prints is what is shown."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pytest_llem.extensions import WELL_KNOWN
from pytest_llem.results.sessions import sessions
from pytest_llem.study import user_config
from tests.acceptance.template import Template
from tests.docs.shell import Done, Shell, commands
from tests.documents import CODE, EXAMPLES, LANGUAGES, PAGES, ROOT, Block, blocks, written

if sys.version_info >= (3, 11):
    import tomllib

pytestmark = pytest.mark.once

BLOCKS = {page: list(blocks(page)) for page in PAGES}
CODE_BLOCKS = [block for found in BLOCKS.values() for block in found if block.language in CODE]

CI = (ROOT / ".ci" / "run").read_text()
README = [line for line in (ROOT / "README.md").read_text().splitlines() if line[:4] == "pip "]


def by_ci(line: str) -> bool:
    """Whether .ci/run runs this line of a block itself, from nothing."""
    return line in README or (line.startswith("pip ") and line in CI.replace(" -q", ""))


# By their first words: blocks that a test of their own runs, as it takes more than a terminal.
ELSEWHERE = {
    "#!/bin/sh\n# bisect.sh": "tests/acceptance/test_bisect.py",
    "python -m venv ../base": "tests/acceptance/test_bisect.py",
    **dict.fromkeys(
        (
            "pytest -n 8 ",
            "pytest -d -o testpaths",
            "python -m pytest_llem merge reports/",
            "#!/bin/bash\n# llem.sbatch",
            "# The second job runs",
            "apiVersion: batch/v1\nkind: Job",
            "kubectl apply",
        ),
        "tests/acceptance/test_scale_docs.py",
    ),
    "name: speed\n": "tests/acceptance/test_ci.py",
    "name: energy\n": "tests/acceptance/test_ci.py",
    "stages: [benchmarks]\n": "tests/acceptance/test_ci.py",
}


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    template = Template()
    yield template
    template.close()


@pytest.fixture
def shell(template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(template, tmp_path)


# --- all of them ---------------------------------------------------------------------------


def test_every_block_is_in_a_language_that_is_known() -> None:
    assert [str(b) for found in BLOCKS.values() for b in found if b.language not in LANGUAGES] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_stands_between_fences(page: Path) -> None:
    """Code that is only indented has no language, and nobody would run it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    assert re.findall(r"^\n {4,}(?:pytest|python|pip|docker)\b.*", text, re.MULTILINE) == []


def test_at_most_a_tenth_is_skipped_and_says_why() -> None:
    skipped = [block for block in CODE_BLOCKS if block.skip]
    assert len(skipped) <= len(CODE_BLOCKS) / 10, "\n".join(f"{b}: {b.skip}" for b in skipped)
    assert all(len(block.skip.split()) > 2 for block in skipped if block.skip)
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    # Every such line stands before a block, or it would say of something what isn't so.
    assert text.count("Not run by our tests:") == len(skipped)


def test_what_ci_runs_is_what_the_readme_says() -> None:
    assert len(README) == 2
    assert "grep -E '^pip install -e' README.md" in CI


def test_blocks_that_are_run_elsewhere_are_there_and_run() -> None:
    for beginning, path in ELSEWHERE.items():
        found = [block for block in CODE_BLOCKS if block.text.startswith(beginning)]
        assert found, beginning
        text = (ROOT / path).read_text(encoding="utf-8")
        assert all(Path(block.page).name in text for block in found)


# --- studies -------------------------------------------------------------------------------

# Idle power takes its time whatever the engine, and so do new processes.
IN_LITTLE_TIME = {"idle": "none", "worker": "forked"}
ENGINE = re.compile(r"(?<!-)\b(pytorch|tensorrt|vllm)\b")


def test_every_study_is_measured(tmp_path: Path, shell: Shell) -> None:
    studies = [study for study in written() if study.skip is None]
    for study in studies:
        folder = tmp_path / "studies" / str(study)
        folder.mkdir(parents=True)
        hurried(study.lay_out(folder))
    shutil.copytree(EXAMPLES, tmp_path / "studies" / "docs" / "examples")
    shutil.copytree(ROOT / "benchmarks" / "models", tmp_path / "studies" / "benchmarks" / "models")
    for path in (tmp_path / "studies" / "docs" / "examples").glob("*.study.yaml"):
        hurried(path)
    local = [f"--llem-runner quick_{backend}=local" for backend in WELL_KNOWN]
    options = ("--llem-cycles=1", "--llem-gaps=none", "--llem-warmup=none", "--llem-json=out.json")
    done = shell.run(f"pytest studies {' '.join([*local, *options])}")
    assert done.status == 0, done
    report = json.loads((tmp_path / "out.json").read_text())
    seen = {outcome["file"] for outcome in report["measurements"] if outcome["measurement"]}
    skipped = {o["file"]: o["skipped"] for o in report["measurements"] if o["skipped"]}
    for study in studies:
        file = f"studies/{study}/example.study.yaml"
        assert file in seen or "requires" in skipped[file], file


def hurried(path: Path) -> None:
    """Change a study such that only what costs time is another; its lines stay where they are."""
    text = path.read_text(encoding="utf-8")
    for key, value in IN_LITTLE_TIME.items():
        text, found = re.subn(f"^{key}:.*$", f"{key}: {value}", text, flags=re.MULTILINE)
        text += "" if found else f"\n{key}: {value}\n"
    text += "" if re.search(r"\bbackend:", text) else "\nbackend: pytorch\n"
    path.write_text(quick(text), encoding="utf-8")


def quick(text: str) -> str:
    """The same with engines that compute next to nothing."""
    return ENGINE.sub(r"quick_\1", text)


def test_files_of_settings_are_taken_whole(tmp_path: Path) -> None:
    found = [block for block in CODE_BLOCKS if block.name == user_config.NAME]
    assert found
    for block in found:
        path = tmp_path / user_config.NAME
        path.write_text(block.text, encoding="utf-8")
        assert user_config.load(path, path.name, WELL_KNOWN, []).problems == (), block


def test_every_block_of_yaml_is_a_study_a_file_or_run_elsewhere() -> None:
    studies = {study.text for study in written()}
    for block in CODE_BLOCKS:
        if block.language == "yaml" and block.text not in studies and block.name is None:
            assert block.text.startswith(tuple(ELSEWHERE)), block
            assert isinstance(yaml.safe_load(block.text), dict), block


# --- commands and programs -----------------------------------------------------------------


def runnable(block: Block) -> bool:
    if block.text.startswith(tuple(ELSEWHERE)):
        return False
    return block.language in {"sh", "python", "toml", "ini"} and block.skip is None


RUN = [page for page in PAGES if any(map(runnable, BLOCKS[page]))]


@pytest.mark.parametrize("page", RUN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_and_programs_of_a_page_work(page: Path, tmp_path: Path, shell: Shell) -> None:
    # Whose own project it is begins with nothing.
    if not any("pytest_llem init" in block.text for block in BLOCKS[page]):
        project(tmp_path)
    tried, last = True, None
    for block in BLOCKS[page]:
        if block.language == "sh" and runnable(block):
            last, tried = None, True
            following = next((b for b in BLOCKS[page] if b.line > block.line), None)
            printed = following.text if following and following.follows == "sh" else ""
            found = list(commands(block.text, but=by_ci))
            for command in found:
                if SESSION in command:
                    command = command.replace(SESSION, latest(tmp_path))
                last = shell.run(quick(command) if command.startswith("pytest ") else command)
                if "pytest_llem init" in command:
                    for path in tmp_path.rglob("*.study.yaml"):
                        hurried(path)
                if "pytest_llem doctor" not in command:  # whose status is the machine's
                    wrong = command is found[-1] and bool(re.search("failed|error", printed))
                    assert (last.status != 0) == wrong, f"{block}\n{last}"
        elif block.follows == "sh" and block.language == "text" and last is not None:
            compare(block, last)
        elif runnable(block):
            tried &= place(block, shell)
    if not tried:
        done = shell.run("pytest benchmarks/ -k 16")
        assert done.status == 0, done


SESSION = "20261122T101010Z-4a6d"
"""The session that docs/resume.md goes on with."""


def latest(folder: Path) -> str:
    return sessions(folder / "results")[0].name


def project(folder: Path) -> None:
    """What the documents speak of: the studies that come with this project."""
    # Those for GPUs are skipped everywhere, and asked for their GPUs each time.
    no_gpus = shutil.ignore_patterns("gpu")
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=no_gpus)
    shutil.copytree(EXAMPLES, folder / "docs" / "examples")
    for path in [*(folder / "benchmarks").rglob("*.yaml"), *(folder / "docs").rglob("*.yaml")]:
        hurried(path)


def place(block: Block, shell: Shell) -> bool:
    """Put a file where it belongs, and run a program; false for a file that is yet to be tried."""
    if block.language == "toml":
        return entry_points(block, shell.folder)
    if block.language == "ini":
        (shell.folder / "pytest.ini").write_text(block.text, encoding="utf-8")
        return False
    ast.parse(block.text)
    if block.name == "conftest.py":
        conftest = shell.folder / "conftest.py"
        before = conftest.read_text() if conftest.exists() else ""
        conftest.write_text(f"{before}\n{block.text}", encoding="utf-8")
        return False
    path = shell.folder / (block.name or "program.py")
    path.write_text(block.text, encoding="utf-8")
    command = f"pytest {path.name}" if path.name.startswith("test_") else f"python {path.name}"
    done = shell.run(command)
    assert done.status == 0, f"{block}\n{done}"
    return True


def entry_points(block: Block, folder: Path) -> bool:
    """Make what pip would of a pyproject.toml: metadata with the entry points."""
    if sys.version_info < (3, 11):
        return True
    data = tomllib.loads(block.text)
    info = folder / f"block{block.line}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: block{block.line}\nVersion: 1.0\n"
    )
    lines = []
    for group, points in data.get("project", {}).get("entry-points", {}).items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    assert lines, block
    (info / "entry_points.txt").write_text("\n".join(lines))
    return True


# --- what is printed -----------------------------------------------------------------------

_NUMBER = re.compile(r"[-+]?\d[\d.,:]*(?:e[-+]?\d+)?(?: ?[GMkmµnp]?(?:J|s|W|Wh|B)\b)?")
_DIGITS = re.compile(r"\b[0-9a-f]{4}\b|\d{8}T\d{6}Z")


def shape(line: str) -> str:
    """A line without what differs from run to run: figures, times, and how wide columns are.

    So does which figure is the best, and a single cycle has no interval.
    """
    line = re.sub(r"±|# %|\*", " ", _NUMBER.sub("#", _DIGITS.sub("#", line)))
    return re.sub(r"[-=_]{3,}|\.{2,}|\s+", " ", line).strip()


def compare(block: Block, done: Done) -> None:
    """Each line that is shown was printed, in this order; an ellipsis stands for some lines."""
    printed = iter([shape(line) for line in done.output.splitlines()])
    for line in filter(str.strip, block.text.splitlines()):
        if line.strip() != "…":
            assert shape(line) in printed, f"{block}: {line}\n{shape(line)}\n{done}"
