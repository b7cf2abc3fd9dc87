"""Fixtures of simulated hardware, for all tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.rig.nvml import H100, Rig, RigUnavailable, Settings, build
from tests.rig.powercap import Powercap, Zone
from tests.rig.truth import Marks

__all__ = ["MakePowercap", "NvmlRig", "nvml_rig", "powercap", "simnvml"]


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


@pytest.fixture(scope="session")
def simnvml() -> Path:
    """The simulated driver's library."""
    try:
        return build()
    except RigUnavailable as unavailable:
        # Where nobody looks at what was skipped, it must not be.
        if os.environ.get("CI"):
            pytest.fail(str(unavailable))
        pytest.skip(str(unavailable))


@pytest.fixture
def nvml_rig(simnvml: Path, tmp_path: Path) -> Iterator[NvmlRig]:
    """Machines with simulated GPUs; the last one that was opened is this process's own."""
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


class MakePowercap(Protocol):
    """Makes a tree of RAPL counters."""

    def __call__(
        self,
        zones: Sequence[Zone] | None = None,
        *,
        tick_s: float = 0.001,
        marks: Marks | None = None,
        ticking: bool = True,
    ) -> Powercap:
        """As :class:`Powercap`, closed at the end of the test."""


@pytest.fixture
def powercap(tmp_path: Path) -> Iterator[MakePowercap]:
    """Trees of RAPL counters, each in a folder of its own."""
    with contextlib.ExitStack() as trees:
        count = 0

        def make(
            zones: Sequence[Zone] | None = None,
            *,
            tick_s: float = 0.001,
            marks: Marks | None = None,
            ticking: bool = True,
        ) -> Powercap:
            nonlocal count
            count += 1
            folder = tmp_path / f"powercap-{count}"
            tree = Powercap(folder, zones, tick_s=tick_s, marks=marks, ticking=ticking)
            return trees.enter_context(tree)

        yield make
