"""What stands in the documents: blocks of code, and the studies among them.

A block of code is run by the tests. One that can't be says so, for everybody to read, in a line of
its own before it: *Not run by our tests: needs two GPUs.* in italics.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "CODE",
    "EXAMPLES",
    "FILES",
    "LANGUAGES",
    "PAGES",
    "ROOT",
    "Block",
    "Written",
    "blocks",
    "written",
]

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "benchmarks" / "README.md",
        ROOT / "images" / "README.md",
    ]
)
EXAMPLES = ROOT / "docs" / "examples"
FILES = sorted([*EXAMPLES.glob("*.study.yaml"), *(ROOT / "benchmarks").rglob("*.study.yaml")])

CODE = frozenset({"sh", "python", "yaml", "toml", "ini", "json", "jsonl"})
LANGUAGES = CODE | {"text"}
"""``text`` is what a command prints, or a formula."""

_FENCE = re.compile(r"```(\w*)")
_SKIP = re.compile(r"\*Not run by our tests: (.+)\.\*")
_NAME = re.compile(r"# ([\w./-]+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """A block between fences.

    Attributes:
        page: its file, relative to the repository.
        line: of the fence.
        skip: why it isn't run; None where it is.
        follows: the language of the block before, with nothing in between.
    """

    page: str
    line: int
    language: str
    text: str
    skip: str | None = None
    follows: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def name(self) -> str | None:
        """The file that it is, by its first line: ``# common.yaml``."""
        found = _NAME.match(self.text)
        return found[1] if found else None


def blocks(page: Path) -> Iterator[Block]:
    """All blocks of a page, in their order.

    Raises:
        ValueError: for a fence that isn't closed.
    """
    shown = page.relative_to(ROOT).as_posix()
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(keepends=True), 1))
    before = previous = None
    for number, line in lines:
        if not (opened := _FENCE.fullmatch(line.strip())):
            if line.strip():
                before, previous = line.strip(), None
            continue
        body = []
        for _, inner in lines:
            if inner.strip() == "```":
                break
            body.append(inner)
        else:
            raise ValueError(f"{shown}:{number}: the block has no end")
        skip = _SKIP.fullmatch(before or "")
        yield Block(shown, number, opened[1], "".join(body), skip[1] if skip else None, previous)
        before, previous = None, opened[1]


@dataclass(frozen=True)
class Written:
    """A study in a YAML block.

    A block that begins with a comment naming a file, ``# common.yaml``, is that file. It lies
    beside all studies of its page. So does a block of JSON lines, as ``questions.jsonl``.
    """

    page: str
    number: int
    text: str
    beside: dict[str, str] = field(hash=False)
    skip: str | None = None

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"

    def lay_out(self, folder: Path) -> Path:
        """Write it into a folder, with the models and files that it speaks of."""
        shutil.copytree(ROOT / "benchmarks" / "models", folder / "models")
        for name, text in self.beside.items():
            (folder / name).write_text(text, encoding="utf-8")
        path = folder / "example.study.yaml"
        path.write_text(self.text, encoding="utf-8")
        return path


def written() -> list[Written]:
    """Every YAML block that is a whole study: one that names a model, or a base that does."""
    found = []
    for page in PAGES:
        every = list(blocks(page))
        beside = {b.name: b.text for b in every if b.language == "yaml" and b.name}
        beside |= {b.name or "questions.jsonl": b.text for b in every if b.language == "jsonl"}
        wholes = [b for b in every if b.language == "yaml" and _is_study(b.text)]
        found += [
            Written(page.stem, number, block.text, beside, block.skip)
            for number, block in enumerate(wholes, 1)
        ]
    return found


def _is_study(text: str) -> bool:
    return re.search(r"^(model|base):", text, re.MULTILINE) is not None
