"""``python -m pytest_llem init``: the study it writes loads, is collected, and measures."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_llem
from pytest_llem.__main__ import main
from pytest_llem.backends.pytorch import PytorchBackend
from pytest_llem.cli.init import ENGINE, FILES, INSTALL, create, next_steps
from pytest_llem.errors import LlemError
from pytest_llem.study.load import load

ROOT = Path(__file__).parents[2]
TEMPLATES = Path(pytest_llem.__file__).parent / "cli" / "templates"
STUDY, MODEL = FILES


def init(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, called in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "pytest_llem", "init", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **environ},
    )


def files(folder: Path) -> set[str]:
    """All files below a folder, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- what is written -----------------------------------------------------------------------


def test_the_study_and_its_model_are_written_and_the_next_command_named(tmp_path: Path) -> None:
    done = init(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    written = {f"benchmarks/{name}" for name in FILES}
    assert files(tmp_path) == written
    lines = done.stdout.splitlines()
    assert {line for line in lines if line.startswith("Wrote ")} == {f"Wrote {n}" for n in written}
    assert lines[-1] == "Next: pytest benchmarks"


def test_every_template_is_written_and_every_file_has_one(tmp_path: Path) -> None:
    create(tmp_path)
    assert files(TEMPLATES) == set(FILES) == files(tmp_path)


def test_the_model_is_that_of_the_quickstart(tmp_path: Path) -> None:
    create(tmp_path)
    assert (tmp_path / MODEL).read_bytes() == (ROOT / "benchmarks" / MODEL).read_bytes()


def test_the_study_is_short_narrow_and_plain() -> None:
    lines = (TEMPLATES / STUDY).read_text("ascii").splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 80


def test_its_commands_name_the_folder_as_a_shell_takes_it(tmp_path: Path) -> None:
    done = init(tmp_path, "my studies/é")
    assert done.stdout.splitlines()[-1] == "Next: pytest 'my studies/é'"
    text = (tmp_path / "my studies/é" / STUDY).read_text("utf-8")
    assert "pytest 'my studies/é' --llem-json=report.json\n" in text
    assert "FOLDER" not in text


# --- what the study says -------------------------------------------------------------------


def test_the_study_loads(tmp_path: Path) -> None:
    study = load(create(tmp_path)[0], STUDY)
    first = study.experiments[0]
    assert (study.name, len(study.experiments), study.execution.cycles) == ("first", 3, 2)
    assert first.experiment.model == str(tmp_path / "models" / "tiny-llama")
    assert (first.experiment.backend, first.experiment.device) == ("pytorch", "cpu")
    assert [limit.metric for limit in first.limits] == ["output_tokens_per_s"]


def test_the_lines_it_offers_as_comments_are_right_too(tmp_path: Path) -> None:
    path = create(tmp_path)[0]
    text, offered = re.subn(r"^  # ", "  ", path.read_text(), flags=re.MULTILINE)
    path.write_text(text)
    study = load(path, STUDY)
    assert offered == 3
    assert len(study.experiments) == 6
    assert len(study.experiments[0].limits) == 3


def test_the_options_it_names_exist(pytestconfig: pytest.Config) -> None:
    offered = re.findall(r"--llem-[a-z-]+", (TEMPLATES / STUDY).read_text())
    unknown = object()
    assert offered
    assert [name for name in offered if pytestconfig.getoption(name, unknown) is unknown] == []


def test_pytest_collects_its_measurements_and_gates(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    init(pytester.path, "speed")
    result = pytester.runpytest_subprocess("--collect-only", "-q", "speed")
    assert result.ret == 0
    found = [line for line in result.outlines if "::" in line]
    assert len(found) == 9
    assert f"speed/{STUDY}::batch_size-16::c2" in found
    assert f"speed/{STUDY}::batch_size-16::gate" in found


@pytest.mark.engine
@pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="needs the engine")
def test_the_study_measures_and_passes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    assert "First:" not in init(pytester.path).stdout
    path = pytester.path / "benchmarks" / STUDY
    path.write_text(path.read_text().replace("[1, 4, 16]", "[16]"))  # one of its experiments
    result = pytester.runpytest_subprocess("benchmarks", "--llem-cycles=1")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["batch_size-16  *1/1 *passed"])


# --- what is in the way --------------------------------------------------------------------


@pytest.mark.parametrize("there", [[STUDY], [MODEL], [STUDY, MODEL]], ids=str)
def test_what_is_there_is_named_and_nothing_written(tmp_path: Path, there: list[str]) -> None:
    for name in there:
        path = tmp_path / "benchmarks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    done = init(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert all(f"benchmarks/{name}" in done.stderr for name in there)
    assert "--force" in done.stderr
    assert files(tmp_path) == {f"benchmarks/{name}" for name in there}
    assert {(tmp_path / "benchmarks" / name).read_text() for name in there} == {"mine"}


def test_a_link_that_leads_nowhere_is_there_too(tmp_path: Path) -> None:
    (tmp_path / STUDY).symlink_to(tmp_path / "nowhere")
    with pytest.raises(LlemError, match=r"first\.study\.yaml is there already"):
        create(tmp_path)
    assert not files(tmp_path)


def test_force_overwrites(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / STUDY).write_text("mine")
    done = init(tmp_path, "--force")
    assert done.returncode == 0
    assert load(tmp_path / "benchmarks" / STUDY, STUDY).experiments
    assert files(tmp_path) == {f"benchmarks/{name}" for name in FILES}


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("file", "file is not a folder"),
        ("file/deeper", "file/deeper/first.study.yaml can't be written: Not a directory"),
        ("blocked", "models/tiny-llama/config.json can't be written: "),
        ("a" * 300, "can't be written: File name too long"),
        ("two\nlines", r"error: 'two\nlines' can't be printed"),
    ],
    ids=["file", "below a file", "file in the way", "long", "unprintable"],
)
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
def test_a_folder_that_can_not_be_written_is_told_in_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: str,
    words: str,
    force: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "models").write_text("mine")
    assert main(["init", folder, *force]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert words in error
    assert "name" in error.partition(words)[2]
    assert len(error.splitlines()) == 1
    assert files(tmp_path) == {"file", "blocked/models"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("mode", [0o500, 0o000], ids=oct)
def test_a_folder_of_somebody_else_is_told_in_a_line(tmp_path: Path, mode: int) -> None:
    (tmp_path / "closed").mkdir(mode=mode)
    done = init(tmp_path, "closed")
    (tmp_path / "closed").chmod(0o700)
    assert done.returncode == 1
    assert "closed/first.study.yaml can't be written: Permission denied; name" in done.stderr
    assert "Traceback" not in done.stderr
    assert not files(tmp_path)


# --- what comes next -----------------------------------------------------------------------


def test_a_missing_engine_is_installed_first() -> None:
    missing = next_steps(Path("benchmarks"), ["torch", "transformers"])
    assert missing == [
        "The study's engine lacks torch and transformers.",
        'First: pip install "pytest-llem[pytorch]"',
        "Next: pytest benchmarks",
    ]
    assert next_steps(Path("benchmarks"), []) == ["Next: pytest benchmarks"]


def test_a_missing_engine_is_found_without_importing_any(tmp_path: Path) -> None:
    # No site-packages: nothing is installed, and only this package can be imported.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "pytest_llem", "init"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == [f"First: {INSTALL}", "Next: pytest benchmarks"]


def test_the_engine_is_what_its_backend_says() -> None:
    backend = PytorchBackend()
    assert set(ENGINE) == set(backend.versions())
    assert backend.install == INSTALL


def test_a_terminal_without_the_letters_of_a_name_is_no_reason_to_fail(tmp_path: Path) -> None:
    done = init(tmp_path, "é", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == r"Next: pytest '\xe9'"
