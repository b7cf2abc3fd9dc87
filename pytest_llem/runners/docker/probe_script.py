"""Runs in a container of any image, by ``python3 -I -``: what NVML says there, as a line of JSON.

Sent as text. The standard library of Python 3.7 is all it needs.
"""

from __future__ import annotations

import ctypes
import json
import platform
import signal
import sys
from typing import Any

__all__ = ["MARK"]

MARK = "llem-probe "
_LIMIT_S = 25
_LENGTH = 96


def _ask(found: dict[str, Any]) -> None:
    """Fill in what NVML tells; ``nvml`` is its own number for what went wrong."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        found["missing"] = str(error)
        return
    found["nvml"] = library.nvmlInit_v2()
    if found["nvml"]:
        return
    text, cuda, count = ctypes.create_string_buffer(_LENGTH), ctypes.c_int(), ctypes.c_uint()
    if not library.nvmlSystemGetDriverVersion(text, _LENGTH):
        found["driver"] = text.value.decode()
    if not library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda)):
        found["cuda"] = cuda.value
    found["nvml"] = library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for index in range(count.value):
        handle = ctypes.c_void_p()
        refused = library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
        if not refused and not library.nvmlDeviceGetUUID(handle, text, _LENGTH):
            found["gpus"].append(text.value.decode())


def _answer() -> None:
    # Should the driver hang, nobody may be left who would end this.
    signal.alarm(_LIMIT_S)
    found: dict[str, Any] = {"python": platform.python_version(), "gpus": []}
    if "--gpus" in sys.argv:
        _ask(found)
    sys.stdout.write(MARK + json.dumps(found) + "\n")


if __name__ == "__main__":
    _answer()
