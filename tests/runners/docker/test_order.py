"""What containers are created with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.errors import ContainerError
from pytest_llem.extensions import Launch
from pytest_llem.runners.docker import order
from pytest_llem.runners.docker.order import Caller, Mount, Surroundings
from pytest_llem.runners.docker.settings import Settings
from tests.builders import experiment

LAUNCH = Launch(backend="fake", log=Path("log"), image="org/image:1")
AROUND = Surroundings(
    command=["python3", "-u", "-c", "program"],
    caller=Caller(uid=1234, gid=100, groups=(100, 27)),
    labels={"org.llem.session": "s"},
)


def created(
    launch: Launch = LAUNCH,
    around: Surroundings = AROUND,
    devices: tuple[object, ...] = (),
    **settings: Any,
) -> dict[str, Any]:
    return order.create(launch, Settings(**settings), around, devices)


def test_nothing_can_be_done_that_need_not_be() -> None:
    found = created()
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges"]
    assert found["pids_limit"] > 1000
    assert found["network_mode"] == "none"
    assert found["user"] == "1234:100"
    assert found["group_add"] == ["100", "27"]
    assert found["device_requests"] == []
    assert found["ipc_mode"] == "private"
    assert "privileged" not in found


def test_it_lives_as_long_as_its_standard_input_and_removes_itself() -> None:
    found = created()
    assert found["stdin_open"] is True
    assert found["init"] is True
    assert found["auto_remove"] is True
    assert found["log_config"]["Type"] == "none"
    assert found["labels"] == {"org.llem.session": "s"}


def test_the_images_own_program_is_put_aside() -> None:
    found = created()
    assert found["entrypoint"] == ["python3"]
    assert found["command"] == ["-u", "-c", "program"]


def test_whatever_is_cached_goes_where_something_can_be_written() -> None:
    found = created()
    (scratch,) = found["tmpfs"]
    assert "exec" in found["tmpfs"][scratch].split(",")
    environment = found["environment"]
    folders = {
        *("HOME", "XDG_CACHE_HOME", "HF_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"),
        *("VLLM_CACHE_ROOT", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TMPDIR"),
    }
    assert {name for name in folders if not environment[name].startswith(scratch)} == set()
    assert environment["USER"] == environment["LOGNAME"] != ""


def test_what_an_experiment_sets_is_not_to_be_seen_from_outside() -> None:
    launch = dataclasses.replace(LAUNCH, environment={"TOKEN": "s3cret", "HOME": "/x"})
    found = created(launch)
    assert "s3cret" not in str(found)
    assert found["environment"]["HOME"] != "/x"


def test_what_goes_with_a_mount_comes_before_our_own_variables() -> None:
    around = dataclasses.replace(AROUND, environment={"HF_HOME": "/models"})
    assert created(around=around)["environment"]["HF_HOME"] == "/models"


def test_without_gpus_none_is_given_whatever_the_image_asks_for() -> None:
    assert created()["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"
    found = created(devices=("a request",))
    assert "NVIDIA_VISIBLE_DEVICES" not in found["environment"]
    assert found["device_requests"] == ["a request"]
    assert found["environment"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "CUDA_VISIBLE_DEVICES" not in found["environment"]


@pytest.mark.parametrize(
    ("device", "leased", "numbers"),
    [
        ("cpu", None, ()),
        ("cpu", (0,), ()),
        ("cuda", (2, 0), (2, 0)),
        ("cuda", (), ()),
        ("cuda", None, (0, 1)),
        ("auto", (1,), (1,)),
        ("auto", None, ()),
    ],
)
def test_gpus_are_those_that_are_leased(
    device: str, leased: tuple[int, ...] | None, numbers: tuple[int, ...]
) -> None:
    wanted = experiment(device=device, tensor_parallel=2)
    launch = dataclasses.replace(LAUNCH, experiment=wanted, gpus=leased)
    assert order.gpu_numbers(launch) == numbers


def test_a_network_only_where_something_is_fetched_or_the_user_says_so() -> None:
    fetching = dataclasses.replace(AROUND, network_needed=True)
    assert created(around=fetching)["network_mode"] == "bridge"
    assert created(around=fetching, network="none")["network_mode"] == "none"
    assert created(network="host")["network_mode"] == "host"


def test_a_user_who_is_named_has_no_groups_of_the_caller() -> None:
    found = created(user="0:0")
    assert found["user"] == "0:0"
    assert "group_add" not in found


def test_the_owner_of_a_rootless_daemon_is_root_in_its_containers() -> None:
    found = created(around=dataclasses.replace(AROUND, rootless=True))
    assert found["user"] == "0:0"
    assert "group_add" not in found


def test_every_setting_can_be_loosened() -> None:
    found = created(read_only=False, shm_size="1g", ulimits={"nofile": 10}, ipc="private")
    assert found["read_only"] is False
    assert found["shm_size"] == "1g"
    assert [dict(limit) for limit in found["ulimits"]] == [
        {"Name": "nofile", "Soft": 10, "Hard": 10}
    ]
    assert "shm_size" not in created(ipc="host")


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/data:/data", {"Source": "/data", "Target": "/data", "Type": "bind", "ReadOnly": False}),
        ("/a:/b:ro", {"Source": "/a", "Target": "/b", "Type": "bind", "ReadOnly": True}),
        ("cache:/b", {"Source": "cache", "Target": "/b", "Type": "volume", "ReadOnly": False}),
    ],
)
def test_volumes_are_mounts_which_make_no_folder_that_is_missing(
    text: str, mount: dict[str, object]
) -> None:
    (found,) = created(volumes=(text,))["mounts"]
    assert {key: value for key, value in found.items() if key in mount} == mount


@pytest.mark.parametrize("text", ["/a", "/a:", ":/b", "/a:b", "/a:/b:rx"])
def test_a_volume_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ContainerError, match="can't be understood") as caught:
        created(volumes=(text,))
    assert ":/path/in/the/container" in caught.value.fix


def test_mounts_of_models_are_read_only() -> None:
    around = dataclasses.replace(AROUND, mounts=[Mount(source="/models/a", target="/models/a")])
    (found,) = created(around=around)["mounts"]
    assert found["ReadOnly"] is True


def test_what_was_used_is_told_for_the_report() -> None:
    settings = Settings(volumes=("/home/somebody:/data",))
    found = order.about(dataclasses.replace(LAUNCH, gpus=(1,)), settings, AROUND)
    assert found["image"] == "org/image:1"
    assert found["gpus"] == [1]
    assert found["network"] == "none"
    assert found["read_only"] is True
    assert found["volumes"] == ["/data"]
    assert "somebody" not in str(found)
