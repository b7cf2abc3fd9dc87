"""The recipe for ``git bisect run`` of docs/compare.md, as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project, environment_with

pytestmark = pytest.mark.once

PAGE = Path(__file__).parents[2] / "docs" / "compare.md"
STUDY = "worker: forked\n"
COMMITS = {"first": "1.0", "second": "1.0", "third": "2.0", "fourth": "2.0"}
"""What the engine is at each; that of 2.0 needs a tenth more memory."""

HERE = {
    "../head/bin/python -m pip install --quiet .": "cp variables.pth ../head/lib/python*/*/",
    "runner=pytorch=": "runner=fake=",
    "--llem-cycles=6": "--llem-cycles=3 --llem-gaps=none",
    "energy_per_output_token_j": "peak_memory_bytes",
    "\npytest ": f"\n{sys.executable} -m pytest ",
    "\npython -": f"\n{sys.executable} -",
}
"""What the recipe says, to what it is for the fake engine."""


@pytest.fixture
def recipe() -> str:
    (found,) = re.findall(
        r"^```sh\n(#!/bin/sh\n.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.M
    )
    text = str(found)
    for said, here in HERE.items():
        assert text.count(said) == 1, said
        text = text.replace(said, here)
    return text


def git(folder: Path, *arguments: str) -> str:
    who = {
        f"GIT_{role}_{what}": "a@b.c"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_bad_commit_is_found(project: Project, recipe: str) -> None:
    project.study(STUDY)
    folder = project.pytester.path
    (folder / "bisect.sh").write_text(recipe)
    environment_with(folder / "base", LLEM_FAKE_VERSION="1.0")
    environment_with(folder / "head")
    checkout = project.pytester.mkdir("checkout")
    git(checkout, "init", "-q")
    for number, (title, version) in enumerate(COMMITS.items()):
        line = f"import os; os.environ['LLEM_FAKE_VERSION'] = {version!r}  # {number}\n"
        (checkout / "variables.pth").write_text(line)
        git(checkout, "add", ".")
        git(checkout, "commit", "-q", "-m", title)
    git(checkout, "bisect", "start", "HEAD", "HEAD~3")
    said = git(checkout, "bisect", "run", "sh", "../bisect.sh")
    assert re.search(r"^[0-9a-f]+ is the first '?bad'? commit$", said, re.MULTILINE), said
    assert git(checkout, "log", "-1", "--format=%s", "refs/bisect/bad").strip() == "third"


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        (["kept", "kept"], 0),
        (["kept", "worse"], 1),
        (["worse", "inconclusive"], 1),
        (["kept", "within noise"], 125),
        (["kept", None], 125),
        ([], 125),
    ],
)
def test_what_can_not_be_told_is_neither_good_nor_bad(
    tmp_path: Path, recipe: str, outcomes: list[str | None], status: int
) -> None:
    verdicts = [{"comparison": one and {"outcome": one}} for one in outcomes]
    (tmp_path / "report.json").write_text(json.dumps({"gates": [{"verdicts": verdicts}]}))
    (program,) = re.findall(r"<<'END'\n(.*?)^END$", recipe, re.DOTALL | re.MULTILINE)
    (tmp_path / "checkout").mkdir()
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path / "checkout")
    assert done.returncode == status
