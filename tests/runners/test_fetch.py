"""What models take: sizes of directories, and what the hub would have to send."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.runners.fetch import Stock, Supply
from pytest_llem.runners.models import Answer, Finding, Hub
from tests.builders import UNHURRIED, experiment

FILES = {"config.json": 600, "model.safetensors": 4000, "pytorch_model.bin": 9000, "a.gguf": 1}


class FakeHub:
    """A hub as its Protocol asks for, that remembers what it was asked."""

    def __init__(
        self,
        answers: Mapping[str, Answer] | None = None,
        *,
        here: Collection[str] = (),
        offline: bool = False,
    ) -> None:
        self.offline = offline
        self.cache = Path("/cache")
        self.asked: list[tuple[str, str | None]] = []
        self._answers = answers or {}
        self._here = here

    def cached(self, model: str, revision: str | None) -> Collection[str]:
        return self._here

    def ask(self, model: str, revision: str | None) -> Answer:
        self.asked.append((model, revision))
        return self._answers.get(model, Answer(status="found", files=FILES))

    def free_bytes(self) -> int:
        return 0


def never() -> Hub | None:
    raise AssertionError("no experiment needs the hub")


def supply(hub: Hub | None, **fields: Any) -> Supply:
    """The model of one experiment."""
    (found,) = Stock(lambda: hub).supplies([experiment(**fields)])
    return found


def silent(detail: str = "ConnectError: refused") -> Answer:
    return Answer(status="silent", detail=detail)


# --- directories ---------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with weights in two forms, of which an engine loads one."""
    for name, size in FILES.items():
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "model.safetensors").write_bytes(b"x")
    return tmp_path


def test_a_directory_is_as_large_as_what_is_loaded_of_it(folder: Path) -> None:
    (found,) = Stock(never).supplies([experiment(model=str(folder))])
    assert (found.place, found.size_bytes, found.random) == ("directory", 4600, False)
    assert found.problem is None


def test_random_weights_take_the_config_alone(folder: Path) -> None:
    (found,) = Stock(never).supplies([experiment(model=str(folder), weights="random")])
    assert (found.size_bytes, found.random) == (600, True)


def test_weights_count_where_any_experiment_loads_them(folder: Path) -> None:
    users = [experiment(model=str(folder), weights=kind) for kind in ("random", "pretrained")]
    (found,) = Stock(never).supplies(users)
    assert (found.size_bytes, found.random) == (4600, False)


def test_a_directory_stands_once_whatever_revision_or_backend_is_named(folder: Path) -> None:
    users = [
        experiment(model=str(folder)),
        experiment(model=str(folder), revision="v1", backend="theirs"),
    ]
    (found,) = Stock(never).supplies(users)
    assert (found.name, found.backends) == (str(folder), ("pytorch", "theirs"))


def test_a_directory_that_cant_be_used_says_why_without_its_name(tmp_path: Path) -> None:
    (found,) = Stock(never).supplies([experiment(model=str(tmp_path / "nowhere"))])
    assert found.size_bytes is None
    assert found.problem == Finding(
        "there is no such directory",
        "check the path; in a study it is relative to the study's file",
    )


# --- the hub -------------------------------------------------------------------------------


def test_config_and_weights_are_to_be_fetched() -> None:
    found = supply(FakeHub(), revision="v1")
    assert (found.place, found.size_bytes, found.name) == ("hub", 4600, "org/m@v1")


def test_of_a_hub_model_with_random_weights_only_the_config_is_fetched() -> None:
    assert supply(FakeHub(), weights="random").size_bytes == 600


@pytest.mark.parametrize(
    ("here", "weights", "size"),
    [
        (["config.json"], "pretrained", 4000),
        (["model.safetensors"], "pretrained", 600),
        (["config.json", "model-00001-of-00002.safetensors"], "random", None),
    ],
)
def test_what_is_in_the_cache_is_not_fetched_again(
    here: list[str], weights: str, size: int | None
) -> None:
    assert supply(FakeHub(here=here), weights=weights).size_bytes == size


def test_of_shards_only_the_missing_ones_are_fetched() -> None:
    shards = {f"model-0000{n}-of-00003.safetensors": n * 100 for n in (1, 2, 3)}
    answer = Answer(status="found", files={"config.json": 1, **shards})
    hub = FakeHub({"org/m": answer}, here=["model-00002-of-00003.safetensors"])
    assert supply(hub).size_bytes == 401


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize(
    ("here", "weights"),
    [(["config.json", "model.safetensors"], "pretrained"), (["config.json"], "random")],
)
def test_a_cached_model_is_here_and_nobody_is_asked(
    here: list[str], weights: str, offline: bool
) -> None:
    hub = FakeHub(here=here, offline=offline)
    found = supply(hub, weights=weights)
    assert (found.place, found.size_bytes, found.problem) == ("cache", None, None)
    assert hub.asked == []


def test_offline_a_model_that_is_not_here_is_a_problem() -> None:
    found = supply(FakeHub(offline=True), revision="v1")
    assert found.problem == Finding(
        "not in the cache, and HF_HUB_OFFLINE forbids to fetch it",
        "unset HF_HUB_OFFLINE, or fetch it before: hf download org/m --revision v1",
    )


def test_a_model_that_the_hub_refuses_is_a_problem() -> None:
    found = supply(FakeHub({"org/m": Answer(status="no revision")}), revision="v9")
    assert found.problem is not None
    assert found.problem.text == "the hub has no such revision"
    assert found.size_bytes is None


@pytest.mark.parametrize(
    ("files", "weights", "reason"),
    [
        ({"model.safetensors": 5}, "random", "the hub has no config.json of it"),
        (
            {"config.json": 5, "a.gguf": 5},
            "pretrained",
            "the hub has no weights of it that are known here (*.safetensors, *.bin)",
        ),
        (
            {"config.json": 5, "model.safetensors": 0},
            "pretrained",
            "the hub tells no size of its weights",
        ),
    ],
)
def test_a_size_that_the_hub_does_not_tell_is_unknown(
    files: dict[str, int], weights: str, reason: str
) -> None:
    hub = FakeHub({"org/m": Answer(status="found", files=files)})
    found = supply(hub, weights=weights)
    assert (found.size_bytes, found.reason, found.problem) == (None, reason, None)


def test_where_the_client_is_not_installed_the_size_is_unknown() -> None:
    found = supply(None)
    assert (found.place, found.size_bytes, found.problem) == ("hub", None, None)
    assert found.reason == "huggingface_hub is not installed here, so the hub can't be asked"


def test_a_silent_hub_is_not_asked_again() -> None:
    hub = FakeHub({"org/a": silent()})
    stock = Stock(lambda: hub)
    first, second = stock.supplies([experiment(model="org/a"), experiment(model="org/b")])
    assert first.reason == "the hub can't be asked (ConnectError: refused)"
    assert second.reason == "not asked, as the hub was silent about org/a"
    assert [first.problem, second.problem] == [None, None]
    assert hub.asked == [("org/a", None)]
    (again,) = stock.supplies([experiment(model="org/a")])
    assert again == first


def test_each_model_and_revision_is_asked_for_once_for_all_studies() -> None:
    hub = FakeHub()
    stock = Stock(lambda: hub)
    both = [experiment(), experiment(revision="v1"), experiment(id="b")]
    assert [found.name for found in stock.supplies(both)] == ["org/m", "org/m@v1"]
    assert stock.supplies([experiment(weights="random")])[0].size_bytes == 600
    assert hub.asked == [("org/m", None), ("org/m", "v1")]


# --- what only the engine knows ------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"backend": "theirs"}, {"options": {"cache_dir": "there"}}], ids=["theirs", "own"]
)
def test_a_model_that_only_the_engine_knows_is_left_to_it(fields: dict[str, Any]) -> None:
    (found,) = Stock(never).supplies([experiment(**fields)])
    assert (found.place, found.size_bytes, found.problem) == ("engine", None, None)


def test_an_id_can_mean_one_thing_on_the_hub_and_another_to_an_engine() -> None:
    users = [experiment(), experiment(backend="theirs"), experiment(backend="vllm")]
    found = Stock(lambda: FakeHub()).supplies(users)
    assert [(each.place, each.backends) for each in found] == [
        ("hub", ("pytorch", "vllm")),
        ("engine", ("theirs",)),
    ]


@UNHURRIED
@given(
    st.dictionaries(
        st.sampled_from(
            ["config.json", "model.safetensors", "b.safetensors", "pytorch_model.bin", "c.bin"]
        ),
        st.integers(0, 10**12),
    ),
    st.sets(st.sampled_from(["config.json", "model.safetensors", "c.bin"])),
    st.sampled_from(["pretrained", "random"]),
)
def test_a_size_is_never_more_than_what_is_there_and_never_missing_without_a_reason(
    files: dict[str, int], here: set[str], weights: str
) -> None:
    hub = FakeHub({"org/m": Answer(status="found", files=files)}, here=here)
    found = supply(hub, weights=weights)
    if found.size_bytes is None:
        assert found.place == "cache" or found.reason
    else:
        missing = [size for name, size in files.items() if name not in here]
        assert 0 <= found.size_bytes <= sum(missing)
