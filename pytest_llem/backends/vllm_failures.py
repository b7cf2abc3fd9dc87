"""What vLLM says when there is too little room, in words that say what to change.

An engine core in a child process tells its own cause in its log alone; the parent says no more
than that the child has gone. So the log of the time in question is read, where it is a file.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from pytest_llem.errors import LlemError

__all__ = ["Log", "explained", "explanation"]

_MOST_BYTES = 1 << 18

_LESS = (
    "give it less to hold (vllm: {max_num_seqs: N, max_model_len: N}, a smaller dtype or a"
    " quantization), or more devices (tensor_parallel)"
)
_LARGER = "make the cache larger with gpu_memory_utilization or kv_cache_memory_bytes"
_TOO_LONG = (
    r"a prompt of \2 tokens is longer than the engine takes, \1; shorten prompts.input_tokens, or"
    r" raise vllm: {max_model_len: N} where the model allows it"
)
_CAUSES = tuple(
    (re.compile(pattern, re.DOTALL), text)
    for pattern, text in {
        r"max seq len \((\d+)\).*?estimated maximum model length is (\d+)": (
            r"the KV cache is too small for one request of the longest length, \1 tokens; set"
            r" vllm: {max_model_len: \2} or less, or " + _LARGER
        ),
        r"max seq len \((\d+)\).*?KV cache": (
            r"the KV cache is too small for one request of the longest length, \1 tokens; lower"
            r" vllm: {max_model_len: N}, or " + _LARGER
        ),
        r"No available memory for the cache blocks": (
            f"the weights leave no memory for a KV cache; raise gpu_memory_utilization, or {_LESS}"
        ),
        r"less than desired (?:GPU|CPU) memory utilization|requested memory for kv": (
            "less memory is free than the engine is to take; end what holds it, or lower"
            " vllm: {gpu_memory_utilization: N} or {kv_cache_memory_bytes: N}"
        ),
        r"maximum context length is (\d+).*?(\d+) input tokens": _TOO_LONG,
        r"OutOfMemoryError|out of memory|[Nn]ot enough memory|can't allocate memory": (
            f"out of memory; {_LESS}"
        ),
    }.items()
)
_RAISED = re.compile(r"^(?:.*\] |\(.*?\) )?((?:\w+\.)*\w*(?:Error|Exception): .+)$", re.MULTILINE)
_NO_CAUSE = re.compile(r"[Ss]ee (?:root cause|stack trace)|EngineDeadError|EngineCore encountered")


class Log:
    """What this process and its children write to standard error, from now on."""

    def __init__(self, handle: int = 2) -> None:
        """Remember where the log is now; nothing can be read where it isn't a file."""
        self._path = Path(f"/proc/self/fd/{handle}")
        status = os.fstat(handle)
        self._begin = status.st_size if stat.S_ISREG(status.st_mode) else None

    def text(self) -> str:
        """What was written since; empty where it can't be read."""
        if self._begin is None:
            return ""
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(max(self._begin, os.fstat(file.fileno()).st_size - _MOST_BYTES))
            return file.read().decode(errors="replace")
        return ""


def explanation(message: str, log: str) -> str | None:
    """What happened and what to change; None where the message says all that is known.

    Args:
        message: of the error, with its type.
        log: what was written meanwhile.
    """
    told = message
    if _NO_CAUSE.search(message):
        # The first is the cause; those behind it only pass it on.
        causes = [text for text in _RAISED.findall(log) if not _NO_CAUSE.search(text)]
        if not causes:
            return None
        told = causes[0]
    for pattern, text in _CAUSES:
        if found := pattern.search(told):
            return f"{found.expand(text)} (vLLM: {told.strip()})"
    return None if told is message else f"vLLM's engine core ended: {told.strip()}"


@contextlib.contextmanager
def explained(log: Log) -> Iterator[None]:
    """Turn what the engine raises into an error that says what to change, where that is known.

    Raises:
        LlemError: instead of an error of the engine whose cause is known.
    """
    try:
        yield
    except LlemError:
        raise
    except Exception as error:
        text = explanation(f"{type(error).__name__}: {error}", log.text())
        if text is None:
            raise
        raise LlemError(text) from error
