"""Generated and damaged files, loaded for a while: ``python -m tests.study.fuzzing what seconds``.

A process of its own, so that what it needs of memory can be told. Prints one line of JSON with
the number of files and the most memory it ever had; fails with the smallest file that it found.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pytest_llem.errors import StudyError
from pytest_llem.study import user_config
from pytest_llem.study.keys import UserConfig
from pytest_llem.study.load import load

__all__ = ["main"]

PATIENCE_S = 60
"""For one file; the largest grid that there may be takes a third of it on a busy machine."""

STUDIES = [
    """\
name: everything
base: base.yaml
model: org/m
backend: vllm
prompts: {count: 4, input_tokens: {uniform: [1, 8]}}
decoding: {temperature: 0.5, top_k: 4}
scenario: {poisson: 2}
warmup: {prompts: 1, timeout_s: 2}
env: {OMP_NUM_THREADS: 4}
marks: [slow, {timeout: 30}]
vllm: {enforce_eager: true}
execution: {cycles: 2, order: shuffled, gaps: {between_cycles: 1.5}}
runners: {vllm: "docker:host:5000/img:tag"}
images: {vllm: "img:2"}
docker: {strategy: persistent, ulimits: {memlock: -1}, volumes: [/a:/a]}
requires: {gpus: 4, backends: [vllm]}
variants:
  quant:
    plain: {}
    fp8: {vllm: {quantization: fp8}, requires: {gpu_name: H100}}
sweep:
  output_tokens: [16, null]
  vllm.block_size: {from: 1, to: 4, scale: pow2}
  vllm: {a.b: [1, x]}
experiments:
  - &last {id: last, skip: not now, requires: {gpus: null}, expect: {load_s: {max: 9}}}
  - {<<: *last, id: other}
expect:
  - output_tokens_per_s: {min: 20, max_regression: 5%}
  - where: {quant: fp8}
    output_tokens_per_s: {min: 30}
""",
    "model: m\nsweep: {batch_size: [1, 4], prompts.count: [2, 3]}\nexpect: {load_s: {max: 5e-3}}\n",
    "model: m\nprompts:\n  input_tokens:\n    lognormal: {median: 4, sigma: 1, max: 8}\n",
    "base: circle.yaml\n",
]
SETTINGS = [
    """\
runners: {vllm: docker, pytorch: local}
images: {vllm: "img:1"}
thermal_gaps: {between_experiments: 30, between_cycles: 120}
docker: {strategy: persistent, max_restarts: 0, volumes: [/a:/a], ulimits: {memlock: -1}}
default_backend: vllm
results_dir: out
cycles: 5
warmup: {prompts: 2, timeout_s: 3}
carbon: {intensity_g_per_kwh: 380, pue: 1.2}
""",
]
ONCE_FAILED = [
    b"base: " + b"x" * 300,
    b'base: "a\\0b"',
    b'model: "~a\\0b/m"',
    b"model: m\nseed: 0x" + b"f" * 5000,
]
"""Files that were too much for some version: tried first."""

BESIDE = {
    "base.yaml": "seed: 7\nload_timeout_s: 90\nprompts: {count: 3}",
    "circle.yaml": "base: circle.yaml",
    "model/config.json": "{}",
}
"""Files that a study may mean, by their names."""

BACKENDS = ("pytorch", "tensorrt", "vllm")
LINE = re.compile(r"x\.yaml:([0-9]+): .+", re.DOTALL)

# --- what files are made of ----------------------------------------------------------------

WORDS = sorted({word for text in [*STUDIES, *SETTINGS] for word in re.findall(r"[\w.<*&%]+", text)})
ODD = ["", ".", "..", "a b", "a[1]", "é", "none", "auto", "null", "~", "on", "=", "<<", "0x", "-"]
ODD += ["1e999", ".nan", "-.inf", "5%", "1:00", "2024-01-01", "docker:", "base.yaml", "options"]
ODD += ["circle.yaml", "./model", "model/..", "~/x", "~nobody/x", "/\0", "~\0/x", "x" * 300]
SCALARS = st.one_of(
    st.sampled_from([*WORDS, *ODD]),
    st.none(),
    st.booleans(),
    st.integers(-2, 9),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
)
KEYS = st.one_of(st.sampled_from([*WORDS, *ODD]), st.text(max_size=3))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)
FIELDS = st.dictionaries(
    st.sampled_from(["seed", "prompts", "warmup", "env", "vllm", "gpus", "id", "expect", "x"]),
    VALUES | st.integers(1, 3) | st.fixed_dictionaries({"count": st.integers(-1, 3)}),
    max_size=3,
)
SWEPT = st.sampled_from(["seed", "prompts.count", "prompts", "vllm.a", "vllm", "gpus", "model"])
ENDS = st.integers(-1, 99) | st.floats()
RANGES = st.fixed_dictionaries(
    {"from": ENDS, "to": ENDS},
    optional={"steps": st.integers(-1, 9), "scale": st.sampled_from(["log", "pow2", "x"])},
)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "where": st.dictionaries(SWEPT | KEYS, VALUES, max_size=2),
        "load_s": st.dictionaries(st.sampled_from(["min", "max", "max_regression"]), SCALARS),
    },
)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "backend": st.sampled_from(BACKENDS),
        "sweep": st.dictionaries(SWEPT, st.lists(VALUES, max_size=3) | RANGES, max_size=3),
        "variants": st.dictionaries(KEYS, st.dictionaries(KEYS, FIELDS, max_size=2), max_size=2),
        "experiments": st.lists(FIELDS, max_size=3),
        "expect": st.lists(LIMITS, max_size=2) | LIMITS,
        "execution": VALUES | st.fixed_dictionaries({"gaps": SCALARS}),
        "base": st.sampled_from([*BESIDE, "none.yaml"]),
    },
)
STRUCTURES = st.tuples(LIKELY, FIELDS | st.dictionaries(KEYS, VALUES, max_size=3)).map(
    lambda parts: {"model": "m"} | parts[0] | parts[1]
)
PIECES = [b"\n", b"\t", b"  ", b"- ", b"? ", b": ", b"{", b"}", b"[" * 200, b"]", b"'", b'"', b"#"]
PIECES += [b"&a ", b"*a", b"<<: ", b"!", b"!!int ", b"!!python/name:x ", b"---\n", b"...\n", b"|\n"]
PIECES += [
    b"%YAML 1.1\n",
    b"\0",
    b"\x01",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xc2\x85",
    b"\r",
    b"null",
]
PIECES += [
    b'"a\\0b"',
    b"0x" + b"f" * 600,
    b"1" + b":00" * 300,
    b".nan",
    b"true",
    b"-1",
    b"[]",
    b"{}",
]


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """A structure as YAML."""
    flow = draw(st.sampled_from([None, True, False]))
    text = yaml.safe_dump(draw(STRUCTURES), default_flow_style=flow, allow_unicode=True)
    return text.encode("utf-8", "surrogatepass")


def damaged(texts: list[str]) -> st.SearchStrategy[bytes]:
    """A good file whose lines are deleted, repeated, swapped, cut, or have something put in."""

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        lines = draw(st.sampled_from(texts)).encode().split(b"\n")
        for _ in range(draw(st.integers(1, 5))):
            _damage(lines, draw)
        return b"\n".join(lines)

    return build()


def _damage(lines: list[bytes], draw: st.DrawFn) -> None:
    place, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    line = lines[place]
    column = draw(st.integers(0, len(line)))
    piece = draw(st.sampled_from(PIECES) | st.binary(max_size=4))
    match draw(st.sampled_from(["delete", "repeat", "swap", "cut", "insert", "replace"])):
        case "delete":
            del lines[place : place + 1 + other % 3]
            lines.append(b"")
        case "repeat":
            lines[place:place] = lines[place : place + 1 + other % 3]
        case "swap":
            lines[place], lines[other] = lines[other], lines[place]
        case "cut":
            lines[place] = line[:column]
        case "insert":
            lines[place] = line[:column] + piece + line[column:]
        case _:
            word = draw(st.sampled_from(re.findall(rb"[\w.]+", line) or [b" "]))
            lines[place] = line.replace(word, piece, 1)


# --- what may become of them ---------------------------------------------------------------


def _refused(problem: str, data: bytes) -> None:
    """A problem names a line of the file."""
    found = LINE.fullmatch(problem)
    assert found, problem
    # YAML's end is on a line of its own, even behind a line that isn't ended.
    lines = len(re.findall(rb"\r\n?|\n|\xc2\x85|\xe2\x80[\xa8\xa9]", data)) + 2
    assert 1 <= int(found[1]) <= lines


def study(folder: Path, data: bytes) -> None:
    """A file is a study, or refused."""
    path = folder / "x.yaml"
    path.write_bytes(data)
    problems: tuple[str, ...] = ()
    try:
        found = load(path, "x.yaml")
    except StudyError as error:
        problems = error.problems
    else:
        names = [planned.experiment.id for planned in found.experiments]
        assert len(names) == len(set(names)) >= 1
        assert all(len(planned.digest) == 64 for planned in found.experiments[:3])
    for problem in problems:
        if not problem.startswith(tuple(BESIDE)):
            _refused(problem, data)


def user_settings(folder: Path, data: bytes) -> None:
    """A file gives settings, whatever is in it."""
    path = folder / user_config.NAME
    path.write_bytes(data)
    found = user_config.load(path, "x.yaml", BACKENDS, ())
    assert isinstance(found.settings, UserConfig)
    for problem in found.problems:
        _refused(problem, data)


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """An end to what would never end by itself."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"still at it after {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class _Fuzz:
    """Tries files and counts them."""

    def __init__(self, check: Callable[[Path, bytes], None], folder: Path) -> None:
        self._check = check
        self._folder = folder
        self.files = 0

    def some(self, files: st.SearchStrategy[bytes]) -> None:
        """Try a hundred files; what fails is made as small as it can be."""

        @settings(
            max_examples=100,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        @given(files)
        def tries(data: bytes) -> None:
            self.files += 1
            with _patience():
                self._check(self._folder, data)

        tries()


def main(what: str, seconds: float) -> None:
    """Try files until the time is up."""
    check, texts = {"study": (study, STUDIES), "settings": (user_settings, SETTINGS)}[what]
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for beside, text in BESIDE.items():
            (folder / beside).parent.mkdir(exist_ok=True)
            (folder / beside).write_text(text)
        fuzz = _Fuzz(check, folder)
        for data in ONCE_FAILED:
            check(folder, data)
        while time.monotonic() < end:
            fuzz.some(written() | damaged(texts))
    print(json.dumps({"files": fuzz.files, "peak_bytes": peak_bytes()}))  # noqa: T201


def peak_bytes() -> int:
    """The most memory that this process had; not that of its parent, which ru_maxrss takes over."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
