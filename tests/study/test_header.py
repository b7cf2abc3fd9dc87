"""A study's own keys: its name, how it is executed, where it runs, and its list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llem.study.header import Header, Surroundings, header, resting
from pytest_llem.study.keys import DockerSettings, Execution, Gaps
from pytest_llem.study.problems import Problems
from pytest_llem.study.yaml_lines import Document
from tests.study.written import problems, study

BACKENDS = ("pytorch", "tensorrt", "vllm")
USERS = Gaps(between_experiments=11.0, between_cycles=22.0)


def read(
    data: dict[str, Any], surroundings: Surroundings = Surroundings()
) -> tuple[Header, list[str]]:
    """The header of a document, and what is wrong with it."""
    found = Problems()
    document = Document(Path("bench/night.v2.study.yaml"), "x", data, {}, {})
    made = header(document, surroundings, BACKENDS, found)
    return made, [line.removeprefix("x:1: ") for line in found.lines()]


def right(data: dict[str, Any], surroundings: Surroundings = Surroundings()) -> Header:
    made, wrong = read(data, surroundings)
    assert wrong == []
    return made


def test_a_study_that_says_nothing_of_itself_has_the_defaults() -> None:
    assert right({"model": "m"}) == Header(
        name="night",
        execution=Execution(),
        gaps=Gaps(),
        runners={},
        images={},
        docker=DockerSettings(),
        experiments=(),
    )


@pytest.mark.parametrize("key", ["name", "execution", "runners", "images", "docker", "experiments"])
def test_null_is_as_good_as_nothing(key: str) -> None:
    assert right({key: None}) == right({})


@pytest.mark.parametrize("key", ["execution", "runners", "images", "docker"])
@pytest.mark.parametrize("value", ["local", 5, ["a"], True])
def test_what_should_be_a_mapping_and_is_none_is_refused(key: str, value: Any) -> None:
    assert read({key: value})[1] == [f"{key}: should be a mapping, not {value!r}"]


# --- name ----------------------------------------------------------------------------------


def test_a_name_is_any_text() -> None:
    assert right({"name": "My study, at night"}).name == "My study, at night"


@pytest.mark.parametrize("value", [5, ["a"], {"a": 1}, True, 1.5])
def test_a_name_that_is_no_text_is_refused(value: Any) -> None:
    assert read({"name": value})[1] == [f"name: should be text, not {value!r}"]


def test_a_name_is_not_empty() -> None:
    assert read({"name": ""})[1]


# --- execution -----------------------------------------------------------------------------


def test_execution_is_as_the_study_says() -> None:
    said = {"cycles": 5, "order": "latin_square", "seed": 0, "gaps": 2, "skip_preflight": True}
    expected = Execution(cycles=5, order="latin_square", seed=0, gaps=2.0, skip_preflight=True)
    assert right({"execution": said}).execution == expected


def test_execution_may_say_when_to_stop() -> None:
    said = right({"execution": {"max_failures": 2, "time_budget_s": 0.5}}).execution
    assert (said.max_failures, said.time_budget_s) == (2, 0.5)
    assert (Execution().max_failures, Execution().time_budget_s) == (None, None)


GAPS: list[tuple[Any, Gaps]] = [
    ("thermal", USERS),
    ("none", Gaps(between_experiments=0.0, between_cycles=0.0, mode="fixed")),
    (0, Gaps(between_experiments=0.0, between_cycles=0.0, mode="fixed")),
    (1.5, Gaps(between_experiments=1.5, between_cycles=1.5, mode="fixed")),
    (
        {"between_experiments": 1, "between_cycles": 2},
        Gaps(between_experiments=1.0, between_cycles=2.0, mode="thermal"),
    ),
    (
        {"between_experiments": 1, "between_cycles": 2, "mode": "fixed"},
        Gaps(between_experiments=1.0, between_cycles=2.0, mode="fixed"),
    ),
    (
        {"between_experiments": 0, "between_cycles": 0},
        Gaps(between_experiments=0, between_cycles=0),
    ),
]


@pytest.mark.parametrize(("said", "gaps"), GAPS)
def test_gaps_may_be_said_in_every_form(said: Any, gaps: Gaps) -> None:
    made = right({"execution": {"gaps": said}}, Surroundings(gaps=USERS))
    assert made.gaps == gaps
    assert resting(made.execution.gaps, USERS) == gaps


def test_gaps_are_thermal_where_nothing_is_said_and_as_long_as_the_user_says() -> None:
    assert right({}).gaps == Gaps(between_experiments=60.0, between_cycles=300.0, mode="thermal")
    assert right({}, Surroundings(gaps=USERS)).gaps == USERS


@pytest.mark.parametrize("said", [{"mode": "thermal"}, {}])
def test_what_a_study_leaves_out_of_its_gaps_is_as_the_user_says(said: dict[str, Any]) -> None:
    assert right({"execution": {"gaps": said}}, Surroundings(gaps=USERS)).gaps == USERS


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        (-1, "execution.gaps: "),
        ("cool", "execution.gaps: "),
        (True, "execution.gaps: "),
        (float("inf"), "execution.gaps: "),
        (float("nan"), "execution.gaps: "),
        ([1], "execution.gaps: "),
        ({"mode": "cold"}, "execution.gaps.mode: should be 'thermal' or 'fixed', not 'cold'"),
        ({"between_cycles": -1}, "execution.gaps.between_cycles: should be greater than"),
        (
            {"betwen_cycles": 1},
            "execution.gaps.betwen_cycles: unknown field; did you mean between_cycles?",
        ),
    ],
)
def test_gaps_that_mean_nothing_are_refused(gaps: Any, said: str) -> None:
    made, (problem,) = read({"execution": {"gaps": gaps}})
    assert problem.startswith(said)
    assert made.gaps == Gaps()


# --- who says it ---------------------------------------------------------------------------


def test_the_users_settings_count_where_the_study_says_nothing() -> None:
    users = Surroundings(execution={"cycles": 7, "order": "shuffled"})
    execution = right({"execution": {"order": "sequential"}}, users).execution
    assert (execution.cycles, execution.order) == (7, "sequential")


def test_the_users_settings_count_where_the_study_says_null() -> None:
    users = Surroundings(execution={"cycles": 7})
    assert right({"execution": {"cycles": None}}, users).execution.cycles == 7


def test_the_command_line_counts_above_the_study() -> None:
    surroundings = Surroundings(
        execution={"cycles": 7}, over_execution={"cycles": 2, "gaps": 5.0}, gaps=USERS
    )
    made = right({"execution": {"cycles": 9, "gaps": {"between_cycles": 8}}}, surroundings)
    assert made.execution.cycles == 2
    assert made.gaps == Gaps(between_experiments=5.0, between_cycles=5.0, mode="fixed")


def test_the_command_line_may_ask_for_thermal_gaps() -> None:
    surroundings = Surroundings(over_execution={"gaps": "thermal"}, gaps=USERS)
    assert right({"execution": {"gaps": 3}}, surroundings).gaps == USERS


def test_what_is_said_around_a_study_is_not_changed_by_it() -> None:
    around = {"cycles": 7}
    right({"execution": {"cycles": 9}}, Surroundings(execution=around, over_execution=around))
    assert around == {"cycles": 7}


# --- runners and images --------------------------------------------------------------------


@pytest.mark.parametrize(
    "runner",
    ["local", "docker", "docker:img", "docker:host:5000/a/b:tag", "docker:a@sha256:00", "slurm:q"],
)
def test_runners_are_kept_as_written(runner: str) -> None:
    made = right({"runners": {"vllm": f" {runner} "}}, Surroundings(runners=["slurm"]))
    assert made.runners == {"vllm": runner}


def test_images_are_kept_as_written() -> None:
    assert right({"images": {"vllm": " a/b:1 "}}).images == {"vllm": "a/b:1"}


@pytest.mark.parametrize("key", ["runners", "images"])
def test_null_names_neither_runner_nor_image(key: str) -> None:
    made = right({key: {"vllm": None}})
    assert (made.runners, made.images) == ({}, {})


@pytest.mark.parametrize("key", ["runners", "images"])
def test_a_misspelt_backend_is_refused_with_the_nearest(key: str) -> None:
    made, wrong = read({key: {"pytroch": "local", "vllm": "docker"}})
    assert wrong == [f"{key}.pytroch: unknown backend; did you mean pytorch?"]
    assert getattr(made, key) == {"vllm": "docker"}


@pytest.mark.parametrize("value", ["podman", "docker:", "local:", "", "slurm", "Docker"])
def test_what_is_no_runner_is_refused_with_what_is_accepted(value: str) -> None:
    text = f"{value!r} is no runner; accepted: local, local:<python>, docker, docker:<image>"
    assert read({"runners": {"vllm": value}})[1] == [f"runners.vllm: {text}"]


def test_runners_of_others_are_among_what_is_accepted() -> None:
    (problem,) = read({"runners": {"vllm": "slum"}}, Surroundings(runners=["slurm"]))[1]
    assert problem.endswith("local:<python>, docker, docker:<image>, slurm")


@pytest.mark.parametrize("key", ["runners", "images"])
@pytest.mark.parametrize("value", [["a"], {"a": 1}, 5, True])
def test_what_is_no_text_is_neither_runner_nor_image(key: str, value: Any) -> None:
    assert read({key: {"vllm": value}})[1] == [f"{key}.vllm: should be text, not {value!r}"]


def test_an_image_has_a_name() -> None:
    assert read({"images": {"vllm": " "}})[1] == ["images.vllm: should be the name of an image"]


def test_a_colon_that_yaml_takes_for_a_mapping_is_a_problem_with_its_line(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "model: m\nrunners:\n  vllm: docker: img")
    assert problem.startswith("3: not valid YAML: ")


# --- docker and the list -------------------------------------------------------------------


def test_containers_are_run_as_the_study_says() -> None:
    docker = right({"docker": {"strategy": "persistent", "max_restarts": 0}}).docker
    assert docker == DockerSettings(strategy="persistent", max_restarts=0)


def test_the_entries_of_the_list_know_their_places() -> None:
    entries = right({"experiments": [{"id": "a"}, {"seed": 1}]}).experiments
    assert [entry.place for entry in entries] == [("experiments", 0), ("experiments", 1)]
    assert [entry.content for entry in entries] == [{"id": "a"}, {"seed": 1}]


@pytest.mark.parametrize("value", [{"a": 1}, "a", 5])
def test_experiments_that_are_no_list_are_refused(value: Any) -> None:
    assert read({"experiments": value})[1] == [f"experiments: should be a list, not {value!r}"]


def test_an_entry_that_is_no_mapping_is_refused_and_the_others_are_kept() -> None:
    made, wrong = read({"experiments": ["a", {"id": "b"}, None]})
    assert wrong == [
        "experiments.0: should be a mapping, not 'a'",
        "experiments.2: should be a mapping, not None",
    ]
    assert [entry.content for entry in made.experiments] == [{"id": "b"}]


def test_all_mistakes_of_a_header_are_told_and_the_rest_is_read(tmp_path: Path) -> None:
    text = """\
model: m
name: 5
execution: {cycels: 3, order: random}
runners: {pytroch: local, vllm: "docker:"}
images: {tensort: x}
docker: {stratgy: persistent}
"""
    assert [line.partition(": ")[2].partition(":")[0] for line in problems(tmp_path, text)] == [
        "name",
        "execution.cycels",
        "execution.order",
        "runners.pytroch",
        "runners.vllm",
        "images.tensort",
        "docker.stratgy",
    ]


def test_a_study_has_what_its_header_says(tmp_path: Path) -> None:
    text = """\
model: m
name: night
execution: {cycles: 2, gaps: 1.5}
runners: {vllm: docker}
images: {vllm: "img:1"}
docker: {pull: never}
"""
    found = study(tmp_path, text)
    assert (found.path, found.name) == (tmp_path / "x.study.yaml", "night")
    assert found.execution == Execution(cycles=2, gaps=1.5)
    assert found.gaps == Gaps(between_experiments=1.5, between_cycles=1.5, mode="fixed")
    assert (found.runners, found.images) == ({"vllm": "docker"}, {"vllm": "img:1"})
    assert found.docker == DockerSettings(pull="never")
