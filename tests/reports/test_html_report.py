"""The HTML report as a text: one file, everything escaped, small, and what it says."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pytest_llem.reports import html_report
from tests.reports import browser
from tests.reports.sessions import HOSTILE, experiment, report
from tests.reports.sessions import page as made

pytestmark = pytest.mark.once

VOID = {"br", "hr", "img", "input", "link", "meta", "path", "use"}
OPEN_ENDED = {"dd", "dt"}


class Reader(HTMLParser):
    """Attributes that lead somewhere, texts, and whether elements end where they should."""

    def __init__(self) -> None:
        super().__init__()
        self.led: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.wrong: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.led += [v or "" for k, v in attrs if k in {"href", "src", "xlink:href", "action"}]
        self.led += [v for k, v in attrs if k == "style" and v and "url(" in v and "#" not in v]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        if tag not in VOID | OPEN_ENDED:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID | OPEN_ENDED:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in OPEN_ENDED and (not self._open or self._open.pop() != tag):
            self.wrong.append(f"{tag} at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_it_leads_nowhere_but_within_itself_and_runs_its_own_script_alone() -> None:
    page = made("12")
    reader = read(page)
    assert not reader.wrong
    assert reader.led
    assert all(target.startswith("#") for target in reader.led)
    assert {target[1:] for target in reader.led} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page
    for said in (
        "Failed: 2 of 12 gates",
        "35 of 36 measurements made",
        "11.8 % worse",
        "the worker ran out of the GPU's memory",
        "Fix: lower batch_size",
        "estimated, not measured",
        "380 g/kWh × PUE 1.2",
        "Ember 2025, Germany",
        "NVIDIA A100-SXM4-80GB",
        "Pareto front",
        "nvidia-smi -pl",
        "52c165507b9d, with changes that aren't committed",
    ):
        assert said in reader.text, said
    # Regressions first.
    assert reader.text.index("11.8 % worse") < reader.text.index("0.894 s > 0.500 s")


def test_hostile_names_are_texts() -> None:
    page = made("hostile")
    reader = read(page)
    assert not reader.wrong
    for name in HOSTILE[:3]:
        assert name not in page.replace(html.escape(name), "")
        assert name in reader.text
    assert "{{ 7*7 }}" in reader.text
    assert page.count("<script>") == 1
    assert "\x00" not in page
    assert "\x1b" not in page


def test_five_hundred_experiments_are_a_small_file_that_stays_fluid(tmp_path: Path) -> None:
    page = made("500")
    assert len(page.encode()) < 5_000_000
    assert page.count("<tr data-key=") == 500
    assert "Shown are 12 of 500 experiments" in page
    if browser.missing() and not browser.required():
        return
    path = tmp_path / "page.html"
    path.write_text(page)
    with browser.browsing() as chromium:
        tab, seen = browser.watched(chromium.new_context(), path.as_uri())
        began = time.monotonic()
        tab.get_by_role("button", name="tok/s").click()
        tab.locator("#words").fill("vllm-batch_size-64")
        assert tab.locator("#shown").inner_text() == "25 of 500"
        # A machine that has better to do takes longer; what isn't fluid takes minutes.
        assert time.monotonic() - began < 20
        assert seen.said == []


def test_a_session_of_nothing_is_a_page() -> None:
    page = html_report.page(report([]))
    assert not read(page).wrong
    assert "Nothing was measured" in page


def test_without_energy_there_is_a_table_and_no_figure() -> None:
    outcomes = [
        dataclasses.replace(outcome, measurement=None, skipped="no GPU here")
        for outcome in experiment("a")
    ]
    reader = read(html_report.page(report(outcomes)))
    assert not reader.wrong
    assert "skipped: no GPU here" in reader.text
    assert "Energy and speed" not in reader.text


def test_a_single_experiment_of_one_cycle_has_its_figures() -> None:
    reader = read(html_report.page(report(experiment("a", cycles=1))))
    assert not reader.wrong
    assert "Energy per output token" in reader.text
    assert "Energy against speed" not in reader.text


def test_what_was_redacted_is_said() -> None:
    page = html_report.page(dataclasses.replace(report(experiment("a")), redacted=True))
    assert "Names of hosts and users, and paths, were left out" in page
