"""The layers of the house, held by its source: who imports whom, how large, what a worker needs."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pytest_llem"

# A module imports only from rows above its own, and within its own row.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("pytest_llem", "errors"),
    (
        *(
            "demands",
            "gpus",
            "machine",
            "metrics",
            "nvml",
            "powercap",
            "rules",
            "records",
            "experiment",
        ),
        *("extensions", "prompt_file", "traffic", "wire"),
    ),
    ("backends", "meters", "worker"),
    ("testing",),
    ("results", "study"),
    ("runners",),
    ("reports",),
    ("cli", "plugin"),
    ("__main__",),
)
HOST = {"results", "study", "runners", "reports", "cli", "plugin", "__main__"}
# Conformance tests run an engine in their own process, as a worker does: with the worker's prompts,
# and without anything of the host. Without pytest too, so that they run under whatever one likes.
WORKER = {"backends", "meters", "worker", "testing"}
THIRD_PARTY_OF = {
    "pytest": {"plugin"},
    "yaml": {"study"},
    "pydantic": {"study"},
    "torch": {"backends"},
    # The worker makes token ids of a file's text with the model's own tokenizer, for any engine.
    "transformers": {"backends", "worker"},
    "vllm": {"backends"},
    "huggingface_hub": {"runners"},
    "docker": {"runners"},
    "jinja2": {"reports"},
    "matplotlib": {"reports"},
    "pynvml": {"nvml"},
    "pyarrow": set(),  # by its name alone, where a table is exported
    "zeus": set(),  # by its name alone, in the meter of the same name
}


def modules() -> dict[str, Path]:
    """Dotted name to file of every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Everything in a file, functions' insides too; parsed once for all tests."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Every import of a file, inside functions and for typing too."""
    found: list[str] = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.append(full if full in MODULES else str(node.module))
    return tuple(found)


def part(module: str) -> str:
    """Folder or top-level module that a name belongs to."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else pieces[0]


def rank(module: str) -> int:
    return next(i for i, row in enumerate(LAYERS) if part(module) in row)


def own_edges() -> Iterator[tuple[str, str]]:
    for name, path in MODULES.items():
        if name == "pytest_llem":
            continue  # the front door: for type checkers it names what it imports when asked for
        for target in imports(path):
            if target.split(".")[0] == "pytest_llem":
                yield name, target


def test_modules_import_only_from_their_own_layer_and_above() -> None:
    wrong = [f"{a} -> {b}" for a, b in own_edges() if rank(b) > rank(a)]
    assert not wrong


def test_host_and_worker_never_import_each_other() -> None:
    wrong = [
        f"{a} -> {b}"
        for a, b in own_edges()
        if (part(a) in HOST and part(b) in WORKER) or (part(a) in WORKER and part(b) in HOST)
    ]
    assert not wrong


def test_there_is_no_import_circle_of_any_kind() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for source, target in own_edges():
        if target != source:
            graph[source].add(target)
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    assert done == set(MODULES)


def test_our_own_modules_are_imported_at_the_top_only() -> None:
    wrong = []
    for name, path in MODULES.items():
        for function in nodes(path):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for node in ast.walk(function):
                    if isinstance(node, ast.ImportFrom) and str(node.module).startswith(
                        "pytest_llem"
                    ):
                        wrong.append(f"{name}:{node.lineno}")
    assert not wrong


@pytest.mark.parametrize("package", THIRD_PARTY_OF)
def test_third_party_packages_are_named_only_where_they_belong(package: str) -> None:
    users = {
        part(name)
        for name, path in MODULES.items()
        for target in imports(path)
        if target.split(".")[0] == package
    }
    assert users == THIRD_PARTY_OF[package]


def test_no_private_module_of_pytest_is_imported() -> None:
    private = [
        name
        for name, path in MODULES.items()
        for target in imports(path)
        if target.split(".")[0] in {"_pytest", "xdist"}
    ]
    assert not private


@pytest.mark.parametrize("name", MODULES)
def test_modules_and_functions_are_small(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= 400
    for node in nodes(MODULES[name]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{name}.{node.name}: {length} lines"


def run_python(code: str) -> str:
    """Output of a program in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.strip()


def test_the_worker_its_backends_and_meters_need_the_standard_library_alone() -> None:
    names = [name for name in MODULES if part(name) in WORKER and not name.endswith("bootstrap")]
    code = f"""
import sys, importlib
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"pytest", "_pytest", "pydantic", "yaml", "docker", "numpy",
                                      "torch", "transformers", "pynvml"}}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
for name in {names!r}:
    importlib.import_module(name)
print("fine")
"""
    assert run_python(code) == "fine"


def test_importing_the_plugin_pulls_in_nothing_heavy() -> None:
    code = "import sys, pytest; import pytest_llem.plugin; print(*sorted(sys.modules))"
    loaded = set(run_python(code).split())
    heavy = {"yaml", "pydantic", "docker", "numpy", "pynvml", "torch", "transformers"}
    heavy |= {"huggingface_hub", "jinja2", "matplotlib"}
    assert not heavy & loaded
    # Making dataclasses takes longer than all else the plugin does: they come with a study.
    assert "pytest_llem.records" not in loaded
    assert "pytest_llem.plugin" in loaded
