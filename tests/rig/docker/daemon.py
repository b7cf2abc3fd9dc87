"""Docker daemons for tests: any number side by side, and with GPUs on a host that has none.

    with Daemon(tmp_path / "docker", gpus=True) as daemon:
        base = base_image(daemon.client(), cache)
        daemon.driver.use_memory(2**30)  # seen in running containers too
        daemon.hook_fails("initialization error: nvml error: driver not loaded")

Each has its own socket, images, bridge, control group, and namespaces of processes and mounts:
nothing of it is left once it is closed, killed, or the test that opened it has died.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tests.rig.docker.driver import Driver, install_hook

# The fixtures are known to every session here, those too that have no package for tests.
if TYPE_CHECKING:
    import docker
    import psutil

__all__ = ["Daemon", "DockerUnavailable", "check_available"]

INSTALL = "apt-get install -y --no-install-recommends docker.io iproute2"
_PROGRAMS = ("dockerd", "containerd", "runc", "ip", "unshare", "nsenter", "mount")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCRIPT = Path(__file__).with_name("daemon.sh")
_CONFIG = '{"features": {"containerd-snapshotter": false}}'
"""Later daemons keep images elsewhere, and want all layers of each that they load."""
_LONGEST_SOCKET = 107
"""Of a Unix socket's path, in bytes: ``sockaddr_un``."""


class DockerUnavailable(Exception):
    """No daemon can be started here; the message says why and what mends it."""


def check_available() -> None:
    """Look whether daemons can be started here.

    Raises:
        DockerUnavailable: no Linux, not root, or a program is missing.
    """
    if sys.platform != "linux":
        raise DockerUnavailable(f"the daemons of tests are for Linux, and this is {sys.platform}")
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_SYSTEM_PATH) is None]
    if missing:
        raise DockerUnavailable(f"{', '.join(missing)} not found; install with: {INSTALL}")
    if os.geteuid() != 0:
        raise DockerUnavailable("only root may start a Docker daemon; run: sudo python -m pytest")


class _OverUnixSocket(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("docker", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Daemon:
    """A Docker daemon; as a context manager it is started, and closed at the end.

    Args:
        folder: its own, for its socket, images and log; made where it isn't there.
        gpus: whether the NVIDIA toolkit is installed.
        tcp: also listens at this port of 127.0.0.1; 0 finds a free one. Then ``url`` is this one.
        hidden: paths that don't exist where it runs, as for a daemon on another machine. Its own
            folder stays, also where it lies under one of them.
        disk_bytes: what its images and containers may take; no limit where not given.
    """

    def __init__(
        self,
        folder: Path,
        *,
        gpus: bool = True,
        tcp: int | None = None,
        hidden: Sequence[Path] = (),
        disk_bytes: int | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.socket = self.folder / "docker.sock"
        longest = self.folder / "exec" / "containerd" / "containerd.sock.ttrpc"
        if len(os.fsencode(longest)) > _LONGEST_SOCKET:
            raise DockerUnavailable(f"too long for a socket: {longest}; use a shorter folder")
        self.name = "llem" + hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:8]
        self.port = _free_port() if tcp == 0 else tcp
        self.log = self.folder / "dockerd.log"
        self._hidden = [path.resolve() for path in hidden]
        self._disk_bytes = disk_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[docker.DockerClient] = []
        for part in ("data", "bin"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "daemon.json").write_text(_CONFIG)
        self.driver = Driver(self.folder / "driver")
        """The GPUs, for all containers of this daemon."""
        self._gpus = gpus
        self._install_hook()

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- reaching it -------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """What goes into ``DOCKER_HOST``."""
        return f"unix://{self.socket}" if self.port is None else f"tcp://127.0.0.1:{self.port}"

    def client(self, timeout_s: float = 60) -> docker.DockerClient:
        """A client of the real ``docker`` package; closed with the test, or the daemon."""
        client = self._connected(timeout_s)
        self._clients.append(client)
        return client

    def _connected(self, timeout_s: float = 60) -> docker.DockerClient:
        import docker

        return docker.DockerClient(base_url=self.url, timeout=round(timeout_s))

    def answers(self, timeout_s: float = 5) -> bool:
        """Whether it answers at its socket."""
        connection = _OverUnixSocket(self.socket, timeout_s)
        try:
            connection.request("GET", "/_ping")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    # --- its life ----------------------------------------------------------------------------

    def start(self, timeout_s: float = 60) -> None:
        """Start it, also after it was stopped or killed, and wait until it answers.

        Raises:
            DockerUnavailable: it can't be started here, or doesn't answer in time.
        """
        check_available()
        assert self._process is None, "it is running"
        self._forget_processes()
        apart = ("unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--mount-proc")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*apart, "sh", str(_SCRIPT), *self._arguments()],
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])
                why = "ended at once" if ended else f"did not answer in {timeout_s:g} s"
                raise DockerUnavailable(f"dockerd {why}; the end of {self.log}:\n{tail}")
            time.sleep(0.02)

    def _forget_processes(self) -> None:
        # All namespaces count processes from 1: the id of one that was killed may be that of
        # another now.
        (self.folder / "docker.pid").unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "exec", ignore_errors=True)
        (self.folder / "exec").mkdir()

    def _arguments(self) -> list[str]:
        at = [] if self.port is None else ["--host", f"tcp://127.0.0.1:{self.port}"]
        return [
            *("--host", f"unix://{self.socket}", *at),
            *("--config-file", str(self.folder / "daemon.json")),
            *("--data-root", str(self.folder / "data")),
            *("--exec-root", str(self.folder / "exec")),
            *("--pidfile", str(self.folder / "docker.pid")),
            *("--bridge", self.name, "--cgroup-parent", f"/{self.name}"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs"),
            # The host's own network stays as it is.
            *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
        ]

    def _environment(self) -> dict[str, str]:
        return {
            # The daemon looks for the toolkit's hook on its PATH, as the real one does.
            "PATH": f"{self.folder / 'bin'}:{_SYSTEM_PATH}",
            "HOME": str(self.folder),
            "FOLDER": str(self.folder),
            "NAME": self.name,
            "ADDRESS": f"10.{int(self.name[4:6], 16) | 128}.{int(self.name[6:8], 16)}.1/24",
            "DISK": "" if self._disk_bytes is None else str(self._disk_bytes),
            "HIDDEN": "\n".join(map(str, self._hidden)),
        }

    @property
    def proc(self) -> Path:
        """Where its own processes are numbered: it lives in a namespace of pids."""
        dockerd = self._dockerd()
        assert dockerd is not None, "it isn't running"
        return Path("/proc", str(dockerd.pid), "root/proc")

    def _dockerd(self) -> psutil.Process | None:
        import psutil

        if self._process is None:
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                if process.name() == "dockerd":
                    return process
        return None

    def _signal(self, number: signal.Signals) -> None:
        import psutil

        dockerd = self._dockerd()
        with contextlib.suppress(psutil.NoSuchProcess):
            if dockerd is not None:
                dockerd.send_signal(number)

    def stop(self) -> None:
        """Stop it politely: it gives its containers their time to end."""
        self._signal(signal.SIGCONT)
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, and all that runs in it."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            import psutil

            # Killing the first process of a namespace kills all of it.
            for process in psutil.Process(self._process.pid).children():
                process.kill()
            self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Let it hang: its sockets take requests, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """The end of :meth:`pause`."""
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Hang for the length of a block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def renew(self) -> None:
        """Undo what a test did: its containers and volumes go, the GPUs are as at the start."""
        self._close_clients()
        if self._process is None:
            self.start()
        self.resume()
        self._install_hook()
        self.hook_works()
        self.driver.renew()
        with contextlib.closing(self._connected()) as client:
            for container in client.containers.list(all=True, ignore_removed=True):
                container.remove(force=True, v=True)
            for volume in client.volumes.list():
                volume.remove(force=True)

    def close(self) -> None:
        """Kill it and remove its folder."""
        self._close_clients()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _close_clients(self) -> None:
        while self._clients:
            self._clients.pop().close()

    def is_gone(self) -> bool:
        """Whether nothing is left on this host of what ran: processes, mounts, bridge, groups."""
        import psutil

        folder = str(self.folder)
        processes = psutil.process_iter(["cmdline"])
        return not (
            folder in Path("/proc/self/mountinfo").read_text()
            or any(folder in " ".join(process.info["cmdline"] or ()) for process in processes)
            or Path("/sys/class/net", self.name).exists()
            or any(Path("/sys/fs/cgroup").glob(f"*/{self.name}"))
            or Path("/sys/fs/cgroup", self.name).exists()
        )

    # --- the toolkit -------------------------------------------------------------------------

    def hook_fails(self, text: str) -> None:
        """From now on no container gets GPUs; ``nvidia-container-cli: text`` is what is said."""
        self.driver.failure.write_text(text)

    def hook_works(self) -> None:
        """The end of :meth:`hook_fails`."""
        self.driver.failure.unlink(missing_ok=True)

    def _install_hook(self) -> None:
        if self._gpus:
            install_hook(self.folder / "bin", self.driver)

    def remove_hook(self) -> None:
        """Uninstall the toolkit; a daemon that is running has seen it before."""
        (self.folder / "bin" / "nvidia-container-runtime-hook").unlink()
