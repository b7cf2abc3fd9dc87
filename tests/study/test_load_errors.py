"""What is wrong with a study: all of it at once, each with its line, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llem.errors import StudyError
from pytest_llem.study.load import load
from tests.study.written import SHOWN, problems

AT_A_PLACE: list[tuple[str, str]] = [
    ("seed: 1", "1: model: required, and not given"),
    ("\n\nbach_size: 3\nmodel: m", "3: bach_size: unknown field; did you mean batch_size?"),
    ("model: m\nbatch_size: 0", "2: batch_size: should be greater than or equal to 1, not 0"),
    ("model: m\nbatch_size: '4'", "2: batch_size: should be a valid integer, not '4'"),
    (
        "model: m\nprompts:\n  input_tokens: 3\n  count: 0",
        "4: prompts.count: should be greater than or equal to 1, not 0",
    ),
    ("model: m\nidle: -1", "2: idle: should be greater than 0 or should be 'none', not -1"),
    # misspelt at every depth
    ("model: m\nprompts:\n  cuont: 3", "3: prompts.cuont: unknown field; did you mean count?"),
    (
        "model: m\nwarmup:\n  prmpts: {}",
        "3: warmup.prmpts: unknown field; did you mean prompts?",
    ),
    (
        "model: m\nprompts:\n  input_tokens:\n    unifrom: [1, 2]",
        "4: prompts.input_tokens.unifrom: unknown field; did you mean uniform?",
    ),
    (
        "model: m\nsweep:\n  prompts.cuont: [1]",
        "3: prompts.cuont: unknown field; did you mean count?",
    ),
    (
        "model: m\nvariants:\n  g:\n    a:\n      prompts:\n        cuont: 1",
        "6: prompts.cuont: unknown field; did you mean count?",
    ),
    (
        "model: m\nexperiments:\n- id: a\n  warmup:\n    timeout: 1",
        "5: warmup.timeout: unknown field; did you mean timeout_s?",
    ),
    (
        "model: m\nexecution:\n  gaps:\n    between_cycle: 1",
        "4: execution.gaps.between_cycle: unknown field; did you mean between_cycles?",
    ),
    (
        "model: m\nrequires:\n  gpu: 1",
        "3: requires.gpu: unknown field; did you mean gpus?",
    ),
    (
        "model: m\nexperiments:\n- id: a\n  requires:\n    gpu: 1",
        "5: requires.gpu: unknown field; did you mean gpus?",
    ),
    (
        "model: m\ndocker:\n  stratgy: ephemeral",
        "3: docker.stratgy: unknown field; did you mean strategy?",
    ),
    ("model: m\nbackend: pytroch", "2: unknown backend pytroch; did you mean pytorch?"),
    (
        "model: m\nexpect:\n  energi_j: {max: 1}",
        "3: expect.energi_j: unknown metric; did you mean energy_j?",
    ),
    (
        "model: m\nrunners:\n  pytroch: local",
        "3: runners.pytroch: unknown backend; did you mean pytorch?",
    ),
    # sections
    ("model: m\nsweep: 3", "2: sweep: should be a mapping, not 3"),
    ("model: m\nvariants: [a]", "2: variants: should be a mapping, not ['a']"),
    ("model: m\nexecution: [1]", "2: execution: should be a mapping, not [1]"),
    ("model: m\nrequires: [1]", "2: requires: should be a mapping, not [1]"),
    ("model: m\nexperiments: {a: 1}", "2: experiments: should be a list, not {'a': 1}"),
    ("model: m\npytorch: 5", "2: pytorch: should be a mapping"),
    (
        "model: m\nexperiments:\n- id: a\n- b",
        "4: experiments.1: should be a mapping, not 'b'",
    ),
    # in a sweep
    (
        "model: m\nsweep:\n  batch_size:\n  - 1\n  - 0\nexperiments:\n- 5",
        "7: experiments.0: should be a mapping, not 5",
    ),
    # options of an engine
    (
        "model: m\noptions: {x: 1}",
        "2: options: unknown field; an engine's options stand under its name",
    ),
    (
        "model: m\nexperiments:\n- id: a\n  options: {x: 1}",
        "4: options: unknown field; an engine's options stand under its name",
    ),
    # absent in a mapping that is there
    (
        "model: m\nprompts:\n  input_tokens:\n    lognormal: {median: 5, max: 9}",
        "4: prompts.input_tokens.lognormal.sigma: required, and not given",
    ),
]


@pytest.mark.parametrize(("text", "problem"), AT_A_PLACE)
def test_a_problem_has_its_line_and_says_what_is_wrong(
    tmp_path: Path, text: str, problem: str
) -> None:
    assert problems(tmp_path, text) == [problem]


@pytest.mark.parametrize("key", ["execution.cycles", "runners", "name", "base"])
def test_what_a_study_says_of_itself_can_not_be_swept(tmp_path: Path, key: str) -> None:
    (problem,) = problems(tmp_path, f"model: m\nsweep:\n  {key}: [a, b]")
    assert problem.startswith(f"3: {key.partition('.')[0]}: unknown field; ")


MANY = """\
bach_size: 3
model: m
execution: {cycles: 0, order: random}
runners: {pytorch: podman, pytroch: local}
images: {vlm: x}
docker: {stratgy: x}
prompts: {count: 0, cuont: 1}
env: {API_KEY: x}
requires: {gpu: 1}
variants:
  quant:
    bad: 5
sweep:
  seed: [-2, -1]
  batch_size: 3
expect:
  energi_j: {max: 1}
  load_s: {max: low}
experiments:
  - id: a b
    dtype: int8
  - id: c
    warmup:
      prmpts: 1
    tensor_parallel: 2
"""


def test_all_problems_are_told_at_once_in_the_order_of_lines_and_each_once(tmp_path: Path) -> None:
    told = problems(tmp_path, MANY)
    assert len(told) == len(set(told))
    assert [line.split(": ")[:2] for line in told] == [
        ["1", "bach_size"],
        ["3", "execution.cycles"],
        ["3", "execution.order"],
        ["4", "runners.pytorch"],
        ["4", "runners.pytroch"],
        ["5", "images.vlm"],
        ["6", "docker.stratgy"],
        ["7", "prompts.count"],
        ["7", "prompts.cuont"],
        ["8", "env.API_KEY"],
        ["9", "requires.gpu"],
        ["12", "variants.quant.bad"],
        ["14", "seed"],
        ["14", "seed"],
        ["15", "sweep.batch_size"],
        ["17", "expect.energi_j"],
        ["18", "expect.load_s.max"],
        ["20", "experiments.0.id"],
        ["21", "dtype"],
        ["24", "warmup.prmpts"],
        ["25", "tensor_parallel"],
    ]


def test_an_error_in_what_all_share_is_told_once(tmp_path: Path) -> None:
    text = "model: m\nseed: -1\nsweep: {batch_size: [1, 2, 4]}\nexperiments: [{id: a}, {id: b}]"
    assert problems(tmp_path, text) == ["2: seed: should be greater than or equal to 0, not -1"]


def test_an_error_in_an_anchor_is_told_where_it_was_written(tmp_path: Path) -> None:
    text = "model: m\nexperiments:\n- &a\n  id: a\n  seed: -1\n- <<: *a\n  id: b"
    assert problems(tmp_path, text) == ["5: seed: should be greater than or equal to 0, not -1"]


@pytest.mark.parametrize("text", ["model: m\nseed: 1\nseed: 2", "model: m\n\nseed: !mine 5"])
def test_a_key_that_is_given_twice_does_not_hide_what_else_is_wrong(
    tmp_path: Path, text: str
) -> None:
    told = problems(tmp_path, f"{text}\nbach_size: 1")
    assert [line.partition(":")[0] for line in told] == ["3", "4"]


@pytest.mark.parametrize(
    "key", ['"a\\nb"', '"a\\e[2Jb"', "x" * 900], ids=["line break", "escape", "long"]
)
def test_a_problem_is_one_line_that_can_be_read_whatever_the_key(tmp_path: Path, key: str) -> None:
    (problem,) = problems(tmp_path, f"model: m\n{key}: 1")
    assert problem.isprintable()
    assert len(problem) < 300


# --- files that are no studies -------------------------------------------------------------

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
)
NO_STUDIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "1: a study is a mapping of fields, this file is empty"),
    "a comment": (b"# later\n", "1: a study is a mapping of fields, this file is empty"),
    "a list": (b"- a\n- b", "1: a study is a mapping of fields, this file is a list"),
    "a text": (b"model", "1: a study is a mapping of fields, this file is a single value"),
    "a number": (b"5", "1: a study is a mapping of fields, this file is a single value"),
    "tabs": (b"model: m\nprompts:\n\tcount: 3", "3: not valid YAML: "),
    "a duplicate": (b"model: m\nseed: 1\nseed: 1", "3: seed is given twice, first on line 2"),
    "a bomb": (BOMB.encode(), "6: more than 1,000,000 values, with those of aliases"),
    "11 MB": (b"# " + b"x" * 11_000_000, "1: larger than 10 MB"),
    "not UTF-8": (b"model: m\nname: \xe9t\xe9", "2: not UTF-8 text"),
    "UTF-16": ("model: m".encode("utf-16"), "1: not UTF-8 text"),
    "nothing but zeros": (b"\0" * 100, "1: not valid YAML: "),
    "another language": (b"import os\nos.system('x')", "1: a study is a mapping of fields, this"),
    "code": (
        b"model: m\nid: !!python/name:os.system x",
        "2: the tag tag:yaml.org,2002:python/name:os",
    ),
    "two documents": (b"model: m\n---\nmodel: n", "2: the file should be one document"),
    "an open bracket": (b"model: [m\n", "2: not valid YAML: "),
    "JSON": (b'{"model": "m", "sede": 1}', "1: sede: unknown field; did you mean seed?"),
}


@pytest.mark.parametrize("kind", NO_STUDIES)
def test_a_file_that_is_no_study_is_refused_with_a_line(tmp_path: Path, kind: str) -> None:
    content, said = NO_STUDIES[kind]
    path = tmp_path / "x.study.yaml"
    path.write_bytes(content)
    with pytest.raises(StudyError) as caught:
        load(path, SHOWN)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{SHOWN}:{said}")
    assert "\n" not in problem
    assert len(problem) < 300


@pytest.mark.parametrize(
    "text",
    [
        "model: ~no_such_user_of_this_host/m",
        f"model: {'x' * 300}",
        'model: "/a\\0b"',
        f"model: m\nexpect: {{energy_j: {{max: {'9' * 400}}}}}",
        f"model: m\nseed: 0x{'f' * 5000}",
        f"model: m\nsweep: {{seed: [0x{'f' * 5000}, 1]}}",
        f"model: m\nexecution: {{cycles: 1{':00' * 3000}}}",
        "model: m\nsweep: {'': [1]}",
        "model: m\nsweep: {'.': [1], 'a..b': [2], 'vllm.': [3]}",
        "model: m\nsweep: {backend: [[a], {b: c}, 5]}",
        "model: m\nbackend: {a: b}",
        "model: [m]\nexpect: [{where: {model: [[m]]}, load_s: {max: 1}}]",
        "model: m\nexpect: [{where: {prompts.count.bits.x: 1}, load_s: {max: 1}}]",
        "? [model]\n: m",
        "model: m\nvariants: {? {a: b} : {c: {}}}",
    ],
    ids=lambda text: text[:40],
)
def test_odd_values_are_taken_or_refused_but_no_crash(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.study.yaml"
    path.write_text(text)
    try:
        told = str(load(path, SHOWN).path)
    except StudyError as error:
        told = str(error)
    assert told.startswith((f"{SHOWN}:", str(path)))
