"""What images are made of: this host's Python and its libraries, as a tar, without a network.

    python_rootfs().tar(path)                       # about 70 MB in a second or two
    import_image(client, name, [python_rootfs(), packages_rootfs("torch", "transformers")])

The interpreter is the one that runs the tests, so that compiled packages of its environment work in
the image too. It lies under ``/usr``, as in most images, wherever this host has it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["Rootfs", "packages_rootfs", "python_rootfs", "shell_rootfs", "site_packages", "tar"]

_BLOCK = 512
_CHUNK = 1 << 20
_COMMANDS = ("sh", "env", "cat", "id", "ls", "mkdir", "sleep")
_NOT_OF_STDLIB = frozenset(
    ("site-packages", "dist-packages", "test", "idlelib", "tkinter", "turtledemo", "lib2to3")
)
_NOT_OF_PACKAGES = ("torch/bin/protoc", "torch/include/", "torch/share/", "torch/test/")
_LIBRARIES = (
    *("libgcc_s.so.1", "libstdc++.so.6", "libm.so.6"),
    *("libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"),
)
"""Of the host, which compiled packages want."""
_MERGED = ("bin", "sbin", "lib", "lib64")
"""Folders of the root that are links into ``/usr``."""


@dataclass(slots=True)
class Rootfs:
    """Files of an image, by where they are there, without the leading slash."""

    copies: dict[str, Path] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    """With their modes, where the common one won't do."""

    def copy(self, source: Path, target: str) -> None:
        """A file of this host."""
        self.copies[_merged(target)] = source

    def folder_names(self) -> list[str]:
        """Of all folders that its files are in, from the outside in."""
        return list(_folders([self]))

    def copy_with_libraries(self, programs: Iterable[Path]) -> None:
        """Programs or libraries at the places they have here, and all that they are linked with."""
        wanted = list(programs)
        listed = subprocess.run(["ldd", *map(str, wanted)], capture_output=True, text=True)
        found = (word for word in listed.stdout.split() if word.startswith("/"))
        for path in {*wanted, *(Path(word) for word in found if not word.endswith(":"))}:
            self.copy(path.resolve(), str(path))


def _merged(target: str) -> str:
    target = target.lstrip("/")
    return f"usr/{target}" if target.split("/")[0] in _MERGED else target


# --- contents ------------------------------------------------------------------------------


def shell_rootfs() -> Rootfs:
    """A shell and a few commands; no Python."""
    root = Rootfs()
    root.texts["etc/passwd"] = "root:x:0:0:root:/root:/bin/sh\n"
    root.texts["etc/group"] = "root:x:0:\n"
    root.links |= {name: f"usr/{name}" for name in _MERGED}
    root.folders |= dict.fromkeys(("dev", "opt", "proc", "root", "run", "sys", "var"), 0o755)
    root.folders["tmp"] = 0o1777
    commands = [shutil.which(name, path="/usr/bin:/bin") for name in _COMMANDS]
    root.copy_with_libraries(Path(command) for command in commands if command)
    return root


def python_rootfs() -> Rootfs:
    """:func:`shell_rootfs`, and the Python of this process without its packages."""
    root = shell_rootfs()
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    for path in _files(library):
        root.copy(path, f"usr/lib/{version}/{path.relative_to(library)}")
    compiled = [path for path in library.glob("lib-dynload/*.so") if "tkinter" not in path.name]
    folders = [Path(folder) for folder in (f"/usr/lib/{_multiarch()}", "/usr/lib64", "/lib")]
    for name in _LIBRARIES:
        compiled += [folder / name for folder in folders if (folder / name).exists()][:1]
    linked = Rootfs()
    linked.copy_with_libraries([python, *compiled])
    inside = str(python), str(library)
    root.copies |= {
        target: path
        for target, path in linked.copies.items()
        if not f"/{target}".startswith(inside)
    }
    root.copy(python, f"usr/bin/{version}")
    root.links |= {"usr/bin/python3": version, "usr/bin/python": version}
    return root


def _multiarch() -> str:
    return str(sysconfig.get_config_var("MULTIARCH"))


def _files(library: Path) -> Iterator[Path]:
    """The standard library's, compiled ones too: an image may be read-only."""
    for folder, folders, names in os.walk(library):
        if Path(folder) == library:
            folders[:] = [
                name for name in folders if name not in _NOT_OF_STDLIB and "config-" not in name
            ]
        for name in names:
            if not name.endswith((".opt-1.pyc", ".opt-2.pyc")):
                yield Path(folder, name)


@functools.cache
def site_packages() -> str:
    """Where the image's Python looks for packages, without the leading slash."""
    base = Path(sys.executable).resolve()
    ask = "import site, sys; print(sys.prefix, site.getsitepackages()[0], sep='\\n')"
    told = subprocess.run([base, "-I", "-c", ask], capture_output=True, text=True, check=True)
    prefix, folder = told.stdout.split()
    return f"usr/{Path(folder).relative_to(prefix)}"


def packages_rootfs(*names: str) -> Rootfs:
    """Installed distributions, with all that they require; what only builds or tests is left out.

    Raises:
        importlib.metadata.PackageNotFoundError: one is not installed.
    """
    root = Rootfs()
    for distribution in _with_requirements(names):
        for file in distribution.files or ():
            target, source = str(file), Path(str(distribution.locate_file(file)))
            if target.startswith(("..", *_NOT_OF_PACKAGES)) or not source.is_file():
                continue
            root.copy(source, f"{site_packages()}/{target}")
            # Its installer needn't have compiled it, and then doesn't list what was later.
            if source.suffix == ".py":
                compiled = Path(importlib.util.cache_from_source(source))
                if compiled.is_file():
                    beside = Path(target).parent / "__pycache__" / compiled.name
                    root.copy(compiled, f"{site_packages()}/{beside}")
    return root


def _with_requirements(names: Iterable[str]) -> Iterator[importlib.metadata.Distribution]:
    wanted, seen = list(names), set[str]()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        distribution = importlib.metadata.distribution(name)
        yield distribution
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)


# --- as a tar ------------------------------------------------------------------------------


def tar(*roots: Rootfs) -> Iterator[bytes]:
    """The bytes of a tar with all files of some roots; nothing is kept of it."""
    for path, mode in _folders(roots).items():
        yield _header(path, tarfile.DIRTYPE, mode=mode)
    for root in roots:
        for path, target in root.links.items():
            yield _header(path, tarfile.SYMTYPE, link=target)
        for path, text in root.texts.items():
            content = text.encode()
            yield _header(path, tarfile.REGTYPE, size=len(content)) + content
            yield _padding(len(content))
        for path, source in root.copies.items():
            yield from _copied(path, source)
    yield bytes(2 * _BLOCK)


def _folders(roots: Iterable[Rootfs]) -> Mapping[str, int]:
    """All folders, from the outside in, with their modes."""
    modes: dict[str, int] = {}
    for root in roots:
        for path in (
            *root.copies,
            *root.texts,
            *root.links,
            *(f"{name}/." for name in root.folders),
        ):
            parents = [str(parent) for parent in Path(path).parents if str(parent) != "."]
            modes |= {parent: 0o755 for parent in parents if parent not in modes}
        modes |= root.folders
    return dict(sorted(modes.items()))


def _header(
    path: str, kind: bytes, *, size: int = 0, mode: int = 0o644, time_s: float = 0, link: str = ""
) -> bytes:
    info = tarfile.TarInfo(path)
    info.type, info.size, info.mode, info.mtime, info.linkname = kind, size, mode, int(time_s), link
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _copied(path: str, source: Path) -> Iterator[bytes]:
    with source.open("rb") as file:
        status = os.fstat(file.fileno())
        # Compiled Python is valid for one time of its source.
        mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
        size, time_s = status.st_size, status.st_mtime
        yield _header(path, tarfile.REGTYPE, size=size, mode=mode, time_s=time_s)
        while chunk := file.read(_CHUNK):
            yield chunk
        yield _padding(size)
