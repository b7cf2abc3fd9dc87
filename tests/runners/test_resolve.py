"""The precedence chain of runners."""

from __future__ import annotations

import itertools

import pytest

from pytest_llem.errors import RunnerError
from pytest_llem.records import RunnerSpec
from pytest_llem.runners.resolve import parse_pairs, resolve

SOURCES = ("cli", "env", "study", "ini")
SUBSETS = [
    subset for size in range(len(SOURCES) + 1) for subset in itertools.combinations(SOURCES, size)
]


@pytest.mark.parametrize("silence", [None, "", "  "], ids=["absent", "empty", "blank"])
@pytest.mark.parametrize("setting", SUBSETS, ids="+".join)
def test_the_highest_source_that_sets_a_runner_wins(
    setting: tuple[str, ...], silence: str | None
) -> None:
    sources: dict[str, dict[str, str]] = {source: {} for source in SOURCES}
    for source in SOURCES:
        if source in setting:
            sources[source]["pytorch"] = f"docker:of-{source}"
        elif silence is not None:
            sources[source]["pytorch"] = silence
    expected = (
        RunnerSpec(mode="docker", image=f"of-{setting[0]}", source=setting[0])
        if setting
        else RunnerSpec(mode="local", source="default")
    )
    assert resolve("pytorch", sources) == expected


@pytest.mark.parametrize(("higher", "lower"), list(itertools.combinations(SOURCES, 2)))
def test_a_higher_source_may_go_back_to_local(higher: str, lower: str) -> None:
    sources = {higher: {"pytorch": "local"}, lower: {"pytorch": "docker"}}
    assert resolve("pytorch", sources) == RunnerSpec(mode="local", source=higher)


def test_what_is_said_of_another_backend_does_not_count() -> None:
    sources = {"cli": {"vllm": "docker"}, "ini": {"pytorch": "docker:img"}}
    found = resolve("pytorch", sources)
    assert found == RunnerSpec(mode="docker", image="img", source="ini")


def test_a_wrong_value_that_is_overruled_does_no_harm() -> None:
    sources = {"cli": {"pytorch": "local"}, "env": {"pytorch": "podman"}}
    assert resolve("pytorch", sources).source == "cli"


@pytest.mark.parametrize("source", SOURCES)
def test_a_wrong_value_that_wins_is_refused_with_its_source(source: str) -> None:
    with pytest.raises(RunnerError) as caught:
        resolve("pytorch", {source: {"pytorch": " podman "}})
    assert str(caught.value) == (
        f"{source}: 'podman' is no runner; accepted: local, docker, docker:<image>"
    )


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
