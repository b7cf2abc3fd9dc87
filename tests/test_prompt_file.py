"""Files of prompts: what is read of them, and what is wrong with others."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.prompt_file import Contents, read
from tests.builders import UNHURRIED


def lines(folder: Path, *values: Any) -> Path:
    path = folder / "p.jsonl"
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values))
    return path


def prompts(contents: Contents) -> list[str | tuple[int, ...]]:
    assert contents.problems == ()
    return [entry.prompt for entry in contents.entries]


def talk(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"id": "x", "conversations": [{"from": who, "value": said} for who, said in turns]}


def test_prompts_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        {"prompt": "b", "category": 3},
        {"prompt_token_ids": [5, 0]},
        {"token_ids": [7], "prompt": "what the ids were made of"},
        talk(("system", "be kind"), ("human", "hello"), ("gpt", "yes"), ("human", "again")),
    )
    assert prompts(read(path, 9)) == ["b", (5, 0), (7,), "hello"]
    assert [entry.line for entry in read(path, 9).entries] == [1, 2, 3, 4]


def test_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    path = lines(tmp_path, {"prompt": "a"}, {"prompt": "b"}, {"prompt": 5})
    assert prompts(read(path, 2)) == ["a", "b"]
    assert read(path, 3).problems == (f"{path}:3: prompt: should be text, not 5",)


def test_blank_lines_and_a_byte_order_mark_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "\xc3\xa9"}\r\n\n  \n{"prompt": "b"}')
    assert [(entry.line, entry.prompt) for entry in read(path, 9).entries] == [(1, "é"), (4, "b")]


def test_conversations_without_a_humans_turn_are_left_out(tmp_path: Path) -> None:
    found = read(
        lines(tmp_path, talk(("gpt", "hi")), talk(), talk(("human", " "), ("gpt", "?"))), 9
    )
    assert prompts(found) == []
    assert found.left_out == 3


def test_lengths_of_answers_are_counted(tmp_path: Path) -> None:
    path = lines(tmp_path, {"prompt": "a", "output_tokens": 3}, {"prompt": "b"})
    assert read(path, 9).lengths == 1


def test_a_list_of_conversations_is_read_as_far_as_needed(tmp_path: Path) -> None:
    path = tmp_path / "sharegpt.json"
    rows = [talk(("human", f"question {number}" * 1000)) for number in range(200)]
    path.write_text(json.dumps(rows, indent=1) + "rest")
    assert prompts(read(path, 200)) == [row["conversations"][0]["value"] for row in rows]
    assert [entry.line for entry in read(path, 3).entries] == [2, 11, 20]
    broken = path.read_text()[: len(json.dumps(rows)) // 2]
    path.write_text(broken)
    assert len(read(path, 50).entries) == 50


@given(
    st.lists(
        st.one_of(
            st.builds(lambda text: {"prompt": f"x{text}"}, st.text(st.characters(codec="utf-8"))),
            st.builds(lambda ids: {"token_ids": ids}, st.lists(st.integers(0, 9), min_size=1)),
        ),
        max_size=6,
    ),
    st.sampled_from([None, 1]),
    st.booleans(),
)
@UNHURRIED
def test_both_kinds_of_files_hold_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], indent: int | None, ascii_only: bool
) -> None:
    folder = tmp_path_factory.mktemp("both")
    whole = folder / "p.json"
    whole.write_text(json.dumps(rows, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    found = prompts(read(whole, 9))
    assert found == prompts(read(lines(folder, *rows), 9))
    assert len(found) == len(rows)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes at character 2"),
        ('{"prompt": "\\ud800"}', "prompt: holds half of a surrogate pair, which is no character"),
        ('"hello"', "should be an object with a prompt, not 'hello'"),
        ('{"text": "a"}', "no prompt, prompt_token_ids or conversations, but text"),
        ("{}", "no prompt, prompt_token_ids or conversations, but nothing"),
        ('{"prompt": " "}', "prompt: is empty"),
        ('{"prompt": null}', "prompt: should be text, not None"),
        ('{"prompt_token_ids": []}', "prompt_token_ids: should be a list of token ids, not []"),
        ('{"token_ids": [1, true]}', "token_ids: a token id is a whole number from 0, not True"),
        ('{"token_ids": [-1]}', "token_ids: a token id is a whole number from 0, not -1"),
        ('{"token_ids": [1.0]}', "token_ids: a token id is a whole number from 0, not 1.0"),
        ('{"conversations": 5}', "conversations: should be a list of turns, not 5"),
        ('{"conversations": ["a"]}', "conversations: a turn has from and value, not 'a'"),
        ('{"conversations": [{"from": "human", "value": 3}]}', "value: should be text, not 3"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_with_its_place(
    tmp_path: Path, line: str, said: str
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f'{{"prompt": "a"}}\n{line}\n{{"prompt": "b"}}\n')
    found = read(path, 9)
    assert found.problems == (f"{path}:2: {said}",)
    assert len(found.entries) == 2


@pytest.mark.parametrize("line", ["[" * 100_000, "9" * 5_000, '{"prompt": ' + "[" * 100_000])
def test_lines_made_to_break_a_reader_are_told(tmp_path: Path, line: str) -> None:
    for name in ("p.jsonl", "p.json"):
        path = tmp_path / name
        path.write_text(f"[{line}" if name == "p.json" else line)
        (problem,) = read(path, 9).problems
        assert problem.startswith(f"{path}:1: ")


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"prompt": "\xff"}')
    assert read(path, 9).problems == (f"{path}:1: not UTF-8: invalid start byte at byte 12",)
    whole = tmp_path / "p.json"
    whole.write_bytes(b'[{"prompt": "\xff"}]')
    assert read(whole, 9).problems == (
        f"{whole}:1: not UTF-8 at or after this line: invalid start byte",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"prompt": "a"}',
            "1: should be a list; give a file of one object a line the suffix .jsonl",
        ),
        ("", "1: should be a list; give a file of one object a line the suffix .jsonl"),
        ('[{"prompt": "a"},\n{"prompt": ]', "2: not JSON: Expecting value"),
        ('[{"prompt": "a"}\n', "2: not JSON: the list doesn't end"),
    ],
)
def test_a_list_that_is_none_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    assert read(path, 9).problems == (f"{path}:{said}",)


def test_of_many_problems_a_few_are_told(tmp_path: Path) -> None:
    assert len(read(lines(tmp_path, *[{"prompt": ""}] * 50), 9).problems) == 5


def test_a_file_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    assert read(path, 1).problems == (f"{path}: can't be read: No such file or directory",)
    os.mkfifo(path)
    reader = threading.Thread(target=read, args=(path, 1), daemon=True)
    reader.start()
    reader.join(30)
    assert not reader.is_alive(), "nobody waits for a pipe"
    assert read(path, 1).problems == (f"{path}: can't be read: not a regular file",)
    assert read(tmp_path / "\0.jsonl", 1).problems
