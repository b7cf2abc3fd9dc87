"""Reports for people: an HTML page and Markdown, written beside the JSON; and what is left out."""

from __future__ import annotations

import socket

import pytest

from tests.acceptance.conftest import HEADER, Project

pytestmark = pytest.mark.once

STUDY = """\
execution: {cycles: 2}
expect: {output_tokens_per_s: {min: 1e12}}
experiments: [{id: a}, {id: b, fake: {raise_in: run}}]
"""
SETTINGS = (
    "carbon: {intensity_g_per_kwh: 360, price_per_kwh: 0.3, currency: EUR, source: our grid}\n"
)


def test_all_reports_of_a_session_say_the_same_and_name_neither_host_nor_home(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home of somebody")
    summary = home / "step_summary.md"
    summary.write_text("## from a step before\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    root = project.pytester.path
    (root / ".lem-config.yaml").write_text(SETTINGS)
    (root / "model").mkdir()
    study = project.study(STUDY, header=HEADER.replace("some/model", str(root / "model")))
    (root / "model" / "config.json").write_text("{}")
    project.pytester.makeconftest(
        f"""
        def pytest_llem_modify_report(config, report):
            report["extra"]["where"] = "{home}/notes on {socket.gethostname()}"
        """
    )
    result = project.run(
        str(study),
        "--llem-json=out/report.json",
        "--llem-html=out/report.html",
        f"--llem-markdown={summary}",
        "--llem-save=main",
        "--llem-redact",
        "--capture=no",
    )
    assert result.ret == 1
    for line in ("report: out/report.json", "HTML report: out/report.html", "saved: *main.json"):
        result.stdout.fnmatch_lines([line])
    result.stdout.fnmatch_lines(["Markdown report: *step_summary.md"])
    result.stdout.fnmatch_lines(["*CO2e/Mtok*cost/Mtok*"])

    report = project.report("out/report.json")
    assert report["redacted"] is True
    assert report["measurements"][0]["config"]["model"] == "model"
    assert report["measurements"][0]["node"] == "benchmarks/s.study.yaml::a::c1"
    written = [*(root / "out").iterdir(), root / "results" / "references" / "main.json", summary]
    assert len(written) == 4
    for path in written:
        text = path.read_text()
        for name in (str(root), str(home), socket.gethostname()):
            assert name not in text, (path.name, name)

    page = (root / "out" / "report.html").read_text()
    markdown = summary.read_text()
    assert markdown.startswith("## from a step before\n\n## ❌ pytest-llem: Failed: 2 of 2 gates\n")
    for text in (page, markdown):
        assert "our grid" in text
        assert "360 g/kWh" in text
        assert "(--llem-redact)" in text.replace("`", "")
        assert "benchmarks/s.study.yaml::b::c1" in text
    # The requests of one cycle, from the session's own folder.
    assert "a tick for each request" in page
    assert "Times of single requests were not found" not in page


def test_what_an_html_report_needs_is_asked_for_before_anything_is_measured(
    project: Project,
) -> None:
    project.study("id: a\n")
    project.pytester.makeconftest("import sys; sys.modules['matplotlib'] = None")
    result = project.run("benchmarks", "--llem-html=report.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ['ERROR: --llem-html needs matplotlib; *: pip install "pytest-llem[[]html]"']
    )
    assert project.journal() == []


def test_pages_that_can_not_be_written_end_the_session_before_it_begins(project: Project) -> None:
    project.study("id: a\n")
    (project.pytester.path / "file").write_text("in the way")
    result = project.run("benchmarks", "--llem-markdown=file/summary.md")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --llem-markdown: *file/summary.md can't be written: *"])
    assert project.journal() == []
