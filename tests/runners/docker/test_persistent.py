"""Containers that are kept for a backend, with a real daemon and a simulated GPU."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llem.errors import ContainerError, WorkerError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Launch
from pytest_llem.gpus import Found, Gpu
from pytest_llem.records import Measurement
from pytest_llem.runners.beside import HostMeters
from pytest_llem.runners.conversation import Listener, Progress
from pytest_llem.runners.devices import Devices
from pytest_llem.runners.docker.execed import ExecTransport
from pytest_llem.runners.docker.runner import DockerRunner
from pytest_llem.runners.lock_folder import LockFolder
from pytest_llem.runners.workers import Task, Workers
from tests.builders import DIGEST, experiment
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import BASE

if TYPE_CHECKING:
    from docker.models.containers import Container

THIRD_PARTY = Path(__file__).parents[2] / "third_party"
GIB = 2**30
TOTAL = 80 * GIB
NOW = Listener()
PLAIN: Mapping[str, Any] = {
    "device": "cpu",
    "idle": "none",
    "warmup": "none",
    "meters": ("fixed",),
    "output_tokens": 3,
}
GPU: Mapping[str, Any] = {"device": "cuda", "power_trace_hz": "none", "meters": ("nvml",)}

pytestmark = pytest.mark.docker


class During(Listener):
    """Does something once, when a phase is reached."""

    def __init__(self, phase: str, act: Callable[[], object]) -> None:
        self._phase = phase
        self._act = act
        self.done = False

    def progress(self, progress: Progress) -> None:
        if progress.phase == self._phase and not self.done:
            self.done = True
            self._act()


class Session:
    """The workers of a pytest session that keeps containers."""

    def __init__(self, daemon: Daemon, folder: Path, **settings: Any) -> None:
        self.daemon = daemon
        self.client = daemon.client()
        self.folder = folder
        self.settings = {"strategy": "persistent", **settings}
        board = Gpu(index=0, uuid="GPU-0", name="A", memory_bytes=TOTAL, power_limit_w=None)
        self.runner = DockerRunner({"DOCKER_HOST": daemon.url}, kept_s=4.0)
        self.workers = Workers(
            HostMeters(folder / "meters"),
            Devices(find=lambda _: Found(gpus=(board,)), folder=LockFolder(folder / "locks")),
            _runners={"docker": self.runner},
        )
        self.count = 0

    def measure(
        self,
        options: Mapping[str, Any] | None = None,
        listener: Listener = NOW,
        *,
        backend: str = "fake",
        digest: str = DIGEST,
        **fields: Any,
    ) -> Measurement:
        self.count += 1
        given: Experiment = experiment(
            backend=backend,
            options=dict(options or {}),
            weights="random",
            **{**PLAIN, **fields},
        )
        task = Task(
            experiment=given,
            digest=digest,
            cycle=1,
            mode="docker",
            key=(backend, str(options), str(fields)),
            launch=Launch(
                backend=backend,
                log=self.folder / f"{self.count}.log",
                image=BASE,
                settings=self.settings,
            ),
            keep=True,
        )
        return self.workers.measure(task, listener)

    def on_gpu(self, listener: Listener = NOW, **options: Any) -> Measurement:
        wanted = {"computes_on": "cuda", **options}
        return self.measure(wanted, listener, **GPU)

    @property
    def place(self) -> Mapping[str, Any]:
        return self.workers.place

    @property
    def transport(self) -> ExecTransport:
        """Of the worker that is kept."""
        assert self.workers._held is not None
        assert isinstance(self.workers._held.transport, ExecTransport)
        return self.workers._held.transport

    @property
    def containers(self) -> list[Container]:
        return list(self.client.containers.list(all=True, ignore_removed=True))

    @property
    def processes(self) -> list[str]:
        """Commands of all processes in all containers, but the first ones and attendants."""
        found = []
        for container in self.containers:
            rows = container.top()["Processes"]
            found += [row[-1] for row in rows if " attend" not in row[-1][-40:]]
        return found

    def close(self) -> None:
        self.workers.close()


@pytest.fixture
def open_session(
    docker_daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Session]]:
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    with contextlib.ExitStack() as opened:

        def make(**settings: Any) -> Session:
            session = Session(docker_daemon, tmp_path, **settings)
            opened.callback(session.close)
            return session

        yield make


@contextlib.contextmanager
def healed(session: Session, heal: Callable[[], object]) -> Iterator[None]:
    """What another container mends: done as soon as the present one is gone."""
    old = {container.id for container in session.containers}
    closing = threading.Event()

    def watch() -> None:
        while not closing.wait(0.01):
            if not old & {row["Id"] for row in session.client.api.containers(all=True)}:
                heal()
                return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        closing.set()
        watching.join()


# --- a container and its engine ---------------------------------------------------------------


def test_an_engine_is_kept_in_a_container(open_session: Callable[..., Session]) -> None:
    session = open_session()
    first, second = session.measure(), session.measure()
    assert [window.phase for window in first.windows] == ["load", "measure"]
    assert [window.phase for window in second.windows] == ["measure"]
    (container,) = session.containers
    assert session.place["container"] == str(container.id)[:12]
    assert session.place["strategy"] == "persistent"
    assert (session.place["attempts"], session.place["restarts"]) == (1, [])
    assert session.place["health"] == []
    session.close()
    assert session.containers == []


def test_other_engines_of_a_backend_have_the_same_container(
    open_session: Callable[..., Session],
) -> None:
    session = open_session()
    for word in "ab":
        session.measure({"word": word})
    assert len(session.containers) == 1
    session.measure(backend="other")
    assert len(session.containers) == 2
    assert len([line for line in session.processes if "llem" in line]) <= 2


def test_there_is_a_delay_after_each_start_of_a_container(
    open_session: Callable[..., Session],
) -> None:
    session = open_session(warmup_delay=5)
    took_s = []
    for word in "ab":
        begun_s = time.monotonic()
        session.measure({"word": word})
        took_s.append(time.monotonic() - begun_s)
    assert took_s[0] > 5
    assert took_s[0] - took_s[1] > 1


def test_an_engines_exception_is_no_reason_for_another_container(
    open_session: Callable[..., Session],
) -> None:
    session = open_session()
    with pytest.raises(WorkerError, match="no luck in run") as error:
        session.measure({"raise_in": "run"})
    assert error.value.kind == "raised"
    (before,) = session.containers
    session.measure()
    assert [container.id for container in session.containers] == [before.id]
    assert session.place["restarts"] == []


@pytest.mark.parametrize("way", [{"hold_gil_in": "run"}, {"hang_in": "run", "grandchild": True}])
def test_a_worker_that_is_stuck_is_ended_and_its_container_stays(
    open_session: Callable[..., Session], way: Mapping[str, Any]
) -> None:
    session = open_session()
    session.measure()
    (before,) = session.containers
    with pytest.raises(WorkerError, match="no end of measure within"):
        session.measure(way, timeout_s=0.5)
    assert session.processes == []
    session.measure()
    assert [container.id for container in session.containers] == [before.id]


def test_two_backends_never_have_both_engines_on_a_gpu(
    open_session: Callable[..., Session], tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    session = open_session(volumes=(f"{shared}:/shared",))
    options = {"computes_on": "cuda", "diary": "/shared/diary", "takes": 40 * GIB}
    for backend in ("fake", "other", "other", "fake"):
        session.measure(options, backend=backend, **GPU)
        assert session.place["restarts"] == []
        (reading, *_) = session.place["health"]
        assert reading["engine_loaded"] is (session.count == 3)
    assert len(session.containers) == 2
    session.close()
    lines = (shared / "diary").read_text().splitlines()
    assert [line for line in lines if not line.startswith("run")] == [
        *("load fake", "close fake", "load other", "close other", "load fake", "close fake")
    ]


# --- its health -------------------------------------------------------------------------------


def test_a_loaded_engine_at_92_percent_is_healthy_and_6_percent_more_is_not(
    open_session: Callable[..., Session],
) -> None:
    session = open_session()
    driver = session.daemon.driver
    session.on_gpu(During("measure", lambda: driver.use_memory(0.92 * TOTAL)))
    (before,) = session.containers
    again = session.on_gpu()
    assert [window.phase for window in again.windows] == ["measure"]
    # The memory is the engine's own: nobody waits for it to be freed.
    assert again.conditions["waited_s"] == 0
    (reading,) = session.place["health"]
    assert reading["unwell"] is None
    (gpu,) = reading["gpus"]
    assert gpu["used_bytes"] == pytest.approx(0.92 * TOTAL, rel=1e-6)
    assert gpu["limit_bytes"] == pytest.approx(0.97 * TOTAL, rel=1e-6)

    driver.use_memory(0.98 * TOTAL)
    with healed(session, driver.renew):
        after = session.on_gpu()
    assert [window.phase for window in after.windows] == ["load", "measure"]
    (container,) = session.containers
    assert container.id != before.id
    (why,) = session.place["restarts"]
    assert "GPU 0: 78.4 GiB of 80.0 GiB memory in use, over 77.6 GiB" in why
    assert [reading["unwell"] is None for reading in session.place["health"]] == [False, True]
    assert session.place["attempts"] == 1


def test_memory_that_leaks_with_nothing_loaded_is_seen_too(
    open_session: Callable[..., Session],
) -> None:
    session = open_session()
    driver = session.daemon.driver
    session.on_gpu(word="a")
    driver.use_memory(3 * GIB)
    with healed(session, driver.renew):
        session.on_gpu(word="b")
    (why,) = session.place["restarts"]
    assert why.endswith("over 1.9 GiB (1 GiB more than at the start)")


def test_a_threshold_of_the_users_is_an_absolute_one(open_session: Callable[..., Session]) -> None:
    session = open_session(gpu_memory_threshold_pct=50, max_restarts=0)
    driver = session.daemon.driver
    session.on_gpu(During("measure", lambda: driver.use_memory(0.51 * TOTAL)))
    with pytest.raises(ContainerError, match="gpu_memory_threshold_pct: 50"):
        session.on_gpu()


def test_gpus_that_are_lost_are_given_back_by_another_container(
    open_session: Callable[..., Session],
) -> None:
    session = open_session()
    driver = session.daemon.driver
    session.on_gpu()
    driver.fail(999)
    with healed(session, driver.recover):
        session.on_gpu()
    (why,) = session.place["restarts"]
    assert why.startswith("NVML error 999")
    assert session.place["attempts"] == 1


def test_restarts_that_do_not_help_come_to_an_end(open_session: Callable[..., Session]) -> None:
    session = open_session(max_restarts=2)
    driver = session.daemon.driver
    session.on_gpu()
    driver.fail(999)
    for _ in range(2):
        with pytest.raises(ContainerError) as error:
            session.on_gpu()
        assert "all its restarts (2 of max_restarts: 2) are used up: NVML error 999" in str(
            error.value
        )
        assert "nvidia-smi" in error.value.fix
        assert (len(session.place["restarts"]), session.place["max_restarts"]) == (2, 2)
        assert session.place["health"]
    # Another backend's are counted for themselves, and a CPU has nothing to do with it.
    session.measure()
    driver.recover()
    session.on_gpu()
    assert len(session.place["restarts"]) == 2


def test_a_look_at_the_health_takes_a_moment_only(open_session: Callable[..., Session]) -> None:
    session = open_session()
    session.on_gpu()
    took_s = []
    for _ in range(20):
        begun_s = time.monotonic()
        assert session.transport.unwell() == ""
        took_s.append(time.monotonic() - begun_s)
    assert min(took_s) < 0.05


# --- failures that another container mends ----------------------------------------------------


def _killed_engine(session: Session) -> None:
    (container,) = session.containers
    container.exec_run(["sh", "-c", "kill -KILL -1"])


def _killed_container(session: Session) -> None:
    (container,) = session.containers
    container.kill()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_killed_engine, "somebody killed the worker with SIGKILL"),
        (_killed_container, "somebody else killed the container"),
    ],
)
def test_a_measurement_that_lost_its_engine_is_made_again_in_another_container(
    open_session: Callable[..., Session], harm: Callable[[Session], None], words: str
) -> None:
    session = open_session()
    options = {"token_s": 0.3}
    hurt = During("measure", lambda: harm(session))
    session.measure(options, hurt)
    assert hurt.done
    assert session.place["attempts"] == 2
    (why,) = session.place["restarts"]
    assert words in why
    assert len(session.containers) == 1
    session.measure(options)
    assert (session.place["attempts"], len(session.place["restarts"])) == (1, 1)


def test_a_measurement_that_had_too_little_memory_is_made_again_in_another_container(
    open_session: Callable[..., Session],
) -> None:
    session = open_session()
    options = {"hoard": 256 * 2**20}
    session.measure(options)
    # Nobody hoards while nothing is measured: no less than is in use can be asked for.
    (container,) = session.containers
    container.update(mem_limit="96m", memswap_limit="96m")
    session.measure(options)
    assert session.place["attempts"] == 2
    (why,) = session.place["restarts"]
    assert "the container had no memory left" in why
    (other,) = session.containers
    assert other.id != container.id


def test_an_engine_that_always_dies_fails_its_own_measurements_only(
    open_session: Callable[..., Session],
) -> None:
    session = open_session(max_restarts=1)
    for attempts in (2, 1):
        with pytest.raises(WorkerError, match="SIGKILL") as error:
            session.measure({"kill_in": "run"})
        assert error.value.kind == "crashed"
        assert session.place["attempts"] == attempts
    session.measure()
    assert len(session.place["restarts"]) == 1


def test_a_container_that_ended_between_two_measurements_is_replaced(
    open_session: Callable[..., Session],
) -> None:
    session = open_session()
    session.measure()
    _killed_container(session)
    session.measure()
    assert session.place["restarts"] == ["its container ended (exit status 137)"]
    assert session.place["attempts"] == 1


def test_an_engine_that_died_between_two_measurements_is_loaded_again(
    open_session: Callable[..., Session],
) -> None:
    session = open_session()
    session.measure()
    _killed_engine(session)
    assert session.transport.wait(20.0) is not None
    again = session.measure()
    assert [window.phase for window in again.windows] == ["load", "measure"]
    assert session.place["restarts"] == []


# --- what outlives its session ----------------------------------------------------------------


def test_a_container_is_left_without_its_engine_and_found_by_the_next_session(
    open_session: Callable[..., Session],
) -> None:
    first = open_session(auto_teardown=False)
    first.measure()
    first.close()
    (left,) = first.containers
    assert first.processes == [line for line in first.processes if " hold " in line]
    second = open_session(auto_teardown=False)
    second.measure()
    assert second.place["left_by_earlier_session"] is True
    assert second.place["container"] == str(left.id)[:12]
    # It is one session's at a time, and who removes containers has one of its own. An engine would
    # have the host for itself.
    second.workers.keep_for(None)
    third = open_session(auto_teardown=False)
    third.measure()
    assert third.place["left_by_earlier_session"] is False
    third.workers.keep_for(None)
    fourth = open_session()
    fourth.measure()
    assert fourth.place["container"] not in (str(left.id)[:12], third.place["container"])


def test_a_container_that_nobody_wants_ends_by_itself(
    open_session: Callable[..., Session],
) -> None:
    session = open_session(auto_teardown=False)
    session.measure()
    time.sleep(6.0)
    assert len(session.containers) == 1
    session.close()
    assert len(session.containers) == 1
    deadline = time.monotonic() + 30
    while session.containers and time.monotonic() < deadline:
        time.sleep(0.2)
    assert session.containers == []


def test_a_container_that_was_left_has_its_engine_replaced_when_it_crashes(
    open_session: Callable[..., Session],
) -> None:
    session = open_session(auto_teardown=False)
    session.measure({"token_s": 0.3}, During("measure", lambda: _killed_container(session)))
    assert session.place["attempts"] == 2
    assert len(session.containers) == 1
