"""The conformance kit finds what a backend gets wrong, and nothing in one that gets all right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_llem.errors import LlemError
from pytest_llem.testing import (
    BACKEND_PROMISES,
    TINY_MODEL,
    BackendTrial,
    Promise,
    backend_conformance,
)
from tests.testing import backends
from tests.testing.backends import BROKEN, GoodBackend

BY_NAME = {promise.name: promise for promise in BACKEND_PROMISES}


@pytest.fixture
def tidied() -> Iterator[None]:
    """What broken engines leave behind is ended: threads, and event loops that nobody closed."""
    known = len(backends.LOOPS)
    yield
    for loop in backends.LOOPS[known:]:
        loop.close()
    while backends.LEFT:
        backends.LEFT.pop().set()


@pytest.fixture(scope="module")
def trial() -> Iterator[BackendTrial]:
    with BackendTrial(GoodBackend, option="steps") as made:
        yield made


@pytest.mark.parametrize("promise", BACKEND_PROMISES, ids=str)
def test_a_good_backend_keeps(promise: Promise[BackendTrial], trial: BackendTrial) -> None:
    promise(trial)
    assert promise.name in BY_NAME


@pytest.mark.usefixtures("tidied")
@pytest.mark.parametrize(
    ("name", "found", "backend"),
    BROKEN,
    ids=[f"{name}-{found[:20]}" for name, found, _ in BROKEN],
)
def test_what_breaks_a_promise_is_found(name: str, found: str, backend: type[GoodBackend]) -> None:
    with (
        pytest.raises(AssertionError) as caught,
        BackendTrial(backend, option="steps", patience_s=0.1) as broken,
    ):
        BY_NAME[name](broken)
    assert str(caught.value).startswith(f"{name}: {BY_NAME[name].text}; but\n    ")
    assert found in str(caught.value)


def test_there_is_a_backend_that_breaks_each_promise() -> None:
    assert {name for name, _, _ in BROKEN} == BY_NAME.keys()


def test_one_call_tells_all_that_is_not_kept() -> None:
    with pytest.raises(AssertionError) as caught:
        backend_conformance(backends.Versions, skip=["light", "preload"])
    assert str(caught.value) == (
        f"the backend good doesn't keep 1 of {len(BACKEND_PROMISES) - 2} promises:\n"
        "  versions: versions() maps each package it needs to its version, or to None; but\n"
        "    good isn't installed here; install the engine to try it\n"
        "see docs/extending.md#what-is-promised"
    )


def test_an_engine_that_does_not_load_is_told_once() -> None:
    with pytest.raises(AssertionError) as caught:
        backend_conformance(backends.Loads, skip=["light", "preload"])
    text = str(caught.value)
    assert text.count("RuntimeError was raised: no GPU") == 1
    assert "exact can't be tried: it doesn't load: no GPU" in text


def test_a_promise_may_be_skipped_but_not_one_that_is_misspelt() -> None:
    backend_conformance(backends.Versions, skip=["light", "preload", "versions"])
    with pytest.raises(ValueError, match="there is no promise exactly"):
        backend_conformance(GoodBackend, skip=["exactly"])


def test_the_model_that_comes_with_the_kit_is_there() -> None:
    assert (TINY_MODEL / "config.json").is_file()


def test_a_backend_that_no_package_brings_is_named() -> None:
    with pytest.raises(LlemError, match="nothing is called 'nobodys'"):
        backend_conformance("nobodys")


# --- another package's ---------------------------------------------------------------------------


def test_the_suites_own_fake_keeps_all_but_what_it_does_not_pretend(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.syspath_prepend(request.config.rootpath / "tests" / "third_party")
    told = {"no-model", "unknown-option", "prompts", "decoding", "seed"}
    backend_conformance("fake", skip=told)
    with pytest.raises(AssertionError) as caught:
        backend_conformance("fake", skip=BY_NAME.keys() - told)
    assert f"{len(told)} of {len(told)} promises" in str(caught.value)
