"""The table of README.md names the tests there are, one a row, and all of them."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
FILES = [HERE / "test_manners_selection.py", HERE / "test_manners_plugins.py"]


def rows() -> list[list[str]]:
    """Cells of the table's rows."""
    lines = [line for line in (HERE / "README.md").read_text().splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_every_row_names_its_test_and_every_test_has_its_row() -> None:
    text = "".join(path.read_text() for path in FILES)
    defined = re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)
    assert [row[1].strip("`") for row in rows()] == defined


def test_every_row_tells_of_the_three_versions() -> None:
    for name, _, *versions in rows():
        assert name
        assert len(versions) == 3
        assert all(cell == "passes" or cell.startswith("skipped: ") for cell in versions)
