#!/usr/bin/env python3
"""A small ``nvidia-smi`` for containers, over the libnvidia-ml.so.1 that it finds there.

    nvidia-smi [-L | --query-gpu=FIELD,... --format=csv[,noheader][,nounits]]

It fails as the real one does.
"""

from __future__ import annotations

import ctypes
import sys
from typing import NoReturn

NOT_FOUND = """\
NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the NVIDIA \
Display Driver is properly installed and present in your system.
Please also try adding directory that contains libnvidia-ml.so to your system PATH.
"""


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


def _fail(text: str, code: int) -> NoReturn:
    sys.stdout.write(text)
    # A process can't tell more than a byte: 999 is 231.
    sys.exit(code % 256)


def _opened() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        _fail(NOT_FOUND, 12)
    library.nvmlErrorString.restype = ctypes.c_char_p
    code = library.nvmlInit_v2()
    if code:
        why = library.nvmlErrorString(code).decode()
        _fail(f"Failed to initialize NVML: {why}\n", code)
    return library


def _text(library: ctypes.CDLL, function: str, *arguments: object) -> str:
    text = ctypes.create_string_buffer(96)
    code = getattr(library, function)(*arguments, text, len(text))
    return "[Unknown Error]" if code else text.value.decode()


def _fields(library: ctypes.CDLL, index: int) -> dict[str, str]:
    gpu, memory = ctypes.c_void_p(), _Memory()
    library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(gpu))
    library.nvmlDeviceGetMemoryInfo(gpu, ctypes.byref(memory))
    return {
        "index": str(index),
        "name": _text(library, "nvmlDeviceGetName", gpu),
        "uuid": _text(library, "nvmlDeviceGetUUID", gpu),
        "driver_version": _text(library, "nvmlSystemGetDriverVersion"),
        "memory.total": f"{memory.total >> 20} MiB",
        "memory.used": f"{memory.used >> 20} MiB",
        "memory.free": f"{memory.free >> 20} MiB",
    }


def _query(gpus: list[dict[str, str]], wanted: list[str], form: list[str]) -> None:
    if "noheader" not in form:
        sys.stdout.write(", ".join(wanted) + "\n")
    for gpu in gpus:
        line = ", ".join(gpu.get(name, "[N/A]") for name in wanted)
        sys.stdout.write((line.replace(" MiB", "") if "nounits" in form else line) + "\n")


def main() -> None:
    library = _opened()
    count, cuda = ctypes.c_uint(), ctypes.c_int()
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda))
    gpus = [_fields(library, index) for index in range(count.value)]
    options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    if "--query-gpu" in options:
        wanted = options["--query-gpu"].split(",")
        _query(gpus, wanted, options.get("--format", "csv").split(","))
        return
    if "-L" not in options:
        driver = _text(library, "nvmlSystemGetDriverVersion")
        latest = f"{cuda.value // 1000}.{cuda.value % 1000 // 10}"
        sys.stdout.write(f"Driver Version: {driver}  CUDA Version: {latest}\n")
    for gpu in gpus:
        sys.stdout.write(f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})\n")


if __name__ == "__main__":
    main()
