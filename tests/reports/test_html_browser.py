"""The HTML report in a real browser: what it shows, sorts, filters, asks for and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.reports import browser
from tests.reports.sessions import HOSTILE
from tests.reports.sessions import page as made

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        bool(browser.missing()) and not browser.required(), reason=browser.missing()
    ),
]

NAMES = "table.main tbody tr:not([hidden]) a.name"


def names(page: Any) -> list[str]:
    """Of the experiments in the table, as they stand."""
    return [str(text) for text in page.locator(NAMES).all_text_contents()]


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """One start of the browser for all: it takes longer than the rest."""
    plain, bad = tmp_path / "plain.html", tmp_path / "bad.html"
    plain.write_text(made("12"))
    bad.write_text(made("hostile"))
    with browser.browsing() as chromium:
        sorts_and_filters(chromium, plain.as_uri())
        follows_the_reader(chromium, plain.as_uri())
        takes_names_as_names(chromium, bad.as_uri())


def sorts_and_filters(chromium: Any, url: str) -> None:
    page, seen = browser.watched(chromium.new_context(viewport={"width": 1280, "height": 900}), url)
    assert page.locator("h1").inner_text() == "Failed: 2 of 12 gates"
    given = names(page)
    assert len(given) == 12

    page.get_by_role("button", name="energy/token").click()
    assert names(page)[0] == "pytorch-batch_size-32"
    values = page.locator("table.main tbody td:nth-child(3)").evaluate_all(
        "cells => cells.map(cell => Number(cell.dataset.v))"
    )
    assert values == sorted(values)
    assert page.locator("th[aria-sort=ascending]").count() == 1
    page.get_by_role("button", name="energy/token").click()
    assert names(page)[0] == "pytorch-batch_size-1"
    page.get_by_role("button", name="experiment").click()
    # By number where names hold one: 2 before 16.
    assert names(page) == sorted(given, key=lambda name: (name[0], int(name.rpartition("-")[2])))

    page.locator("#words").fill("vllm batch_size=1")
    assert names(page) == ["vllm-batch_size-1", "vllm-batch_size-16"]
    assert page.locator("#shown").inner_text() == "2 of 12"
    assert page.locator("#figures .wide a.mark:not(.off)").count() == 2 * 2
    page.locator("#words").fill("")
    page.locator("select[name=state]").select_option("failed")
    assert len(names(page)) == 3
    page.locator("#words").fill("no such thing")
    assert names(page) == []

    # A link to what is filtered out shows it all the same.
    page.goto(f"{url}#e2")
    assert page.locator("#e2").get_attribute("open") is not None
    assert "Metrics" in page.locator("#e2").inner_text()
    assert seen.said == []
    assert set(seen.asked) == {url, f"{url}#e2"} or set(seen.asked) == {url}

    # Should anything ever ask, the page's own policy refuses.
    page.evaluate("() => { new Image().src = 'http://127.0.0.1:9/x.png' }")
    page.wait_for_timeout(100)
    assert any("Content Security Policy" in text for text in seen.said)
    page.close()


def follows_the_reader(chromium: Any, url: str) -> None:
    """Dark where that is wanted, narrow on a phone, without tools on paper."""
    looks = {}
    for scheme in ("light", "dark"):
        context = chromium.new_context(viewport={"width": 375, "height": 800}, color_scheme=scheme)
        page, seen = browser.watched(context, url)
        looks[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        assert not page.locator("#figures .wide").first.is_visible()
        assert page.locator("#figures .narrow svg").first.is_visible()
        assert seen.said == []
    assert looks["light"] != looks["dark"]
    page.emulate_media(media="print")
    assert not page.locator(".tools").is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.pdf(format="A4").startswith(b"%PDF")

    silent = chromium.new_context(java_script_enabled=False)
    page, _ = browser.watched(silent, url)
    assert len(names(page)) == 12
    assert not page.locator(".tools").is_visible()


def takes_names_as_names(chromium: Any, url: str) -> None:
    page, seen = browser.watched(chromium.new_context(), url)
    assert page.evaluate("window.hit") is None
    assert page.locator("script").count() == 1
    assert page.locator("img, iframe, object, svg script, [onload], [onerror]").count() == 0
    shown = names(page)
    assert HOSTILE[0] in shown
    assert HOSTILE[1] in shown
    page.locator("#words").fill("</script>")
    assert len(names(page)) == 4  # twice by its name, and twice by that of its study
    assert page.evaluate("window.hit") is None
    assert seen.said == []
    assert set(seen.asked) == {url}
