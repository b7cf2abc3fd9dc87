"""The studies that stand in the documents, and those that are files of their own."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["EXAMPLES", "FILES", "PAGES", "ROOT", "Written", "written"]

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
EXAMPLES = ROOT / "docs" / "examples"
FILES = sorted([*EXAMPLES.glob("*.study.yaml"), *(ROOT / "benchmarks").rglob("*.study.yaml")])


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
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        named = {
            name[1]: block for block in blocks if (name := re.match(r"# ([\w./-]+\.yaml)\n", block))
        }
        for lines in re.findall(r"^```jsonl\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            named["questions.jsonl"] = lines
        wholes = [block for block in blocks if re.search(r"^(model|base):", block, re.MULTILINE)]
        found += [
            Written(page.stem, number, block, named) for number, block in enumerate(wholes, 1)
        ]
    return found
