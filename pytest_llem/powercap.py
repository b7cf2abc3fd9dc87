"""The zones of Linux's powercap tree: what RAPL counts on this host, and why it can't be read.

Each zone is a folder with a ``name`` and a counter ``energy_uj`` in microjoules. The package
zones and the ``dram`` zones in them are taken. ``core`` and ``uncore`` are parts of a package, and
``psys`` is the package and more: they would be counted twice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Zone", "find_zones", "place"]

_ROOT = "/sys/class/powercap"
_VARIABLE = "LLEM_POWERCAP"

_PACKAGE = re.compile(r"package-(\d+(?:-die-\d+)?)$")
_TOP = re.compile(r"(intel-rapl[\w-]*):(\d+)$")
_ANY = re.compile(r"intel-rapl[\w-]*(:\d+)+$")
_MOST_W = 1000.0
_UNKNOWN_W = 500.0
"""Taken for the highest power of a zone that doesn't tell its own: above that of any package."""

_DIGITS = 32

_NONE = (
    "no RAPL counter in {root}, as in most virtual machines and containers, on ARM and on AMD"
    " before Zen; on other hosts the kernel's module may be missing: sudo modprobe intel_rapl_msr"
)
_SHUT = (
    "not readable by this user: since CVE-2020-8694 (Linux 5.10) only root may read RAPL, as power"
    " readings can give away other users' secrets"
)
_OPEN = "sudo chmod a+r {root}/intel-rapl*:*/energy_uj"
_LASTS = "until the next boot; the udev rule in docs/doctor.md lasts"
_HIDDEN = (
    "hidden in this container, as Docker does with RAPL, because power readings can give away other"
    " users' secrets"
)
_OUTSIDE = "run pytest on the host"


@dataclass(eq=False)
class Zone:
    """A counter.

    Attributes:
        domain: ``cpu:0`` for ``package-0``, ``dram:0`` for the memory at it.
        energy: the file ``energy_uj``.
        modulus: the value at which the counter starts again from 0. The kernel names the highest
            value instead: (2³² − 1) steps of the register in microjoules. This is one microjoule
            more, so each wrap is wrong by at most a step: 61 µJ.
        limit_w: the highest power that the zone is allowed.
        problem: why it can't be read, for good.
        fix: what mends that, where something does; a command, then a ``#`` and what to know of it.
    """

    domain: str
    energy: Path
    modulus: int
    limit_w: float = _UNKNOWN_W
    problem: str = ""
    fix: str = ""
    _file: int | None = None

    @property
    def why(self) -> str:
        """The problem and what mends it; nothing where there is none."""
        return f"{self.problem}; to mend it: {self.fix}" if self.fix else self.problem

    def open(self) -> None:
        """Open the counter and read it once; where that fails, ``problem`` says why."""
        if self.problem:
            return
        try:
            self._file = os.open(self.energy, os.O_RDONLY)
            self.read()
        except PermissionError:
            root = self.energy.parents[1]
            self.problem, self.fix = _SHUT, f"{_OPEN.format(root=root)}  # {_LASTS}"
        except OSError as error:
            self.problem = f"{self.energy} can't be read: {error.strerror or error}"
        except ValueError as error:
            self.problem = str(error)

    def read(self) -> int:
        """The counter, in microjoules.

        Raises:
            OSError: when it can't be read any more.
            ValueError: when it holds no number.
        """
        assert self._file is not None
        text = os.pread(self._file, _DIGITS, 0)
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{self.energy} holds no number: {text!r}") from None

    @property
    def wrap_s(self) -> float:
        """Time in which the counter could go all the way round, at twice the highest power."""
        return self.modulus * 1e-6 / (2 * self.limit_w)

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def place() -> Path:
    """Where the tree is: where the variable ``LLEM_POWERCAP`` says, or in its usual place."""
    return Path(os.environ.get(_VARIABLE) or _ROOT)


def find_zones(root: Path | None = None) -> tuple[list[Zone], str]:
    """All counters of packages and memory, opened, and the reason where there are none.

    One that is there and can't be read is among them, with its problem.

    Args:
        root: of the tree; by default :func:`place`.
    """
    root = root or place()
    zones: dict[str, Zone] = {}
    for folder in sorted(_folders(root), key=_control_first):
        zone = _zone(folder)
        # Drivers may show the same package twice: intel-rapl-mmio beside intel-rapl.
        if zone is not None and zone.domain not in zones:
            zones[zone.domain] = zone
    found = sorted(zones.values(), key=lambda zone: _numbers(zone.domain))
    for zone in found:
        zone.open()
    return found, "" if found else _NONE.format(root=root)


def _folders(root: Path) -> Iterator[Path]:
    """Zones by the kernel's names for them, each real one once."""
    try:
        entries = list(root.iterdir())
    except OSError:
        return
    seen: set[Path] = set()
    for path in sorted(entries):
        if _ANY.match(path.name) and (real := path.resolve()) not in seen:
            seen.add(real)
            yield path


def _control_first(folder: Path) -> tuple[bool, list[int]]:
    """The processor's own registers come before other ways to them."""
    return not folder.name.startswith("intel-rapl:"), _numbers(folder.name)


def _numbers(name: str) -> list[int]:
    return [name.startswith("dram"), *map(int, re.findall(r"\d+", name))]


def _zone(folder: Path) -> Zone | None:
    """A zone by its name file; None for one that isn't wanted."""
    if not folder.exists():
        return _hidden(folder)
    name = _text(folder / "name")
    energy = folder / "energy_uj"
    if package := _PACKAGE.match(name):
        domain = f"cpu:{package[1]}"
    elif name == "dram" and (package := _PACKAGE.match(_text(folder.resolve().parent / "name"))):
        domain = f"dram:{package[1]}"
    else:
        return None
    highest = _number(folder / "max_energy_range_uj")
    if highest is None:
        why = f"{folder.name} doesn't tell its range, so its wraps can't be seen"
        return Zone(domain=domain, energy=energy, modulus=1, problem=why)
    return Zone(domain=domain, energy=energy, modulus=highest + 1, limit_w=_limit_w(folder))


def _hidden(folder: Path) -> Zone | None:
    """A link to nowhere: the zone is there, and hidden from this container.

    What it would be called is a guess, for the reason to stand somewhere; of those at the top the
    first is a package.
    """
    top = _TOP.match(folder.name)
    if not top or int(top[2]):
        return None
    energy = folder / "energy_uj"
    return Zone(domain="cpu:0", energy=energy, modulus=1, problem=_HIDDEN, fix=_OUTSIDE)


def _limit_w(folder: Path) -> float:
    """The highest of a zone's power limits: the long term's, the short term's, the maximum."""
    files = [*folder.glob("constraint_*_power_limit_uw"), *folder.glob("constraint_*_max_power_uw")]
    found = [1e-6 * (_number(path) or 0) for path in files]
    highest_w = max(found, default=0.0)
    # Zero is no limit at all, and there are firmwares with limits of kilowatts.
    return min(highest_w, _MOST_W) if highest_w >= 1 else _UNKNOWN_W


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() and int(text) > 0 else None


def _text(path: Path) -> str:
    """A file's content; nothing where it can't be read."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
