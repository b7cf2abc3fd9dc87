"""Docker and the NVIDIA toolkit, found in file systems made for the purpose."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_llem.runners.detect import Detected, detect

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
    detected = detect(root.path, {**HOME, "DOCKER_HOST": host}, anyone)
    assert shown(detected.cli, root) == cli
    assert shown(detected.socket, root) == found
    assert detected.usable == usable
    assert detected.accessible == (found is not None)
    assert detected.remote == (host if host.startswith(("ssh", "tcp")) else None)


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
    assert detect(root.path, {}, anyone) == Detected(
        cli=None,
        socket=None,
        accessible=False,
        remote=None,
        container=None,
        toolkit=None,
        cdi=None,
    )
