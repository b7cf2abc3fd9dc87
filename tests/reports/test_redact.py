"""Names of hosts and users, and paths, left out of a report."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.reports.document import from_document
from pytest_llem.reports.redact import Known, redacted
from pytest_llem.wire import to_dict
from tests.builders import UNHURRIED
from tests.reports.sessions import session

pytestmark = pytest.mark.once

KNOWN = Known(
    root="/home/bob/my project",
    folders={"/home/bob", "/mnt/run here"},
    hosts={"gpu7.corp.example"},
    users={"bob"},
)


def cleaned(text: str, name: str = "message") -> Any:
    return redacted({name: text}, KNOWN)[name]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # What is below the project is named from there.
        ("/home/bob/my project/benchmarks/models/tiny", "benchmarks/models/tiny"),
        ("/home/bob/my project", "."),
        ("in /home/bob/my project/a.yaml:3: x", "in a.yaml:3: x"),
        ("/home/bob/my projects/x", "<path>/my projects/x"),
        # Other folders that are known, spaces or not.
        ("/mnt/run here/out.json", "<path>/out.json"),
        ("/home/bob/.cache/huggingface", "<path>/.cache/huggingface"),
        # Paths that nobody named.
        ('File "/usr/lib/python3/x.py", line 3', 'File "<path>/x.py", line 3'),
        ("no such file: /data/alice", "no such file: <path>"),
        ("no such file: /data/alice/a.json", "no such file: <path>/a.json"),
        ("../elsewhere/a.study.yaml::x::c1", "<path>/a.study.yaml::x::c1"),
        (r"C:\Users\alice\x.py", "<path>/x.py"),
        (
            "10 % worse; base local:/opt/alice/env/bin/python",
            "10 % worse; base local:<path>/python",
        ),
        ("local:../alice/env", "local:<path>"),
        ('File "/scratch/alice/pytest_llem/x.py", line 3', 'File "<path>/x.py", line 3'),
        ("file:///srv/models/a/b", "file://<path>/b"),
        ("unix:///run/user/1000/docker.sock", "unix://<path>/docker.sock"),
        ("raw/%2Fhome%2Fcarol%2Fs.study.yaml.a.c1.jsonl", "raw/<path>%2Fs.study.yaml.a.c1.jsonl"),
        # Names.
        ("ssh to gpu7 failed", "ssh to <host> failed"),
        ("GPU7.corp.example said no", "<host> said no"),
        ("owner: Bob.", "owner: <user>."),
        ("bobsled and gpu70", "bobsled and gpu70"),
        # Addresses.
        ("tcp://10.1.2.3:2376 doesn't answer", "tcp://<host> doesn't answer"),
        ("ssh://bob@build-3.corp/x", "ssh://<host>"),
        (
            "see https://docs.docker.com/engine/install/",
            "see https://docs.docker.com/engine/install/",
        ),
        ("at http://localhost:8000/v1", "at http://localhost:8000/v1"),
        ("registry.corp.example:5000/team/vllm:1.2", "<host>/team/vllm:1.2"),
        ("nvcr.io/nvidia/tensorrt-llm/release:1.3", "nvcr.io/nvidia/tensorrt-llm/release:1.3"),
        ("vllm/vllm-openai:v0.32.0", "vllm/vllm-openai:v0.32.0"),
        # What is none of that.
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("energy / 3.6e6 J/kWh, 12/s and/or 1/J", "energy / 3.6e6 J/kWh, 12/s and/or 1/J"),
        ("Docker + NVIDIA Container Toolkit", "Docker + NVIDIA Container Toolkit"),
    ],
)
def test_texts(given: str, expected: str) -> None:
    assert cleaned(given) == expected


def test_hosts_that_the_report_itself_names_are_left_out_everywhere() -> None:
    document = {
        "measurements": [
            {"place": {"host": "node-12", "daemon": "ssh://ann@far.example:22"}, "skipped": "x"}
        ],
        "notices": ["node-12: 2 GPUs; far.example: none"],
    }
    found = redacted(document, KNOWN)
    assert found["notices"] == ["<host>: 2 GPUs; <host>: none"]
    assert found["measurements"][0]["place"] == {"host": "<host>", "daemon": "ssh://<host>"}


def test_words_of_this_project_stay_even_where_they_are_somebodys_name() -> None:
    known = Known(root="/x", hosts={"measure"}, users={"passed", "root", "pytorch"})
    document = to_dict(session(2))
    found = redacted(document, known)
    assert from_document(found).redacted
    assert found["measurements"][0]["measurement"]["windows"][3]["phase"] == "measure"
    assert found["gates"][0]["outcome"] == "passed"


def test_a_report_says_that_it_was_redacted_and_is_still_one() -> None:
    document = to_dict(session(4))
    found = redacted(document, KNOWN)
    assert found["redacted"] is True
    assert document["redacted"] is False
    assert from_document({**found, "redacted": False}) == from_document(document)


NAMES = st.text(alphabet="abcxyz", min_size=6, max_size=10)


@UNHURRIED
@given(
    root=NAMES,
    home=NAMES,
    host=NAMES,
    user=NAMES,
    before=st.text(max_size=8),
    after=st.text(max_size=8),
)
def test_no_name_is_left(
    root: str, home: str, host: str, user: str, before: str, after: str
) -> None:
    known = Known(
        root=f"/{home}/{user}/{root}", folders={f"/{home}/{user}"}, hosts={host}, users={user}
    )
    texts = [
        f"{before} /{home}/{user}/{root}/a/b.py {after}",
        f"{before}:{host}:{after}",
        f"{before} '{user}'@{host} {after}",
        f"{before} /{home}/{user}/other {after}",
    ]
    left = json.dumps(redacted({"log_tail": texts}, known))
    for name in (f"/{home}/{user}", host, user):
        assert name not in left.replace(before, "").replace(after, "")
