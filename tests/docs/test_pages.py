"""Pages say what the code says: messages that are explained are those that are shown."""

from __future__ import annotations

import ast
import re

import pytest

from tests.documents import PAGES, ROOT

pytestmark = pytest.mark.once

MARKS = {"est.", "n/a", "short", "degr."}
"""In the cells of the table."""

PYTESTS_OWN = {"collected 0 items", "… was skipped", "requires …"}


def said() -> str:
    """Every text in the code that somebody might read, one after the other."""
    texts = []
    for path in sorted((ROOT / "pytest_llem").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # An f-string is what stands between its braces.
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"\{\w*\}", "…", node.value))
    return "\n".join(texts)


def messages() -> list[str]:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    cells = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    return [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]


def test_every_message_that_is_explained_is_one_that_is_shown() -> None:
    code = said()
    wrong = [
        message
        for message in messages()
        if message not in MARKS | PYTESTS_OWN
        if not all(part.strip() in code for part in message.split("…") if part.strip(" :;.?"))
    ]
    assert wrong == []
    assert len(messages()) > 40


def test_every_page_is_reached_from_the_first_one() -> None:
    """By its links, as the site's menu isn't there where pages are read in the repository."""
    docs = ROOT / "docs"
    seen, waiting = set(), [docs / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                waiting.append((page.parent / target).resolve())
    assert {page for page in PAGES if page.is_relative_to(docs)} <= seen
