"""The Markdown of a session, read by a parser of CommonMark."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pytest_llem.reports.document import Report
from pytest_llem.reports.markdown import MOST_BYTES, code, escaped, page
from tests.builders import UNHURRIED
from tests.reports.sessions import HOSTILE, experiment, gate, hostile, report, session, verdict

pytestmark = pytest.mark.once

PARSER = MarkdownIt("commonmark").enable("table")


def parsed(found: Report, **limits: int) -> list[Token]:
    return PARSER.parse(page(found, **limits))


def inline(tokens: list[Token]) -> list[str]:
    """What a reader sees of each block of text, without marks."""
    texts = []
    for token in tokens:
        if token.type == "inline":
            parts = (c.content for c in token.children or () if c.type in {"text", "code_inline"})
            texts.append("".join(parts))
    return texts


def rows(tokens: list[Token]) -> list[list[str]]:
    """Cells of the table's body."""
    found: list[list[str]] = []
    inside = False
    for token in tokens:
        inside = (inside or token.type == "tbody_open") and token.type != "tbody_close"
        if inside and token.type == "tr_open":
            found.append([])
        elif inside and token.type == "inline":
            found[-1].append(token.content)
    return found


def test_verdict_failures_and_nodes_come_before_the_table() -> None:
    tokens = parsed(session())
    texts = inline(tokens)
    assert texts[0] == "❌ pytest-llem: Failed: 2 of 12 gates"
    assert texts[1].startswith("35 of 36 measurements made · 1 failed · 9 of 12 gates passed")
    failed = texts[2:5]
    # Regressions first, then limits, then what wasn't measured.
    assert failed[0].startswith("vllm-batch_size-4: energy_per_output_token_j: ")
    assert "11.8 % worse" in failed[0]
    assert failed[1].startswith("pytorch-batch_size-2: ttft_p95_s: 0.894 s > 0.500 s")
    assert "the worker ran out of the GPU's memory" in failed[2]
    (fence,) = [token for token in tokens if token.type == "fence"]
    assert fence.content == (
        "pytest 'benchmarks/serving.study.yaml::vllm-batch_size-4::gate'"
        " 'benchmarks/serving.study.yaml::pytorch-batch_size-2::gate'"
        " 'benchmarks/serving.study.yaml::pytorch-batch_size-8::c1'\n"
    )
    table = rows(tokens)
    assert len(table) == 12
    assert len({len(row) for row in table}) == 1
    assert [row[1] for row in table[:4]] == ["❌ failed"] * 3 + ["⚠️ not judged"]
    assert "*est.*" in table[3][2]
    assert any("Ember 2025, Germany" in text for text in texts)
    assert any("gpu by nvml (counter), 32 windows: ok" in text for text in texts)


def test_a_session_that_passed_has_nothing_to_run_again() -> None:
    tokens = parsed(report(experiment("a"), [gate("a", verdict("energy_j", "passed", "fine"))]))
    assert inline(tokens)[0] == "✅ pytest-llem: Passed"
    assert not [token for token in tokens if token.type == "fence"]
    assert len(rows(tokens)) == 1


def test_a_session_of_nothing_says_so() -> None:
    assert inline(parsed(report([])))[0] == "⚪ pytest-llem: Nothing was measured"


def test_hostile_names_are_texts_in_one_cell() -> None:
    tokens = parsed(hostile())
    table = rows(tokens)
    assert len(table) == 2 + 2 * len(HOSTILE)
    assert len({len(row) for row in table}) == 1
    html = [
        child.content
        for token in tokens
        for child in (token, *(token.children or ()))
        if child.type in {"html_block", "html_inline"}
    ]
    ours = r"</?(details|summary|sub|br)>"
    assert all(
        re.sub(ours, "", text).strip() in {"", "Run again what failed"}
        for text in html
        if "What to know" not in text
    )
    assert HOSTILE[0] in "\n".join(inline(tokens))
    assert "\x1b" not in page(hostile())
    assert "\u202e" not in page(hostile())


def test_what_does_not_fit_is_left_out_and_said() -> None:
    found = session(60)
    text = page(found, most_bytes=9_000)
    assert len(text.encode()) <= 9_000
    shown = len(rows(PARSER.parse(text)))
    assert 0 < shown < 60
    assert f"{60 - shown} of 60 experiments are left out" in text
    assert inline(PARSER.parse(text))[0].startswith("❌")


def test_an_error_as_long_as_a_book_leaves_the_page_small() -> None:
    broken = dataclasses.replace(
        report(experiment("a"), [gate("a", verdict("x", "failed", "é" * 2_000_000))])
    )
    text = page(broken)
    assert len(text.encode()) <= MOST_BYTES
    assert text.endswith("*The rest is left out.*\n")


@UNHURRIED
@given(st.text(max_size=40))
def test_any_text_is_shown_as_it_is_in_a_cell(text: str) -> None:
    line = " ".join(
        "".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in text).split()
    )
    table = f"| a | b |\n| --- | --- |\n| {escaped(text)} | x |\n"
    tokens = PARSER.parse(table)
    assert [len(row) for row in rows(tokens)] == [2]
    assert inline(tokens)[2] == line


@UNHURRIED
@given(st.text(min_size=1, max_size=40).filter(str.strip))
def test_any_text_is_one_code_span(text: str) -> None:
    line = " ".join(
        "".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in text).split()
    )
    (block,) = [token for token in PARSER.parse(f"- x {code(text)}") if token.type == "inline"]
    (span,) = [child for child in block.children or () if child.type == "code_inline"]
    assert span.content == line
