"""``.lem-config.yaml``: where it is found, and what is left of it where something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.experiment import Warmup
from pytest_llem.study.keys import Carbon, DockerSettings, ThermalGaps, UserConfig
from pytest_llem.study.user_config import NAME, Found, find, load

BACKENDS = ("pytorch", "tensorrt", "vllm")
SHOWN = "~/.lem-config.yaml"


def read(folder: Path, text: str | bytes) -> Found:
    path = folder / NAME
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path, SHOWN, BACKENDS, ["slurm"])


def problems(found: Found) -> list[str]:
    """Lines and texts, without the file's name and the words that all of them end with."""
    end = "; left out"
    assert all(line.startswith(f"{SHOWN}:") and line.endswith(end) for line in found.problems)
    return [line[len(SHOWN) + 1 : -len(end)] for line in found.problems]


# --- where it is ---------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("root", "xdg", "home/.config"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "root"


def environ(root: Path, *names: str) -> dict[str, str]:
    """The variables that say where a user's settings are."""
    places = {"XDG_CONFIG_HOME": "xdg", "HOME": "home"}
    return {name: str(root.parent / places[name]) for name in names}


def put(root: Path, *folders: str) -> list[Path]:
    paths = [root.parent / folder / NAME for folder in folders]
    for path in paths:
        path.write_text("cycles: 1")
    return paths


def test_the_root_directory_comes_first(root: Path) -> None:
    first, *_ = put(root, "root", "xdg", "home/.config")
    assert find(root, environ(root, "XDG_CONFIG_HOME", "HOME")) == first


def test_then_the_directory_that_the_user_names_for_settings(root: Path) -> None:
    first, _ = put(root, "xdg", "home/.config")
    assert find(root, environ(root, "XDG_CONFIG_HOME", "HOME")) == first


@pytest.mark.parametrize("given", [{}, {"XDG_CONFIG_HOME": ""}], ids=["unset", "empty"])
def test_that_is_in_the_home_directory_where_none_is_named(
    root: Path, given: dict[str, str]
) -> None:
    (path,) = put(root, "home/.config")
    assert find(root, {**environ(root, "HOME"), **given}) == path


def test_where_one_is_named_the_home_directory_is_not_looked_into(root: Path) -> None:
    put(root, "home/.config")
    assert find(root, environ(root, "XDG_CONFIG_HOME", "HOME")) is None


@pytest.mark.parametrize("names", [(), ("HOME",), ("HOME", "XDG_CONFIG_HOME")])
def test_there_need_not_be_any(root: Path, names: tuple[str, ...]) -> None:
    assert find(root, environ(root, *names)) is None


def test_a_directory_of_that_name_is_no_settings_file(root: Path) -> None:
    (root / NAME).mkdir()
    (path,) = put(root, "home/.config")
    assert find(root, environ(root, "HOME")) == path


@pytest.mark.parametrize("home", ["/proc/self/mem/x", "x" * 5000])
def test_a_place_that_can_not_be_looked_into_holds_none(root: Path, home: str) -> None:
    assert find(root, {"HOME": home}) is None


# --- what it says --------------------------------------------------------------------------

FULL = """\
runners: {vllm: docker, pytorch: local, tensorrt: "slurm:gpu"}
images: {vllm: "img:1"}
thermal_gaps: {between_experiments: 30, between_cycles: 120}
docker:
  strategy: persistent
  warmup_delay: 1.5
  auto_teardown: false
  max_restarts: 0
  skip_preflight: true
default_backend: vllm
results_dir: out
cycles: 5
warmup: {prompts: 2, timeout_s: 3}
carbon: {intensity_g_per_kwh: 380, pue: 1.2, price_per_kwh: 0.3}
"""


def test_a_user_may_set_everything(tmp_path: Path) -> None:
    settings = UserConfig(
        runners={"vllm": "docker", "pytorch": "local", "tensorrt": "slurm:gpu"},
        images={"vllm": "img:1"},
        thermal_gaps=ThermalGaps(between_experiments=30.0, between_cycles=120.0),
        docker=DockerSettings(
            strategy="persistent",
            warmup_delay=1.5,
            auto_teardown=False,
            max_restarts=0,
            skip_preflight=True,
        ),
        default_backend="vllm",
        results_dir="out",
        cycles=5,
        warmup=Warmup(prompts=2, timeout_s=3.0),
        carbon=Carbon(intensity_g_per_kwh=380.0, pue=1.2, price_per_kwh=0.3),
    )
    assert read(tmp_path, FULL) == Found(settings)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "{}", "cycles:\nrunners: null"])
def test_an_empty_file_sets_nothing(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == Found(UserConfig())


def test_null_is_not_set_at_any_depth(tmp_path: Path) -> None:
    text = "docker: {strategy: null, max_restarts: 1}\nrunners: {vllm: null}\ndefault_backend: null"
    assert read(tmp_path, text) == Found(UserConfig(docker=DockerSettings(max_restarts=1)))


def test_no_warm_up_may_be_a_users_default(tmp_path: Path) -> None:
    assert read(tmp_path, "warmup: none") == Found(UserConfig(warmup="none"))


# --- what is wrong in it -------------------------------------------------------------------

ONE_MISTAKE: list[tuple[str, str]] = [
    ("cycels: 3", "2: cycels: unknown field; did you mean cycles?"),
    ("zzz: 3", "2: zzz: unknown field; accepted: carbon, cycles, default_backend, docker, images,"),
    ("cycles: 0", "2: cycles: should be greater than or equal to 1, not 0"),
    ("cycles: many", "2: cycles: should be a valid integer, not 'many'"),
    ("docker: 5", "2: docker: "),
    ("docker: [a]", "2: docker: "),
    ("docker:\n  stratgy: x", "3: docker.stratgy: unknown field; did you mean strategy?"),
    ("docker:\n  strategy: x", "3: docker.strategy: should be 'ephemeral' or 'persistent'"),
    ("docker:\n  max_restarts: -1", "3: docker.max_restarts: should be greater than or equal to 0"),
    ("docker:\n  volumes:\n  - /a:/a\n  - 5", "5: docker.volumes.1: should be a valid string"),
    ("thermal_gaps: thermal", "2: thermal_gaps: "),
    ("thermal_gaps:\n  between_cycle: 1", "3: thermal_gaps.between_cycle: unknown field; did you"),
    ("thermal_gaps: {between_cycles: -1}", "2: thermal_gaps.between_cycles: should be greater"),
    ("warmup: 5", "2: warmup: "),
    ("carbon: {pue: 0.5}", "2: carbon.pue: should be greater than or equal to 1, not 0.5"),
    ("carbon: {pux: 1}", "2: carbon.pux: unknown field; did you mean pue?"),
    ("default_backend: vlm", "2: default_backend: unknown backend vlm; did you mean vllm?"),
    ("default_backend: ''", "2: default_backend: unknown backend"),
    ("default_backend: [vllm]", "2: default_backend: should be a valid string, not ['vllm']"),
    ("runners: docker", "2: runners: "),
    ("runners:\n  vlm: docker", "3: runners.vlm: unknown backend; did you mean vllm?"),
    (
        "runners:\n  vllm: podman",
        "3: runners.vllm: 'podman' is no runner; accepted: local,",
    ),
    ("runners:\n  vllm: 'docker:'", "3: runners.vllm: 'docker:' is no runner; accepted: "),
    ("runners:\n  vllm: ''", "3: runners.vllm: '' is no runner; accepted: "),
    ("runners:\n  vllm: 5", "3: runners.vllm: should be a valid string, not 5"),
    ("images: [a]", "2: images: "),
    ("images:\n  vlm: img", "3: images.vlm: unknown backend; did you mean vllm?"),
    ("images:\n  vllm: 5", "3: images.vllm: should be a valid string, not 5"),
    ("images:\n  vllm: ''", "3: images.vllm: "),
]


@pytest.mark.parametrize(("text", "said"), ONE_MISTAKE, ids=[text for text, _ in ONE_MISTAKE])
def test_a_mistake_is_a_line_and_the_rest_is_used(tmp_path: Path, text: str, said: str) -> None:
    found = read(tmp_path, f"# mine\n{text}\nresults_dir: out")
    (problem,) = problems(found)
    assert problem.startswith(said)
    assert found.settings == UserConfig(results_dir="out")


def test_what_is_wrong_in_a_warm_up_costs_that_part_of_it(tmp_path: Path) -> None:
    found = read(tmp_path, "warmup:\n  prmpts: 1\n  timeout_s: 3")
    assert problems(found) == ["2: warmup.prmpts: unknown field; did you mean prompts?"]
    assert found.settings == UserConfig(warmup=Warmup(timeout_s=3.0))


MANY = """runners: {vlm: docker, pytorch: podman, vllm: docker}
docker:
  strategy: persistent
  max_restarts: -1
  stratgy: x
cycels: 3
default_backend: pytroch
warmup: {prompts: 2, timeout_s: 0}
thermal_gaps: [1]
results_dir: out
carbon: {pue: 0, price_per_kwh: 0.3}
"""


def test_several_mistakes_are_all_told_in_order_and_all_else_is_used(tmp_path: Path) -> None:
    found = read(tmp_path, MANY)
    assert [problem.split(": ")[:2] for problem in problems(found)] == [
        ["1", "runners.pytorch"],
        ["1", "runners.vlm"],
        ["4", "docker.max_restarts"],
        ["5", "docker.stratgy"],
        ["6", "cycels"],
        ["7", "default_backend"],
        ["8", "warmup.timeout_s"],
        ["9", "thermal_gaps"],
        ["11", "carbon.pue"],
    ]
    assert found.settings == UserConfig(
        runners={"vllm": "docker"},
        docker=DockerSettings(strategy="persistent"),
        warmup=Warmup(prompts=2),
        results_dir="out",
        carbon=Carbon(price_per_kwh=0.3),
    )


def test_two_mistakes_in_one_list_cost_the_list_alone(tmp_path: Path) -> None:
    found = read(tmp_path, "docker:\n  strategy: persistent\n  volumes: [1, 2]")
    assert len(problems(found)) == 2
    assert found.settings == UserConfig(docker=DockerSettings(strategy="persistent"))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("cycles: 3\n\tdocker: 1", 2, "not valid YAML: "),
        ("cycles: [1\nrunners: {", 2, "not valid YAML: "),
        ("- cycles\n- 3", 1, "this file is a mapping of fields, this file is a list"),
        ("cycles", 1, "this file is a mapping of fields, this file is a single value"),
        ("cycles: 3\n---\ncycles: 4", 2, "the file should be one document"),
        (b"cycles: 3\nresults_dir: \xff", 2, "not UTF-8 text"),
        ("cycles: *many", 1, "the alias *many stands for nothing"),
        ("# " + "x" * 10_000_000, 1, "larger than 10 MB"),
    ],
    ids=["tab", "brackets", "list", "text", "two", "not text", "alias", "large"],
)
def test_a_file_that_can_not_be_read_costs_one_line(
    tmp_path: Path, text: str | bytes, line: int, said: str
) -> None:
    found = read(tmp_path, text)
    (problem,) = problems(found)
    assert problem.startswith(f"{line}: {said}")
    assert found.settings == UserConfig()


@pytest.mark.parametrize("text", ["cycles: 3\ncycles: 4", "cycles: !mine 3"])
def test_a_value_that_means_nothing_costs_that_value_alone(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, f"{text}\nresults_dir: out")
    assert len(problems(found)) == 1
    assert found.settings.results_dir == "out"


def test_a_file_that_is_gone_costs_one_line(tmp_path: Path) -> None:
    found = load(tmp_path / NAME, SHOWN, BACKENDS, ())
    assert problems(found) == ["1: can't be read: No such file or directory"]
    assert found.settings == UserConfig()
