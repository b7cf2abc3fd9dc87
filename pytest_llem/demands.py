"""What is asked of a measurement besides its experiment: where it runs, and what a gate demands."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pytest_llem.errors import RunnerError

__all__ = ["Arm", "Limit", "RunnerSpec"]

Arm = Literal["base", "head"]
"""Which of the two that an A/B comparison measures."""

_IMAGE = re.compile(r"(?!.*//)[A-Za-z0-9][A-Za-z0-9._:/@-]*")
"""Registry, port, tag and digest; the daemon knows more exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a gate asks of a metric.

    Attributes:
        regression: how much worse than the reference it may be, relative: 0.05 for 5 %.
        where: ``file:line`` of the study.
    """

    metric: str
    least: float | None = None
    most: float | None = None
    regression: float | None = None
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSpec:
    """Where a worker runs, and who said so.

    Attributes:
        mode: ``local``, ``docker`` or another runner's name.
        argument: what stood behind the name and a colon: of local an interpreter, of docker it is
            the image.
        image: for containers.
        source: ``cli env study ini user_config auto_detected auto_elevated default``; ``ab`` of
            the base of a comparison.
        image_source: ``experiment runner env study ini user_config default``.
    """

    mode: str
    argument: str | None = None
    image: str | None = None
    source: str = "default"
    image_source: str | None = None

    @property
    def value(self) -> str:
        """As a user would write it: ``local``, ``docker:image``."""
        argument = self.image if self.mode == "docker" else self.argument
        return f"{self.mode}:{argument}" if argument else self.mode

    @property
    def chosen(self) -> bool:
        """Whether a person named this runner."""
        return self.source not in {"auto_detected", "auto_elevated", "default"}

    @classmethod
    def parse(cls, value: str, source: str, others: Collection[str] = ()) -> RunnerSpec:
        """Read ``local[:<python>]``, ``docker[:<image>]`` or ``<other runner>[:<argument>]``.

        An image or argument may hold colons itself.

        Raises:
            RunnerError: for anything else, naming source, value and what is accepted.
        """
        mode, colon, argument = (part.strip() for part in value.strip().partition(":"))
        if mode == "docker" and argument and not _IMAGE.fullmatch(argument):
            raise RunnerError(f"{source}: {argument!r} is no name of a container image")
        known = mode in {"local", "docker"} or mode in others
        if not known or (colon and not argument):
            built_in = ("local", "local:<python>", "docker", "docker:<image>")
            accepted = ", ".join((*built_in, *sorted(others)))
            raise RunnerError(f"{source}: {value!r} is no runner; accepted: {accepted}")
        image = argument if mode == "docker" else ""
        return cls(
            mode=mode,
            argument=None if image else argument or None,
            image=image or None,
            source=source,
            image_source="runner" if image else None,
        )
