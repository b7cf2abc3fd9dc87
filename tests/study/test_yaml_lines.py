"""YAML files: data with lines, and a refusal with a line for everything that can't be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.errors import StudyError
from pytest_llem.study.yaml_lines import Document, read
from tests.builders import UNHURRIED

SHOWN = "dir/x.study.yaml"


def document(folder: Path, text: str | bytes) -> Document:
    path = folder / "x.study.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, SHOWN)


def problems(folder: Path, text: str | bytes) -> tuple[str, ...]:
    try:
        return document(folder, text).problems
    except StudyError as error:
        told = error
    assert str(told) == "\n".join(told.problems)
    return told.problems


# --- lines ---------------------------------------------------------------------------------

NESTED = """\
# a comment
model: m

sweep:
  batch_size:
    - 1
    - 2
  prompts.count: [3, 4,
    5]
experiments:
  - id: a
    expect: {energy_j: {max: 1}}
  -
    id: b
"""


def test_data_are_plain(tmp_path: Path) -> None:
    assert document(tmp_path, NESTED).data == {
        "model": "m",
        "sweep": {"batch_size": [1, 2], "prompts.count": [3, 4, 5]},
        "experiments": [{"id": "a", "expect": {"energy_j": {"max": 1}}}, {"id": "b"}],
    }


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("model",), 2),
        (("sweep",), 4),
        (("sweep", "batch_size"), 5),
        (("sweep", "batch_size", 0), 6),
        (("sweep", "batch_size", 1), 7),
        (("sweep", "prompts.count"), 8),
        (("sweep", "prompts.count", 1), 8),
        (("sweep", "prompts.count", 2), 9),
        (("experiments", 0), 11),
        (("experiments", 0, "id"), 11),
        (("experiments", 0, "expect", "energy_j", "max"), 12),
        (("experiments", 1, "id"), 14),
        # what isn't there has the line of the nearest thing around it
        (("experiments", 1, "model"), 14),
        (("experiments", 7, "model"), 10),
        (("sweep", "batch_size", 9), 5),
        (("runners", "pytorch"), 1),
        ((), 1),
    ],
)
def test_keys_and_elements_know_their_lines(
    tmp_path: Path, key: tuple[str | int, ...], line: int
) -> None:
    assert document(tmp_path, NESTED).line(key) == line


def test_a_document_knows_its_path(tmp_path: Path) -> None:
    assert document(tmp_path, "a: 1").path == tmp_path / "x.study.yaml"


@pytest.mark.parametrize("key", ["on", "no", "null", "1.0", "0x10", "2024-01-01", "~", "=", "true"])
def test_keys_are_the_text_that_was_written(tmp_path: Path, key: str) -> None:
    assert document(tmp_path, f"{key}: 1").data == {key: 1}


def test_values_are_of_yaml_types(tmp_path: Path) -> None:
    data = document(tmp_path, "a: 1\nb: 1.5\nc: x\nd: yes\ne:\nf: '1'\ng: 5e-3").data
    assert data == {"a": 1, "b": 1.5, "c": "x", "d": True, "e": None, "f": "1", "g": 0.005}


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert document(tmp_path, b"\xef\xbb\xbfmodel: m").data == {"model": "m"}


@UNHURRIED
@given(
    st.lists(
        st.text(st.characters(categories=["Ll"]), min_size=1, max_size=8), unique=True, min_size=1
    )
)
def test_every_key_has_the_line_it_was_written_on(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    found = document(folder, "".join(f'"{key}": 1\n' for key in keys))
    assert [found.line((key,)) for key in keys] == list(range(1, len(keys) + 1))


# --- anchors and merge keys ----------------------------------------------------------------

MERGED = """\
base: &base
  count: 1
  input_tokens: 2
other: &other {count: 9}
one:
  <<: *base
  count: 3
both:
  <<: [*other, *base]
alias: *base
"""


def test_merge_keys_give_what_is_not_given(tmp_path: Path) -> None:
    data = document(tmp_path, MERGED).data
    assert data["one"] == {"count": 3, "input_tokens": 2}
    assert data["both"] == {"count": 9, "input_tokens": 2}
    assert data["alias"] == {"count": 1, "input_tokens": 2}


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("one", "count"), 7),
        (("one", "input_tokens"), 3),
        (("both", "count"), 4),
        (("alias",), 10),
        (("alias", "count"), 2),
    ],
)
def test_a_merged_key_has_the_line_it_was_written_on(
    tmp_path: Path, key: tuple[str, ...], line: int
) -> None:
    assert document(tmp_path, MERGED).line(key) == line


# --- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "a study is a mapping of fields, this file is empty"),
        ("# only a comment\n", 1, "a study is a mapping of fields, this file is empty"),
        ("- a\n- b\n", 1, "a study is a mapping of fields, this file is a list"),
        ("a: 1\n\tb: 2", 2, "not valid YAML: "),
        ("a:\n  b: 1\n\tc: 2", 3, "not valid YAML: "),
        ("a: [1\nb: 2", 2, "not valid YAML: "),
        ("a: 'x\n", 2, "not valid YAML: "),
        ("a: *b", 1, "the alias *b stands for nothing"),
        ("a: 1\n---\nb: 2", 2, "the file should be one document; remove the second"),
        ("a: 1\nb: !!python/name:os.system x", 2, "the tag tag:yaml.org,2002:python/name"),
        ("a: 1\nb: !mine x", 2, "the tag !mine has no meaning here"),
        ("a: 1\n<<: 5", 2, "<< takes a mapping, or a list of them"),
        ("a: 1\n? [b]\n: c", 2, "a key must be text"),
        ("a: 1\n? {b: c}\n: c", 2, "a key must be text"),
        ("a: 1\nb: 2\na: 3", 3, "a is given twice, first on line 1"),
        ("x:\n  a: 1\n  a: 3", 3, "a is given twice, first on line 2"),
        ("x: [{a: 1,\n  a: 3}]", 2, "a is given twice, first on line 1"),
        ("x: &x {<<: {b: 1}, a: 1, \na: 2}", 2, "a is given twice, first on line 1"),
        ("a: 1\nb: &b [*b]", 2, "the alias *b stands for nothing, or for what it is part of"),
        ("a: 1\nb: &b {c: {d: *b}}", 2, "the alias *b stands for nothing, or for"),
        (b"a: 1\nb: \xff", 2, "not UTF-8 text"),
        (b"\xff\xfea\x00", 1, "not UTF-8 text"),
        (b"a: 1\nb: 2\nc: \xed\xa0\xbd", 3, "not UTF-8 text"),
        ("# " + "x" * 10_000_000, 1, "larger than 10 MB"),
        ("x:\n" + "\n".join(f"{' ' * i}a:" for i in range(1, 1500)), 101, "nested too deeply"),
    ],
    ids=range(25),
)
def test_what_can_not_be_read_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, line: int, what: str
) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(f"{SHOWN}:{line}: {what}")
    assert "\n" not in problem


def test_a_mapping_that_merges_itself_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "a: &a {<<: *a, b: 1}")
    assert problem.endswith("stands for nothing, or for what it is part of")


def test_dates_and_signs_of_yamls_own_are_text(tmp_path: Path) -> None:
    data = document(tmp_path, "a: 2024-12-31\nb: =\nc: 2024-13-45").data
    assert data == {"a": "2024-12-31", "b": "=", "c": "2024-13-45"}


def test_several_duplicates_are_named_at_once(tmp_path: Path) -> None:
    assert problems(tmp_path, "a: 1\na: 2\nb: {c: 1, c: 2}") == (
        f"{SHOWN}:2: a is given twice, first on line 1",
        f"{SHOWN}:3: c is given twice, first on line 3",
    )


def test_a_key_given_three_times_names_the_first_line_twice(tmp_path: Path) -> None:
    assert problems(tmp_path, "a: 1\na: 2\na: 3") == (
        f"{SHOWN}:2: a is given twice, first on line 1",
        f"{SHOWN}:3: a is given twice, first on line 1",
    )


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        read(tmp_path, SHOWN)
    assert caught.value.problems == (f"{SHOWN}:1: can't be read: Is a directory",)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        read(tmp_path / "none.yaml", SHOWN)
    assert caught.value.problems == (f"{SHOWN}:1: can't be read: No such file or directory",)


@pytest.mark.parametrize(
    "value",
    [
        "0x_",
        "!!int abc",
        "!!float abc",
        "!!bool maybe",
        "!!timestamp soon",
        "1" * 5000,
    ],
    ids=lambda value: value[:20],
)
def test_a_value_that_its_type_refuses_is_a_problem_of_the_file(tmp_path: Path, value: str) -> None:
    (problem,) = problems(tmp_path, f"a: 1\nseed: {value}")
    assert problem.startswith(f"{SHOWN}:2: ")


@pytest.mark.parametrize("character", ["\0", "\x01", "\x7f"], ids=repr)
def test_a_control_character_is_one_problem_with_its_line(tmp_path: Path, character: str) -> None:
    (problem,) = problems(tmp_path, f"a: 1\nb: {character}")
    assert problem.startswith(f"{SHOWN}:2: not valid YAML: ")
    assert "\n" not in problem


def test_a_control_character_behind_others_than_ascii_has_its_line_too(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, f"# {'é' * 50}\na: \x01\n" + "b:\n" * 30)
    assert problem.startswith(f"{SHOWN}:2: ")


@pytest.mark.parametrize("value", ["!mine [1]", "!mine {b: 1}", "!!set {b}", "!!omap [b: 1]"])
def test_a_tag_of_a_list_or_a_mapping_is_refused_like_any_other(tmp_path: Path, value: str) -> None:
    (problem,) = problems(tmp_path, f"a: {value}")
    assert "has no meaning here" in problem


@pytest.mark.parametrize(
    "value",
    ["0x" + "f" * 5000, "-0x" + "f" * 257, "0b" + "1" * 5000, "1" + ":00" * 3000, "9" * 400],
    ids=["hexadecimal", "negative", "binary", "base 60", "decimal"],
)
def test_a_number_that_no_float_could_hold_is_a_problem_of_the_file(
    tmp_path: Path, value: str
) -> None:
    (problem,) = problems(tmp_path, f"a: 1\nseed: {value}")
    assert problem.startswith(f"{SHOWN}:2: ")
    assert problem.endswith(" is no valid int")


@pytest.mark.parametrize("value", ["0xff", "0b11", "1:00", "9" * 300, "-0o7", "1_000"])
def test_smaller_numbers_are_taken(tmp_path: Path, value: str) -> None:
    assert set(document(tmp_path, f"seed: {value}").data) == {"seed"}


def test_a_file_names_what_it_should_have_been(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("- a")
    with pytest.raises(StudyError) as caught:
        read(tmp_path / "x.yaml", SHOWN, "a base")
    said = f"{SHOWN}:1: a base is a mapping of fields, this file is a list"
    assert caught.value.problems == (said,)
