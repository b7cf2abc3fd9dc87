"""What is published: version, changelog, licences of what comes with it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import pytest_llem

ROOT = Path(__file__).parent.parent
FRAGMENTS = sorted(set((ROOT / "changelog").glob("*.md")) - {ROOT / "changelog/README.md"})

# Nothing of others is part of our packages, so licences that ask something of changes to their own
# files go with ours as well as those that ask for nothing; those that ask it of the whole don't.
FREE = re.compile(
    r"\b(?:MIT|Apache|BSD|ISC|BSL-1\.0|PSF|Python Software Foundation|MPL|Mozilla|matplotlib"
    r"|Unlicense|HPND|Zlib|0BSD|CC0)",
    re.IGNORECASE,
)
BOUND = re.compile(r"GPL|\bGNU|\bSSPL|Proprietary|NVIDIA", re.IGNORECASE)


def test_the_version_has_one_place() -> None:
    assert metadata.version("pytest-llem") == pytest_llem.__version__
    assert "version" not in re.findall(r"^(\w+) =", project_table(), re.MULTILINE)


def project_table() -> str:
    """The lines of ``[project]``."""
    (table,) = re.findall(
        r"^\[project\]\n(.*?)^\[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    return str(table)


def test_the_changelog_is_assembled_of_all_fragments(tmp_path: Path) -> None:
    pytest.importorskip("towncrier")
    for name in ("pyproject.toml", "CHANGELOG.md", "pytest_llem/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "changelog").mkdir()
    for path in FRAGMENTS:
        shutil.copy(path, tmp_path / "changelog")
    for kind in ("feature", "fix", "change", "removal"):
        (tmp_path / f"changelog/0.{kind}.md").write_text(f"A `{kind}` of the test.\n")
    command = [sys.executable, "-m", "towncrier", "build", "--yes", "--version=9.9"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assembled = " ".join((tmp_path / "CHANGELOG.md").read_text().split())
    for kind in ("feature", "fix", "change", "removal"):
        assert f"- A `{kind}` of the test." in assembled
    for fragment in FRAGMENTS:
        assert " ".join(fragment.read_text().split()) in assembled, fragment.name
    # Behind the introduction, and before what was there.
    assert (
        assembled.index("# Changelog") < assembled.index("## 9.9 (") < assembled.index("## 0.1.0")
    )
    assert list((tmp_path / "changelog").iterdir()) == []


def licence(of: metadata.PackageMetadata) -> str:
    """What a distribution says of its licence."""
    classifiers = [text for text in of.get_all("Classifier") or [] if "License ::" in text]
    found = [*(of.get_all("License-Expression") or []), *classifiers]
    # Some have the whole text there, which names others to tell what it isn't.
    texts = of.get_all("License") or [""]
    return "; ".join(found) or str(texts[0]).strip().partition("\n")[0]


def required(name: str, extras: frozenset[str], seen: dict[str, str]) -> None:
    """Licences of what a distribution needs, and what that needs, as far as it is installed."""
    from packaging.requirements import Requirement

    for line in metadata.requires(name) or ():
        wanted = Requirement(line)
        environments = [{"extra": extra} for extra in ("", *extras)]
        marked = wanted.marker
        if marked and not any(marked.evaluate(environment) for environment in environments):
            continue
        if wanted.name in seen or re.match("nvidia-(?!ml-py)|cuda-|triton", wanted.name):
            continue  # CUDA is the platform that PyTorch is built for
        try:
            seen[wanted.name] = licence(metadata.metadata(wanted.name))
        except metadata.PackageNotFoundError:
            continue
        required(wanted.name, frozenset(wanted.extras), seen)


def users_extras() -> Iterator[str]:
    """Extras that users install."""
    return (
        extra
        for extra in metadata.metadata("pytest-llem").get_all("Provides-Extra") or []
        if extra not in {"dev", "docs"}
    )


def test_licences_of_what_users_install_with_it_go_with_ours() -> None:
    pytest.importorskip("packaging")
    assert licence(metadata.metadata("pytest-llem")) == "MIT"
    found: dict[str, str] = {}
    required("pytest-llem", frozenset(users_extras()), found)
    assert {"pytest", "pydantic", "nvidia-ml-py"} <= found.keys()
    assert {name: text for name, text in found.items() if not FREE.search(text)} == {}
    assert {name: text for name, text in found.items() if BOUND.search(text)} == {}
