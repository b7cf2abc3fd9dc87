"""Where an experiment's prompts come from, looked at when a study is collected."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

from pytest_llem.experiment import Experiment
from pytest_llem.prompt_file import SUFFIXES, SYNTHETIC, read
from pytest_llem.study.yaml_lines import Key

__all__ = ["located", "problems"]

Problem = tuple[Key, str]

_SOURCE = ("prompts", "source")


def located(source: str, folder: Path) -> str:
    """A source as a study names it: ``synthetic``, or a file as an absolute path."""
    if source == SYNTHETIC or "\0" in source:
        return source
    return os.path.abspath(os.path.join(folder, os.path.expanduser(source)))  # noqa: PTH100, PTH111, PTH118


def problems(experiment: Experiment) -> Iterator[Problem]:
    """What is wrong with the file of an experiment; as much of it is read as it would use."""
    prompts = experiment.prompts
    if prompts.source == SYNTHETIC:
        return
    if not prompts.source.endswith(SUFFIXES):
        text = f"should be synthetic, or a .jsonl or .json file, not {prompts.source!r:.60}"
        yield _SOURCE, text
        return
    if prompts.input_tokens is not None:
        text = "a file's prompts are taken whole; leave this out"
        yield ("prompts", "input_tokens"), text
    if experiment.precision is not None:
        text = "needs synthetic prompts: those of a file can't be run again without being known"
        yield ("precision",), f"{text} to caches"
    warmup = 0 if experiment.warmup == "none" else experiment.warmup.prompts
    found, wrong, left_out = _looked_at(prompts.source, prompts.count + warmup)
    for text in wrong:
        yield _SOURCE, text
    if not wrong and found < prompts.count:
        without = f" ({left_out} conversations have none)" if left_out else ""
        text = f"{prompts.count} are asked for, and {prompts.source} has {found}{without};"
        yield ("prompts", "count"), f"{text} lower it: no prompt is used twice"


def _looked_at(path: str, most: int) -> tuple[int, tuple[str, ...], int]:
    """How many prompts there are, problems, and conversations without one."""
    try:
        stat = os.stat(path)  # noqa: PTH116
        return _read(path, most, stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return 0, (f"{path}: can't be read: {reason}",), 0


@functools.lru_cache(maxsize=64)
def _read(path: str, most: int, _changed_ns: int, _size: int) -> tuple[int, tuple[str, ...], int]:
    """A sweep may have thousands of experiments with the same file."""
    contents = read(Path(path), most)
    return len(contents.entries), contents.problems, contents.left_out
