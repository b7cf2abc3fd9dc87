"""A promise: what is to be kept, what finds that it isn't, and how that is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Book", "NotTried", "Promise", "judge"]

Trial = TypeVar("Trial")

SEE = "docs/extending.md#what-is-promised"


class NotTried(Exception):
    """A promise can't be tried, because another isn't kept."""


@dataclass(frozen=True, slots=True)
class Promise(Generic[Trial]):
    """Something that is relied upon; called with a trial, it raises where it isn't kept.

    Attributes:
        name: as the documentation and the failures have it.
        text: what is promised.
        broken: tells how it isn't kept, a line each.
    """

    name: str
    text: str
    broken: Callable[[Trial], Iterator[str]]

    def __str__(self) -> str:
        """Its name, for the ids of parametrised tests."""
        return self.name

    def __call__(self, trial: Trial) -> None:
        """Try it.

        Raises:
            AssertionError: saying what was promised, and what was found.
        """
        __tracebackhide__ = True
        try:
            found = list(self.broken(trial))
        except NotTried as error:
            raise AssertionError(f"{self.name} can't be tried: {error}") from None
        except Exception as error:
            found = [f"{type(error).__name__} was raised: {error}"]
            raise AssertionError(self._told(found)) from error
        if found:
            raise AssertionError(self._told(found))

    def _told(self, found: Sequence[str]) -> str:
        lines = "".join(f"\n    {line}" for line in found)
        return f"{self.name}: {self.text}; but{lines}"


class Book(Generic[Trial]):
    """Promises, in the order in which they are tried."""

    def __init__(self) -> None:
        """Begin with none."""
        self.promises: list[Promise[Trial]] = []

    def promise(
        self, name: str, text: str
    ) -> Callable[[Callable[[Trial], Iterator[str]]], Callable[[Trial], Iterator[str]]]:
        """Add what the decorated function looks after."""

        def add(broken: Callable[[Trial], Iterator[str]]) -> Callable[[Trial], Iterator[str]]:
            self.promises.append(Promise(name, text, broken))
            return broken

        return add


def judge(
    who: str, promises: Sequence[Promise[Trial]], trial: Trial, skip: Collection[str]
) -> None:
    """Try all promises but those to be skipped.

    Raises:
        AssertionError: naming every one that isn't kept.
        ValueError: when one that doesn't exist is to be skipped.
    """
    __tracebackhide__ = True
    if unknown := set(skip) - {promise.name for promise in promises}:
        raise ValueError(f"there is no promise {', '.join(sorted(unknown))}; see {SEE}")
    told = []
    tried = [promise for promise in promises if promise.name not in skip]
    for promise in tried:
        try:
            promise(trial)
        except AssertionError as error:
            told.append(str(error))
    if told:
        count = f"{len(told)} of {len(tried)} promises"
        lines = "".join(f"\n  {text}" for text in told)
        raise AssertionError(f"{who} doesn't keep {count}:{lines}\nsee {SEE}")
