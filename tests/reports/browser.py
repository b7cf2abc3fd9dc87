"""A real browser, where there is one: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from typing import Any

__all__ = ["Seen", "browsing", "missing", "watched"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def _program() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)


def missing() -> str:
    """What is not there; empty where all is."""
    if importlib.util.find_spec("playwright") is None:
        return "needs playwright: pip install playwright"
    return "" if _program() else "needs Chromium: apt-get install chromium"


def required() -> bool:
    """Whether a browser that isn't there is a failure: in CI, which installs it."""
    return os.environ.get("LLEM_CHROMIUM") == "required"


@contextlib.contextmanager
def browsing() -> Iterator[Any]:
    """A browser of playwright's."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its own sandbox is not for root.
        browser = playwright.chromium.launch(executable_path=_program(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Seen:
    """What a page said and asked for, besides itself."""

    def __init__(self, page: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))


def watched(context: Any, url: str) -> tuple[Any, Seen]:
    """A page of a context, opened."""
    page = context.new_page()
    seen = Seen(page)
    page.goto(url, timeout=120_000)  # milliseconds: for a machine that has better to do
    return page, seen
