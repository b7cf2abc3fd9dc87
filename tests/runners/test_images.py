"""The chain of images, and the pinned ones at its end."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.demands import RunnerSpec
from pytest_llem.extensions import WELL_KNOWN
from pytest_llem.runners.images import DEFAULTS, choose
from tests.builders import UNHURRIED

NAMED = ("env", "study", "ini", "user_config")
"""Sources of an image besides experiment and runner, highest first."""

SOURCES = ("experiment", "runner", *NAMED, "default")
SUBSETS = [
    subset
    for size in range(len(SOURCES))
    for subset in itertools.combinations(SOURCES[:-1], size + 1)
]
DOCKER = RunnerSpec(mode="docker", source="cli")


def chosen(setting: tuple[str, ...], silence: str | None = None) -> tuple[str | None, str | None]:
    """The image where the given sources say one each, ``of-<source>``."""
    quiet: dict[str, str] = {} if silence is None else {"vllm": silence}
    return choose(
        "vllm",
        RunnerSpec.parse("docker:of-runner", "cli") if "runner" in setting else DOCKER,
        "of-experiment" if "experiment" in setting else None,
        {name: {"vllm": f"of-{name}"} if name in setting else dict(quiet) for name in NAMED},
    )


def expected(source: str) -> tuple[str, str]:
    return (DEFAULTS["vllm"] if source == "default" else f"of-{source}", source)


@pytest.mark.parametrize(("higher", "lower"), list(itertools.combinations(SOURCES, 2)))
def test_each_source_beats_each_lower_one(higher: str, lower: str) -> None:
    assert chosen((higher, lower)) == expected(higher)
    assert chosen((lower,)) == expected(lower)


@pytest.mark.parametrize("setting", [(), *SUBSETS], ids="+".join)
def test_the_highest_source_that_sets_an_image_wins(setting: tuple[str, ...]) -> None:
    winner = expected(setting[0] if setting else "default")
    for silence in (None, "", "  "):
        assert chosen(setting, silence) == winner


def test_an_image_is_taken_without_the_spaces_around_it() -> None:
    assert choose("vllm", DOCKER, None, {"env": {"vllm": " img:1\n"}}) == ("img:1", "env")


@pytest.mark.parametrize(
    ("own", "image"),
    [(" img:1 ", ("img:1", "experiment")), ("  ", (DEFAULTS["vllm"], "default"))],
)
def test_spaces_of_an_experiments_own_image_do_not_count(own: str, image: tuple[str, str]) -> None:
    assert choose("vllm", DOCKER, own, {}) == image


@pytest.mark.parametrize("source", ["auto_detected", "auto_elevated", "ini"])
def test_an_image_does_not_depend_on_who_chose_the_runner(source: str) -> None:
    spec = RunnerSpec(mode="docker", source=source)
    assert choose("vllm", spec, None, {}) == (DEFAULTS["vllm"], "default")


# --- images of other backends --------------------------------------------------------------


@pytest.mark.parametrize("backend", WELL_KNOWN)
def test_a_backend_has_its_own_image_by_default(backend: str) -> None:
    assert choose(backend, DOCKER, None, {}) == (DEFAULTS[backend], "default")


def test_tensorrt_gets_its_own_image_whatever_the_others_are_given() -> None:
    others = {"vllm": "vllm/vllm-openai:v1", "pytorch": "pytorch/pytorch:2"}
    image, source = choose("tensorrt", DOCKER, None, dict.fromkeys(NAMED, others))
    assert source == "default"
    assert image is not None
    assert "tensorrt-llm" in image
    assert image not in {DEFAULTS["vllm"], DEFAULTS["pytorch"], *others.values()}


@UNHURRIED
@given(
    st.sampled_from(WELL_KNOWN),
    st.dictionaries(
        st.sampled_from(NAMED), st.dictionaries(st.sampled_from(WELL_KNOWN), st.text(max_size=5))
    ),
)
def test_an_image_is_never_another_backends(
    backend: str, sources: Mapping[str, Mapping[str, str]]
) -> None:
    own = {
        name: {key: value for key, value in values.items() if key == backend}
        for name, values in sources.items()
    }
    assert choose(backend, DOCKER, None, sources) == choose(backend, DOCKER, None, own)


def test_a_backend_that_nobody_knows_an_image_of_has_none() -> None:
    assert choose("mine", DOCKER, None, {"ini": {"vllm": "img"}}) == (None, None)


def test_a_backend_of_another_package_may_be_given_an_image() -> None:
    assert choose("mine", DOCKER, None, {"ini": {"mine": "img"}}) == ("img", "ini")


# --- the pinned ones -----------------------------------------------------------------------


def test_every_well_known_backend_has_an_image_and_no_two_the_same() -> None:
    assert set(DEFAULTS) == set(WELL_KNOWN)
    assert len(set(DEFAULTS.values())) == len(DEFAULTS)


@pytest.mark.parametrize("backend", DEFAULTS)
def test_a_default_image_is_pinned_to_a_version(backend: str) -> None:
    name, _, tag = DEFAULTS[backend].rpartition(":")
    assert re.fullmatch(r"v?\d+\.\d+\.\d+\w*", tag)
    assert {"pytorch": "pytorch", "tensorrt": "tensorrt-llm", "vllm": "vllm"}[backend] in name


@pytest.mark.parametrize(
    ("backend", "vendor"), [("vllm", "vllm/"), ("tensorrt", "nvcr.io/nvidia/tensorrt-llm/")]
)
def test_the_vendors_own_images_are_used_where_there_are_any(backend: str, vendor: str) -> None:
    assert DEFAULTS[backend].startswith(vendor)
