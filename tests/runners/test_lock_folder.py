"""The folder of the locks: when others may have another one, and what tidying up does to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_llem.errors import WorkerError
from pytest_llem.runners.lock_folder import LockFolder, why_private

LINE = "{number} 1 {device} {part} {point} rw,nosuid shared:1 - ext4 /dev/sda rw\n"
ROOT = ("8:1", "/", "/")


def tree(
    tmp_path: Path, ours: list[tuple[str, str, str]], first: list[tuple[str, str, str]]
) -> Path:
    """What stands for ``/``, with the mounts that this process and the first one see."""
    for who, mounts in {"self": ours, "1": first}.items():
        folder = tmp_path / "proc" / who
        folder.mkdir(parents=True)
        if mounts:
            (folder / "mountinfo").write_text(
                "".join(
                    LINE.format(number=number, device=device, part=part, point=point)
                    for number, (device, part, point) in enumerate(mounts, 20)
                )
            )
    return tmp_path


@pytest.mark.parametrize(
    ("ours", "first", "words"),
    [
        ([ROOT], [ROOT], ""),
        ([ROOT, ("0:9", "/", "/tmp")], [ROOT, ("0:9", "/", "/tmp")], ""),
        ([ROOT, ("0:9", "/", "/home")], [ROOT], ""),
        ([("0:30", "/@", "/")], [("0:30", "/@", "/")], ""),
        ([ROOT], [], ""),
        ([], [], ""),
        ([ROOT, ("0:9", "/", "/tmp")], [ROOT], "a mount of its own"),
        ([ROOT, ("8:1", "/tmp/systemd-private-1/tmp", "/tmp")], [ROOT], "a mount of its own"),
        ([ROOT, ("8:1", "/tmp/systemd-private-1/tmp", "/tmp")], [], "systemd's PrivateTmp"),
        ([ROOT, ("8:1", "/tmp-inst/alice", "/tmp")], [], "are private"),
    ],
)
def test_private_temporary_files_are_seen_in_the_mounts(
    tmp_path: Path, ours: list[tuple[str, str, str]], first: list[tuple[str, str, str]], words: str
) -> None:
    found = why_private(Path("/tmp/locks"), tree(tmp_path, ours, first))
    assert bool(found) == bool(words)
    assert words in found


def test_a_container_and_a_users_own_folder_are_private(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir(mode=0o700)
    assert "other users can't reach own" in why_private(tmp_path / "own" / "locks", tmp_path)
    (tmp_path / ".dockerenv").touch()
    assert "this is a container" in why_private(Path("/tmp"), tmp_path)


def test_where_the_locks_are_does_not_depend_on_each_users_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLEM_LOCK_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert LockFolder().path == Path("/tmp/pytest-llem")
    monkeypatch.setenv("LLEM_LOCK_DIR", str(tmp_path))
    assert LockFolder().path == tmp_path


def test_a_lock_whose_file_was_tidied_away_is_taken_anew(tmp_path: Path) -> None:
    folder = LockFolder(tmp_path)
    first = folder.lock("a/b")
    assert first is not None
    assert folder.lock("a/b") is None
    os.close(first)
    stale = os.open(tmp_path / "a_b.lock", os.O_RDONLY)
    (tmp_path / "a_b.lock").unlink()
    second = folder.lock("a/b")
    assert second is not None
    assert not os.path.samestat(os.fstat(second), os.fstat(stale))
    for handle in (second, stale):
        os.close(handle)


def test_shared_locks_are_for_several_and_keep_one_alone_out(tmp_path: Path) -> None:
    folder = LockFolder(tmp_path)
    handles = [folder.lock("host", shared=True) for _ in range(2)]
    assert None not in handles
    assert folder.lock("host") is None
    for handle in handles:
        assert handle is not None
        os.close(handle)
    alone = folder.lock("host")
    assert alone is not None
    assert folder.lock("host", shared=True) is None
    os.close(alone)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkerError, match=r"the lock a\.lock of a device can't be opened"):
        LockFolder(tmp_path).lock("a")
    assert not (tmp_path / "elsewhere").exists()
