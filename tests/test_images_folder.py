"""The Dockerfiles: pinned to what the plugin uses, and the one of PyTorch really built."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pip
import pytest

from pytest_llem.runners.images import DEFAULTS
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import TORCH, site_packages

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "images"


def text(backend: str) -> str:
    return (IMAGES / backend / "Dockerfile").read_text()


def test_every_backend_with_a_default_image_has_a_file() -> None:
    assert {path.parent.name for path in IMAGES.glob("*/Dockerfile")} == set(DEFAULTS)


@pytest.mark.parametrize("backend", ["tensorrt", "vllm"])
def test_what_a_vendor_makes_is_the_base(backend: str) -> None:
    assert f"\nARG BASE={DEFAULTS[backend]}\n" in text(backend)


def test_ours_has_the_versions_that_are_tested() -> None:
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    assert f"ARG BASE=pytorch/pytorch:{pins['torch']}-" in text("pytorch")
    assert f"ARG TRANSFORMERS={pins['transformers']}\n" in text("pytorch")
    assert DEFAULTS["pytorch"] == f"pytest-llem/pytorch:{pins['torch']}"


@pytest.mark.parametrize("backend", sorted(DEFAULTS))
def test_none_runs_as_root_or_starts_something(backend: str) -> None:
    assert "\nUSER 65534:65534\n" in text(backend)
    assert "\nENTRYPOINT []\n" in text(backend)


def context(dockerfile: str, folders: dict[str, Path]) -> io.BytesIO:
    """What a daemon needs for a build."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(dockerfile.encode())
        archive.addfile(info, io.BytesIO(dockerfile.encode()))
        for name, folder in folders.items():
            archive.add(folder, name)
    buffer.seek(0)
    return buffer


@pytest.fixture
def base(torch_daemon: Daemon) -> str:
    """As upstream's: torch and pip; here transformers too, as there is no network."""
    # pip, and its metadata.
    home = Path(pip.__file__).parent
    folders = {"pip": home, "info": next(home.parent.glob("pip-*.dist-info"))}
    place = f"/{site_packages()}"
    dockerfile = f"FROM {TORCH}\nCOPY pip {place}/pip\nCOPY info {place}/pip-1.dist-info\n"
    name = "llem/torch-pip:1"
    made = context(dockerfile, folders)
    torch_daemon.client().images.build(fileobj=made, custom_context=True, tag=name, rm=True)
    return name


@pytest.mark.docker
@pytest.mark.engine
def test_the_image_of_pytorch_is_built_without_a_network(torch_daemon: Daemon, base: str) -> None:
    client = torch_daemon.client(timeout_s=300)
    image, _ = client.images.build(
        path=str(IMAGES / "pytorch"),
        buildargs={"BASE": base},
        network_mode="none",
        tag=DEFAULTS["pytorch"],
        rm=True,
    )
    assert image.attrs["Config"]["User"] == "65534:65534"
    assert not image.attrs["Config"]["Entrypoint"]
    said = client.containers.run(
        DEFAULTS["pytorch"],
        ["python3", "-c", "import torch, transformers; print(transformers.__version__)"],
        environment={"HOME": "/tmp", "USER": "llem"},
        network_mode="none",
        remove=True,
    )
    assert f"ARG TRANSFORMERS={said.decode().strip()}\n" in text("pytorch")
