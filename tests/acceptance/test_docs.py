"""The documents say what the code does: examples load, and no name is left out."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_llem.metrics import METRICS
from pytest_llem.plugin.options import add_options
from pytest_llem.records import Execution, Experiment, Prompts, Warmup
from pytest_llem.study.load import load

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "benchmarks" / "models"
PAGES = sorted(
    path for path in (*(ROOT / "docs").glob("*.md"), ROOT / "README.md") if path.exists()
)
RECORDS = (Experiment, Prompts, Warmup, Execution)


def studies() -> list[Any]:
    """Every YAML block that is a whole study, named by page and number."""
    found = []
    for page in PAGES:
        blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        wholes = [block for block in blocks if re.search(r"^model:", block, re.MULTILINE)]
        found += [
            pytest.param(block, id=f"{page.stem}-{number}")
            for number, block in enumerate(wholes, 1)
        ]
    return found


def rows(*names: str) -> list[list[str]]:
    """Cells of all table rows of some pages; of all pages when none is named."""
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for page in PAGES
        if not names or page.name in names
        for line in page.read_text().splitlines()
        if line.startswith("|")
    ]


class Recorder:
    """Takes the place of pytest's parser, its group included, and notes what is added."""

    def __init__(self) -> None:
        self.options: list[str] = []
        self.settings: list[str] = []
        self.getgroup = lambda *_: self

    def addoption(self, *names: str, **_: object) -> None:
        self.options += names

    def addini(self, name: str, **_: object) -> None:
        self.settings.append(name)


@pytest.fixture
def added() -> Recorder:
    recorder = Recorder()
    add_options(cast(pytest.Parser, recorder))
    return recorder


@pytest.mark.parametrize("text", studies())
def test_every_study_in_the_documents_loads(text: str, tmp_path: Path) -> None:
    shutil.copytree(MODELS, tmp_path / "models")
    path = tmp_path / "example.study.yaml"
    path.write_text(text)
    study = load(path, path.name)
    assert study.experiments
    for planned in study.experiments:
        if "models/" in planned.experiment.model:
            assert Path(planned.experiment.model).is_dir()


def test_there_are_studies_in_the_documents() -> None:
    assert len(studies()) >= 4


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_stands_in_a_table(metric: str) -> None:
    found = [row for row in rows("methodology.md") if f"`{metric}`" in row[0]]
    assert len(found) == 1
    assert found[0][1] == METRICS[metric].unit


@pytest.mark.parametrize(
    ("record", "name"),
    [(record, field.name) for record in RECORDS for field in dataclasses.fields(record)],
    ids=str,
)
def test_every_field_of_a_study_stands_in_a_table(record: type, name: str) -> None:
    wanted = next(field for field in dataclasses.fields(record) if field.name == name)
    found = [row for row in rows("study.md") if row[0] == f"`{name}`"]
    if name == "options":
        found = [row for row in rows("study.md") if f"`{name}`" in " ".join(row)]
    assert found
    if isinstance(wanted.default, (int, float)):
        assert str(wanted.default) in {row[2] for row in found}
    elif isinstance(wanted.default, str) and wanted.default:
        assert f"`{wanted.default}`" in {row[2] for row in found}


def test_every_option_and_setting_is_explained(added: Recorder) -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    words = set(re.findall(r"[\w-]+", text))
    missing = [name for name in (*added.options, *added.settings) if name not in words]
    assert "--llem-json" in added.options
    assert not missing
