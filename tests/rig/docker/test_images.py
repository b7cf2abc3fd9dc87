"""Images made here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import docker
import pytest

from tests.rig.docker.asking import HARDENED, output, running
from tests.rig.docker.daemon import Daemon
from tests.rig.docker.images import BASE, TORCH, base_tar, image, shell_image

pytestmark = [pytest.mark.docker, pytest.mark.once]


def python(client: docker.DockerClient, program: str, image: str = BASE) -> object:
    """What a program in a hardened container prints, as JSON."""
    return json.loads(output(client, "python3", "-I", "-c", program, image=image, **HARDENED))


def test_the_base_image_has_this_python_and_no_packages(docker_daemon: Daemon) -> None:
    program = """if True:
        import bz2, ctypes, importlib.metadata, json, lzma, sqlite3, ssl, sys
        found = [each.name for each in importlib.metadata.distributions()]
        print(json.dumps([sys.version, sys.prefix, found]))
    """
    assert python(docker_daemon.client(), program) == [sys.version, "/usr", []]


def test_the_files_of_the_base_image_are_kept(docker_cache: Path) -> None:
    path = base_tar(docker_cache)
    made = path.stat().st_mtime_ns
    assert base_tar(docker_cache).stat().st_mtime_ns == made


def test_a_variant_is_as_it_was_asked_for(docker_daemon: Daemon) -> None:
    client = docker_daemon.client()
    parent = image(client, "llem/parent:1", env={"A": "1", "B": "1"}, labels={"a": "1"})
    name = image(
        client,
        "llem/variant:1",
        parent=parent,
        env={"B": "2"},
        labels={"b": "2"},
        entrypoint=["sh", "-c"],
        command=["echo $A $B; cat /etc/note"],
        files={"/etc/note": "hello"},
        architecture="arm64",
    )
    attrs = client.images.get(name).attrs
    assert attrs["Config"]["Labels"] == {"a": "1", "b": "2"}
    assert attrs["Architecture"] == "arm64"
    assert output(client, image=name) == "1 2\nhello"


def test_an_image_without_python_has_none(docker_daemon: Daemon) -> None:
    client = docker_daemon.client()
    name = shell_image(client)
    assert output(client, "sh", "-c", "echo hello", image=name) == "hello\n"
    with pytest.raises(docker.errors.APIError) as refused:
        running(client, "python3", image=name, init=False)
    assert refused.value.status_code == 400
    assert 'exec: "python3": executable file not found in $PATH' in str(refused.value)


def test_a_package_can_be_pretended(docker_daemon: Daemon) -> None:
    client = docker_daemon.client()
    name = image(client, "llem/vllm:1", distributions={"vllm": "0.11.0"})
    program = """if True:
        import importlib.metadata, json, vllm
        print(json.dumps([importlib.metadata.version("vllm"), vllm.__version__]))
    """
    assert python(client, program, name) == ["0.11.0", "0.11.0"]


@pytest.mark.engine
def test_torch_and_transformers_are_this_environments(torch_daemon: Daemon) -> None:
    import torch
    import transformers

    client = torch_daemon.client()
    program = """if True:
        import importlib.metadata, json, torch, transformers
        from transformers import LlamaForCausalLM
        names = {each.name for each in importlib.metadata.distributions()}
        sum = (torch.ones(8, 8) @ torch.ones(8, 8)).sum().item()
        own = "pytest-llem" in names
        print(json.dumps([torch.__version__, transformers.__version__, sum, own]))
    """
    expected = [str(torch.__version__), transformers.__version__, 512, False]
    assert python(client, program, TORCH) == expected
    assert output(client, "id", "-u", image=image(client, "llem/t:1", parent=TORCH)) == "0\n"
