"""The precedence chain of runners, and what becomes of studies with several backends."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.demands import RunnerSpec
from pytest_llem.errors import RunnerError
from pytest_llem.runners.detect import Detected
from pytest_llem.runners.resolve import (
    DETECTED,
    MIXED,
    NOT_DETECTED,
    elevate,
    elevated,
    parse_pairs,
    refused,
    resolve,
)
from tests.builders import UNHURRIED, detected

NAMED = ("cli", "env", "study", "ini", "user_config")
"""Sources that a person writes into, highest first."""

SOURCES = (*NAMED, "auto_detected", "default")
SUBSETS = [
    subset
    for size in range(len(SOURCES))
    for subset in itertools.combinations(SOURCES[:-1], size + 1)
]

FILE = Path("/found")
NOTHING = detected()
DAEMON = detected(cli=FILE, socket=FILE, accessible=True)
WITH_TOOLKIT = detected(cli=FILE, socket=FILE, accessible=True, toolkit=FILE)
WITH_CDI = detected(cli=FILE, socket=FILE, accessible=True, cdi=FILE)
IN_CONTAINER = detected(cli=FILE, socket=FILE, accessible=True, toolkit=FILE, container=FILE)
# As detect() has it: no socket is looked for where DOCKER_HOST is remote.
REMOTE = detected(cli=FILE, remote="ssh://me@far", toolkit=FILE, cdi=FILE)
REMOTE_AND_SOCKET = detected(
    cli=FILE, socket=FILE, accessible=True, remote="tcp://10.0.0.1:2376", toolkit=FILE
)
LOCKED = detected(cli=FILE, socket=FILE, accessible=False, toolkit=FILE, cdi=FILE)
NO_CLI = detected(socket=FILE, accessible=True, toolkit=FILE, cdi=FILE)
TOOLKIT_ONLY = detected(toolkit=FILE, cdi=FILE, gpu=FILE)


def said(setting: Sequence[str], silence: str | None = None) -> dict[str, dict[str, str]]:
    """Every source that a person writes into; those of ``setting`` name an image of their own."""
    quiet: dict[str, str] = {} if silence is None else {"pytorch": silence}
    return {
        source: {"pytorch": f"docker:of-{source}"} if source in setting else dict(quiet)
        for source in NAMED
    }


def host(setting: Sequence[str]) -> Detected:
    return WITH_TOOLKIT if "auto_detected" in setting else NOTHING


def expected(source: str) -> RunnerSpec:
    """What a source says in :func:`said`, or finds."""
    if source == "default":
        return RunnerSpec(mode="local", source="default")
    if source == "auto_detected":
        return RunnerSpec(mode="docker", source="auto_detected")
    image = f"of-{source}"
    return RunnerSpec(mode="docker", image=image, source=source, image_source="runner")


# --- precedence ----------------------------------------------------------------------------


@pytest.mark.parametrize(("higher", "lower"), list(itertools.combinations(SOURCES, 2)))
def test_each_source_beats_each_lower_one(higher: str, lower: str) -> None:
    both = (higher, lower)
    assert resolve("pytorch", said(both), host(both)) == expected(higher)
    assert resolve("pytorch", said([lower]), host([lower])) == expected(lower)


@pytest.mark.parametrize("setting", [(), *SUBSETS], ids="+".join)
def test_the_highest_source_that_sets_a_runner_wins(setting: tuple[str, ...]) -> None:
    winner = expected(setting[0] if setting else "default")
    for silence in (None, "", "  "):
        assert resolve("pytorch", said(setting, silence), host(setting)) == winner


@pytest.mark.parametrize(("higher", "lower"), list(itertools.combinations(NAMED, 2)))
def test_a_higher_source_may_go_back_to_local(higher: str, lower: str) -> None:
    sources = {higher: {"pytorch": "local"}, lower: {"pytorch": "docker"}}
    found = resolve("pytorch", sources, WITH_TOOLKIT)
    assert found == RunnerSpec(mode="local", source=higher)


@pytest.mark.parametrize("source", NAMED)
def test_an_explicit_local_beats_detection(source: str) -> None:
    found = resolve("pytorch", {source: {"pytorch": "local"}}, WITH_TOOLKIT)
    assert found == RunnerSpec(mode="local", source=source)
    assert found.chosen


@pytest.mark.parametrize("source", NAMED)
def test_docker_without_an_image_leaves_the_image_to_others(source: str) -> None:
    found = resolve("pytorch", {source: {"pytorch": "docker"}}, NOTHING)
    assert found == RunnerSpec(mode="docker", source=source)


@pytest.mark.parametrize(
    ("seen", "mode", "source"),
    [
        pytest.param(NOTHING, "local", "default", id="nothing"),
        pytest.param(DAEMON, "local", "default", id="a daemon without the toolkit"),
        pytest.param(WITH_TOOLKIT, "docker", "auto_detected", id="toolkit"),
        pytest.param(WITH_CDI, "docker", "auto_detected", id="CDI"),
        pytest.param(IN_CONTAINER, "local", "default", id="inside a container"),
        pytest.param(REMOTE, "local", "default", id="remote"),
        pytest.param(REMOTE_AND_SOCKET, "local", "default", id="remote beside a socket"),
        pytest.param(LOCKED, "local", "default", id="a socket that may not be used"),
        pytest.param(NO_CLI, "local", "default", id="no program"),
        pytest.param(TOOLKIT_ONLY, "local", "default", id="the toolkit alone"),
    ],
)
def test_docker_is_detected_only_where_it_can_give_gpus(
    seen: Detected, mode: str, source: str
) -> None:
    found = resolve("pytorch", {}, seen)
    assert found == RunnerSpec(mode=mode, source=source)
    assert not found.chosen


@pytest.mark.parametrize("seen", [IN_CONTAINER, REMOTE], ids=["inside a container", "remote"])
@pytest.mark.parametrize("source", NAMED)
def test_an_explicit_docker_is_obeyed_where_nothing_is_detected(
    source: str, seen: Detected
) -> None:
    found = resolve("vllm", {source: {"vllm": "docker:img"}}, seen)
    assert (found.mode, found.image, found.source) == ("docker", "img", source)


def test_what_is_said_of_another_backend_does_not_count() -> None:
    sources = {"cli": {"vllm": "docker"}, "ini": {"pytorch": "docker:img"}}
    assert resolve("pytorch", sources, NOTHING).source == "ini"
    assert resolve("tensorrt", sources, NOTHING).source == "default"


def test_a_runner_of_another_package_may_be_named() -> None:
    sources = {"ini": {"pytorch": "slurm:gpu:2"}}
    found = resolve("pytorch", sources, WITH_TOOLKIT, ["slurm"])
    assert found == RunnerSpec(mode="slurm", argument="gpu:2", source="ini")


def test_a_wrong_value_that_is_overruled_does_no_harm() -> None:
    sources = {"cli": {"pytorch": "local"}, "env": {"pytorch": "podman"}}
    assert resolve("pytorch", sources, NOTHING).source == "cli"


@pytest.mark.parametrize("source", NAMED)
def test_a_wrong_value_that_wins_is_refused_with_its_source(source: str) -> None:
    sources = {source: {"pytorch": " podman "}}
    with pytest.raises(RunnerError) as caught:
        resolve("pytorch", sources, WITH_TOOLKIT, ["slurm", "apptainer"])
    assert str(caught.value) == (
        f"{source}: 'podman' is no runner;"
        " accepted: local, local:<python>, docker, docker:<image>, apptainer, slurm"
    )


VALUES = st.sampled_from(["", " ", "local", "docker", "docker:img:1", "slurm", "slurm:x"])


@UNHURRIED
@given(
    st.dictionaries(st.sampled_from(NAMED), VALUES),
    st.sampled_from([NOTHING, DAEMON, WITH_TOOLKIT, WITH_CDI, IN_CONTAINER, REMOTE]),
)
def test_the_runner_is_that_of_the_source_it_names(
    values: Mapping[str, str], seen: Detected
) -> None:
    sources = {source: {"b": values[source]} for source in NAMED if source in values}
    found = resolve("b", sources, seen, ["slurm"])
    if found.chosen:
        assert found.value == values[found.source]
        higher = NAMED[: NAMED.index(found.source)]
        assert not any(values.get(source, "").strip() for source in higher)
    else:
        assert not any(value.strip() for value in values.values())


# --- several backends in one study ---------------------------------------------------------

DEFAULT = RunnerSpec(mode="local", source="default")
ELEVATED = RunnerSpec(mode="docker", source="auto_elevated")
HOSTS = [
    pytest.param(NOTHING, None, None, id="nothing"),
    pytest.param(DAEMON, None, ELEVATED, id="a daemon without the toolkit"),
    pytest.param(WITH_TOOLKIT, ELEVATED, ELEVATED, id="toolkit"),
    pytest.param(WITH_CDI, ELEVATED, ELEVATED, id="CDI"),
    pytest.param(IN_CONTAINER, None, None, id="inside a container"),
    pytest.param(REMOTE, None, None, id="remote"),
    pytest.param(REMOTE_AND_SOCKET, None, None, id="remote beside a socket"),
    pytest.param(LOCKED, None, None, id="a socket that may not be used"),
    pytest.param(NO_CLI, None, None, id="no program"),
    pytest.param(TOOLKIT_ONLY, None, None, id="the toolkit alone"),
]


@pytest.mark.parametrize(("seen", "on_gpu", "on_cpu"), HOSTS)
def test_what_nobody_chose_is_isolated_where_that_is_possible(
    seen: Detected, on_gpu: RunnerSpec | None, on_cpu: RunnerSpec | None
) -> None:
    assert elevate(DEFAULT, seen, gpu=True) == on_gpu
    assert elevate(DEFAULT, seen, gpu=False) == on_cpu


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("seen", [NOTHING, DAEMON, WITH_TOOLKIT, IN_CONTAINER, REMOTE])
@pytest.mark.parametrize("source", NAMED)
def test_what_somebody_chose_is_obeyed(source: str, seen: Detected, gpu: bool) -> None:
    for value in ("local", "docker", "docker:img", "slurm:x"):
        spec = RunnerSpec.parse(value, source, ["slurm"])
        assert elevate(spec, seen, gpu=gpu) == spec


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("source", ["auto_detected", "auto_elevated"])
def test_what_is_in_a_container_already_stays_as_it_is(source: str, gpu: bool) -> None:
    spec = RunnerSpec(mode="docker", source=source)
    assert elevate(spec, WITH_TOOLKIT, gpu=gpu) == spec


def test_an_elevated_runner_is_still_nobodys_choice() -> None:
    found = elevate(DEFAULT, WITH_TOOLKIT, gpu=True)
    assert found is not None
    assert not found.chosen
    assert (found.image, found.image_source) == (None, None)


# --- the lines, word for word --------------------------------------------------------------


def test_the_line_about_docker_that_was_detected() -> None:
    assert DETECTED == (
        "Docker detected. Using containerised execution for reproducible measurements."
    )


def test_the_line_about_docker_that_was_not_detected() -> None:
    assert NOT_DETECTED == (
        "Docker not detected. Install Docker + NVIDIA Container Toolkit for reproducible isolated"
        " measurements."
    )


def test_the_line_about_mixed_runners() -> None:
    assert MIXED == (
        "Mixed runners detected. For consistent measurements, consider running all backends in"
        " Docker."
    )


ORDERS = list(itertools.permutations(["pytorch", "tensorrt", "vllm"]))


@pytest.mark.parametrize("backends", ORDERS, ids="+".join)
def test_the_line_about_an_elevated_study_names_the_backends_sorted(
    backends: tuple[str, ...],
) -> None:
    text = (
        "Multi-backend study detected (pytorch, tensorrt, vllm)."
        " Auto-elevating all backends to Docker for isolation."
    )
    assert elevated(backends) == elevated(set(backends)) == text


@pytest.mark.parametrize("backends", ORDERS, ids="+".join)
def test_the_refusal_of_a_study_names_the_backends_sorted(backends: tuple[str, ...]) -> None:
    text = (
        "Multi-backend study requires Docker isolation."
        " Found backends: pytorch, tensorrt, vllm."
        " Install Docker + NVIDIA Container Toolkit, or use a single backend."
    )
    assert refused(backends) == refused(set(backends)) == text


# --- BACKEND=RUNNER ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "pairs"),
    [
        ([], {}),
        (["pytorch=local"], {"pytorch": "local"}),
        ([" pytorch = docker:img "], {"pytorch": "docker:img"}),
        (["a=local", "b=docker"], {"a": "local", "b": "docker"}),
        (["a=local", "a=docker"], {"a": "docker"}),
        (["a=docker:img?x=y"], {"a": "docker:img?x=y"}),
        (["a="], {"a": ""}),
    ],
)
def test_lines_become_pairs(lines: list[str], pairs: dict[str, str]) -> None:
    assert parse_pairs(lines, "cli") == pairs


@pytest.mark.parametrize("line", ["", "pytorch", "=local", "  = local", "docker:img"])
def test_a_line_that_is_no_pair_is_refused_with_its_source(line: str) -> None:
    with pytest.raises(RunnerError) as caught:
        parse_pairs(["a=local", line], "ini")
    assert str(caught.value) == f"ini: {line!r} is not of the form BACKEND=RUNNER"
