"""Fills a volume from standard input: run in a container of its own, as ``python3 -c <this text>``.

Python 3.10+, standard library only. Arguments: the folder, and the digest of what belongs there.
Says ``here`` where it is there already; else ``send``, takes a tar archive whose last member is the
mark of its end, and says ``done`` once everything is on the disk. An archive that breaks off leaves
no mark, so that nobody takes the folder for complete; what is left of it is removed the next time.

It ends when nothing comes for a minute, as whoever started it is gone then.
"""

import contextlib
import os
import select
import shutil
import sys
import tarfile
from pathlib import Path

MARK = ".llem-complete"
SILENCE_S = 60.0
LOST = 75


class Input:
    """Standard input, read as long as something comes."""

    def read(self, count: int) -> bytes:
        """At most so many bytes; none at the end."""
        ready, _, _ = select.select([0], [], [], SILENCE_S)
        return os.read(0, count) if ready else b""


def say(line: str) -> None:
    """Write a line to whoever waits for it."""
    os.write(1, line.encode() + b"\n")


def clear(folder: Path) -> None:
    """Remove what an interrupted copy left."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def put(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Write one member, to the disk."""
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(member.mode)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(member)
    assert source is not None
    with path.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        os.fsync(file.fileno())
    if path.stat().st_size != member.size:
        raise tarfile.ReadError("the archive broke off")
    path.chmod(member.mode)


def unpack(folder: Path) -> bool:
    """Put everything into the folder; False for an archive without its end."""
    with tarfile.open(fileobj=Input(), mode="r|", bufsize=1 << 20) as archive:  # type: ignore[call-overload]
        for member in archive:
            if member.name == MARK:
                return True
            put(archive, member, folder / member.name)
    return False


def main(folder: Path, digest: str) -> int:
    """Fill the folder; returns the exit status."""
    # What it writes is for whatever user engines run as.
    os.umask(0o022)
    mark = folder / MARK
    with contextlib.suppress(OSError):
        if mark.read_text() == digest:
            say("here")
            return 0
    clear(folder)
    say("send")
    try:
        complete = unpack(folder)
    except (tarfile.TarError, EOFError):
        complete = False
    except OSError as error:
        say(f"failed: {error.strerror or error}")
        return 1
    if not complete:
        return LOST
    mark.write_text(digest)
    say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
