"""What stops a model from being loaded is found before anything is measured."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.experiment import Experiment
from pytest_llem.runners.models import Answer, Hub, Problem, Use, check, find_hub, listed
from tests.builders import experiment

GB = 10**9
WEIGHTS = {"config.json": 600, "model.safetensors": 4 * GB}


class FakeHub:
    """A hub as its Protocol asks for, that counts how often it is asked."""

    def __init__(
        self,
        answers: Mapping[str, Answer] | None = None,
        *,
        here: Mapping[str, Collection[str]] | None = None,
        offline: bool = False,
        free: int = 100 * GB,
    ) -> None:
        self.offline = offline
        self.cache = Path("/cache")
        self.asked: list[tuple[str, str | None]] = []
        self._answers = answers or {}
        self._here = here or {}
        self._free = free

    def cached(self, model: str, revision: str | None) -> Collection[str]:
        return self._here.get(model, ())

    def ask(self, model: str, revision: str | None) -> Answer:
        self.asked.append((model, revision))
        return self._answers.get(model, Answer(status="found", files=WEIGHTS))

    def free_bytes(self) -> int:
        return self._free


def use(where: str = "s.study.yaml:3", **fields: Any) -> Use:
    return Use(experiment=experiment(**fields), where=where)


def found(hub: Hub | None, *uses: Use) -> list[tuple[str, str]]:
    """Text and fix of each problem."""
    return [(p.finding.text, p.finding.fix) for p in check(uses, lambda: hub)]


def directory(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).write_text("{}")
    return str(folder)


# --- directories ---------------------------------------------------------------------------


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    model = str(tmp_path / "nowhere")
    fix = "check the path; in a study it is relative to the study's file"
    assert found(None, use(model=model)) == [(f"{model}: there is no such directory", fix)]


@pytest.mark.parametrize(
    ("below", "cause"), [("", "Not a directory"), ("/more", "Not a directory")]
)
def test_a_file_in_place_of_a_directory(tmp_path: Path, below: str, cause: str) -> None:
    model = directory(tmp_path, "file") + "/file" + below
    fix = "point model at a directory you may read"
    assert found(None, use(model=model)) == [(f"{model}: can't be read: {cause}", fix)]


def test_a_directory_without_a_config(tmp_path: Path) -> None:
    model = directory(tmp_path, "model.safetensors")
    fix = "point model at a directory that holds a config.json"
    assert found(None, use(model=model)) == [(f"{model}: no config.json", fix)]


def test_a_config_that_is_a_link_to_nothing_is_none(tmp_path: Path) -> None:
    model = directory(tmp_path, "model.safetensors")
    (tmp_path / "config.json").symlink_to(tmp_path / "gone")
    assert [text for text, _ in found(None, use(model=model))] == [f"{model}: no config.json"]


@pytest.mark.parametrize("name", ["model.safetensors", "model-00001-of-00002.safetensors", "a.bin"])
def test_pretrained_weights_are_a_file_beside_the_config(tmp_path: Path, name: str) -> None:
    model = directory(tmp_path, "config.json", name)
    assert found(None, use(model=model)) == []


@pytest.mark.parametrize("other", ["config.json", "model.gguf", "model.safetensors.index.json"])
def test_a_directory_without_weights(tmp_path: Path, other: str) -> None:
    model = directory(tmp_path, "config.json", other)
    fix = "put the weights there, or measure with weights: random"
    assert found(None, use(model=model)) == [(f"{model}: no weights (*.safetensors, *.bin)", fix)]


def test_random_weights_need_the_config_alone(tmp_path: Path) -> None:
    model = directory(tmp_path, "config.json")
    assert found(None, use(model=model, weights="random")) == []


def test_a_directory_is_looked_at_for_any_backend_and_no_hub_for_it(tmp_path: Path) -> None:
    model = str(tmp_path / "nowhere")
    assert len(check([use(model=model, backend="theirs")], never)) == 1
    assert check([use(model=directory(tmp_path, "config.json", "a.bin"))], never) == []


def never() -> Hub | None:
    raise AssertionError("no experiment needs the hub")


# --- the hub -------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["pytorch", "vllm", "tensorrt"])
def test_a_model_that_the_hub_has_is_fine(backend: str) -> None:
    hub = FakeHub()
    assert found(hub, use(backend=backend, revision="v1")) == []
    assert hub.asked == [("org/m", "v1")]


@pytest.mark.parametrize(
    ("answer", "text", "fix"),
    [
        (Answer(status="not found"), "not found on the hub", "hf auth login"),
        (Answer(status="no revision"), "the hub has no such revision", "a tag or a commit"),
        (Answer(status="no id"), "neither a directory nor an id of the hub", "organisation/name"),
        (Answer(status="gated"), "gated: *", "accept the licence on the model's page, then run: h"),
        (
            Answer(status="silent", detail="ConnectError: refused"),
            "the hub can't be asked (ConnectError: refused)",
            "check network, proxy and HF_ENDPOINT, or point model at a directory",
        ),
    ],
    ids=lambda value: value.status if isinstance(value, Answer) else "",
)
def test_what_the_hub_refuses_has_a_fix(answer: Answer, text: str, fix: str) -> None:
    ((given, advice),) = found(FakeHub({"org/m": answer}), use())
    assert given.startswith(f"org/m: {text.rstrip('*')}")
    assert fix in advice


def test_a_revision_is_part_of_the_name() -> None:
    hub = FakeHub({"org/m": Answer(status="no revision")})
    ((text, _),) = found(hub, use(revision="v9"))
    assert text == "org/m@v9: the hub has no such revision"


@pytest.mark.parametrize("offline", [True, False])
def test_a_cached_model_is_fine_without_the_network(offline: bool) -> None:
    hub = FakeHub(here={"org/m": WEIGHTS}, offline=offline)
    assert found(hub, use(), use(weights="random")) == []
    assert hub.asked == []


def test_a_cached_config_is_enough_for_random_weights_alone() -> None:
    hub = FakeHub(here={"org/m": ["config.json"]}, offline=True)
    assert found(hub, use(weights="random")) == []
    ((problem),) = check([use(weights="random", id="r"), use(id="p")], lambda: hub)
    assert problem.places == "s.study.yaml:3 p"
    assert problem.finding.text == (
        "org/m: its weights are not in the cache, and HF_HUB_OFFLINE forbids to fetch it"
    )


@pytest.mark.parametrize(("revision", "more"), [(None, ""), ("v1", " --revision v1")])
def test_offline_and_not_cached(revision: str | None, more: str) -> None:
    hub = FakeHub(offline=True)
    ((text, fix),) = found(hub, use(revision=revision))
    assert text.endswith(": not in the cache, and HF_HUB_OFFLINE forbids to fetch it")
    assert fix == f"unset HF_HUB_OFFLINE, or fetch it before: hf download org/m{more}"
    assert hub.asked == []


def test_each_model_and_revision_is_asked_for_once() -> None:
    hub = FakeHub()
    assert found(hub, use(), use(id="b"), use(revision="v1"), use(model="org/n"), use()) == []
    assert hub.asked == [("org/m", None), ("org/m", "v1"), ("org/n", None)]


@pytest.mark.parametrize("name", ["cache_dir", "download_dir", "token", "hf_token"])
def test_an_engine_that_looks_elsewhere_is_left_alone(name: str) -> None:
    assert check([use(options={name: "there"})], never) == []


def test_a_third_partys_backend_may_mean_anything_by_its_model() -> None:
    assert check([use(backend="fake", model="some/model")], never) == []


def test_without_a_client_the_hub_is_left_out() -> None:
    assert found(None, use()) == []


# --- the disk ------------------------------------------------------------------------------


def test_models_that_fit_one_by_one_must_fit_together() -> None:
    assert found(FakeHub(free=4 * GB), use(model="org/a")) == []
    problems = found(FakeHub(free=7 * GB), use(model="org/a"), use(model="org/b"))
    text = "org/a, org/b: weights of 8.0 GB are to be fetched, but /cache has 7.0 GB free"
    fix = "free some space, or set HF_HOME to a directory on a larger disk"
    assert problems == [(text, fix)]


def test_random_weights_need_no_disk() -> None:
    assert found(FakeHub(free=0), use(weights="random")) == []


def test_small_sizes_are_in_megabytes() -> None:
    hub = FakeHub({"org/m": Answer(status="found", files={"a.bin": 5_000_000})}, free=1_000_000)
    ((text, _),) = found(hub, use())
    assert text == "org/m: weights of 5.0 MB are to be fetched, but /cache has 1.0 MB free"


@pytest.mark.parametrize(
    ("files", "here", "fits"),
    [
        ({"model.safetensors": 2, "pytorch_model.bin": 9, "consolidated.safetensors": 9}, (), 2),
        ({"model-00001-of-00002.safetensors": 2, "model-00002-of-00002.safetensors": 3}, (), 5),
        ({"weights.safetensors": 4, "pytorch_model.bin": 9}, (), 4),
        ({"pytorch_model.bin": 3, "training_args.bin": 9}, (), 3),
        ({"other.bin": 3, "model.gguf": 9}, (), 3),
        ({"onnx/model.safetensors": 9, "model.onnx": 9}, (), 0),
        (
            {"model-00001-of-00002.safetensors": 2, "model-00002-of-00002.safetensors": 3},
            ("model-00001-of-00002.safetensors",),
            3,
        ),
    ],
)
def test_only_what_an_engine_fetches_is_counted(
    files: dict[str, int], here: Collection[str], fits: int
) -> None:
    answers = {"org/m": Answer(status="found", files=files)}
    # Weights without their config are no cached model, but need not come again.
    cached = {"org/m": here}
    assert found(FakeHub(answers, here=cached, free=fits), use()) == []
    assert len(found(FakeHub(answers, here=cached, free=fits - 1), use())) == (fits > 0)


# --- the list ------------------------------------------------------------------------------


def test_each_problem_stands_once_with_all_it_stops(tmp_path: Path) -> None:
    nowhere, empty = str(tmp_path / "nowhere"), directory(tmp_path)
    problems = check(
        [
            use("s.study.yaml:3", id="a", model=nowhere),
            use("s.study.yaml:3", id="b", model=nowhere),
            use("t.study.yaml:9", id="c", model=nowhere, weights="random"),
            use("t.study.yaml:10", id="d", model=empty),
            use("t.study.yaml:11", id="e", model="org/m"),
        ],
        lambda: FakeHub({"org/m": Answer(status="gated")}),
    )
    gated = "gated: the hub gives it only to those who accepted its licence"
    assert listed(problems).splitlines() == [
        "Models can't be used: 3 problem(s) found",
        f"  1. {nowhere}: there is no such directory  (s.study.yaml:3 a, b; t.study.yaml:9 c)",
        "     Fix: check the path; in a study it is relative to the study's file",
        f"  2. {empty}: no config.json  (t.study.yaml:10 d)",
        "     Fix: point model at a directory that holds a config.json",
        f"  3. org/m: {gated}  (t.study.yaml:11 e)",
        "     Fix: accept the licence on the model's page, then run: hf auth login",
    ]


def test_a_long_sweep_is_named_by_its_first_experiments() -> None:
    uses = [use(id=f"e{number}", model="/nowhere/at/all") for number in range(12)]
    (problem,) = check(uses)
    assert isinstance(problem, Problem)
    assert problem.places.endswith(" e0, e1, e2, e3, e4, e5, e6, e7, e8, e9 and 2 more")


# --- the real client -----------------------------------------------------------------------

PROGRAM = """
import json, sys
from pytest_llem.experiment import Experiment
from pytest_llem.wire import from_dict
from pytest_llem.runners.models import Use, check

uses = [
    Use(experiment=from_dict(Experiment, fields), where=f"s:{line}")
    for line, fields in enumerate(json.loads(sys.argv[1]))
]
found = {
    "; ".join(use.where for use in problem.uses): [*problem.finding] for problem in check(uses)
}
print(json.dumps(found))
"""


class Server(http.server.ThreadingHTTPServer):
    """Answers as the hub does, and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def info(size: int, **fields: Any) -> dict[str, Any]:
    files = [
        {"rfilename": "config.json", "size": 600},
        {"rfilename": "model.safetensors", "size": size},
    ]
    return {"id": "x", "sha": "0" * 40, "siblings": files, "gated": False, **fields}


MODELS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "/api/models/org/fine": (200, "", info(1)),
    "/api/models/org/fine/revision/v9": (404, "RevisionNotFound", {}),
    "/api/models/org/huge": (200, "", info(10**18)),
    "/api/models/org/missing": (404, "RepoNotFound", {}),
    "/api/models/org/refused": (403, "GatedRepo", {}),
    # What the hub really does: the list is public, the files are not.
    "/api/models/org/gated": (200, "", info(1, gated="manual")),
    "/org/gated/resolve/main/config.json": (403, "GatedRepo", {}),
    "/api/models/org/granted": (200, "", info(1, gated="auto")),
    "/org/granted/resolve/main/config.json": (200, "", {}),
    "/api/models/org/ill": (500, "", {}),
}


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked[path] += 1
        status, code, data = MODELS.get(path, (404, "", {}))
        body = json.dumps(data).encode()
        self.send_response(status)
        if code:
            self.send_header("x-error-code", code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Nothing is said in the tests' output."""


@pytest.fixture
def server() -> Iterator[Server]:
    pytest.importorskip("huggingface_hub")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def problems_of(
    home: Path, *experiments: Experiment, code: str = PROGRAM, **environment: str
) -> dict[str, list[str]]:
    """Places to text and fix, as a new interpreter with the real client finds them."""
    fields = [{"model": e.model, "weights": e.weights, "revision": e.revision} for e in experiments]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, json.dumps(fields)],
        env={
            "PATH": "",
            "HOME": str(home),
            "HF_HOME": str(home),
            "NO_PROXY": "*",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **environment,
        },
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_the_real_client_is_understood(server: Server, tmp_path: Path) -> None:
    problems = problems_of(
        tmp_path,
        experiment(model="org/fine"),
        experiment(model="org/fine", revision="v9"),
        experiment(model="org/missing"),
        experiment(model="org/refused"),
        experiment(model="org/gated"),
        experiment(model="org/granted"),
        experiment(model="org/ill"),
        experiment(model="no id at all"),
        experiment(model="org/huge"),
        experiment(model="org/huge", weights="random"),
        experiment(model="org/missing", weights="random"),
        HF_ENDPOINT=server.url,
    )
    texts = {places: text for places, (text, _) in problems.items()}
    silent = texts.pop("s:6")
    assert silent.startswith("org/ill: the hub can't be asked (HfHubHTTPError: ")
    disk = texts.pop("s:0; s:5; s:8")
    assert disk.startswith("org/fine, org/granted, org/huge: weights of 1,000,000,000.0 GB are to")
    assert f"but {tmp_path / 'hub'} has " in disk
    gated = "gated: the hub gives it only to those who accepted its licence"
    assert texts == {
        "s:1": "org/fine@v9: the hub has no such revision",
        "s:2; s:10": "org/missing: not found on the hub",
        "s:3": f"org/refused: {gated}",
        "s:4": f"org/gated: {gated}",
        "s:7": "no id at all: neither a directory nor an id of the hub",
    }
    assert {path: count for path, count in server.asked.items() if path in MODELS} == dict.fromkeys(
        MODELS, 1
    )


def test_a_hub_that_nobody_answers_for(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with socket.socket() as bound:
        # Bound, but not listening: connections are refused.
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        problems = problems_of(tmp_path, experiment(model="org/fine"), HF_ENDPOINT=url)
    ((text, fix),) = problems.values()
    assert text.startswith("org/fine: the hub can't be asked (ConnectError: ")
    assert fix == "check network, proxy and HF_ENDPOINT, or point model at a directory"


def test_the_real_cache_answers_before_the_network(server: Server, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--org--fine"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    directory(repository / "snapshots" / "abc", "config.json", "model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    problems = problems_of(
        tmp_path,
        experiment(model="org/fine"),
        experiment(model="org/fine", revision="v9"),
        experiment(model="org/missing"),
        HF_ENDPOINT=server.url,
        HF_HUB_OFFLINE="1",
    )
    assert problems.keys() == {"s:1", "s:2"}
    assert problems["s:2"] == [
        "org/missing: not in the cache, and HF_HUB_OFFLINE forbids to fetch it",
        "unset HF_HUB_OFFLINE, or fetch it before: hf download org/missing",
    ]
    assert not server.asked


def test_where_the_client_is_not_installed_there_is_no_hub(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['huggingface_hub'] = None\n"
    assert problems_of(tmp_path, experiment(model="org/fine"), code=hide + PROGRAM) == {}


def test_the_hub_is_found_where_its_client_is_installed() -> None:
    pytest.importorskip("huggingface_hub")
    hub = find_hub()
    assert hub is not None
    assert hub.free_bytes() > 0
