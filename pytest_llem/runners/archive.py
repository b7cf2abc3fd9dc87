"""What is sent to a worker: its side of this package, as an archive Python can import from.

A worker of the Python that runs pytest has everything else already. One in an image, or of another
Python, has nothing of ours: it is also sent the bindings of NVML, and the packages that bring the
backends and meters it is to use.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import io
import json
import marshal
import struct
import zipfile
from collections.abc import Iterable
from importlib import resources
from importlib.machinery import SourceFileLoader
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_llem.extensions import BACKENDS, METERS, Launch, names

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from importlib.metadata import Distribution, EntryPoint
    from importlib.resources.abc import Traversable  # Python 3.11+; only a type here

__all__ = ["bootstrap", "build", "build_for", "for_launch", "header", "opening"]

_MODULES = (
    "__init__.py",
    "errors.py",
    "experiment.py",
    "extensions.py",
    "gpus.py",
    "machine.py",
    "metrics.py",
    "nvml.py",
    "powercap.py",
    "prompt_file.py",
    "records.py",
    "rules.py",
    "traffic.py",
    "wire.py",
)
_FOLDERS = ("backends", "meters", "worker")
_DISTRIBUTION = "pytest-llem"
_NVML = ("nvidia-ml-py", "pynvml")
"""Distribution and module of NVML's bindings, which images need not have."""

_BINARY = {".so", ".pyd", ".dll", ".dylib", ".pyc", ".pyo"}
"""Made for one platform and one Python, which needn't be the image's."""

_HEADER_BYTES = 16
"""Of a compiled file: number of the format, flags, time and size of the source (PEP 552)."""

_Content: TypeAlias = "bytes | Path | Traversable"
"""What goes into an archive, or the file that holds it."""


@functools.cache
def bootstrap() -> str:
    """The text of the worker's first program."""
    return (resources.files("pytest_llem") / "worker" / "bootstrap.py").read_text("utf-8")


def opening(
    launch: Launch, archive: bytes, heartbeat_s: float | None = None, *, apart: bool = False
) -> bytes:
    """The first bytes for a worker: header and archive.

    The variables of an experiment are in the header, wherever the worker runs: a daemon keeps what
    a container is ordered with, and somebody's token may be among them.

    Args:
        launch: what is being started.
        archive: as :func:`build` makes it.
        heartbeat_s: seconds between the heartbeats that it will be sent; None for none.
        apart: what lies in the directory where it is started is none of its own.
    """
    told = header(launch) | {
        "archive_bytes": len(archive),
        "environment": dict(launch.environment),
    }
    if apart:
        told |= {"apart": True}
    if heartbeat_s is not None:
        told |= {"heartbeat_s": heartbeat_s}
    return json.dumps(told).encode() + b"\n" + archive


def header(launch: Launch) -> dict[str, Any]:
    """What a worker must know before its first word; plain data."""
    told: dict[str, Any] = {"backend": launch.backend, "role": launch.role}
    if launch.experiment is not None:
        told["device"] = launch.experiment.device
    return told


@functools.cache
def build() -> bytes:
    """A zip of what a worker may import, with the metadata that its entry points need.

    The same for the same sources: dates are left out.
    """
    return _zipped(_ours().items())


def for_launch(launch: Launch) -> bytes:
    """What a worker elsewhere is sent: with the backend and meters that it may need."""
    experiment = launch.experiment
    wanted = experiment.meters if experiment is not None else "auto"
    meters = names(METERS) if wanted == "auto" else wanted
    return build_for(
        frozenset({(BACKENDS, launch.backend), *((METERS, meter) for meter in meters)})
    )


@functools.cache
def build_for(chosen: frozenset[tuple[str, str]]) -> bytes:
    """The same for an image, or another environment, that has nothing but Python and an engine.

    With it come NVML's bindings, and the packages of third parties that bring what is chosen;
    what they need beside themselves must be there.

    Args:
        chosen: groups and names of entry points; names that nobody registered are left out.
    """
    found = _ours()
    bindings = importlib.metadata.distribution(_NVML[0])
    found |= _sources(_NVML[1]) | _metadata(bindings)
    for group, name in sorted(chosen):
        for point in importlib.metadata.entry_points(group=group, name=name):
            # pytest-llem's own are there already.
            if point.dist is not None and point.dist.name != _DISTRIBUTION:
                found |= _brought(point) | _metadata(point.dist)
    # Before Python 3.13 a package without __init__.py is seen by the entry of its folder alone.
    folders = {f"{folder}/" for path in found for folder in PurePosixPath(path).parents}
    return _zipped(sorted({**dict.fromkeys(folders - {"./"}, b""), **found}.items()))


def _zipped(files: Iterable[tuple[str, _Content]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, given in files:
            content = given if isinstance(given, bytes) else given.read_bytes()
            archive.writestr(zipfile.ZipInfo(path), content)
            if path.endswith(".py"):
                archive.writestr(zipfile.ZipInfo(f"{path}c"), _compiled(path, content, given))
    return buffer.getvalue()


def _compiled(path: str, source: bytes, file: _Content) -> bytes:
    """A module as this Python runs it; every other one takes the source beside it (PEP 552).

    From an archive nothing compiled is kept: it would be done anew for each measurement.
    """
    kept = _kept(file) if isinstance(file, Path) else b""
    code = kept or marshal.dumps(compile(source, path, "exec", dont_inherit=True))
    unchecked = (1).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(source) + code


def _kept(file: Path) -> bytes:
    """A module's code from the file that Python keeps beside its source; empty where there is none.

    Nobody on this side imports the worker's modules: most often it is made here.
    """
    with contextlib.suppress(OSError, NotImplementedError):  # nowhere to write; no such files
        cache = Path(importlib.util.cache_from_source(str(file)))
        if not _current(cache, file):
            SourceFileLoader(file.stem, str(file)).get_code(file.stem)
        if _current(cache, file):
            return cache.read_bytes()[_HEADER_BYTES:]
    return b""


def _current(cache: Path, file: Path) -> bool:
    """Whether a compiled file is of this Python and of the source as it is now."""
    if not cache.exists():
        return False
    with cache.open("rb") as opened:
        header = opened.read(_HEADER_BYTES)
    now = file.stat()
    source = struct.pack("<III", 0, int(now.st_mtime) & 0xFFFFFFFF, now.st_size & 0xFFFFFFFF)
    return header == importlib.util.MAGIC_NUMBER + source


def _ours() -> dict[str, _Content]:
    package = resources.files("pytest_llem")
    found: dict[str, _Content] = {f"pytest_llem/{name}": package / name for name in _MODULES}
    for folder in _FOLDERS:
        for file in sorted((package / folder).iterdir(), key=_name):
            if file.name.endswith(".py"):
                found[f"pytest_llem/{folder}/{file.name}"] = file
    return found | _metadata(importlib.metadata.distribution(_DISTRIBUTION))


def _name(file: Traversable) -> str:
    return file.name


def _metadata(distribution: Distribution) -> dict[str, _Content]:
    """What makes a distribution's name, version and entry points known."""
    name = distribution.name.replace("-", "_")
    folder = f"{name}-{distribution.version}.dist-info"
    # Of an egg, as old ways of installing for development leave them, it has another name.
    described = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")
    texts = {"METADATA": described, "entry_points.txt": distribution.read_text("entry_points.txt")}
    return {f"{folder}/{file}": (text or "").encode() for file, text in texts.items()}


def _brought(point: EntryPoint) -> dict[str, _Content]:
    """All modules that an entry point's distribution installed; at least the point's own."""
    assert point.dist is not None
    modules = {point.module}
    for file in point.dist.files or ():
        # Scripts and metadata are elsewhere; an installation for development lists none of them.
        if file.suffix == ".py" and ".." not in file.parts:
            modules.add(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
    units = {unit for unit in map(_unit, modules) if unit is not None}
    return {path: content for unit in units for path, content in _sources(unit).items()}


def _unit(module: str) -> str | None:
    """The module, or the outermost package that it is in; None where there is no such thing.

    A namespace belongs to several distributions: of one, what is below it counts.
    """
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        spec = _found(name)
        if spec is None or spec.has_location:
            return name if spec else None
    return None


def _found(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


def _sources(module: str) -> dict[str, _Content]:
    """Files of a module or package, by their paths in the archive."""
    spec = _found(module)
    if spec is None or spec.origin is None:
        return {}
    origin, path = Path(spec.origin), module.replace(".", "/")
    if spec.submodule_search_locations is None:
        plain = origin.suffix not in _BINARY
        return {f"{path}{origin.suffix}": origin} if plain else {}
    return {
        f"{path}/{file.relative_to(origin.parent).as_posix()}": file
        for file in origin.parent.rglob("*")
        if file.is_file() and file.suffix not in _BINARY and "__pycache__" not in file.parts
    }
