"""Hosts that are reached by ssh, for tests: many on one machine.

Each has a network, processes, a name and a folder for temporary files of its own.

    with Host(tmp_path / "far", "far") as host:
        host.put("/tmp/checkout/pytest.ini", "[pytest]")
        subprocess.run(["ssh", "-F", str(host.ssh_config), "far", "hostname"])
        host.unplug()  # as if its power were cut: nobody is told

The server is Debian's sshd; the keys are made anew for each host.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

__all__ = ["Host", "HostUnavailable", "check_available"]

INSTALL = "apt-get install -y --no-install-recommends openssh-server iproute2 procps"
_PROGRAMS = ("sshd", "ssh", "ssh-keygen", "ip", "unshare", "nsenter", "mount", "ps")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCRIPT = Path(__file__).with_name("host.sh")
_ROOT = Path(__file__).parents[3]
_SERVER = """\
Port 22
ListenAddress {address}
HostKey /run/sshd/host_key
AuthorizedKeysFile /run/sshd/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
{environment}
"""
_CLIENT = """\
Host {name}
    HostName {address}
    User root
    IdentityFile {folder}/key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
    BatchMode yes
    ConnectTimeout 5
    ServerAliveInterval 2
    ServerAliveCountMax 3
"""


class HostUnavailable(Exception):
    """No host can be made here; the message says why and what mends it."""


def check_available() -> None:
    """Look whether hosts can be made here.

    Raises:
        HostUnavailable: no Linux, not root, a program is missing, or namespaces aren't allowed.
    """
    if sys.platform != "linux":
        raise HostUnavailable(f"hosts of tests are for Linux, and this is {sys.platform}")
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_SYSTEM_PATH) is None]
    if missing:
        raise HostUnavailable(f"{', '.join(missing)} not found; install with: {INSTALL}")
    if os.geteuid() != 0:
        raise HostUnavailable("only root may make network namespaces; run: sudo python -m pytest")


def _kept(temporary: Path, shared: Sequence[Path]) -> list[Path]:
    """What lies below the folder for temporary files, and a host must have all the same."""
    wanted = [_ROOT, Path(sys.prefix), Path(sys.base_prefix), *map(Path, sys.path), *shared]
    inside = {path.resolve() for path in wanted if path.is_dir()}
    below = sorted(path for path in inside if temporary in path.parents)
    return [path for path in below if not any(p in path.parents for p in below)]


class Host:
    """A host; as a context manager it is there for the length of a block.

    Args:
        folder: for its keys and its log; made where it isn't there.
        name: what it is called, by itself and by ssh.
        environment: of all that is run on it by ssh.
        shared: folders that are there as they are here.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        environment: Mapping[str, str] | None = None,
        shared: Sequence[Path] = (),
    ) -> None:
        self.folder = folder.resolve()
        self.name = name
        self.ssh_config = self.folder / "ssh_config"
        self._environment = dict(environment or {})
        self._shared = shared
        digest = hashlib.sha256(f"{self.folder}{os.getpid()}".encode()).digest()
        self._device = f"lh{digest.hex()[:8]}"
        # A net of four addresses, of which two are for hosts: this one's, and its own.
        self._net = f"10.{digest[4] | 128}.{digest[5]}.{digest[6] & 0xFC}"
        self._process: subprocess.Popen[bytes] | None = None

    def _address(self, number: int) -> str:
        head, _, last = self._net.rpartition(".")
        return f"{head}.{int(last) + number}"

    @property
    def address(self) -> str:
        """Where its sshd listens."""
        return self._address(2)

    def __enter__(self) -> Host:
        """Start it, and wait until its sshd answers.

        Raises:
            HostUnavailable: it can't be started here, or doesn't answer in time.
        """
        check_available()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_keys()
        temporary = Path(tempfile.gettempdir()).resolve()
        environment = {
            "PATH": _SYSTEM_PATH,
            "NAME": self.name,
            "ADDRESS": self.address,
            "TEMPORARY": str(temporary),
            "KEPT": "\n".join(map(str, _kept(temporary, self._shared))),
            "SSHD_CONFIG": str(self.folder / "sshd_config"),
            "HOST_KEY": str(self.folder / "host_key"),
            "AUTHORIZED_KEYS": str(self.folder / "authorized_keys"),
        }
        apart = ("unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--mount-proc")
        with (self.folder / "host.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*apart, "--kill-child", "sh", str(_SCRIPT)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._plug_in()
            self._wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _make_keys(self) -> None:
        for name in ("key", "host_key"):
            (self.folder / name).unlink(missing_ok=True)
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(command, check=True)
        host_key = (self.folder / "host_key.pub").read_text()
        (self.folder / "known_hosts").write_text(f"{self.address} {host_key}")
        shutil.copy(self.folder / "key.pub", self.folder / "authorized_keys")
        settings = " ".join(f'"{key}={value}"' for key, value in self._environment.items())
        environment = f"SetEnv {settings}" if settings else ""
        server = _SERVER.format(address=self.address, environment=environment)
        (self.folder / "sshd_config").write_text(server)
        client = _CLIENT.format(name=self.name, address=self.address, folder=self.folder)
        self.ssh_config.write_text(client)

    def _plug_in(self) -> None:
        """Lay the wire between this host and it."""
        assert self._process is not None
        peer = ("peer", "name", "eth0", "netns", str(self.pid))
        _ip("link", "add", self._device, "type", "veth", *peer)
        _ip("address", "add", f"{self._address(1)}/30", "dev", self._device)
        _ip("link", "set", self._device, "up")

    @property
    def pid(self) -> int:
        """Of its first process, as it is numbered here."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        deadline = time.monotonic() + 60
        while not (found := children.read_text().split()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise HostUnavailable(f"no namespaces here:\n{self._log()}")
            time.sleep(0.01)
        return int(found[0])

    def _wait(self, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                socket.create_connection((self.address, 22), timeout=1).close()
            except OSError:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise HostUnavailable(f"sshd doesn't answer:\n{self._log()}") from None
                time.sleep(0.05)
            else:
                return

    def _log(self) -> str:
        return (self.folder / "host.log").read_text(errors="replace")[-2000:]

    # --- its files and its end -----------------------------------------------------------------

    def path(self, path: str) -> Path:
        """A path of the host as this one sees it."""
        return Path(f"/proc/{self.pid}/root", path.lstrip("/"))

    def processes(self) -> list[str]:
        """The command lines of what runs there, but its own first processes and its sshd."""
        own = ("sh ", "cat", "sshd:", "/usr/sbin/sshd", "ps ")
        command = ["nsenter", f"--target={self.pid}", "--pid", "--mount", "ps", "-eo", "args="]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [line for line in lines.splitlines() if not line.startswith(own)]

    def put(self, path: str, text: str) -> None:
        """Write a file there."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def unplug(self) -> None:
        """Take the wire out: whoever speaks with it hears nothing more, and isn't told."""
        _ip("link", "set", self._device, "down")

    def close(self) -> None:
        """End it and all that runs on it."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            os.kill(self._process.pid, signal.SIGKILL)  # and its namespaces with it
            self._process.wait()
        self._process = None


def _ip(*arguments: str) -> None:
    program = shutil.which("ip", path=_SYSTEM_PATH) or "ip"
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise HostUnavailable(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
