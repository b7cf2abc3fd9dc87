"""Leases of devices: exclusive among processes, in turn, in the order that the worker is to see."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import WorkerError
from pytest_llem.gpus import Found, Gpu
from pytest_llem.runners.devices import Devices, Lease, Tell
from pytest_llem.runners.lock_folder import LockFolder
from tests.builders import experiment

TWO = (3, 5)
HOLD = """
import os, sys
from pathlib import Path
from pytest_llem.gpus import Found, Gpu
from pytest_llem.runners.devices import Devices
from pytest_llem.runners.lock_folder import LockFolder
from tests.builders import experiment
gpu = Gpu(index=3, uuid="GPU-3", name="A", memory_bytes=None, power_limit_w=None)
devices = Devices(
    find=lambda _: Found(gpus=(gpu,)), folder=LockFolder(Path(sys.argv[1])), session="other"
)
if sys.argv[3] != "0":
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[3]))
lease = devices.lease(experiment(device=sys.argv[2]), place="docker")
print("held", flush=True)
sys.stdin.read()
"""
ROOT = Path(__file__).parents[2]


def gpu(index: int, uuid: str | None = None, **fields: Any) -> Gpu:
    return Gpu(
        index=index,
        uuid=uuid or f"GPU-{index}",
        name="A",
        memory_bytes=None,
        power_limit_w=None,
        **fields,
    )


def devices(folder: Path, *numbers: int, reason: str = "", **fields: Any) -> Devices:
    gpus = tuple(gpu(number) for number in numbers)
    return Devices(
        find=lambda _: Found(gpus=gpus, reason=reason), folder=LockFolder(folder), **fields
    )


@contextmanager
def holder(folder: Path, device: str = "cuda", uid: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has a lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), device, str(uid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def after(act: Callable[[], object], told: list[str]) -> Tell:
    """What hears of a wait, and acts when it first does."""

    def tell(text: str, _: float) -> None:
        if not told:
            act()
        told.append(text)

    return tell


# --- which devices ------------------------------------------------------------------------------


def test_one_engine_on_a_device(tmp_path: Path) -> None:
    host = devices(tmp_path, *TWO)
    first = host.lease(experiment(device="cuda"))
    second = host.lease(experiment(device="auto"))
    assert (first.numbers, second.numbers) == ((3,), (5,))
    assert first.environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "3"}
    first.release()
    assert host.lease(experiment(device="cuda")).numbers == (3,)


def test_several_gpus_are_leased_together(tmp_path: Path) -> None:
    lease = devices(tmp_path, *TWO).lease(experiment(device="cuda", tensor_parallel=2))
    assert lease.numbers == TWO
    assert lease.environment["CUDA_VISIBLE_DEVICES"] == "3,5"
    assert lease.about == {
        "gpus": ["GPU-3", "GPU-5"],
        "alone": False,
        "waited_s": 0.0,
        "unshared": lease.private or None,
    }


def test_what_nvml_does_not_show_is_left_to_the_engine(tmp_path: Path) -> None:
    lease = devices(tmp_path).lease(experiment(device="cuda"))
    assert (lease.numbers, lease.environment, lease.alone) == ((), {}, True)


def test_too_few_gpus_are_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"computes on 2 GPUs, and this host has 1 \(GPU 4: x\)"):
        devices(tmp_path, 3, reason="GPU 4: x").lease(experiment(device="cuda", gpus=2))


def test_a_mig_instance_has_no_number_of_its_own_and_leases_its_gpu(tmp_path: Path) -> None:
    parts = [gpu(0, f"MIG-a/{n}", parent_uuid="GPU-0") for n in (1, 2)]
    whole = devices(tmp_path, 0)
    host = Devices(find=lambda _: Found(gpus=tuple(parts)), folder=LockFolder(tmp_path))
    lease = host.lease(experiment(device="cuda"))
    assert lease.environment["CUDA_VISIBLE_DEVICES"] == "MIG-a/1"
    told: list[str] = []
    assert whole.lease(experiment(device="cuda"), after(lease.release, told)).numbers == (0,)
    assert told


def test_two_instances_of_a_gpu_are_one_lease(tmp_path: Path) -> None:
    parts = tuple(gpu(0, f"MIG-a/{n}", parent_uuid="GPU-0") for n in (1, 2))
    host = Devices(find=lambda _: Found(gpus=parts), folder=LockFolder(tmp_path))
    lease = host.lease(experiment(device="cuda", gpus=2))
    assert lease.environment["CUDA_VISIBLE_DEVICES"] == "MIG-a/1,MIG-a/2"


def test_cuda_does_not_count_gpus_of_other_jobs(tmp_path: Path) -> None:
    host = Devices(find=lambda _: Found(gpus=(gpu(2, cuda_index=0),)), folder=LockFolder(tmp_path))
    lease = host.lease(experiment(device="cuda"))
    assert (lease.numbers, lease.environment["CUDA_VISIBLE_DEVICES"]) == ((2,), "0")


def test_the_studys_own_choice_of_gpus_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def find(environ: Mapping[str, str]) -> Found:
        seen.append(environ.get("CUDA_VISIBLE_DEVICES"))
        return Found()

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    host = Devices(find=find, folder=LockFolder(tmp_path))
    for env in ({}, {"CUDA_VISIBLE_DEVICES": "2"}, {}):
        host.lease(experiment(device="cuda", env=env)).release()
    assert seen == ["1", "2"]


def test_an_experiment_stays_on_the_gpu_of_its_first_cycle(tmp_path: Path) -> None:
    host = devices(tmp_path, *TWO)
    busy = host.lease(experiment(device="cuda"))
    host.lease(experiment(device="cuda"), key="a").release()
    busy.release()
    assert host.lease(experiment(device="cuda"), key="a").numbers == (5,)


def test_the_schedulers_gpu_is_taken_where_there_is_one(tmp_path: Path) -> None:
    host = devices(tmp_path, *TWO, assigned=("GPU-5",))
    lease = host.lease(experiment(device="cuda"))
    other = devices(tmp_path, 3, assigned=("GPU-9",)).lease(experiment(device="cuda"))
    assert (lease.numbers, other.numbers) == ((5,), (3,))


# --- the host -----------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_need_the_host_for_themselves(tmp_path: Path, device: str) -> None:
    host = devices(tmp_path, *TWO)
    lease = host.lease(experiment(device=device))
    assert (lease.numbers, lease.environment, lease.alone) == ((), {}, True)
    told: list[str] = []
    on_gpu = host.lease(experiment(device="cuda"), after(lease.release, told))
    assert told[0].startswith("1 of the GPUs 3, 5, held by pid ")
    told.clear()
    again = host.lease(experiment(device=device), after(on_gpu.release, told))
    assert told[0].startswith("this host to be free of other measurements, for the energy of its")
    again.release()


def test_another_host_that_shares_the_folder_is_another_host(tmp_path: Path) -> None:
    first = devices(tmp_path, host="one").lease(experiment(device="cpu"))
    second = devices(tmp_path, host="two").lease(experiment(device="cpu"))
    assert first.alone
    assert second.alone


def test_who_measured_meanwhile_is_known_whether_still_there_or_gone(tmp_path: Path) -> None:
    host, other = devices(tmp_path, *TWO), devices(tmp_path, *TWO, session="theirs")
    lease = host.lease(experiment(device="cuda"))
    alone = lease.neighbours()
    assert alone.text() == ""
    waits = devices(tmp_path, 3, limit_s=0.0)
    with pytest.raises(WorkerError):
        waits.lease(experiment(device="cuda"))
    # Who only waited has measured nothing.
    assert alone.text() == ""
    neighbour = other.lease(experiment(device="cuda"))
    assert ", session theirs, since " in alone.text()
    beside = lease.neighbours()
    neighbour.release()
    assert alone.text() == "one that has ended meanwhile"
    assert ", session theirs, since " in beside.text()
    assert lease.neighbours().text() == ""


# --- waiting ------------------------------------------------------------------------------------


def test_a_lease_that_is_too_small_is_no_lease(tmp_path: Path) -> None:
    host = devices(tmp_path, *TWO)
    held = host.lease(experiment(device="cuda"))
    told: list[str] = []
    lease = host.lease(experiment(device="cuda", gpus=2), after(held.release, told))
    assert lease.numbers == TWO
    assert len(told) == 1
    assert told[0].startswith(f"2 of the GPUs 3, 5, held by pid {os.getpid()} of ")


def test_who_waits_for_several_is_not_passed_by(tmp_path: Path) -> None:
    host = devices(tmp_path, *TWO)
    held = host.lease(experiment(device="cuda"))
    order: list[str] = []
    impatient = devices(tmp_path, *TWO, limit_s=0.0)

    def tell(*_: object) -> None:
        # The other GPU is free, and somebody waits for both.
        with pytest.raises(
            WorkerError, match=r"^waited \d\S* s for 1 of the GPUs 3, 5, held by pid"
        ):
            impatient.lease(experiment(device="cuda"))
        order.append("passed over")
        # What the first one can't use is nobody's loss.
        devices(tmp_path, 7).lease(experiment(device="cuda")).release()
        held.release()

    assert host.lease(experiment(device="cuda", gpus=2), tell).numbers == TWO
    assert order == ["passed over"]


def test_a_wait_has_a_limit_whose_failure_names_who_has_it(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        mine = devices(tmp_path, 3, session="mine", limit_s=0.3)
        with pytest.raises(WorkerError) as raised:
            mine.lease(experiment(device="cuda"))
    who = rf"pid {process.pid} of \w+, session other, since \d\d:\d\d"
    text = rf"waited 0\.\d s for GPU 3, held by {who}"
    assert raised.match(text)
    assert "--llem-wait" in raised.value.fix
    assert raised.value.kind == "refused"


def test_no_limit_holds_for_what_the_session_itself_measures(tmp_path: Path) -> None:
    held = devices(tmp_path, 3, session="s").lease(experiment(device="cuda"))
    told: list[str] = []
    waits = devices(tmp_path, 3, session="s", limit_s=0.3)
    assert waits.lease(experiment(device="cuda"), after(held.release, told)).waited_s > 0.3


def test_a_device_that_another_program_has_locked_is_waited_for(tmp_path: Path) -> None:
    folder = LockFolder(tmp_path)
    handle = folder.lock("GPU-3")
    assert handle is not None
    with pytest.raises(WorkerError, match=r"for GPU 3, held by another program$"):
        devices(tmp_path, 3, limit_s=0.0).lease(experiment(device="cuda"))
    os.close(handle)


CROWD = """
import json, random, sys, time
from pathlib import Path
from pytest_llem.gpus import Found, Gpu
from pytest_llem.runners.devices import Devices
from pytest_llem.runners.lock_folder import LockFolder
from tests.builders import experiment
gpus = tuple(
    Gpu(index=n, uuid=f"GPU-{n}", name="A", memory_bytes=None, power_limit_w=None) for n in (0, 1)
)
devices = Devices(find=lambda _: Found(gpus=gpus), folder=LockFolder(Path(sys.argv[1])))
draw = random.Random(sys.argv[2])
for _ in range(6):
    asked = draw.choice([{"device": "cuda"}, {"device": "cuda", "gpus": 2}, {"device": "cpu"}])
    lease = devices.lease(experiment(**asked))
    begin = time.monotonic()
    time.sleep(0.01)
    names = [gpu.uuid for gpu in lease.gpus] or ["GPU-0", "GPU-1"]
    print(json.dumps([begin, time.monotonic(), names]))
    lease.release()
"""


def test_in_a_crowd_nobody_is_left_out_and_no_gpu_has_two(tmp_path: Path) -> None:
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(tmp_path), str(seed)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for seed in range(3)
    ]
    said = [process.communicate(timeout=120)[0] for process in crowd]
    rows = [json.loads(line) for text in said for line in text.splitlines()]
    assert len(rows) == 18
    for name in ("GPU-0", "GPU-1"):
        own = sorted((begin, end) for begin, end, names in rows if name in names)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(own))


# --- the dead, and other users --------------------------------------------------------------------


def test_a_lease_ends_with_its_process_and_what_that_may_have_left_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    with holder(tmp_path) as process:
        lease = devices(tmp_path, 3).lease(experiment(device="cuda"), after(process.kill, told))
    assert lease.numbers == (3,)
    assert lease.left == frozenset({"docker"})
    assert f"pid {process.pid} of" in told[0]
    lease.release()
    after_that = devices(tmp_path, 3).lease(experiment(device="cuda"))
    assert after_that.left == frozenset()
    after_that.release()
    assert not list(tmp_path.glob("ticket-*"))
    assert not list((tmp_path / "running").iterdir())


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder that all users may write to, as ``/tmp`` is one."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o1777)
        yield Path(name)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
@pytest.mark.parametrize(("first", "second"), [(0, 65534), (65534, 0), (65534, 65533)])
def test_users_respect_each_others_leases(everybodys: Path, first: int, second: int) -> None:
    folder = everybodys / "locks"
    with holder(folder, uid=first) as theirs:
        assert folder.stat().st_mode & 0o7777 == 0o1777
        found = _lease_as(second, folder, limit_s=0.0)
        assert f"held by pid {theirs.pid} of " in found
    # Freed by the death of a process of another user, whose files nobody else may take away.
    assert _lease_as(second, folder, limit_s=30.0) == "GPU-3"


def _lease_as(uid: int, folder: Path, limit_s: float) -> str:
    """What comes of a lease for another user: its GPU, or why there is none."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if uid:
                os.setgid(uid)
                os.setuid(uid)
            lease = devices(folder, 3, limit_s=limit_s).lease(experiment(device="cuda"))
            text = lease.gpus[0].uuid
        except BaseException as error:
            text = str(error)
        os.write(write_end, text.encode())
        os._exit(0)
    os.close(write_end)
    os.waitpid(pid, 0)
    with os.fdopen(read_end) as file:
        return file.read()


def test_what_is_not_a_ticket_is_no_bodys_place_in_the_queue(tmp_path: Path) -> None:
    host = devices(tmp_path, 3)
    host.lease(experiment(device="cuda")).release()
    for name, text in {
        "ticket-1-00000000.json": "",
        "ticket-2-00000000.json": "[" * 100_000,
        "ticket-3-00000000.json": '{"who": 1}',
        "ticket-x.json": "{}",
    }.items():
        (tmp_path / name).write_text(text)
    assert host.lease(experiment(device="cuda")).numbers == (3,)


def test_a_lease_that_is_held_shows_no_control_characters_of_others(tmp_path: Path) -> None:
    host = devices(tmp_path, 3, session="a\x1b[2Jb\n")
    lease: Lease = host.lease(experiment(device="cuda"))
    with pytest.raises(WorkerError) as raised:
        devices(tmp_path, 3, limit_s=0.0).lease(experiment(device="cuda"))
    assert "session a??2Jb?, since" in str(raised.value)
    lease.release()


def test_locks_that_cannot_be_made_are_an_error_with_its_fix(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkerError, match="can't be opened") as error:
        devices(tmp_path / "file", 3).lease(experiment(device="cuda"))
    assert "LLEM_LOCK_DIR" in error.value.fix
