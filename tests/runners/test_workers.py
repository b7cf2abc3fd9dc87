"""Workers of a session: one for each measurement, or one that keeps its engine."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from pytest_llem.errors import ContainerError, ForkRefused, WorkerError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Launch
from pytest_llem.gpus import Found, Gpu
from pytest_llem.runners.beside import HostMeters
from pytest_llem.runners.conversation import Listener, Progress
from pytest_llem.runners.devices import Devices
from pytest_llem.runners.lock_folder import LockFolder
from pytest_llem.runners.tickets import Claim, Want, Who
from pytest_llem.runners.workers import Task, Workers
from pytest_llem.wire import PROTOCOL, checksum, to_dict
from tests.builders import DIGEST, experiment, measurement
from tests.fakes import ScriptedTransport

MEASUREMENT = to_dict(measurement())
GPU = Gpu(index=2, uuid="GPU-2", name="A", memory_bytes=None, power_limit_w=None)
HELD = {"gpus": ["GPU-2"], "alone": False, "waited_s": 0.0}


def line(frame: str, **fields: Any) -> bytes:
    return json.dumps({"frame": frame, **fields}).encode() + b"\n"


HELLO = line("hello", protocol=PROTOCOL, llem="0.1.0", versions={})
RESULT = line("result", measurement=MEASUREMENT, sha256=checksum(MEASUREMENT))


class Place(ScriptedTransport):
    """Delivers as many measurements as it is asked for, and may become unwell."""

    about: Mapping[str, Any] = {"image": "i"}

    def __init__(self, launch: Launch, failing: bool = False) -> None:
        super().__init__([HELLO, *[b"" if failing else RESULT] * 9], status=1 if failing else 0)
        self.launch = launch
        self.reason = ""
        self.measurements: list[str] = []

    def unwell(self) -> str:
        return self.reason

    def measured(self, digest: str) -> None:
        self.measurements.append(digest)

    @property
    def asked(self) -> list[str]:
        return [json.loads(text)["frame"] for text in self.sent.splitlines()]


class Places:
    """A runner that remembers what it started."""

    name = "places"

    def __init__(self, failures: int = 0, mends: bool = False) -> None:
        self.started: list[Place] = []
        self.closed = False
        self.mended: list[str] = []
        self._failures = failures
        self._mends = mends

    def start(self, launch: Launch) -> Place:
        self.started.append(Place(launch, failing=len(self.started) < self._failures))
        return self.started[-1]

    def mend(self, error: WorkerError) -> bool:
        self.mended.append(error.kind)
        return self._mends

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def session(tmp_path: Path) -> Callable[[Places], Workers]:
    def make(places: Places) -> Workers:
        folder = LockFolder(tmp_path / "locks")
        devices = Devices(find=lambda _: Found(gpus=(GPU,)), folder=folder)
        beside = HostMeters(tmp_path / "log")
        return Workers(beside, devices, _runners={"places": places})

    return make


def task(tmp_path: Path, *, key: str = "a", keep: bool = False, **fields: Any) -> Task:
    given: Experiment = experiment(**{"device": "cuda"} | fields)
    return Task(
        experiment=given,
        digest=DIGEST,
        cycle=1,
        mode="places",
        key=key,
        launch=Launch(backend="pytorch", log=tmp_path / "log"),
        keep=keep,
    )


def test_a_measurement_has_a_worker_and_a_gpu_of_its_own(
    tmp_path: Path, session: Callable[[Places], Workers]
) -> None:
    places = Places()
    workers = session(places)
    for _ in range(2):
        assert workers.measure(task(tmp_path), Listener()) == measurement()
    assert [place.asked for place in places.started] == [["request"]] * 2
    assert [place.launch.gpus for place in places.started] == [(2,)] * 2
    assert [place.stops for place in places.started] == [[0.0]] * 2
    assert workers.place == {"image": "i", "lease": HELD | {"unshared": ANY}}
    workers.close()
    assert places.closed


def test_an_engine_is_kept_until_another_one_is_needed(
    tmp_path: Path, session: Callable[[Places], Workers]
) -> None:
    places = Places()
    workers = session(places)
    for key in "aab":
        workers.measure(task(tmp_path, key=key, keep=True), Listener())
        loaded = [place for place in places.started if not place.stops]
        assert loaded == places.started[-1:]
    workers.measure(task(tmp_path, key="b"), Listener())
    assert [place.asked for place in places.started] == [
        ["request", "request", "close"],
        ["request", "close"],
        ["request"],
    ]
    workers.measure(task(tmp_path, key="b", keep=True), Listener())
    workers.close()
    assert places.started[-1].asked == ["request", "close"]
    assert all(place.stops for place in places.started)


def test_a_kept_engine_in_a_place_that_is_unwell_is_given_up(
    tmp_path: Path, session: Callable[[Places], Workers]
) -> None:
    places = Places()
    workers = session(places)
    workers.measure(task(tmp_path, keep=True), Listener())
    places.started[0].reason = "memory leaked"
    workers.measure(task(tmp_path, keep=True), Listener())
    workers.close()
    assert [place.asked for place in places.started] == [["request", "close"]] * 2
    assert [place.measurements for place in places.started] == [[DIGEST]] * 2


def test_a_place_that_is_given_up_tells_of_itself(
    tmp_path: Path, session: Callable[[Places], Workers]
) -> None:
    class GivenUp(Places):
        def start(self, launch: Launch) -> Place:
            error = ContainerError("unwell", phase="run", cause="unwell", fix="")
            error.about = {"restarts": ["why"]}
            raise error

    workers = session(GivenUp())
    with pytest.raises(ContainerError):
        workers.measure(task(tmp_path), Listener())
    assert workers.place == {"restarts": ["why"], "lease": HELD | {"unshared": ANY}}


@pytest.mark.parametrize(
    ("failures", "mends", "starts"), [(1, True, 2), (2, True, 2), (1, False, 1)]
)
def test_what_a_place_could_mend_is_tried_once_more(
    tmp_path: Path,
    session: Callable[[Places], Workers],
    failures: int,
    mends: bool,
    starts: int,
) -> None:
    places = Places(failures, mends)
    workers = session(places)
    if failures < starts:
        assert workers.measure(task(tmp_path), Listener()) == measurement()
    else:
        with pytest.raises(WorkerError):
            workers.measure(task(tmp_path), Listener())
    assert len(places.started) == starts
    assert places.mended == ["crashed"]
    # Whatever happened, the GPU is free again.
    assert workers.devices.lease(experiment(device="cuda")).numbers == (2,)


def test_what_dead_sessions_left_on_a_gpu_is_ended_before_it_is_used(
    tmp_path: Path, session: Callable[[Places], Workers]
) -> None:
    reaped: list[int] = []

    class Containers(Places):
        def reap(self) -> None:
            reaped.append(len(places.started))
            raise ContainerError("no daemon", phase="connect", cause="unknown", fix="")

    places = Places()
    workers = session(places)
    workers._runners["containers"] = Containers()
    folder = LockFolder(tmp_path / "locks")
    for place in ("containers", "unknown"):
        want = Want(gpus=("GPU-2",), count=1, host=workers.devices.host)
        claim = Claim(folder, want, Who(place=place))
        assert claim.attempt() == ("GPU-2",)
        # As the system does at its process's death.
        for handle in (*claim._handles, claim._file):
            os.close(handle)
        workers.measure(task(tmp_path), Listener())
    assert reaped == [0]


def test_what_is_prepared_for_a_worker_is_shown(
    tmp_path: Path, session: Callable[[Places], Workers]
) -> None:
    class Slow(Places):
        def start(self, launch: Launch) -> Place:
            launch.tell("copying m: 1 of 2 GB")
            return super().start(launch)

    heard: list[str] = []

    class Ears(Listener):
        def progress(self, progress: Progress) -> None:
            heard.append(progress.phase)

    session(Slow()).measure(task(tmp_path), Ears())
    assert heard[0] == "copying m: 1 of 2 GB"


def test_a_worker_that_cannot_be_started_holds_no_gpu(
    tmp_path: Path, session: Callable[[Places], Workers]
) -> None:
    class Broken(Places):
        def start(self, launch: Launch) -> Place:
            raise OSError(f"no {launch.backend}")

    workers = session(Broken())
    with pytest.raises(OSError, match="no pytorch"):
        workers.measure(task(tmp_path), Listener())
    assert workers.devices.lease(experiment(device="cuda")).numbers == (2,)


# --- forked workers ------------------------------------------------------------------------


class Forking(Places):
    """A runner that forks, unless it has a reason not to."""

    def __init__(self, reason: str = "") -> None:
        super().__init__()
        self.forked = 0
        self._reason = reason

    def fork(self, launch: Launch) -> Place:
        if self._reason:
            raise ForkRefused(self._reason)
        self.forked += 1
        return self.start(launch)


def modes(places: Places) -> list[str]:
    """How each measurement's worker came to be, as it was told."""
    sent = [json.loads(line) for place in places.started for line in place.sent.splitlines()]
    return [frame["worker"] for frame in sent if frame["frame"] == "request"]


@pytest.mark.parametrize(
    ("places", "backend", "reason"),
    [
        (Forking(), "pytorch", ""),
        (Forking("it has 2 threads"), "pytorch", "it has 2 threads"),
        (Forking(), "another", "doesn't say that its import stands it"),
        (Places(), "pytorch", "workers of the runner places can't be forked, local ones can"),
    ],
    ids=["forked", "unfit", "backend", "runner"],
)
def test_a_worker_that_cannot_be_forked_is_fresh_and_that_is_said(
    tmp_path: Path,
    session: Callable[[Places], Workers],
    places: Places,
    backend: str,
    reason: str,
) -> None:
    told: dict[str, None] = {}
    workers = session(places)
    workers.notice = lambda text: told.update({text: None})
    asked = task(tmp_path, worker="forked", backend=backend)
    asked = dataclasses.replace(asked, launch=dataclasses.replace(asked.launch, backend=backend))
    for _ in range(2):
        workers.measure(asked, Listener())
    assert modes(places) == ["fresh" if reason else "forked"] * 2
    assert len(told) == bool(reason)
    assert reason in "".join(told)
    assert reason in workers.place.get("not_forked", "")
    assert ("not_forked" in workers.place) == bool(reason)


def test_a_kept_worker_is_told_so_and_gets_a_log_for_each_measurement(
    tmp_path: Path, session: Callable[[Places], Workers]
) -> None:
    logs = []

    class Logging(Place):
        def log_to(self, path: Path) -> None:
            logs.append(path.name)

    class Kept(Places):
        def start(self, launch: Launch) -> Place:
            self.started.append(Logging(launch))
            return self.started[-1]

    places = Kept()
    workers = session(places)
    for name in ("one", "two"):
        launch = Launch(backend="pytorch", log=tmp_path / name)
        workers.measure(dataclasses.replace(task(tmp_path, keep=True), launch=launch), Listener())
    assert modes(places) == ["reuse", "reuse"]
    assert logs == ["two"]


def test_an_engine_that_nobody_is_going_to_use_is_unloaded(
    tmp_path: Path, session: Callable[[Places], Workers]
) -> None:
    places = Places()
    workers = session(places)
    workers.measure(task(tmp_path, keep=True), Listener())
    workers.keep_for("a")
    assert places.started[0].asked == ["request"]
    workers.keep_for("b")
    assert places.started[0].asked == ["request", "close"]
    # Its GPU is free for others.
    assert workers.devices.lease(experiment(device="cuda")).numbers == (2,)
