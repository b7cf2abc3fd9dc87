"""What belongs to a model: files, digests, and links that lead elsewhere."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pytest_llem.errors import ContainerError
from pytest_llem.runners.docker.contents import digest, fingerprint, links_out, tree


def names(folder: Path, *, weights: bool = True) -> list[str]:
    return [file.name for file in tree(folder, weights=weights)]


def fill(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def cached(cache: Path, *, revision: str = "main") -> Path:
    """A model in the layout of the hub's cache; returns its snapshot."""
    own = cache / "models--org--tiny"
    snapshot = own / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (own / "blobs").mkdir()
    (own / "refs").mkdir()
    (own / "refs" / revision).write_text("0123abcd")
    for name in ("config.json", "model.safetensors"):
        blob = hashlib.sha256(name.encode()).hexdigest()
        (own / "blobs" / blob).write_text(name)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    return snapshot


def test_only_the_weights_that_are_loaded_belong_to_a_model(tmp_path: Path) -> None:
    fill(
        tmp_path,
        *("config.json", "model.safetensors", "pytorch_model.bin", "model.gguf", "tokenizer.json"),
        *(".git/config", ".gitattributes", "onnx/model.onnx", "1_Dense/model.safetensors"),
    )
    kept = ["1_Dense/model.safetensors", "config.json", "model.safetensors", "tokenizer.json"]
    assert names(tmp_path) == kept


def test_random_weights_need_none(tmp_path: Path) -> None:
    fill(tmp_path, "config.json", "model.safetensors", "1_Dense/model.safetensors")
    assert names(tmp_path, weights=False) == ["config.json"]


def test_a_folder_linked_into_itself_is_read_once(tmp_path: Path) -> None:
    fill(tmp_path, "config.json", "sub/a.txt")
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    assert names(tmp_path) == ["config.json", "sub/a.txt"]


def test_the_digest_is_of_names_and_contents_alone(tmp_path: Path) -> None:
    first, second = fill(tmp_path / "a", "config.json"), fill(tmp_path / "b", "config.json")
    os.utime(second / "config.json", (1, 1))
    assert digest(tree(first)) == digest(tree(second))
    assert fingerprint(tree(first)) != fingerprint(tree(second))
    (second / "config.json").write_text("CONFIG.json")
    assert digest(tree(first)) != digest(tree(second))


def test_a_blob_named_by_its_digest_is_not_read(tmp_path: Path) -> None:
    snapshot = cached(tmp_path)
    before = digest(tree(snapshot))
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in snapshot.iterdir():
        (plain / file.name).write_text(file.read_text())
    assert digest(tree(plain)) == before


def test_a_changed_file_has_another_fingerprint(tmp_path: Path) -> None:
    fill(tmp_path, "config.json")
    before = fingerprint(tree(tmp_path))
    os.utime(tmp_path / "config.json", (1, 1))
    assert fingerprint(tree(tmp_path)) != before


def test_the_blobs_of_the_hubs_cache_are_one_place(tmp_path: Path) -> None:
    snapshot = cached(tmp_path)
    blobs = snapshot.parents[1] / "blobs"
    assert links_out(snapshot, snapshot) == [(blobs, blobs)]


def test_a_link_that_stays_inside_needs_nothing(tmp_path: Path) -> None:
    fill(tmp_path, "config.json")
    (tmp_path / "alias.json").symlink_to("config.json")
    (tmp_path / "broken").symlink_to("nowhere")
    assert links_out(tmp_path, tmp_path) == []


def test_a_link_is_sought_where_its_text_leads_from_the_containers_path(tmp_path: Path) -> None:
    folder, elsewhere = fill(tmp_path / "m", "config.json"), fill(tmp_path / "other", "big.bin")
    (folder / "model.bin").symlink_to("../other/big.bin")
    seen_at = Path("/seen/at")
    found = links_out(folder, seen_at)
    assert found == [(elsewhere / "big.bin", Path("/seen/other/big.bin"))]


def test_links_behind_a_link_are_followed(tmp_path: Path) -> None:
    folder = fill(tmp_path / "m", "config.json")
    fill(tmp_path / "parts", "a.bin")
    fill(tmp_path / "far", "b.bin")
    (folder / "parts").symlink_to(tmp_path / "parts")
    (tmp_path / "parts" / "b.bin").symlink_to("../far/b.bin")
    found = {str(sought.relative_to(tmp_path)) for _, sought in links_out(folder, folder)}
    assert found == {"parts", "far/b.bin"}


def test_far_too_many_links_are_refused(tmp_path: Path) -> None:
    folder = fill(tmp_path / "m", "config.json")
    for number in range(300):
        fill(tmp_path / "parts", str(number))
        (folder / str(number)).symlink_to(f"../parts/{number}")
    with pytest.raises(ContainerError, match="links lead out of it") as caught:
        links_out(folder, folder)
    assert "holds its files" in caught.value.fix
