"""The NVIDIA GPUs of this host, asked through NVML.

NVML is opened for a question and closed again, so that no GPU is kept awake between two of them.
Whatever it refuses becomes a reason, never an exception.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_llem.nvml import (
    NO_PERMISSION,
    TEMPERATURE_GPU,
    Nvml,
    NvmlRefused,
    board,
    driver_is_there,
    opened,
    reason_of,
)

__all__ = ["Found", "Gpu", "greeting", "look", "temperatures"]

_NONE = "the NVIDIA driver works, but sees no GPU; see what nvidia-smi says"

_INDEX = re.compile("[0-9]{1,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU.

    Attributes:
        index: its number among all GPUs of the host, in the order of the PCI bus, as nvidia-smi
            shows it; of a MIG instance, the number of the GPU it is a part of.
        uuid: ``GPU-...``, or ``MIG-...`` of an instance.
        name: the model, ``NVIDIA H100 80GB HBM3``.
        memory_bytes: all memory, used or not; None where NVML doesn't tell.
        power_limit_w: the limit in force; None where NVML doesn't tell.
        parent_uuid: of a MIG instance, the GPU it is a part of; None for a whole one.
        cuda_index: the number that CUDA gives it in the same order; None where that is ``index``,
            as it is unless GPUs of other jobs come before it.
    """

    index: int
    uuid: str
    name: str
    memory_bytes: int | None
    power_limit_w: float | None
    parent_uuid: str | None = None
    cuda_index: int | None = None

    @property
    def board(self) -> str:
        """UUID of the whole GPU: power, energy and heat are its own, not an instance's."""
        return self.parent_uuid or self.uuid

    @property
    def ordinal(self) -> int:
        """The number by which ``CUDA_VISIBLE_DEVICES`` names it."""
        return self.index if self.cuda_index is None else self.cuda_index


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found.

    Attributes:
        gpus: the GPUs that CUDA shows to a program started from here, in CUDA's order.
        reason: why there are none, or which others there are that can't be used, and what to do;
            empty where nothing is amiss.
    """

    gpus: tuple[Gpu, ...] = ()
    reason: str = ""


def look(nvml: Nvml | None = None, environ: Mapping[str, str] = os.environ) -> Found:
    """Look for the GPUs that a program started from here would see.

    Args:
        nvml: ``pynvml``, or a test's own.
        environ: ``CUDA_VISIBLE_DEVICES`` is read from it: numbers in the order of the PCI bus,
            or UUIDs, or the first characters of one.
    """
    try:
        with opened(nvml) as library:
            known, wrong = _ask_all(library)
            chosen = environ.get("CUDA_VISIBLE_DEVICES")
            if chosen is None or not any(known):
                reason = wrong or ("" if known else _NONE)
                return Found(gpus=tuple(gpu for gpu in known if gpu), reason=reason)
            gpus, note = _visible(library, known, chosen)
            return Found(gpus=tuple(gpus), reason="; ".join(filter(None, (wrong, note))))
    except NvmlRefused as refused:
        return Found(reason=str(refused))


def greeting(nvml: Nvml | None = None) -> dict[str, Any]:
    """What a worker says of GPUs at once: driver, its CUDA, and memory; plain data.

    Without a driver there is nothing but the reason, and nothing that takes time.
    """
    if nvml is None and not driver_is_there():
        return {"reason": "no NVIDIA driver"}
    try:
        with opened(nvml) as library:
            cuda = library.nvmlSystemGetCudaDriverVersion_v2()
            return {
                "driver": library.nvmlSystemGetDriverVersion(),
                "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}",
                "gpus": [
                    _greeting_of(library, index) for index in range(library.nvmlDeviceGetCount())
                ],
            }
    except NvmlRefused as refused:
        return {"reason": str(refused)}


def _greeting_of(library: Nvml, index: int) -> dict[str, Any]:
    try:
        handle = library.nvmlDeviceGetHandleByIndex(index)
        memory = library.nvmlDeviceGetMemoryInfo(handle)
        return {
            "index": index,
            "uuid": library.nvmlDeviceGetUUID(handle),
            "name": library.nvmlDeviceGetName(handle),
            "memory_used_bytes": memory.used,
            "memory_bytes": memory.total,
        }
    except library.NVMLError as error:
        return {"index": index, "reason": reason_of(error)}


def temperatures(uuids: Sequence[str], nvml: Nvml | None = None) -> tuple[float, ...] | None:
    """Temperatures of some GPUs, in degrees Celsius; None where one of them can't be read.

    Args:
        uuids: as :class:`Gpu` has them. Of a MIG instance it is the temperature of its GPU.
        nvml: ``pynvml``, or a test's own.
    """
    with contextlib.suppress(NvmlRefused), opened(nvml) as library:
        handles = [board(library, uuid) for uuid in uuids]
        return tuple(
            float(library.nvmlDeviceGetTemperature(handle, TEMPERATURE_GPU)) for handle in handles
        )
    return None


def _ask_all(library: Nvml) -> tuple[list[Gpu | None], str]:
    """GPUs by the numbers that CUDA gives them, None where one doesn't answer; and why not."""
    known: list[Gpu | None] = []
    wrong: dict[str, list[str]] = {}
    for index in range(library.nvmlDeviceGetCount()):
        try:
            gpu = _ask(library, library.nvmlDeviceGetHandleByIndex(index), index)
            if len(known) != index:
                gpu = replace(gpu, cuda_index=len(known))
            known.append(gpu)
        except library.NVMLError as error:
            wrong.setdefault(reason_of(error), []).append(str(index))
            # Those of other jobs are counted by NVML but not by CUDA.
            if getattr(error, "value", None) != NO_PERMISSION:
                known.append(None)
    return known, "; ".join(
        f"GPU {', '.join(indices)}: {reason}" for reason, indices in wrong.items()
    )


def _ask(library: Nvml, handle: object, index: int) -> Gpu:
    memory_bytes = power_limit_w = None
    # Not every product has these: a board that shares the CPU's memory, a MIG instance.
    with contextlib.suppress(library.NVMLError):
        memory_bytes = library.nvmlDeviceGetMemoryInfo(handle).total
    with contextlib.suppress(library.NVMLError):
        power_limit_w = library.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
    return Gpu(
        index=index,
        uuid=library.nvmlDeviceGetUUID(handle),
        name=library.nvmlDeviceGetName(handle),
        memory_bytes=memory_bytes,
        power_limit_w=power_limit_w,
    )


def _visible(library: Nvml, known: Sequence[Gpu | None], chosen: str) -> tuple[list[Gpu], str]:
    """What CUDA makes of ``CUDA_VISIBLE_DEVICES``, and what is odd about it."""
    setting = f"CUDA_VISIBLE_DEVICES={chosen!r}"
    if not chosen.strip():
        return [], "CUDA_VISIBLE_DEVICES is empty, which hides all GPUs; unset it to use them"
    shown: list[Gpu] = []
    for entry in map(str.strip, chosen.split(",")):
        gpu = _named(library, known, entry)
        if gpu is None:
            # The first entry that is no GPU ends the list; -1 is the usual way to say so.
            if shown and entry.startswith("-"):
                return shown, ""
            hidden = "it and all after it are hidden" if shown else "all GPUs are hidden"
            fix = "name GPUs as nvidia-smi -L lists them, or unset it"
            what = f"{setting}: {entry!r} names no single GPU that can be used"
            return shown, f"{what}, so {hidden}; {fix}"
        if gpu in shown:
            return [], f"{setting} names GPU {gpu.index} twice, which hides all; name it once"
        shown.append(gpu)
    return shown, ""


def _named(library: Nvml, known: Sequence[Gpu | None], entry: str) -> Gpu | None:
    """The one GPU that an entry of ``CUDA_VISIBLE_DEVICES`` means."""
    if _INDEX.fullmatch(entry):
        return known[int(entry)] if int(entry) < len(known) else None
    if entry.startswith("MIG-"):
        with contextlib.suppress(library.NVMLError):
            whole = board(library, entry)
            index = library.nvmlDeviceGetIndex(whole)
            part = _ask(library, library.nvmlDeviceGetHandleByUUID(entry), index)
            return replace(part, parent_uuid=library.nvmlDeviceGetUUID(whole))
    matching = [gpu for gpu in known if gpu and gpu.uuid.startswith(entry)]
    return matching[0] if entry.startswith("GPU-") and len(matching) == 1 else None
