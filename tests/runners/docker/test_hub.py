"""The hub's cache and the user's token, found without huggingface_hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_llem.runners.docker import hub
from tests.runners.docker.test_contents import cached


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "home/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "{}/x"}, "x/huggingface/hub"),
        ({"HF_HOME": "{}/h"}, "h/hub"),
        ({"HF_HOME": "$HOME/h"}, "home/h/hub"),
        ({"HF_HOME": "{}/h", "HUGGINGFACE_HUB_CACHE": "{}/old"}, "old"),
        ({"HF_HOME": "{}/h", "HF_HUB_CACHE": "{}/own"}, "own"),
    ],
    ids=str,
)
def test_the_cache_is_where_huggingface_hub_has_it(
    variables: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = str(tmp_path / "home")
    monkeypatch.setenv("HOME", home)
    environ = {"HOME": home} | {k: v.replace("{}", str(tmp_path)) for k, v in variables.items()}
    assert hub.cache_folder(environ) == tmp_path.resolve() / expected


@pytest.mark.parametrize("revision", [None, "main", "0123abcd"])
def test_a_cached_model_is_found_by_branch_and_commit(revision: str | None, tmp_path: Path) -> None:
    snapshot = cached(tmp_path)
    assert hub.snapshot(tmp_path, "org/tiny", revision, weights=True) == snapshot


def test_what_is_not_whole_is_not_there(tmp_path: Path) -> None:
    snapshot = cached(tmp_path)
    assert hub.snapshot(tmp_path, "org/tiny", "other", weights=True) is None
    assert hub.snapshot(tmp_path, "org/other", None, weights=True) is None
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    assert hub.snapshot(tmp_path, "org/tiny", None, weights=True) is None
    assert hub.snapshot(tmp_path, "org/tiny", None, weights=False) == snapshot
    (snapshot / "model-2.safetensors").write_text("")
    assert hub.snapshot(tmp_path, "org/tiny", None, weights=True) == snapshot


def test_an_index_that_cannot_be_read_is_no_reason_to_fail(tmp_path: Path) -> None:
    snapshot = cached(tmp_path)
    (snapshot / "model.safetensors.index.json").write_text("[")
    assert hub.snapshot(tmp_path, "org/tiny", None, weights=True) is None


def test_the_token_is_a_variable_or_the_last_logins(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_file\n")
    home = {"HF_HOME": str(tmp_path)}
    assert hub.token(home) == "hf_file"
    assert hub.token(home | {"HF_TOKEN": " hf_variable "}) == "hf_variable"
    assert hub.token(home | {"HUGGING_FACE_HUB_TOKEN": "hf_old"}) == "hf_old"
    assert hub.token({"HF_TOKEN_PATH": str(tmp_path / "none")}) is None
    (tmp_path / "token").write_text("\n")
    assert hub.token(home) is None


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("ON", True), ("0", False)])
def test_whether_the_hub_may_be_asked(value: str, expected: bool) -> None:
    assert hub.offline({"HF_HUB_OFFLINE": value}) is expected
    assert hub.offline({"TRANSFORMERS_OFFLINE": value}) is expected


def test_what_is_fetched_of_a_model() -> None:
    files = [
        *("config.json", "tokenizer.json", "README.md", ".gitattributes", "original/a.pth"),
        *("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        *("pytorch_model.bin", "model.gguf", "plot.png", "onnx/model.onnx"),
    ]
    rest = ["README.md", "config.json", "tokenizer.json"]
    assert hub.needed(files, weights=False) == rest
    assert hub.needed(files, weights=True) == [*rest, files[5], files[6]]
