"""Docker and the NVIDIA toolkit, found in file systems made for the purpose."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_llem.runners.detect import detect
from tests.builders import detected

PATH = "/usr/local/bin:/usr/bin"
HOME = {"PATH": PATH, "HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/user/1000"}

SPEC = """\
---
cdiVersion: 0.5.0
containerEdits: {}
devices:
- name: "0"
kind: nvidia.com/gpu
"""


class Root:
    """A directory that stands for ``/``."""

    def __init__(self, path: Path, chdir: Callable[[Path], None]) -> None:
        self.path = path
        self._chdir = chdir

    def file(self, name: str, text: str = "") -> Path:
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def program(self, name: str) -> Path:
        path = self.file(name)
        path.chmod(0o755)
        return path

    def socket(self, name: str) -> Path:
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        # The address of a socket has some 100 characters at most: a relative one.
        self._chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
        return path

    def has(self, *names: str) -> None:
        for name in names:
            if name.endswith(".sock"):
                self.socket(name)
            elif "bin/" in name:
                self.program(name)
            else:
                self.file(name)


def anyone(path: Path, _mode: int) -> bool:
    return path.exists()


def nobody(_path: Path, _mode: int) -> bool:
    return False


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    return Root(tmp_path, monkeypatch.chdir)


def shown(path: Path | None, root: Root) -> str | None:
    return None if path is None else f"/{path.relative_to(root.path)}"


CLI = "/usr/bin/docker"
SOCKET = "/var/run/docker.sock"
ROOTLESS = "/run/user/1000/docker.sock"
DESKTOP = "/home/me/.docker/desktop/docker.sock"


@pytest.mark.parametrize(
    ("there", "host", "cli", "found", "usable"),
    [
        pytest.param([], "", None, None, False, id="nothing"),
        pytest.param([CLI], "", CLI, None, False, id="no daemon"),
        pytest.param([SOCKET], "", None, SOCKET, False, id="no program"),
        pytest.param([CLI, SOCKET], "", CLI, SOCKET, True, id="both"),
        pytest.param([CLI, ROOTLESS], "", CLI, ROOTLESS, True, id="rootless"),
        pytest.param([CLI, DESKTOP], "", CLI, DESKTOP, True, id="Docker Desktop"),
        pytest.param([CLI, SOCKET, ROOTLESS], "", CLI, SOCKET, True, id="root's first"),
        pytest.param([CLI, "/d/x.sock"], "unix:///d/x.sock", CLI, "/d/x.sock", True, id="told"),
        pytest.param([CLI, SOCKET], "unix:///d/x.sock", CLI, None, False, id="told wrongly"),
        pytest.param([CLI, SOCKET], "ssh://me@far", CLI, None, False, id="remote by ssh"),
        pytest.param([CLI, SOCKET], "tcp://10.0.0.1:2376", CLI, None, False, id="remote by tcp"),
        pytest.param([CLI], "unix://", CLI, None, False, id="told nothing"),
        pytest.param(
            [CLI, SOCKET, "/.dockerenv"], "", CLI, SOCKET, False, id="inside a Docker container"
        ),
        pytest.param(
            [CLI, SOCKET, "/run/.containerenv"], "", CLI, SOCKET, False, id="inside Podman's"
        ),
        pytest.param(["/opt/bin/docker", SOCKET], "", None, SOCKET, False, id="not on PATH"),
    ],
)
def test_docker_is_found_where_it_is(
    root: Root, there: list[str], host: str, cli: str | None, found: str | None, usable: bool
) -> None:
    root.has(*there)
    seen = detect(root.path, {**HOME, "DOCKER_HOST": host}, anyone)
    assert shown(seen.cli, root) == cli
    assert shown(seen.socket, root) == found
    assert seen.usable == usable
    assert seen.accessible == (found is not None)
    assert seen.remote == (host if host.startswith(("ssh", "tcp")) else None)


@pytest.mark.parametrize("marker", ["/.dockerenv", "/run/.containerenv"])
def test_being_inside_a_container_is_told_by_its_marker(root: Root, marker: str) -> None:
    root.has(marker)
    assert shown(detect(root.path, HOME, anyone).container, root) == marker


def test_a_socket_that_this_user_may_not_use_is_found_but_not_usable(root: Root) -> None:
    root.has(CLI, SOCKET)
    found = detect(root.path, HOME, nobody)
    assert shown(found.socket, root) == SOCKET
    assert not found.accessible
    assert not found.usable


def test_a_socket_that_this_user_may_use_comes_first(root: Root) -> None:
    root.has(CLI, SOCKET, ROOTLESS)
    found = detect(root.path, HOME, lambda path, _: "user" in path.parts)
    assert shown(found.socket, root) == ROOTLESS
    assert found.usable


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["directory", "file"])
def test_what_only_has_a_sockets_name_is_none(root: Root, make: Callable[[Path], None]) -> None:
    path = root.path / "var/run/docker.sock"
    path.parent.mkdir(parents=True)
    make(path)
    assert detect(root.path, HOME, anyone).socket is None


def test_a_file_that_can_not_be_run_is_no_program(root: Root) -> None:
    root.file(CLI)
    assert detect(root.path, HOME, anyone).cli is None


def test_relative_entries_of_path_are_not_searched(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.program("bin/docker")
    monkeypatch.chdir(root.path)
    assert detect(root.path, {"PATH": "bin:.:"}, anyone).cli is None


@pytest.mark.parametrize("tool", ["nvidia-container-runtime", "nvidia-ctk", "nvidia-container-cli"])
def test_any_program_of_the_toolkit_tells_of_it(root: Root, tool: str) -> None:
    root.has(f"/usr/bin/{tool}")
    assert shown(detect(root.path, HOME, anyone).toolkit, root) == f"/usr/bin/{tool}"


@pytest.mark.parametrize("folder", ["/etc/cdi", "/var/run/cdi"])
@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("nvidia.yaml", SPEC, True),
        ("gpus.yaml", SPEC.replace("nvidia.com/gpu", "'nvidia.com/gpu'"), True),
        ("nvidia.json", '{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[]}', True),
        ("nvidia.yaml", SPEC.replace("nvidia.com/gpu", "amd.com/gpu"), False),
        ("nvidia.yaml", "", False),
        ("nvidia.yaml.bak", SPEC, False),
    ],
)
def test_a_cdi_specification_counts_by_its_kind(
    root: Root, folder: str, name: str, text: str, found: bool
) -> None:
    root.file(f"{folder}/{name}", text)
    expected = f"{folder}/{name}" if found else None
    assert shown(detect(root.path, HOME, anyone).cdi, root) == expected


def test_an_empty_environment_and_root_hold_nothing(root: Root) -> None:
    assert detect(root.path, {}, anyone) == detected()


def test_a_root_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert detect(tmp_path / "missing", HOME, anyone) == detected()


# --- GPUs ----------------------------------------------------------------------------------

DRIVER = "/proc/driver/nvidia/gpus/0000:01:00.0/information"
CTK = "/usr/bin/nvidia-ctk"
CDI = "/etc/cdi/nvidia.yaml"


@pytest.mark.parametrize(
    ("there", "gpu"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param([DRIVER], "/proc/driver/nvidia/gpus/0000:01:00.0", id="the driver's list"),
        pytest.param(["/dev/nvidia0"], "/dev/nvidia0", id="a device"),
        pytest.param(["/dev/nvidia3", "/dev/nvidia12"], "/dev/nvidia12", id="two devices"),
        pytest.param(
            ["/usr/lib/wsl/lib/libnvidia-ml.so.1"], "/usr/lib/wsl/lib/libnvidia-ml.so.1", id="WSL 2"
        ),
        pytest.param(
            ["/dev/nvidia0", DRIVER], "/proc/driver/nvidia/gpus/0000:01:00.0", id="list and device"
        ),
        pytest.param(["/dev/nvidiactl", "/dev/nvidia-uvm"], None, id="the driver alone"),
        pytest.param(["/proc/driver/nvidia/version"], None, id="a driver that sees no GPU"),
        pytest.param(["/dev/dri/card0", "/dev/kfd"], None, id="another maker's"),
    ],
)
def test_a_gpu_of_nvidia_is_told_by_its_files(
    root: Root, there: list[str], gpu: str | None
) -> None:
    root.has(*there)
    assert shown(detect(root.path, HOME, anyone).gpu, root) == gpu


@pytest.mark.parametrize(
    ("there", "host", "with_gpus"),
    [
        pytest.param([CLI, SOCKET], "", False, id="Docker alone"),
        pytest.param([CLI, SOCKET, "/dev/nvidia0"], "", False, id="a GPU without the toolkit"),
        pytest.param([CLI, SOCKET, CTK], "", True, id="toolkit"),
        pytest.param([CLI, SOCKET, CDI], "", True, id="CDI"),
        pytest.param([CLI, SOCKET, CTK, CDI, "/dev/nvidia0"], "", True, id="all"),
        pytest.param([CLI, ROOTLESS, CTK], "", True, id="rootless"),
        pytest.param([CLI, "/d/x.sock", CTK], "unix:///d/x.sock", True, id="told"),
        pytest.param([SOCKET, CTK, CDI], "", False, id="no program"),
        pytest.param([CLI, CTK, CDI], "", False, id="no daemon"),
        pytest.param([CTK, CDI, "/dev/nvidia0"], "", False, id="no Docker"),
        pytest.param([CLI, SOCKET, CTK, "/.dockerenv"], "", False, id="inside a Docker container"),
        pytest.param([CLI, SOCKET, CDI, "/run/.containerenv"], "", False, id="inside Podman's"),
        pytest.param([CLI, SOCKET, CTK, CDI], "ssh://me@far", False, id="remote by ssh"),
        pytest.param([CLI, SOCKET, CTK, CDI], "tcp://10.0.0.1:2376", False, id="remote by tcp"),
    ],
)
def test_containers_get_gpus_only_with_docker_here_and_nvidias_part(
    root: Root, there: list[str], host: str, with_gpus: bool
) -> None:
    root.has(*(name for name in there if name != CDI))
    if CDI in there:
        root.file(CDI, SPEC)
    assert detect(root.path, {**HOME, "DOCKER_HOST": host}, anyone).with_gpus == with_gpus


def test_a_socket_that_may_not_be_used_gives_no_gpus_either(root: Root) -> None:
    root.has(CLI, SOCKET, CTK)
    assert not detect(root.path, HOME, nobody).with_gpus


@pytest.mark.parametrize("container", [None, Path("/.dockerenv")])
@pytest.mark.parametrize("remote", [None, "ssh://far"])
@pytest.mark.parametrize("accessible", [False, True])
@pytest.mark.parametrize("cli", [None, Path("/usr/bin/docker")])
def test_docker_is_usable_where_all_of_it_is_here(
    cli: Path | None, accessible: bool, remote: str | None, container: Path | None
) -> None:
    found = detected(cli=cli, accessible=accessible, remote=remote, container=container)
    usable = cli is not None and accessible and remote is None and container is None
    assert (found.usable, found.with_gpus) == (usable, False)
    assert dataclasses.replace(found, toolkit=Path("/t")).with_gpus == usable
    assert dataclasses.replace(found, cdi=Path("/c")).with_gpus == usable


def test_what_is_found_is_looked_for_without_starting_anything(root: Root) -> None:
    # A program that would leave a trace, were it run.
    trace = root.path / "trace"
    for name in ("docker", "nvidia-ctk", "nvidia-container-runtime", "nvidia-container-cli"):
        root.program(f"/usr/bin/{name}").write_text(f"#!/bin/sh\ntouch '{trace}'\n")
    root.has(SOCKET, DRIVER)
    assert detect(root.path, HOME, anyone).with_gpus
    assert not trace.exists()
