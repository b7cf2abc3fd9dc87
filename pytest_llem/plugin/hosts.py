"""Other hosts under pytest-xdist: what their workers must know, and what if one of them dies.

A worker of ``--tx ssh=...`` has another file system, and may have another checkout. A worker that
is lost is replaced by xdist on its own host; where that one is gone the whole session would end.
"""

from __future__ import annotations

import contextlib
import importlib
import subprocess
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.plugin.wires import Wires

__all__ = ["STAND_IN", "Hosts", "connecting", "host_of", "lost"]

STAND_IN = "llem_standin"
"""Key of ``workerinput``, and attribute of a gateway's specification: the host that is gone."""

_PLACE = ("popen", "ssh", "ssh_config", "via", "socket", "vagrant_ssh", "chdir", "python")
"""What of a gateway's specification says where it is."""

_ANSWER_S = 10
"""A host that hasn't answered for so long has gone."""


class Hosts:
    """The controller's view of the hosts of its workers.

    Attributes:
        scheduler: of the session, once there is one.
    """

    def __init__(self, config: pytest.Config, wires: Wires, loader: Any) -> None:
        """Begin with no worker.

        Args:
            config: of the controller.
            wires: to the workers.
            loader: brings in the reports.
        """
        self._config = config
        self._wires = wires
        self._loader = loader
        self._known: list[str] = []
        self.scheduler: Any = None

    def equip(self, node: Any, named: Sequence[Path]) -> None:
        """Tell a worker that is about to be started what it can't know by itself.

        Args:
            node: xdist's.
            named: paths that the user named; below the root directory they are the same elsewhere.
        """
        host = host_of(node.gateway)
        if gone := getattr(node.gateway.spec, STAND_IN, None):
            node.workerinput[STAND_IN] = gone
        if host is None:
            return
        root = self._config.rootpath
        node.workerinput["llem_host"] = host
        node.workerinput["llem_named"] = [
            str(path.relative_to(root) if path.is_relative_to(root) else path) for path in named
        ]
        if self._config.getoption("llem_compare"):
            comparing = importlib.import_module("pytest_llem.plugin.comparing")
            node.workerinput["llem_references"] = comparing.references_sent(self._config)
        # Not by wire: it isn't connected yet.
        node.workerinput["llem_known"] = list(self._known)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Let the session go on where a worker is lost, and with it perhaps its host."""
        if not error or not getattr(self.scheduler, "sends_stand_ins_home", False):
            return
        others = [one for one in self.scheduler.nodes if one is not node]
        gone = lost(node, [one for one in others if not one.shutting_down])
        if gone is not None:
            line = f"{gone} doesn't answer any more; it gets no more tests"
            self._reporting.say(self._config, line)
        text = self._reporting.unjudged(self._config, node.gateway.id)
        if text is not None:
            self._known.append(text)
            for other in others:
                if "llem_host" in other.workerinput:
                    self._wires.tell(other, "known", text)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Say on which host a test was lost, also in our own report."""
        node = getattr(report, "node", None)
        host = None if node is None else node.workerinput.get("llem_host")
        if host is not None:
            report.longrepr = f"{report.longrepr} on {host}"
            self._reporting.say(self._config, f"{crashitem}: lost on {host}")

    @property
    def _reporting(self) -> Any:
        return self._loader.load("pytest_llem.plugin.reporting")


def host_of(gateway: Any) -> str | None:
    """The host of a worker, as the user named it; None for a process with the files of this one.

    Args:
        gateway: execnet's.
    """
    spec = gateway.spec
    if spec.ssh:
        # Options may stand before the name, and a user within it.
        return str(spec.ssh).split()[-1].rpartition("@")[2]
    if spec.via:
        return str(spec.via)
    if spec.socket or spec.vagrant_ssh:
        return str(spec.socket or spec.vagrant_ssh)
    return "localhost" if spec.chdir else None


@contextlib.contextmanager
def connecting() -> Generator[None, None, None]:
    """Say in words what is wrong where xdist can't begin on other hosts.

    Raises:
        pytest.UsageError: in place of what would be shown as an error of pytest's own.
    """
    try:
        yield
    except ValueError as error:
        # "arg benchmarks not relative to an rsync root"
        if "rsync root" not in str(error):
            raise
        argument = str(error).removeprefix("arg ").partition(" not relative")[0]
        raise pytest.UsageError(
            f"pytest-xdist can't hand the path {argument!r} to another host. Name what is to be"
            f" collected by an ini setting, -o testpaths={argument}, and write options with a path"
            " as --option=PATH"
        ) from error
    except Exception as error:
        # Of execnet, which need not be installed.
        if type(error).__name__ != "HostNotFound":
            raise
        raise pytest.UsageError(
            f"{error}: ssh can't connect; see what this says: ssh {error} true"
        ) from error


def lost(node: Any, others: Sequence[Any]) -> str | None:
    """Whether the host of a lost worker is gone; then xdist's replacement is turned away from it.

    Where other workers still take tests it becomes a stand-in on this host, which idles: on their
    hosts it would disturb them. Else it takes the place of one of them that had nothing left.

    Args:
        node: xdist's, about to be replaced.
        others: that still take tests.

    Returns:
        The host's name, should it be gone.
    """
    spec = node.gateway.spec
    host = host_of(node.gateway)
    if host is None or _answers(node, spec):
        return None
    elsewhere = None if others else _elsewhere(node, spec)
    for part in _PLACE:
        setattr(spec, part, getattr(elsewhere, part, None))
    if elsewhere is None:
        spec.popen = True
        setattr(spec, STAND_IN, host)
    else:
        spec.env = dict(elsewhere.env)
    return host


def _elsewhere(node: Any, lost_spec: Any) -> Any:
    """The specification of another worker of the session whose host is there; None for none."""
    gone = [getattr(lost_spec, part) for part in _PLACE]
    for spec in node.nodemanager.specs:
        same = [getattr(spec, part) for part in _PLACE] == gone
        if not same and not getattr(spec, STAND_IN, None) and _answers(node, spec):
            return spec
    return None


def _answers(node: Any, spec: Any) -> bool:
    """Whether a worker could be started there again; what can't be asked is left to xdist."""
    if spec.via:
        return bool(node.nodemanager.group[spec.via].hasreceiver())
    if not spec.ssh:
        return True
    config = ["-F", spec.ssh_config] if spec.ssh_config else []
    options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={_ANSWER_S}"]
    command = ["ssh", *config, *options, *spec.ssh.split(), "true"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, timeout=2 * _ANSWER_S)
        # 255 is ssh's own: anything else comes from the host.
        return done.returncode != 255
    return False
