"""Whether containers work here, looked at before the first measurement needs one.

Two tiers, and the second only after the first: what can be told without a container, then a probe
container of each image that is about to be used. All that is wrong in a tier is told at once.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

from pytest_llem.errors import ContainerError
from pytest_llem.nvml import reason_of
from pytest_llem.runners.detect import Detected
from pytest_llem.runners.docker.cuda import COMPATIBILITY, needs
from pytest_llem.runners.docker.daemon import Daemon, connect
from pytest_llem.runners.docker.devices import cdi_devices
from pytest_llem.runners.docker.guardian import Guardian
from pytest_llem.runners.docker.image import Image, Progress, ensure
from pytest_llem.runners.docker.probe import Probe, probe
from pytest_llem.runners.docker.reaper import labels
from pytest_llem.runners.docker.sayings_container import INSTALL_TOOLKIT

__all__ = [
    "NO_SMI",
    "Fetching",
    "Host",
    "Issue",
    "Use",
    "Verdict",
    "check_daemon",
    "examine",
    "listed",
]

Fetching = Callable[[str], AbstractContextManager[Progress]]

NO_SMI = (
    "nvidia-smi not found on this host: remote daemon? Whether containers get GPUs, a container"
    " will tell."
)
_NO_ACCESS = "GPU not accessible inside Docker container"
_INSTALL_DOCKER = "Install Docker Engine — https://docs.docker.com/engine/install/"
_SMI_S = 10.0
_GPU_CAUSES = {
    *("driver mismatch", "driver not loaded", "no cdi", "no cdi device", "no device", "no driver"),
    *("no runtime", "no such gpu", "no toolkit", "toolkit failed", "toolkit removed"),
}
_UNCHECKED = {"NVIDIA_DISABLE_REQUIRE": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """Something that is wrong.

    Attributes:
        title: what.
        fix: the command that mends it, or where to look.
        why: what was seen, where the title doesn't say.
    """

    title: str
    fix: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """An image that is about to be used.

    Attributes:
        image: its name.
        gpus: how many GPUs its measurements need at most; 0 for none.
        pull: whether it may be fetched.
    """

    image: str
    gpus: int = 0
    pull: Literal["missing", "never"] = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """This host, as far as it matters to a daemon on it.

    Attributes:
        detected: what the file system says of Docker and the toolkit.
        environ: says where the daemon is, and PATH.
    """

    detected: Detected
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found.

    Attributes:
        issues: of one tier; empty where containers work.
        notices: lines that a user should know all the same.
    """

    issues: tuple[Issue, ...] = ()
    notices: tuple[str, ...] = ()


def listed(issues: Sequence[Issue]) -> str:
    """All issues as one text, numbered, each with its fix."""
    lines = [f"Docker pre-flight failed: {len(issues)} issue(s) found"]
    for number, issue in enumerate(issues, 1):
        lines.append(f"  {number}. {issue.title}")
        lines += [f"     Why: {issue.why}"] if issue.why else []
        lines += [f"     Fix: {issue.fix}"] if issue.fix else []
    return "\n".join(lines)


def examine(
    uses: Sequence[Use],
    host: Host,
    fetching: Fetching | None = None,
) -> Verdict:
    """Look whether containers of some images will work.

    Args:
        uses: all images, those of experiments on CPUs too.
        host: this one.
        fetching: given an image's name, a block for its being fetched, with what is told of it.
    """
    notices: list[str] = []
    daemon, issues = check_daemon(host, gpus=any(use.gpus for use in uses), notices=notices)
    if daemon is None:
        return Verdict(issues=tuple(issues), notices=tuple(notices))
    with contextlib.closing(daemon):
        if not issues:
            issues = _check_images(daemon, uses, host, fetching)
    return Verdict(issues=tuple(dict.fromkeys(issues)), notices=tuple(notices))


# --- tier 1: without a container -----------------------------------------------------------


def check_daemon(
    host: Host, *, gpus: bool, notices: list[str]
) -> tuple[Daemon | None, list[Issue]]:
    """The daemon, None where none answers; and what is wrong without a container being started.

    Args:
        host: this one.
        gpus: whether containers are going to be given any.
        notices: is added what isn't wrong.
    """
    issues = []
    daemon = None
    try:
        daemon = connect(host.environ)
        if daemon.info.get("OSType", "linux") != "linux":
            issues.append(_wrong_system(daemon))
    except ContainerError as error:
        issues.append(_unreachable(error, host))
    remote = host.detected.remote is not None if daemon is None else not daemon.local
    # What this host has says nothing of the daemon's: there the probe container has to tell.
    if gpus and not remote:
        if not has_toolkit(host.detected, daemon):
            issues.append(Issue(title="NVIDIA Container Toolkit not found", fix=INSTALL_TOOLKIT))
        issues += _check_smi(host.environ, notices)
    return daemon, issues


def _unreachable(error: ContainerError, host: Host) -> Issue:
    if error.cause == "not running" and host.detected.cli is None:
        told = bool(host.environ.get("DOCKER_HOST") or host.environ.get("DOCKER_CONTEXT"))
        why = error.message if told else ""
        return Issue(title="Docker not found", fix=_INSTALL_DOCKER, why=why)
    return Issue(title=error.message, fix=error.fix)


def _wrong_system(daemon: Daemon) -> Issue:
    return Issue(
        title=f"Docker at {daemon.url} runs containers of {daemon.info['OSType']}, not of Linux",
        fix="switch it to Linux containers",
    )


def has_toolkit(detected: Detected, daemon: Daemon | None) -> bool:
    """Whether something hands GPUs to containers, as far as this host or its daemon tells."""
    if detected.toolkit is not None or detected.cdi is not None:
        return True
    info = daemon.info if daemon is not None else {}
    return "nvidia" in (info.get("Runtimes") or {}) or bool(cdi_devices(info))


def _check_smi(environ: Mapping[str, str], notices: list[str]) -> Iterator[Issue]:
    """What the driver's own program says, which needs no Docker."""
    program = shutil.which("nvidia-smi", path=environ.get("PATH", os.defpath))
    if program is None:
        notices.append(NO_SMI)
        return
    try:
        done = subprocess.run(
            [program, "-L"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SMI_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        words = f"it didn't answer within {_SMI_S:g} s"
    except OSError as error:
        words = str(error)
    else:
        if done.returncode == 0:
            return
        words = next(iter((done.stdout + done.stderr).split("\n")), "").strip()
        words = words or f"exit status {done.returncode}"
    yield Issue(
        title="nvidia-smi fails on this host",
        why=words,
        fix="sudo modprobe nvidia; should that not help, restart the host or install the driver",
    )


# --- tier 2: a container of each image -----------------------------------------------------


def _check_images(
    daemon: Daemon, uses: Sequence[Use], host: Host, fetching: Fetching | None
) -> list[Issue]:
    session = secrets.token_hex(8)
    # Should this process be killed between a container's creation and its start.
    guardian = Guardian(session, host.environ)
    try:
        own = labels(session)
        return [issue for use in uses for issue in _check_image(daemon, use, own, fetching)]
    finally:
        guardian.dismiss()


def _check_image(
    daemon: Daemon, use: Use, own: Mapping[str, str], fetching: Fetching | None
) -> Iterator[Issue]:
    try:
        with fetching(use.image) if fetching else contextlib.nullcontext() as progress:
            image = ensure(daemon, use.image, use.pull, progress)
    except ContainerError as error:
        # Whatever it is, it isn't the GPUs.
        yield Issue(title=error.message, fix=error.fix)
        return
    try:
        found = probe(daemon, image, gpus=bool(use.gpus), labels=own)
    except ContainerError as error:
        yield _refused(daemon, image, own, error)
        return
    if use.gpus:
        yield from _judge(image, use, found)


def _refused(daemon: Daemon, image: Image, own: Mapping[str, str], error: ContainerError) -> Issue:
    """A probe container that couldn't be started."""
    if error.cause == "driver too old":
        driver = ""
        # NVIDIA's own check aside, the container tells which driver there is.
        with contextlib.suppress(ContainerError):
            again = probe(daemon, image, gpus=True, labels=own, environment=_UNCHECKED)
            driver = again.driver
        return _incompatible(image, driver)
    if error.cause in _GPU_CAUSES:
        return Issue(title=_NO_ACCESS, why=f"{image.name}: {error.message}", fix=error.fix)
    return Issue(title=error.message, fix=error.fix)


def _judge(image: Image, use: Use, found: Probe) -> Iterator[Issue]:
    """What a probe that has GPUs found against what the image and its measurements need."""
    if found.missing or found.nvml or not found.gpus:
        yield Issue(
            title=_NO_ACCESS,
            why=f"{image.name}: {_silence(found)}",
            fix=f"docker run --rm --gpus all --entrypoint nvidia-smi {image.name} -L"
            "  # must list them",
        )
    elif found.cuda and not needs(image.env).met_by(found.driver, found.cuda):
        yield _incompatible(image, found.driver)
    elif len(found.gpus) < use.gpus:
        yield Issue(
            title=f"{use.gpus} GPUs are needed, and containers get {len(found.gpus)}",
            fix="nvidia-smi -L on the daemon's host lists them; name fewer in the study",
        )


def _silence(found: Probe) -> str:
    """Why NVML shows no GPU."""
    if found.missing:
        return f"the driver's library isn't in the container ({found.missing})"
    if found.nvml:
        return reason_of(_NvmlError(found.nvml))
    return "NVML works in the container and shows no GPU"


class _NvmlError(Exception):
    """An error of NVML, by its number."""

    def __init__(self, value: int) -> None:
        super().__init__(f"number {value}")
        self.value = value


def _incompatible(image: Image, driver: str) -> Issue:
    wanted = needs(image.env).wanted
    title = (
        f"Host driver {driver or '(unknown)'} may be incompatible with container CUDA requirements"
        f" ({wanted}). See {COMPATIBILITY}"
    )
    fix = f"update the driver, or name another image than {image.name}, for an earlier CUDA"
    return Issue(title=title, fix=fix)
