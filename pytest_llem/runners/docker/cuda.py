"""What an image needs of CUDA and the driver, by its variables; whether a host has it. Pure.

``NVIDIA_REQUIRE_CUDA`` is what NVIDIA's toolkit checks at a container's start:
``cuda>=12.4 brand=tesla,driver>=470,driver<471 …``, alternatives apart by spaces, all conditions of
one by commas. Where an image has none, ``CUDA_VERSION`` is what it was made with, and any driver of
the same major version will do (https://docs.nvidia.com/deploy/cuda-compatibility/).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["COMPATIBILITY", "Cuda", "needs"]

COMPATIBILITY = "https://docs.nvidia.com/deploy/cuda-compatibility/"

_CONDITION = re.compile(r"(?P<what>[a-z]+)(?P<sign>>=|<=|!=|=|<|>)(?P<value>.+)")
_SIGNS = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuda:
    """What an image needs.

    Attributes:
        wanted: for people: ``cuda>=12.9``; empty for nothing.
        alternatives: each a list of conditions, all of which must hold.
    """

    wanted: str = ""
    alternatives: tuple[tuple[str, ...], ...] = ()

    def met_by(self, driver: str, cuda: tuple[int, int]) -> bool:
        """Whether a driver will do.

        Args:
            driver: its version, ``550.54.15``.
            cuda: latest version of CUDA that it supports, ``(12, 4)``.
        """
        has = {"driver": _version(driver), "cuda": cuda}
        return not self.alternatives or any(
            all(_holds(condition, has) for condition in conditions)
            for conditions in self.alternatives
        )


def needs(env: Mapping[str, str]) -> Cuda:
    """What an image needs, by the variables that it sets."""
    disabled = env.get("NVIDIA_DISABLE_REQUIRE", "").lower() in {"1", "true"}
    required = env.get("NVIDIA_REQUIRE_CUDA", "").split()
    if required and not disabled:
        return Cuda(
            wanted=next(
                (part for entry in required for part in entry.split(",") if "cuda" in part),
                " ".join(required),
            ),
            alternatives=tuple(tuple(entry.split(",")) for entry in required),
        )
    if major := re.match(r"(\d+)\.", env.get("CUDA_VERSION", "")):
        wanted = f"cuda>={major[1]}.0"
        return Cuda(wanted=wanted, alternatives=((wanted,),))
    return Cuda()


def _holds(condition: str, has: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a condition holds; of what isn't known here (brand, arch) it is taken to."""
    match = _CONDITION.fullmatch(condition)
    if match is None or match["what"] not in has:
        return True
    value = _version(match["value"])
    # 535 means every 535.x: as many numbers are compared as both have.
    length = min(len(value), len(has[match["what"]]))
    return bool(_SIGNS[match["sign"]](has[match["what"]][:length], value[:length]))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))
