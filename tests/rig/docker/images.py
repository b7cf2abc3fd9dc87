"""Images made on this host, without a network, and without a container being run.

    base = base_image(client, cache)
    image(client, "llem/cuda:12.9", env={"NVIDIA_REQUIRE_CUDA": "cuda>=12.9"})
    image(client, "llem/vllm:0.11", distributions={"vllm": "0.11.0"})
    torch = torch_image(client)

Images of a daemon are gone with its folder. A variant shares its parent's layers, so it costs a few
milliseconds; it is given to the daemon as a text of its configuration (``docker load``).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.rig.docker import rootfs
from tests.rig.docker.rootfs import Rootfs, packages_rootfs, python_rootfs, shell_rootfs

if TYPE_CHECKING:
    import docker

__all__ = [
    "BASE",
    "TORCH",
    "base_image",
    "base_tar",
    "image",
    "import_image",
    "shell_image",
    "site_packages",
    "torch_image",
]

BASE = "llem/base:1"
"""What :func:`base_image` is called."""
TORCH = "llem/torch:1"
"""What :func:`torch_image` is called."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

site_packages = rootfs.site_packages


# --- from files ----------------------------------------------------------------------------


def base_tar(cache: Path) -> Path:
    """All files of the base image: this host's Python, a shell and a few commands.

    Args:
        cache: keeps it for later calls, as long as it would be the same.
    """
    python = Path(sys.executable).resolve()
    key = repr((str(python), python.stat().st_mtime_ns, sys.version))
    digest = hashlib.sha256(key.encode() + Path(rootfs.__file__).read_bytes()).hexdigest()
    path = cache / f"base-{digest[:16]}.tar"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Another session may be at it too: each writes for itself, and the last one's stays.
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file:
            file.writelines(rootfs.tar(python_rootfs()))
        Path(file.name).replace(path)
    return path


def import_image(client: docker.DockerClient, name: str, content: Iterator[bytes]) -> str:
    """Make an image of one layer from the bytes of a tar; returns its name."""
    repository, _, tag = name.rpartition(":")
    changes = [f"ENV PATH={_PATH}"]
    client.api.import_image_from_data(content, repository, tag, changes)
    client.images.get(name)  # the answer above may be that of a failure
    return name


def base_image(client: docker.DockerClient, cache: Path) -> str:
    """:data:`BASE` of a daemon: made where it isn't there."""
    if not _is_there(client, BASE):
        with base_tar(cache).open("rb") as file:
            import_image(client, BASE, iter(lambda: file.read(1 << 20), b""))
    return BASE


def shell_image(client: docker.DockerClient, name: str = "llem/shell:1") -> str:
    """An image without Python."""
    return import_image(client, name, rootfs.tar(shell_rootfs()))


def torch_image(client: docker.DockerClient) -> str:
    """:data:`TORCH` of a daemon: made where it isn't there.

    It has this environment's torch and transformers, and nothing of this project. They take some
    900 MB. Where the daemon keeps its images on the same disk, they are not copied but linked into
    the image's layer: its containers write to their own layers only.
    """
    if not _is_there(client, TORCH):
        packages = packages_rootfs("torch", "transformers")
        folders = Rootfs(folders=dict.fromkeys(packages.folder_names(), 0o755))
        import_image(client, TORCH, rootfs.tar(python_rootfs(), folders))
        layer = Path(client.images.get(TORCH).attrs["GraphDriver"]["Data"]["UpperDir"])
        if not _link(packages, layer):
            import_image(client, TORCH, rootfs.tar(python_rootfs(), packages))
    return TORCH


def _link(root: Rootfs, layer: Path) -> bool:
    """Link files into the folders of a layer; whether that is possible here."""
    try:
        for path, source in root.copies.items():
            os.link(source, layer / path)
    except OSError:  # another disk, or a daemon's that isn't here
        return False
    return True


def _is_there(client: docker.DockerClient, name: str) -> bool:
    return bool(client.images.list(name=name))


# --- variants ------------------------------------------------------------------------------


def image(
    client: docker.DockerClient,
    name: str,
    *,
    parent: str = BASE,
    env: Mapping[str, str] | None = None,
    entrypoint: Sequence[str] | None = None,
    command: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    user: str | None = None,
    architecture: str | None = None,
    files: Mapping[str, str] | None = None,
    distributions: Mapping[str, str] | None = None,
) -> str:
    """Make an image from another one.

    Args:
        client: of the daemon that has the parent.
        name: with its tag.
        parent: what it is like, where nothing else is said.
        env: variables more.
        entrypoint: instead of the parent's.
        command: instead of the parent's.
        labels: labels more.
        user: whom its processes belong to.
        architecture: another one, such as ``arm64``; its files stay this host's.
        files: text files more, by their absolute paths.
        distributions: Python packages to versions: installed as ``importlib.metadata`` sees it,
            and a module of that name with a ``__version__``.

    Returns:
        Its name.
    """
    told = client.images.get(parent).attrs
    config = dict(told["Config"])
    config["Env"] = _merged_env(config["Env"] or [], env or {})
    config["Labels"] = {**(config["Labels"] or {}), **(labels or {})}
    changes = {"Entrypoint": entrypoint, "Cmd": command, "User": user}
    config |= {key: value for key, value in changes.items() if value is not None}
    if entrypoint is not None and command is None:
        config["Cmd"] = None  # as Dockerfiles have it
    layers = list(told["RootFS"]["Layers"])
    texts = _texts(files or {}, distributions or {})
    layer = b"".join(rootfs.tar(Rootfs(texts=texts))) if texts else None
    if layer is not None:
        layers.append(f"sha256:{hashlib.sha256(layer).hexdigest()}")
    whole = {
        "architecture": architecture or told["Architecture"],
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": layers},
        "history": [{"created_by": "the rig"} for _ in layers],
    }
    client.images.load(_archive(name, whole, len(layers), layer))
    client.images.get(name)
    return name


def _merged_env(env: Sequence[str], more: Mapping[str, str]) -> list[str]:
    merged = dict(entry.split("=", 1) for entry in env) | dict(more)
    return [f"{key}={value}" for key, value in merged.items()]


def _texts(files: Mapping[str, str], distributions: Mapping[str, str]) -> dict[str, str]:
    texts = {path.lstrip("/"): text for path, text in files.items()}
    for name, version in distributions.items():
        module = name.replace("-", "_")
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        texts[f"{site_packages()}/{module}-{version}.dist-info/METADATA"] = about
        texts[f"{site_packages()}/{module}/__init__.py"] = f"__version__ = {version!r}\n"
    return texts


def _archive(name: str, whole: Mapping[str, Any], layers: int, last: bytes | None) -> bytes:
    """As ``docker save`` writes it, without the layers that the daemon has already."""
    config = json.dumps(whole).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    names = [f"{number}/layer.tar" for number in range(layers)]
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": names}]
    members = {config_name: config, "manifest.json": json.dumps(manifest).encode()}
    if last is not None:
        members[names[-1]] = last
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as file:
        for path, content in members.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return archive.getvalue()
