"""The documents say what the code does: examples load, tables are current, links lead somewhere."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from docs import build_reference, report_schema
from docs.report_words import WORDS, plain
from pytest_llem.errors import StudyError
from pytest_llem.extensions import WELL_KNOWN
from pytest_llem.metrics import METRICS
from pytest_llem.runners import images, resolve
from pytest_llem.study import user_config
from pytest_llem.study.load import load
from tests.acceptance.conftest import Project
from tests.documents import PAGES, ROOT, Written, written

pytestmark = pytest.mark.once

RUN = "run: python docs/build_reference.py"


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def rows(name: str) -> list[list[str]]:
    """Cells of all table rows of a page."""
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in page(name).splitlines()
        if line.startswith("|")
    ]


def block(name: str, language: str, holds: str) -> str:
    """The block of a page that holds a text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", page(name), re.DOTALL | re.MULTILINE)
    (found,) = [text for text in blocks if holds in text]
    return str(found)


# --- studies -------------------------------------------------------------------------------


@pytest.mark.parametrize("study", written(), ids=str)
def test_every_study_in_the_documents_loads(study: Written, tmp_path: Path) -> None:
    loaded = load(study.lay_out(tmp_path), "example.study.yaml")
    assert loaded.experiments
    assert not loaded.skipped
    for planned in loaded.experiments:
        if "models/" in planned.experiment.model:
            assert Path(planned.experiment.model).is_dir()


def test_there_are_studies_in_the_documents() -> None:
    assert len(written()) >= 12


def test_names_that_the_documents_give_are_those_of_their_studies(tmp_path: Path) -> None:
    found = set()
    for number, study in enumerate(written()):
        folder = tmp_path / str(number)
        folder.mkdir()
        found |= {p.experiment.id for p in load(study.lay_out(folder), "s").experiments}
    named = re.findall(r"`((?:batch_size|backend|split)-[\w-]+)`", page("study.md"))
    assert len(named) >= 6
    assert set(named) <= found


def test_the_users_settings_in_the_documents_are_all_taken(tmp_path: Path) -> None:
    path = tmp_path / user_config.NAME
    path.write_text(block("runners.md", "yaml", "default_backend"), encoding="utf-8")
    found = user_config.load(path, path.name, WELL_KNOWN, [])
    assert found.problems == ()
    assert found.settings.cycles == 5


def test_errors_in_the_documents_are_those_that_are_printed(tmp_path: Path) -> None:
    path = tmp_path / "a.study.yaml"
    path.write_text(
        "model: models/tiny-llama\nweights: random\nbach_size: 4\nprompts: {cuont: 3}\n"
        "sweep: {dtype: [float32, int8], seed: {from: 4, to: 1, steps: 2}}\n"
        "expect: {tokens_per_s: {min: 1}}\n"
    )
    with pytest.raises(StudyError) as caught:
        load(path, path.name)
    assert block("study.md", "text", path.name) == f"{caught.value}\n"


def test_left_out_settings_in_the_documents_are_those_that_are_printed(tmp_path: Path) -> None:
    path = tmp_path / user_config.NAME
    path.write_text("runners: {pytorch: local, vlm: docker}\ncycels: 3\nwarmup: {prompts: 0}\n")
    printed = user_config.load(path, path.name, WELL_KNOWN, []).problems
    assert block("runners.md", "text", "vlm") == "\n".join(printed) + "\n"


def test_the_plan_in_the_documents_is_the_one_that_is_printed(project: Project) -> None:
    shutil.copytree(ROOT / "benchmarks" / "models", project.folder / "models")
    study = next(study for study in written() if str(study) == "study-1")
    (project.folder / "batching.study.yaml").write_text(study.text)
    result = project.run("benchmarks", "--llem-plan", gaps=None)
    plan = block("study.md", "text", "batching (")
    start = result.outlines.index(plan.splitlines()[0])
    assert result.outlines[start : start + plan.count("\n")] == plan.splitlines()


# --- what is made of the code --------------------------------------------------------------


def test_what_is_made_of_the_code_is_current() -> None:
    made = build_reference.made()
    old = [path.name for path, text in made.items() if path.read_text(encoding="utf-8") != text]
    assert not old, RUN


def test_every_word_about_a_field_of_a_report_is_shown_somewhere() -> None:
    shown = json.dumps(report_schema.schema(), ensure_ascii=False)
    unused = [key for key, text in WORDS.items() if json.dumps(plain(text))[1:-1] not in shown]
    assert unused == []


def test_every_class_of_a_report_has_a_table_or_is_told_in_a_line() -> None:
    tables = set(re.findall("<!-- fields of (\\w+) -->", page("report.md")))
    told = {
        *("Carbon", "Git", "Tokens", "IdlePower", "Lengths", "Spread", "GpuProcess"),
        *("FixedGap", "Testbed", "Workload", "UnknownModel", "Nothing", "NotCompared"),
    }
    of_studies = {
        *("Experiment", "Prompts", "Uniform", "Lognormal", "LognormalShape", "Warmup"),
        *("Decoding", "Poisson", "Concurrency", "Slo"),
    }
    assert tables - {"Report"} == set(report_schema.schema()["$defs"]) - told - of_studies


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_its_formula_in_a_table(metric: str) -> None:
    found = [row for row in rows("methodology.md") if f"`{metric}`" in row[0]]
    assert len(found) == 1
    assert found[0][1] == METRICS[metric].unit


# --- runners -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        resolve.DETECTED,
        resolve.NOT_DETECTED,
        resolve.MIXED,
        resolve.elevated(["vllm", "pytorch"]),
        resolve.refused(["vllm", "pytorch"]),
    ],
    ids=str.split,
)
def test_lines_about_runners_are_quoted_as_they_are_printed(line: str) -> None:
    assert f"`{line}`" in [cell for row in rows("runners.md") for cell in row]


def test_default_images_are_those_of_the_code() -> None:
    found = {row[0]: row[1] for row in rows("runners.md") if row[0].strip("`") in images.DEFAULTS}
    assert found == {f"`{name}`": f"`{image}`" for name, image in images.DEFAULTS.items()}


# --- links ---------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """Of the headings of a page, as sites that show Markdown make them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        other = (path.parent / name).resolve() if name else path
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target
