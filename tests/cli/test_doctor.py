"""``python -m pytest_llem doctor``: the real command, and its rows on made-up hosts."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.cli.check import Check, as_json, as_text, is_well
from pytest_llem.cli.containers import check_containers
from pytest_llem.cli.doctor import SILENT, check_results, in_time
from pytest_llem.cli.engines import ask, one_is_enough
from pytest_llem.cli.machine import (
    check_cpu,
    check_gpus,
    check_platform,
    check_python,
)
from pytest_llem.cli.meters import judge_meters
from pytest_llem.runners.detect import Detected
from pytest_llem.runners.docker.daemon import Daemon as Docker
from pytest_llem.runners.docker.errors import translate
from pytest_llem.worker.beside import describe_meters
from tests.fakes import ScriptedTransport
from tests.rig.docker.daemon import Daemon
from tests.rig.fixtures import MakePowercap, NvmlRig
from tests.rig.nvml import H100
from tests.rig.powercap import Zone, packages, without_privilege

TESTS = Path(__file__).parents[1]
FAKE = TESTS / "third_party"
HANG = TESTS / "third_party_hang"


def doctor(
    folder: Path, *arguments: str, path: tuple[Path, ...] = (FAKE,), **environ: str
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, its output in pipes."""
    return subprocess.run(
        [sys.executable, "-m", "pytest_llem", "doctor", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **environ},
    )


def answered(
    folder: Path,
    *arguments: str,
    path: tuple[Path, ...] = (FAKE,),
    limit_s: float = 60.0,
    **environ: str,
) -> subprocess.CompletedProcess[str]:
    """The same, asked again where this machine is too busy for its limits: three times at most.

    Then it says that a worker didn't answer which does, or it takes longer than ``limit_s``.
    """
    for _ in range(3):
        began_s = time.monotonic()
        done = doctor(folder, *arguments, path=path, **environ)
        took_s = time.monotonic() - began_s
        silent = done.stdout.count("didn't answer") - (HANG in path)
        if took_s < limit_s and not silent:
            break
    # What a hanging engine is given is most of the limit; the rest is this interpreter's start.
    assert took_s < limit_s + (0.0 if took_s < limit_s else 5 * start_s())
    return done


def start_s() -> float:
    """What it takes at the moment to start an interpreter; a tenth of a second or two at rest."""
    began_s = time.monotonic()
    subprocess.run([sys.executable, "-c", "import json, pytest_llem"], check=True)
    return time.monotonic() - began_s


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Rows of the JSON by name; the document itself is checked on the way."""
    document = json.loads(done.stdout)
    assert set(document) == {"ok", "checks"}
    found = {row["name"]: row for row in document["checks"]}
    assert len(found) == len(document["checks"])
    for row in found.values():
        assert set(row) == {"name", "status", "detail", "fix"}
        assert row["status"] in {"ok", "problem", "note"}
        assert row["fix"] or row["status"] != "problem"
    assert document["ok"] == all(row["status"] != "problem" for row in found.values())
    assert done.returncode == (0 if document["ok"] else 1)
    assert not done.stderr
    return found


# --- the command ---------------------------------------------------------------------------


def test_json_has_a_row_for_everything(tmp_path: Path) -> None:
    found = rows(answered(tmp_path, "--json"))
    assert {"python", "platform", "cpu", "gpu", "meter rapl", "docker", "nvidia toolkit"} < set(
        found
    )
    fake = {"name": "backend fake", "status": "ok", "detail": "llem-fake-engine 1.0", "fix": None}
    assert found["backend fake"] == fake
    assert "backend pytorch" in found
    assert found["meter estimate"]["detail"] == (
        "estimates cpu:0 (cpu): a model, not a measurement"
    )
    assert found["meter fixed"]["detail"] == "cpu:0 (cpu), brought by llem-fake 1.0"
    assert found["results"]["status"] == "ok"
    assert not list(tmp_path.iterdir())


def on_one_screen(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of its text, which fit 80 × 24 with a prompt behind."""
    lines = done.stdout.splitlines()
    assert len(lines) < 24, done.stdout
    # Commands and paths are not broken; nothing else is longer.
    assert all(len(line) <= 80 for line in lines if "fix: " not in line and "/" not in line)
    assert done.stdout.isascii()
    assert not done.stderr
    return lines


def test_a_machine_with_a_gpu_is_well(tmp_path: Path, nvml_rig: NvmlRig) -> None:
    gpu = nvml_rig(H100, opened=False).environment()
    done = answered(tmp_path, path=(), limit_s=10.0, **gpu)
    lines = on_one_screen(done)
    (nvml,) = (line for line in lines if "meter nvml" in line)
    assert nvml.startswith("ok       meter nvml")
    assert "gpu:GPU-" in nvml
    if any(line.startswith("ok       backend pytorch") for line in lines):
        assert lines[-1] == "No problems."
        assert done.returncode == 0
    else:
        assert "backend pytorch" in lines[-1]
        assert done.returncode == 1


def test_no_gpu_and_a_daemon_that_is_not_there(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/no.sock"
    done = answered(tmp_path, path=(), limit_s=10.0, DOCKER_HOST=url)
    lines = on_one_screen(done)
    assert done.returncode == 1
    assert "\n         fix: sudo systemctl start docker" in done.stdout
    assert any("meter nvml" in line for line in lines)
    assert re.fullmatch(r"\d problems?: (.*, )?docker", lines[-1])


@pytest.fixture
def hung_daemon(tmp_path: Path) -> Iterator[str]:
    """Address of a socket that takes whatever is said, and never answers."""
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listening:
        Path(short).chmod(0o755)
        path = Path(short) / "docker.sock"
        listening.bind(str(path))
        path.chmod(0o777)
        listening.listen(8)
        yield f"unix://{path}"


def test_counters_of_roots_alone_and_a_hung_daemon_are_told_in_time(
    tmp_path: Path, powercap: MakePowercap, hung_daemon: str
) -> None:
    tree = powercap(packages(1, like=Zone(name="", mode=0o000)), ticking=False)
    tmp_path.chmod(0o755)
    began_s = time.monotonic()
    done = subprocess.run(
        without_privilege([sys.executable, "-m", "pytest_llem", "doctor"]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "LLEM_POWERCAP": str(tree.root),
            "DOCKER_HOST": hung_daemon,
        },
    )
    took_s = time.monotonic() - began_s
    lines = on_one_screen(done)
    assert done.returncode == 1
    # Should the machine have stood still, the rows say so; the limits are the command's own.
    assert took_s < 10.0 or "didn't answer" in done.stdout
    assert any(line.startswith("problem  meter rapl") for line in lines)
    assert f"\n         fix: sudo chmod a+r {tree.root}/intel-rapl" in done.stdout
    assert any(line.startswith("problem  docker") for line in lines)
    assert "docker" in lines[-1]


def test_whatever_takes_too_long_has_a_row_of_its_own() -> None:
    never = threading.Event()

    def look() -> list[Check]:
        never.wait()
        return []

    found = Check("docker", "ok", "29.0")
    assert in_time(lambda: [found], SILENT, 60.0)() == [found]
    assert in_time(look, SILENT, 0.01)() == [SILENT]
    never.set()


def test_a_backend_that_hangs_is_a_problem_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    done = answered(tmp_path, "--json", path=(FAKE, HANG), limit_s=10.0)
    found = rows(done)
    assert done.returncode == 1
    assert found["backend hang"]["status"] == "problem"
    assert "didn't answer" in found["backend hang"]["detail"]
    assert 'python -c "import llem_hang"' in found["backend hang"]["fix"]
    assert "pip uninstall llem-hang" in found["backend hang"]["fix"]
    assert found["backend fake"]["status"] == "ok"


def test_a_missing_engine_and_a_place_that_can_not_be_written_are_problems(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    found = rows(doctor(tmp_path, "--json", LLEM_FAKE_MISSING="1"))
    assert found["backend fake"]["detail"] == "not installed: llem-fake-engine"
    assert found["backend fake"]["fix"] == "pip install llem-fake-engine"
    assert found["results"]["status"] == "problem"
    assert "not a directory" in found["results"]["detail"]


def test_a_command_must_be_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_llem"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "COMMAND" in done.stderr


# --- what workers say ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "status", "words"),
    [
        ([b'{"frame": "error", "message": "no module x"}\n'], None, "no module x"),
        ([b'{"frame": "phase"}\n'], None, "didn't begin with a hello"),
        ([b'{"frame": "hello", "versions": 3}\n'], None, "didn't begin with a hello"),
        ([b"chatter\n"], None, "isn't understood"),
        ([b'{"frame": "hel'], 3, "exit status 3"),
        ([], -11, "SIGSEGV"),
        ([], None, "didn't answer"),
    ],
)
def test_a_worker_that_does_not_say_hello_is_a_problem(
    chunks: list[bytes], status: int | None, words: str
) -> None:
    transport = ScriptedTransport(chunks, status=status)
    row = ask("pytorch", transport, 0.05, transport.clock)
    assert row.status == "problem"
    assert words in row.detail
    # Its own package is not to be uninstalled.
    assert row.fix == 'python -c "import pytest_llem.backends.pytorch"  # shows why'


def test_one_engine_of_ours_is_enough() -> None:
    here = Check("backend pytorch", "ok", "torch 2.13.0")
    missing = Check("backend vllm", "problem", "not installed: vllm", "pip install vllm")
    hung = Check("backend tensorrt", "problem", "its worker didn't answer within 5 s", "why")
    theirs = Check("backend fake", "problem", "not installed: fake", "pip install fake")
    rows = one_is_enough([here, missing, hung, theirs])
    assert [row.status for row in rows] == ["ok", "note", "problem", "problem"]
    assert rows[1].fix == "pip install vllm"
    # Without any, each is.
    assert one_is_enough([missing, theirs]) == [missing, theirs]


def test_versions_are_shown_and_missing_ones_named() -> None:
    some = b'{"frame": "hello", "versions": {"a": "1", "b": null}, "install": "get b"}\n'
    transport = ScriptedTransport([some[:20], some[20:]])
    row = ask("pytorch", transport, 5.0, transport.clock)
    assert row == Check("backend pytorch", "problem", "not installed: b", "get b")
    every = b'{"frame": "hello", "versions": {"a": "1", "b": "2"}}\n'
    transport = ScriptedTransport([every])
    row = ask("pytorch", transport, 5.0, transport.clock)
    assert row == Check("backend pytorch", "ok", "a 1, b 2")


# --- made-up hosts -------------------------------------------------------------------------


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def anyone(_path: Path, _mode: int) -> bool:
    return True


def nobody(_path: Path, _mode: int) -> bool:
    return False


def rapl_row(monkeypatch: pytest.MonkeyPatch, root: Path) -> Check:
    """The row of a host with a powercap tree, by what a worker says of it."""
    monkeypatch.setenv("LLEM_POWERCAP", str(root))
    checks = judge_meters({"frame": "hello", "meters": describe_meters()})
    return next(check for check in checks if check.name == "meter rapl")


def test_rapl_that_can_be_read(powercap: MakePowercap, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = powercap(packages(2))
    row, _ = tree.calmly(lambda: rapl_row(monkeypatch, tree.root))
    assert (row.status, row.fix) == ("ok", None)
    assert row.detail == "cpu:0, cpu:1, dram:0, dram:1 (cpu); cpu:0, cpu:1, dram:0, dram:1 (cuda)"


def test_rapl_that_is_broken_has_no_command(
    powercap: MakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = rapl_row(monkeypatch, powercap([Zone(name="package-0", text="?")]).root)
    assert (row.status, row.fix) == ("note", None)
    assert "holds no number" in row.detail
    assert row.detail.endswith("the energy is null")


ROW = """
import json
from pytest_llem.cli.meters import judge_meters
from pytest_llem.worker.beside import describe_meters
checks = judge_meters({"frame": "hello", "meters": describe_meters()})
print(json.dumps([[c.status, c.detail, c.fix] for c in checks if c.name == "meter rapl"]))
"""


def test_rapl_that_is_roots_alone_says_why_and_what_to_do(powercap: MakePowercap) -> None:
    tree = powercap(packages(1, like=Zone(name="", mode=0o000)), ticking=False)
    done = subprocess.run(
        without_privilege([sys.executable, "-c", ROW]),
        capture_output=True,
        text=True,
        env={**os.environ, "LLEM_POWERCAP": str(tree.root)},
        check=True,
    )
    ((status, detail, fix),) = json.loads(done.stdout)
    assert status == "problem"
    assert detail.startswith("cpu:0, dram:0: not readable by this user: since CVE-2020-8694")
    assert fix.startswith(f"sudo chmod a+r {tree.root}/intel-rapl*:*/energy_uj  # until")


def test_no_rapl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = rapl_row(monkeypatch, tmp_path)
    assert (row.status, row.fix) == ("note", None)
    assert row.detail.startswith(f"nothing to read: no RAPL counter in {tmp_path}")


VERSIONS = {
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC": (
        "535.104.05"
    ),
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build": (
        "570.86.15"
    ),
}


def gpus(count: int, model: str = "NVIDIA H200") -> dict[str, str]:
    return {
        f"proc/driver/nvidia/gpus/0000:{number:02}:00.0/information": (
            f"Model: \t\t {model}\nIRQ:   \t\t 16\nDevice Minor: \t {number}\n"
        )
        for number in range(count)
    }


def nodes(count: int) -> dict[str, str]:
    names = [*(f"nvidia{number}" for number in range(count)), "nvidiactl", "nvidia-uvm"]
    return {f"dev/{name}": "" for name in names}


@pytest.mark.parametrize("text", VERSIONS)
def test_gpus_with_their_driver(tmp_path: Path, text: str) -> None:
    write(tmp_path, {**gpus(2), **nodes(2), "proc/driver/nvidia/version": text})
    row = check_gpus(tmp_path, anyone)
    assert row == Check("gpu", "ok", f"2 x NVIDIA H200, driver {VERSIONS[text]}")


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ({}, "note", "no NVIDIA GPU"),
        ({"dev/dxg": ""}, "note", "WSL 2"),
        (gpus(1), "note", "no /dev/nvidia0"),
        (nodes(1), "ok", "1 x unknown model"),
        ({**gpus(8), **nodes(1)}, "ok", "1 of 8"),
        # The control node alone is no GPU.
        ({"dev/nvidiactl": ""}, "note", "no NVIDIA GPU"),
    ],
)
def test_gpus_half_there(tmp_path: Path, files: dict[str, str], status: str, words: str) -> None:
    write(tmp_path, files)
    row = check_gpus(tmp_path, anyone)
    assert row.status == status
    assert words in row.detail


def test_gpus_that_this_user_may_not_open_are_a_problem(tmp_path: Path) -> None:
    write(tmp_path, {**gpus(1), **nodes(1)})
    row = check_gpus(tmp_path, lambda path, _: path.name != "nvidia-uvm")
    assert row.status == "problem"
    assert "may not open nvidia-uvm in" in row.detail
    assert row.fix is not None
    assert row.fix.startswith("sudo chmod a+rw /dev/nvidia*")


def test_the_processor_is_named_and_else_the_architecture(tmp_path: Path) -> None:
    assert check_cpu(tmp_path, "aarch64").detail.startswith("aarch64, ")
    write(tmp_path, {"proc/cpuinfo": "model\t: 7\nmodel name\t: Some CPU\nmodel name\t: Other\n"})
    assert check_cpu(tmp_path, "x86_64").detail.startswith("Some CPU, ")


@pytest.mark.parametrize(("minor", "status"), [(9, "problem"), (10, "ok"), (14, "ok")])
def test_python_must_be_new_enough(minor: int, status: str) -> None:
    row = check_python((3, minor, 1), "/usr/bin/python")
    assert row.status == status
    assert (row.fix is None) == (status == "ok")


@pytest.mark.parametrize(
    ("system", "status"),
    [("Linux", "ok"), ("Darwin", "ok"), ("Windows", "problem"), ("FreeBSD", "note")],
)
def test_windows_is_sent_to_wsl(system: str, status: str) -> None:
    row = check_platform(system, "1.0", "x86_64")
    assert row.status == status
    assert ("WSL 2" in row.detail) == (system == "Windows")


CLI, SOCKET = Path("/usr/bin/docker"), Path("/var/run/docker.sock")


def found(**fields: Any) -> Detected:
    names = ("cli", "socket", "remote", "container", "toolkit", "cdi")
    return Detected(**{**dict.fromkeys(names), "accessible": False, **fields})


def no_daemon(environ: Mapping[str, str], timeout_s: float) -> Docker:
    raise translate(OSError("No such file or directory"), "connect", url="unix:///the.sock")


@pytest.mark.parametrize(
    ("detected", "words"),
    [
        (found(), "no program docker on PATH"),
        (found(container=Path("/.dockerenv")), "this is itself inside a container"),
        (found(cli=CLI), "/usr/bin/docker, but Docker isn't running at unix:///the.sock"),
        (found(socket=SOCKET), "Docker isn't running at unix:///the.sock"),
    ],
)
def test_a_docker_that_nobody_asked_for_is_a_note(detected: Detected, words: str) -> None:
    row, _ = check_containers(detected, {}, no_daemon)
    assert row.status == "note"
    assert words in row.detail


def test_a_docker_that_was_asked_for_and_is_not_there_is_a_problem(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/no.sock"
    row, _ = check_containers(found(cli=CLI), {"DOCKER_HOST": url})
    assert (row.status, row.name) == ("problem", "docker")
    assert row.detail == f"Docker isn't running at {url}: there is no such socket"
    assert (row.fix or "").startswith("sudo systemctl start docker")


def test_a_docker_that_hangs_is_a_problem_whoever_chose_it() -> None:
    def hangs(environ: Mapping[str, str], timeout_s: float) -> Docker:
        raise translate(TimeoutError("timed out"), "connect", url="unix:///the.sock")

    row, _ = check_containers(found(cli=CLI, socket=SOCKET), {}, hangs)
    assert row.status == "problem"
    assert row.detail == "Docker at unix:///the.sock didn't answer in time"
    assert (row.fix or "").startswith("sudo systemctl restart docker")


def test_a_context_that_does_not_exist_is_a_problem() -> None:
    row, _ = check_containers(found(cli=CLI), {"DOCKER_CONTEXT": "no-such-context"})
    assert row.status == "problem"
    assert row.detail == "there is no Docker context no-such-context"


def test_a_daemon_that_answers_is_named(docker_daemon: Daemon) -> None:
    docker, toolkit = check_containers(found(), {"DOCKER_HOST": docker_daemon.url})
    version = docker_daemon.client().version()["Version"]
    assert docker.status == "ok"
    assert docker.detail.startswith(f"{version} at {docker_daemon.url}, on host ")
    assert toolkit.status == "note"


def test_the_toolkit_of_another_host_is_not_looked_for_here(remote_daemon: Daemon) -> None:
    docker, toolkit = check_containers(found(), {"DOCKER_HOST": remote_daemon.url})
    assert docker.status == "ok"
    assert toolkit.detail == "not looked for: the daemon is on another host"


def test_the_toolkit_is_a_note_where_it_is_missing() -> None:
    _, row = check_containers(found(), {}, no_daemon)
    assert (row.status, row.fix) == ("note", None)
    assert row.detail == "not found; only GPUs in containers need it"
    _, row = check_containers(found(gpu=Path("/dev/nvidia0")), {}, no_daemon)
    assert (row.fix or "").startswith("# Install NVIDIA Container Toolkit")
    both = found(toolkit=Path("/usr/bin/nvidia-ctk"), cdi=Path("/etc/cdi/nvidia.yaml"))
    _, row = check_containers(both, {}, no_daemon)
    assert row.status == "ok"
    assert "/usr/bin/nvidia-ctk and /etc/cdi/nvidia.yaml" in row.detail


@pytest.mark.parametrize("there", [True, False])
def test_results_need_a_folder_that_this_user_may_write(tmp_path: Path, there: bool) -> None:
    place = tmp_path / "results" if there else tmp_path
    place.mkdir(exist_ok=True)
    assert check_results(tmp_path, anyone).status == "ok"
    row = check_results(tmp_path, nobody)
    assert row.status == "problem"
    assert str(place) in row.detail
    # A folder that isn't ours is never given away.
    command = 'chown -R "$USER"' if there else 'install -d -o "$USER"'
    assert str(row.fix).startswith(f'sudo {command} "{tmp_path / "results"}"\n')


# --- the table -----------------------------------------------------------------------------


def test_the_table_is_aligned_and_commands_are_not_broken() -> None:
    command = "mend " * 30 + "it"
    checks = [
        Check("a", "ok", "fine"),
        Check("longer", "problem", "word " * 30, f"{command}\nagain"),
    ]
    lines = as_text(checks).splitlines()
    assert lines[0] == "ok       a       fine"
    assert lines[1].startswith("problem  longer  word word")
    assert lines[2].startswith(" " * 17 + "word")
    assert lines[-4:] == [
        f"         fix: {command}",
        "              again",
        "",
        "1 problem: longer",
    ]


def test_what_is_no_problem_has_one_line_unless_all_is_asked_for() -> None:
    checks = [Check("a", "note", "word " * 30, "mend it"), Check("b", "ok", "fine")]
    lines = as_text(checks).splitlines()
    assert lines[0].startswith("note     a  word word")
    assert lines[0].endswith("word ...")
    assert len(lines[0]) <= 80
    assert lines[1:] == [
        "ok       b  fine",
        "",
        "doctor -v says all of it, and how to get what isn't here.",
        "No problems.",
    ]
    whole = as_text(checks, whole=True)
    assert whole.count("word") == 30
    assert "\n         fix: mend it\n" in whole
    assert "doctor -v" not in whole + as_text(checks[1:])


def test_only_problems_make_it_unwell() -> None:
    well = [Check("a", "ok", "x"), Check("b", "note", "y", "z")]
    assert is_well(well)
    assert as_text(well, whole=True).endswith("No problems.")
    assert json.loads(as_json(well))["ok"] is True
    assert not is_well([*well, Check("c", "problem", "x", "y")])
