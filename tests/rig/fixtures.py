"""Fixtures of simulated hardware, for all tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.rig.nvml import H100, Rig, RigUnavailable, Settings, build

__all__ = ["NvmlRig", "nvml_rig"]


class NvmlRig(Protocol):
    """Makes a machine with simulated GPUs."""

    def __call__(
        self,
        board: Settings = H100,
        *,
        gpus: int = 1,
        settings: Settings | None = None,
        age_s: float = 10.0,
        opened: bool = True,
    ) -> Rig:
        """As :class:`Rig`; opened in this process at once, until the end of the test."""


@pytest.fixture
def nvml_rig(tmp_path: Path) -> Iterator[NvmlRig]:
    """Machines with simulated GPUs; the last one that was opened is this process's own."""
    try:
        build()
    except RigUnavailable as unavailable:
        # Where nobody looks at what was skipped, it must not be.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(unavailable))
    with contextlib.ExitStack() as opened_rigs:
        count = 0

        def make(
            board: Settings = H100,
            *,
            gpus: int = 1,
            settings: Settings | None = None,
            age_s: float = 10.0,
            opened: bool = True,
        ) -> Rig:
            nonlocal count
            count += 1
            folder = tmp_path / f"nvml-{count}"
            rig = Rig(folder, board, gpus=gpus, settings=settings, age_s=age_s)
            return opened_rigs.enter_context(rig.open()) if opened else rig

        yield make
