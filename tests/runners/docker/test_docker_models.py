"""Models in real containers: on a daemon that sees this host's files, and on one that doesn't."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_llem.errors import ContainerError
from pytest_llem.experiment import Experiment, Prompts
from pytest_llem.runners.docker import order, volumes
from pytest_llem.runners.docker.contents import tree
from pytest_llem.runners.docker.daemon import Daemon, connect
from pytest_llem.runners.docker.models import HUB, Models, Provision
from pytest_llem.runners.docker.sight import sees
from pytest_llem.runners.docker.volumes import Place, put
from tests.builders import experiment
from tests.rig.docker import daemon as rig
from tests.rig.docker.fixtures import MakeDaemon
from tests.rig.docker.images import BASE, shell_image
from tests.runners.docker.test_contents import cached, fill

pytestmark = pytest.mark.docker

LABELS = {"org.llem.test": "models"}
SHIPPED = Path(__file__).parents[3] / "benchmarks" / "models" / "tiny-llama"
STRANGER = "12345:12345"


@pytest.fixture
def local(docker_daemon: rig.Daemon) -> Iterator[Daemon]:
    daemon = connect({"DOCKER_HOST": docker_daemon.url})
    yield daemon
    daemon.close()


@pytest.fixture
def remote(remote_daemon: rig.Daemon) -> Iterator[Daemon]:
    daemon = connect({"DOCKER_HOST": remote_daemon.url})
    yield daemon
    daemon.close()


def models(daemon: Daemon, environ: Mapping[str, str] | None = None, **more: Any) -> Models:
    return Models(daemon, labels=LABELS, environ=environ or {}, **more)


def said(daemon: Daemon, provision: Provision, program: str, user: str = STRANGER) -> str:
    """What a program prints in a container with a model, as a user whom nobody knows."""
    container = daemon.client.containers.create(
        BASE,
        ["-c", program],
        entrypoint=["python3"],
        user=user,
        environment=dict(provision.environment),
        mounts=[order._mounted(mount) for mount in provision.mounts],
        network_mode="none",
        read_only=True,
    )
    try:
        container.start()
        status = container.wait()["StatusCode"]
        output = container.logs().decode()
        assert status == 0, output
        return output.strip()
    finally:
        container.remove(force=True, v=True)


def reading(*paths: Path | str) -> str:
    return f"for path in {[str(path) for path in paths]}: print(open(path).read(), end=' ')"


def left(daemon: Daemon) -> list[Any]:
    return list(daemon.client.containers.list(all=True, ignore_removed=True))


def model_volumes(daemon: Daemon) -> list[str]:
    return [v.name for v in daemon.client.volumes.list(filters={"label": volumes.MODEL})]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    folder = fill(tmp_path / "model", "config.json", "sub/vocab.txt")
    (folder / "model.safetensors").write_bytes(secrets.token_bytes(3_000_001))
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)  # readable for this user alone
    return folder


# --- a daemon of this host -----------------------------------------------------------------


def test_a_directory_is_bound_where_it_is(local: Daemon, model: Path) -> None:
    provision = models(local).provide(experiment(model=str(model)), BASE)
    assert provision.model == str(model)
    assert not provision.network_needed
    assert provision.about == {"model": "bound"}
    assert [(m.kind, m.target, m.read_only) for m in provision.mounts] == [
        ("bind", str(model), True)
    ]
    caller = f"{os.getuid()}:{os.getgid()}"
    text = said(local, provision, reading(model / "config.json", model / "sub/vocab.txt"), caller)
    assert text == "config.json sub/vocab.txt"
    assert left(local) == []
    assert model_volumes(local) == []


def test_nothing_of_a_large_model_is_read(local: Daemon, model: Path) -> None:
    with (model / "model.safetensors").open("wb") as file:
        file.truncate(3 << 30)
    before = psutil.Process().io_counters().read_chars
    provision = models(local).provide(experiment(model=str(model)), BASE)
    assert psutil.Process().io_counters().read_chars - before < 100_000_000
    weights = str(model / "model.safetensors")
    size = f"import os; print(os.path.getsize({weights!r}))"
    assert said(local, provision, size) == str(3 << 30)


def test_links_of_a_directory_lead_somewhere(local: Daemon, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    snapshot = cached(tmp_path)
    by_link = tmp_path / "latest"
    by_link.symlink_to(snapshot)
    for path in (snapshot, by_link):
        provision = models(local).provide(experiment(model=str(path)), BASE)
        text = said(local, provision, reading(path / "config.json", path / "model.safetensors"))
        assert text == "config.json model.safetensors"


def test_prompts_and_paths_among_the_options_are_bound_too(
    local: Daemon, model: Path, tmp_path: Path
) -> None:
    fill(tmp_path, "prompts.jsonl", "draft/config.json")
    options = {"speculative_config": {"model": str(tmp_path / "draft")}, "other": "/nowhere/x"}
    wanted = experiment(
        model=str(model), prompts=Prompts(source=str(tmp_path / "prompts.jsonl")), options=options
    )
    provision = models(local).provide(wanted, BASE)
    paths = [tmp_path / "prompts.jsonl", tmp_path / "draft/config.json"]
    assert said(local, provision, reading(*paths)) == "prompts.jsonl draft/config.json"
    assert "/nowhere/x" not in {mount.target for mount in provision.mounts}


def test_a_cached_model_is_bound_and_the_hub_is_not_asked(local: Daemon, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    cached(tmp_path / "hub")
    environ = {"HF_HOME": str(tmp_path), "HF_TOKEN": "hf_canary"}
    provision = models(local, environ).provide(experiment(model="org/tiny"), BASE)
    assert provision.environment["HF_HUB_OFFLINE"] == "1"
    assert provision.secrets == {}
    assert not provision.network_needed
    config = "models--org--tiny/snapshots/0123abcd/config.json"
    shown = f"import os; print(open(os.environ['HF_HUB_CACHE'] + '/{config}').read())"
    assert said(local, provision, shown) == "config.json"


def test_a_model_that_nobody_has_is_fetched_within(local: Daemon, tmp_path: Path) -> None:
    environ = {"HF_HOME": str(tmp_path), "HF_TOKEN": "hf_canary"}
    wanted = experiment(model="org/tiny", backend="third")
    provision = models(local, environ).provide(wanted, BASE)
    assert provision.network_needed
    assert provision.secrets == {"HF_TOKEN": "hf_canary"}
    assert "hf_canary" not in repr(provision)
    write = f"open('{HUB}/{{}}', 'w').write('kept'); print('written')"
    assert said(local, provision, write.format("a")) == "written"
    again = models(local, environ).provide(wanted, BASE)
    assert said(local, again, reading(f"{HUB}/a")) == "kept"


def test_a_daemon_with_other_files_behind_a_socket_is_found_out(
    make_daemon: MakeDaemon, model: Path, tmp_path: Path
) -> None:
    elsewhere = connect({"DOCKER_HOST": make_daemon(gpus=False, hidden=[tmp_path]).url})
    assert elsewhere.local
    assert not sees(elsewhere, model, BASE, LABELS)
    provision = models(elsewhere).provide(experiment(model=str(model)), BASE)
    assert [mount.kind for mount in provision.mounts] == ["volume"]
    assert said(elsewhere, provision, reading(model / "config.json")) == "config.json"
    elsewhere.close()


def test_a_daemon_whose_eyes_are_not_ours_is_asked_by_a_container(remote: Daemon) -> None:
    assert sees(remote, SHIPPED, BASE, LABELS)
    assert left(remote) == []


# --- a daemon elsewhere --------------------------------------------------------------------


def test_a_directory_is_copied_once_and_anybody_may_read_it(remote: Daemon, model: Path) -> None:
    told: list[str] = []
    provision = models(remote, tell=told.append).provide(experiment(model=str(model)), BASE)
    paths = [model / "config.json", model / "sub/vocab.txt"]
    assert said(remote, provision, reading(*paths)) == "config.json sub/vocab.txt"
    weights = model / "model.safetensors"
    shown = f"import hashlib; print(hashlib.sha256(open('{weights}', 'rb').read()).hexdigest())"
    expected = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert said(remote, provision, shown) == expected
    assert any("copying model" in text for text in told)

    told.clear()
    again = models(remote, tell=told.append).provide(experiment(model=str(model)), BASE)
    assert again.mounts == provision.mounts
    assert told == []
    assert provision.mounts[0].source in model_volumes(remote)
    assert left(remote) == []


def test_the_same_content_elsewhere_is_the_same_volume(
    remote: Daemon, model: Path, tmp_path: Path
) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(model, twin)
    first = models(remote).provide(experiment(model=str(model)), BASE)
    told: list[str] = []
    second = models(remote, tell=told.append).provide(experiment(model=str(twin)), BASE)
    assert first.mounts[0].source == second.mounts[0].source
    assert told == []
    assert said(remote, second, reading(twin / "config.json")) == "config.json"


def test_another_content_is_another_volume(remote: Daemon, model: Path) -> None:
    first = models(remote).provide(experiment(model=str(model)), BASE)
    (model / "config.json").write_text("other")
    second = models(remote).provide(experiment(model=str(model)), BASE)
    assert first.mounts[0].source != second.mounts[0].source
    assert said(remote, second, reading(model / "config.json")) == "other"


def test_random_weights_need_none_of_the_weights(remote: Daemon, model: Path) -> None:
    wanted = experiment(model=str(model), weights="random")
    provision = models(remote).provide(wanted, BASE)
    shown = f"import os; print(sorted(os.listdir({str(model)!r})))"
    assert said(remote, provision, shown) == "['.llem-complete', 'config.json', 'sub']"


def test_a_cached_model_is_copied_with_the_caches_layout(remote: Daemon, tmp_path: Path) -> None:
    cached(tmp_path / "hub")
    environ = {"HF_HOME": str(tmp_path)}
    provision = models(remote, environ).provide(experiment(model="org/tiny"), BASE)
    assert not provision.network_needed
    own = HUB / "models--org--tiny"
    text = said(
        remote, provision, reading(own / "refs/main", own / "snapshots/0123abcd/model.safetensors")
    )
    assert text == "0123abcd model.safetensors"


def test_prompts_beside_a_model_are_both_there(remote: Daemon, model: Path, tmp_path: Path) -> None:
    fill(tmp_path, "prompts.jsonl")
    wanted = experiment(model=str(model), prompts=Prompts(source=str(tmp_path / "prompts.jsonl")))
    provision = models(remote).provide(wanted, BASE)
    paths = [tmp_path / "prompts.jsonl", model / "config.json"]
    assert said(remote, provision, reading(*paths)) == "prompts.jsonl config.json"


def test_a_copy_that_breaks_off_is_not_taken_for_complete(remote: Daemon, model: Path) -> None:
    files = tree(model)

    def break_off(text: str) -> None:
        del text
        raise KeyboardInterrupt

    interrupted = Place(daemon=remote, image=BASE, labels=LABELS, tell=break_off)
    with pytest.raises(KeyboardInterrupt):
        put(interrupted, "m", files)
    assert left(remote) == []
    told: list[str] = []
    volume = put(Place(daemon=remote, image=BASE, labels=LABELS, tell=told.append), "m", files)
    assert any("copying" in text for text in told)
    assert volume in model_volumes(remote)
    told.clear()
    again = Place(daemon=remote, image=BASE, labels=LABELS, tell=told.append)
    assert put(again, "m", files) == volume
    assert told == []


def test_a_file_that_shrinks_meanwhile_is_an_error(remote: Daemon, model: Path) -> None:
    def shrink(text: str) -> None:
        del text
        (model / "model.safetensors").write_bytes(b"")

    with pytest.raises(ContainerError, match="became shorter") as caught:
        models(remote, tell=shrink).provide(experiment(model=str(model)), BASE)
    assert caught.value.fix
    assert left(remote) == []


def test_two_sessions_at_once_copy_once(remote: Daemon, model: Path) -> None:
    with (model / "model.safetensors").open("wb") as file:
        file.truncate(100 << 20)
    told: list[str] = []
    wanted = experiment(model=str(model))
    found: list[Provision] = []

    def session() -> None:
        found.append(models(remote, tell=told.append).provide(wanted, BASE))

    threads = [threading.Thread(target=session) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0].mounts == found[1].mounts
    assert len([text for text in told if text.startswith("copying model to ")]) == 1
    assert said(remote, found[0], reading(model / "config.json")) == "config.json"
    assert left(remote) == []


def test_an_image_without_python_says_so(remote: Daemon, model: Path) -> None:
    shell = shell_image(remote.client)
    with pytest.raises(ContainerError) as caught:
        models(remote).provide(experiment(model=str(model)), shell)
    assert "python3" in caught.value.fix
    assert left(remote) == []


def test_a_model_that_cannot_be_read_is_named(remote: Daemon, tmp_path: Path) -> None:
    wanted: Experiment = experiment(model=str(tmp_path / "gone"))
    with pytest.raises(ContainerError, match="gone") as caught:
        models(remote).provide(wanted, BASE)
    assert "read every file" in caught.value.fix


COPYING = """
import sys, time
from pathlib import Path
from pytest_llem.experiment import Experiment
from pytest_llem.runners.docker.daemon import connect
from pytest_llem.runners.docker.models import Models

def tell(text):
    print(text, flush=True)
    time.sleep(60)

models = Models(connect({"DOCKER_HOST": sys.argv[1]}), labels={}, environ={}, tell=tell)
models.provide(Experiment(id="a", model=sys.argv[2]), sys.argv[3])
"""


def test_nothing_is_left_of_a_session_that_is_killed_while_it_copies(
    remote: Daemon, model: Path
) -> None:
    command = [sys.executable, "-c", COPYING, remote.url, str(model), BASE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        assert session.stdout.readline().startswith("copying")
        assert len(left(remote)) == 1
        session.kill()
    deadline = time.monotonic() + 30
    while left(remote) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left(remote) == []
    # The next one doesn't take it for complete.
    provision = models(remote).provide(experiment(model=str(model)), BASE)
    assert said(remote, provision, reading(model / "config.json")) == "config.json"
