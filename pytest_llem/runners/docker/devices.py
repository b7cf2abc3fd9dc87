"""How GPUs are asked for: by NVIDIA's own hook first, by CDI where the daemon knows no hook.

What a daemon says of itself is a hint only. A hook on its PATH works without any runtime of the
name ``nvidia``; CDI devices are told by Docker 28 alone. So both ways are tried, in the more likely
order, and the start of a container decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_llem.errors import ContainerError

if TYPE_CHECKING:
    from docker.types import DeviceRequest

__all__ = ["CDI_KIND", "cdi_devices", "gpu_requests", "started"]

CDI_KIND = "nvidia.com/gpu"
_CAPABILITIES = ["gpu", "compute", "utility"]
"""Utility is NVML, by which energy is read; Docker itself asks for no more than ``gpu``."""

_TRY_OTHER_WAY = {"no toolkit", "toolkit removed"}

_T = TypeVar("_T")


def gpu_requests(
    info: Mapping[str, Any], gpus: Sequence[int] | None = None
) -> list[list[DeviceRequest]]:
    """Ways to ask for GPUs, the one to be tried first at the front.

    Args:
        info: what the daemon says of itself.
        gpus: their numbers in the order of the PCI bus; None for all GPUs of the host, an empty
            sequence for none of them.

    Returns:
        Values for ``device_requests``, to be tried by :func:`started`.
    """
    from docker.types import DeviceRequest

    if gpus is not None and not gpus:
        return [[]]
    if gpus is None:
        legacy = DeviceRequest(count=-1, capabilities=[_CAPABILITIES])
    else:
        legacy = DeviceRequest(device_ids=[str(gpu) for gpu in gpus], capabilities=[_CAPABILITIES])
    names = ["all"] if gpus is None else [str(gpu) for gpu in gpus]
    cdi = DeviceRequest(driver="cdi", device_ids=[f"{CDI_KIND}={name}" for name in names])
    known = cdi_devices(info)
    if not known and not info.get("CDISpecDirs"):
        return [[legacy]]
    hooked = "nvidia" in (info.get("Runtimes") or {})
    return [[legacy], [cdi]] if hooked or not known else [[cdi], [legacy]]


def cdi_devices(info: Mapping[str, Any]) -> list[str]:
    """NVIDIA GPUs that a daemon knows by CDI; only Docker 28 and later tell."""
    found = (str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or ())
    return [name for name in found if name.startswith(f"{CDI_KIND}=")]


def started(
    requests: Sequence[list[DeviceRequest]], start: Callable[[list[DeviceRequest]], _T]
) -> _T:
    """What ``start`` returns for the first way that the daemon takes.

    Args:
        requests: of :func:`gpu_requests`.
        start: makes a container and starts it; leaves nothing behind when that fails.

    Raises:
        ContainerError: when none works: what was said of the first way, which is the one to mend.
    """
    first: ContainerError | None = None
    for request in requests:
        try:
            return start(request)
        except ContainerError as error:
            first = first or error
            if error.cause not in _TRY_OTHER_WAY:
                # Of a second way only a success counts, or what is wrong with the GPUs themselves.
                raise (first if error.cause in {"no cdi"} else error) from error.__cause__
    assert first is not None
    raise first
