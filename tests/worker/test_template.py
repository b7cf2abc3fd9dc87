"""What workers are forked from: it looks at itself first, and many forks of it don't hang."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.worker.template import unfit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux")

FORKS = 200
LIMIT_S = 300.0
"""Of all forks together: what hangs, hangs for ever."""

# A template of the fake backend that has imported torch too; its children use two threads. A child
# that has done so before is what a template must not be.
PROGRAM = """
    import os
    import sys
    import torch
    from pytest_llem.worker.template import serve, unfit

    def compute(header):
        torch.set_num_threads(2)
        a = torch.ones(256, 256)
        assert float((a @ a).sum()) == 256.0**3
        assert len(os.listdir("/proc/self/task")) > 1
        os._exit(header["status"])

    if os.fork() == 0:
        torch.set_num_threads(2)
        torch.ones(256, 256) @ torch.ones(256, 256)
        os.write(1, unfit().encode())
        os._exit(0)
    os.wait()
    serve("fake", compute)
"""


def process(folder: Path, threads: int, *targets: str) -> Path:
    """A folder as /proc has one for a process."""
    for number in range(threads):
        (folder / "task" / str(number)).mkdir(parents=True)
    (folder / "fd").mkdir()
    for number, target in enumerate(targets):
        (folder / "fd" / str(number)).symlink_to(target)
    return folder


def test_a_process_that_has_run_nothing_is_fit(tmp_path: Path) -> None:
    assert unfit(process(tmp_path, 1, "/dev/null", "socket:[1]", "/dev/dri")) == ""


def test_a_second_thread_is_refused(tmp_path: Path) -> None:
    assert unfit(process(tmp_path, 3)).startswith("it has 3 threads")


@pytest.mark.parametrize("device", ["/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dri/card0"])
def test_an_open_device_is_refused(tmp_path: Path, device: str) -> None:
    assert f"a device open ({device})" in unfit(process(tmp_path, 1, "/dev/null", device))


class Template:
    """The program above, and what is said to it."""

    def __init__(self, path: Path) -> None:
        self._control, theirs = socket.socketpair()
        path.write_text(textwrap.dedent(PROGRAM))
        third_party = Path(__file__).parents[1] / "third_party"
        self._deadline = time.monotonic() + LIMIT_S
        self._text = b""
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, str(path)],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(third_party)},
            )

    def heard(self) -> dict[str, Any]:
        while b"\n" not in self._text:
            left_s = self._deadline - time.monotonic()
            assert select.select([self._control], [], [], left_s)[0], "a fork hung"
            part = self._control.recv(1 << 16)
            assert part, "the template ended"
            self._text += part
        line, _, self._text = self._text.partition(b"\n")
        return dict(json.loads(line))

    def fork(self, status: int) -> int:
        """Have a child compute, and exit with a status; the status that is told."""
        message = {"frame": "fork", "header": {"status": status}}
        with open(os.devnull, "r+b") as null:  # noqa: PTH123
            streams = [null.fileno()] * 2 + [2]
            socket.send_fds(self._control, [json.dumps(message).encode() + b"\n"], streams)
        assert self.heard()["frame"] == "forked"
        return int(self.heard()["status"])

    def close(self) -> None:
        self._control.close()


@pytest.fixture
def template(tmp_path: Path) -> Iterator[Template]:
    started = Template(tmp_path / "program.py")
    yield started
    started.close()
    started.process.kill()
    started.process.communicate()


@pytest.mark.engine
def test_two_hundred_forks_compute_on_two_threads_each(template: Template) -> None:
    pytest.importorskip("torch")
    assert template.heard() == {"frame": "ready", "refused": ""}
    assert [template.fork(number % 7) for number in range(FORKS)] == [n % 7 for n in range(FORKS)]
    template.close()
    output, _ = template.process.communicate(timeout=60)
    # What a template that had computed would have said.
    assert "parallel work ran in it" in output.decode()
    assert template.process.returncode == 0
