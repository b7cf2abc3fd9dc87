"""The table after the run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_llem.records import Failure, Figure, Verdict
from pytest_llem.reports.collected import Collected
from pytest_llem.reports.terminal import Line, lines, wrapped
from pytest_llem.results.outcome import Outcome
from tests.builders import estimated, gate, measurement, outcome, unmeasured, verdict


def measured(name: str = "a", *, cycle: int = 1, **metrics: float | Figure) -> Outcome:
    return outcome(
        experiment=name,
        cycle=cycle,
        measurement=measurement(experiment=name, cycle=cycle, metrics=dict(metrics)),
    )


def texts(collected: Collected, width: int | None = None, **more: bool) -> list[str]:
    return [line.text for line in lines(collected, width, **more)]


PLAIN: dict[str, Any] = {
    "output_tokens_per_s": 1234.0,
    "energy_per_output_token_j": 0.123,
    "ttft_p50_s": 0.0456,
    "tpot_p50_s": 0.00789,
}


def test_a_session_of_nothing_has_nothing_to_say() -> None:
    assert texts(Collected([], [])) == []


def test_an_experiment_is_a_row_of_medians() -> None:
    assert texts(Collected([measured(**PLAIN)], [gate(verdict())])) == [
        "s (s.study.yaml)",
        "experiment  cycles  tok/s  energy/token  TTFT p50  TPOT p50    gate",
        "a              1/1  1,234        123 mJ   45.6 ms   7.89 ms  passed",
        "",
    ]


def test_the_median_of_the_cycles_is_shown() -> None:
    cycles = [
        measured(cycle=cycle, ttft_p50_s=value) for cycle, value in enumerate([1.0, 9.0, 2.0], 1)
    ]
    _, _, row, _, _ = texts(Collected(cycles, []))
    spread = ["0.0", "%"]
    assert row.split() == [
        "a",
        "3/3",
        "1.00",
        *spread,
        "1.00",
        "J",
        *spread,
        *["2.00", "s", "1.00", "s", "-"],
    ]


def test_columns_are_aligned() -> None:
    short, long = measured("a", **PLAIN), measured("much-longer", output_tokens_per_s=1.5)
    rows = texts(Collected([short, long], [gate(verdict())]))[1:4]
    ends = [[match.end() for match in re.finditer(r"\S+(?: \S+)*", row)] for row in rows]
    assert len(ends[0]) == 7
    assert [columns[1:] for columns in ends] == [ends[0][1:]] * 3
    assert rows[1].startswith("a  ")
    assert rows[2].startswith("much-longer  ")


def test_each_study_has_its_own_table() -> None:
    collected = Collected(
        [outcome(study="s"), outcome(study="t", file="t.study.yaml"), outcome(experiment="b")], []
    )
    found = texts(collected)
    assert [line.split()[0] if line else "" for line in found] == [
        "s",
        "experiment",
        "a",
        "b",
        "",
        "t",
        "experiment",
        "a",
        "",
    ]
    assert found[5] == "t (t.study.yaml)"


def test_an_estimate_is_marked_and_the_mark_explained_once() -> None:
    collected = Collected(
        [
            measured("a", energy_per_output_token_j=estimated(0.5)),
            measured("b", energy_per_output_token_j=estimated(0.25)),
        ],
        [],
    )
    found = texts(collected)
    assert "500 mJ est." in found[2]
    assert "250 mJ est." in found[3]
    assert found[4:] == ["", "est. = estimated, not measured: modelled"]


@pytest.mark.parametrize(
    ("quality", "mark", "meaning"),
    [
        ("short", "short", "the measured window is short for the meter"),
        ("degraded", "degr.", "a degraded reading"),
    ],
)
def test_a_doubtful_figure_is_marked_and_explained(quality: Any, mark: str, meaning: str) -> None:
    doubtful = Figure(value=0.5, quality=quality, reason="few updates")
    found = texts(Collected([measured(energy_per_output_token_j=doubtful)], []))
    assert f"500 mJ {mark}" in found[2]
    assert found[4:] == [f"{mark} = {meaning}: few updates"]


def test_what_was_not_measured_is_marked_and_explained() -> None:
    gone = unmeasured("no meter here reads a cuda device")
    found = texts(Collected([measured(energy_per_output_token_j=gone)], []))
    assert "  n/a  " in found[2]
    assert found[4:] == [
        "n/a: energy_per_output_token_j: 1 of 1 cycles: no meter here reads a cuda device"
    ]


def test_an_experiment_without_measurement_has_empty_cells() -> None:
    failure = Failure(kind="crashed", message="gone")
    collected = Collected(
        [
            outcome(measurement=None, failure=failure),
            outcome(cycle=2, measurement=None, skipped="why not"),
        ],
        [gate(verdict("failed", metric="cycles", reason="1 of 2 cycles failed: gone"))],
    )
    _, _, row, _, note = texts(collected)
    assert row.split() == ["a", "0/2", "-", "-", "-", "-", "failed"]
    assert note == "a: gate failed: 1 of 2 cycles failed: gone"


def test_cycles_that_failed_are_not_counted_as_measured() -> None:
    failed = outcome(cycle=2, measurement=None, failure=Failure(kind="crashed", message="gone"))
    row = texts(Collected([measured(), failed], []))[2]
    assert row.split()[1] == "1/2"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (verdict(), []),
        (
            verdict("failed", reason="6.00 J > 5.00 J"),
            ["a: gate failed: energy_j: 6.00 J > 5.00 J"],
        ),
        (verdict("skipped", reason="estimated"), ["a: gate skipped: energy_j: estimated"]),
        (
            verdict(reason="4.00 J ≤ 5.00 J (median of 3, within noise)"),
            ["a: gate passed: energy_j: 4.00 J ≤ 5.00 J (median of 3, within noise)"],
        ),
        (
            verdict(reason="4.00 J ≤ 5.00 J (median of 3), estimated", quality="estimated"),
            ["a: gate passed: energy_j: 4.00 J ≤ 5.00 J (median of 3), estimated"],
        ),
        (
            verdict(reason="4.00 J ≤ 5.00 J, reading short: few updates", quality="short"),
            ["a: gate passed: energy_j: 4.00 J ≤ 5.00 J, reading short: few updates"],
        ),
    ],
)
def test_verdicts_that_need_saying_are_told(given: Verdict, told: list[str]) -> None:
    collected = Collected([measured()], [gate(given)])
    assert texts(collected)[4:] == told


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("integrity", "a: integrity: 1 of 2 ran backwards"),
        ("warnings", "a: warning: 1 of 2 ran backwards"),
    ],
)
def test_doubts_and_warnings_are_told_once(field: str, told: str) -> None:
    fields: dict[str, Any] = {field: ("1 of 2 ran backwards",)}
    doubtful = measurement(**fields)
    collected = Collected([outcome(cycle=cycle, measurement=doubtful) for cycle in (1, 2)], [])
    assert texts(collected)[5:] == [told]


@pytest.mark.parametrize("judgement", ["passed", "failed"])
def test_a_name_of_twenty_characters_leaves_the_table_in_eighty_columns(judgement: str) -> None:
    assert widest(judgement) <= 80


def test_a_skipped_gate_leaves_the_table_in_eighty_columns() -> None:
    assert widest("skipped") <= 80


def widest(judgement: str) -> int:
    name = "n" * 20
    wide = measured(
        name,
        output_tokens_per_s=123_456.0,
        energy_per_output_token_j=estimated(0.123),
        ttft_p50_s=0.123,
        tpot_p50_s=0.123,
    )
    found = texts(Collected([wide], [gate(verdict(judgement), experiment=name)]))
    return max(map(len, found[1:3]))


def test_a_cycle_that_was_run_again_is_counted_once_and_texts() -> None:
    failed = outcome(measurement=None, failure=Failure(kind="raised", message="boom"))
    skipped = outcome(measurement=None, skipped="no engine")
    tries = [failed, skipped, measured(ttft_p50_s=9.0), measured(ttft_p50_s=1.0)]
    _, _, row, _, *notes = texts(Collected(tries, []))
    assert row.split()[:2] == ["a", "1/1"]
    assert "1.00 s" in row
    assert notes == [
        "a: c1: the last try counts; one before: boom",
        "a: c1: the last try counts; one before: no engine",
        "a: c1: the last try counts; one before: measured",
    ]


def test_a_study_that_is_skipped_as_a_whole_is_one_line() -> None:
    skipped = [
        outcome(experiment=name, cycle=cycle, skipped=reason, skip_wanted=True)
        for name, reason in (("a", "requires 1 GPU (0 found)"), ("b", "too"), ("c", "no vLLM"))
        for cycle in (1, 2)
    ]
    assert texts(Collected(skipped, [])) == [
        "s.study.yaml: all 3 experiments skipped: requires 1 GPU, and other reasons (-rs)"
    ]


# --- intervals and the best ----------------------------------------------------------------------


def cycles(
    name: str, *values: float | Figure, metric: str = "output_tokens_per_s"
) -> list[Outcome]:
    """An experiment with a cycle for each value of a metric; the others are estimates."""
    rest = {other: estimated(1.0) for other in PLAIN if other != metric}
    return [
        measured(name, cycle=number, **{**rest, metric: value})
        for number, value in enumerate(values, 1)
    ]


def test_an_interval_stands_behind_its_median_and_below_what_it_is() -> None:
    found = texts(Collected([*cycles("a", 90.0, 100.0, 110.0), *cycles("b", 50.0, 50.1)], []))
    assert found[1].split()[:5] == ["experiment", "cycles", "tok/s", "±", "energy/token"]
    assert [row.split()[2:5] for row in found[2:4]] == [["*100", "10", "%"], ["50.0", "0.1", "%"]]
    assert (
        "± = half of the interval that holds the median with a confidence of 50 % (2 cycles) or"
        " 75 % (3 cycles)"
    ) in found


def stars(*rows: Sequence[Outcome]) -> list[bool]:
    found = texts(Collected([outcome for row in rows for outcome in row], []))
    return ["*" in line for line in found[2 : 2 + len(rows)]]


def test_the_best_is_marked_and_what_its_cycles_do_not_tell_apart_from_it() -> None:
    best, near, far = cycles("a", 100.0, 104.0), cycles("b", 97.0, 101.0), cycles("c", 80.0, 90.0)
    assert stars(best, near, far) == [True, True, False]
    assert stars(far, best) == [False, True]


def test_less_energy_is_better() -> None:
    low, high = (
        cycles(n, v, v, metric="energy_per_output_token_j") for n, v in (("a", 1.0), ("b", 2.0))
    )
    assert stars(low, high) == [True, False]


@pytest.mark.parametrize(
    "rows",
    [
        [("a", 100.0, 104.0)],
        [("a", 100.0, 104.0), ("b", 101.0, 103.0)],
        [("a", 100.0), ("b", 1.0)],
        [("a", 100.0, 104.0), ("b", 50.0)],
    ],
    ids=["alone", "all alike", "single cycles", "one single cycle"],
)
def test_nothing_is_best_where_nothing_tells(rows: list[tuple[Any, ...]]) -> None:
    assert not any(stars(*(cycles(*row) for row in rows)))


def test_an_estimate_is_never_better_than_what_was_measured() -> None:
    guess = cycles("a", estimated(0.1), estimated(0.1), metric="energy_per_output_token_j")
    low, high = (
        cycles(n, v, v, metric="energy_per_output_token_j") for n, v in (("b", 1.0), ("c", 2.0))
    )
    assert stars(guess, low, high) == [False, True, False]


# --- widths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 60, 40])
def test_a_table_keeps_to_its_terminal_and_says_what_it_left_out(width: int) -> None:
    names = [f"model-of-somebody.batch_size-{n}.prompts-128" for n in (1, 16)]
    both = [outcome for name in names for outcome in cycles(name, 90.0, 100.0, 110.0)]
    found = texts(Collected(both, [gate(verdict(), experiment=names[0])]), width)
    assert max(map(len, found[1:4])) <= width
    assert found[2].split()[0] != found[3].split()[0]
    assert found[2].endswith("passed")
    hidden = next(line for line in found if line.startswith("not shown in"))
    assert hidden.startswith(f"not shown in {width} columns: TPOT p50, TTFT p50")


def test_long_lines_are_set_in_and_no_word_is_cut() -> None:
    long = Line("a: warning: " + "word " * 30 + "/".join(["path"] * 30), "yellow")
    parts = wrapped(long, 60)
    assert " ".join(part.text.strip() for part in parts) == long.text
    assert all(part.text.startswith("    ") for part in parts[1:])
    assert {part.style for part in parts} == {"yellow"}
    assert wrapped(long, None) == [long]


def test_quiet_counts_warnings_and_still_tells_of_failures() -> None:
    doubtful = outcome(measurement=measurement(warnings=("hot", "throttled")))
    collected = Collected([doubtful], [gate(verdict("failed", reason="6.00 J > 5.00 J"))])
    found = texts(collected, brief=True)
    assert "a: gate failed: energy_j: 6.00 J > 5.00 J" in found
    assert found[-1] == "2 warnings: run without -q to read them"
    assert not any("hot" in line for line in found)


def test_what_failed_is_red_and_what_warns_is_yellow() -> None:
    doubtful = outcome(measurement=measurement(warnings=("hot",)))
    collected = Collected([doubtful], [gate(verdict("failed", reason="6.00 J > 5.00 J"))])
    styles = [line.style for line in lines(collected)]
    assert styles == ["bold", "bold", "red", "", "red", "yellow"]


def test_advice_for_several_is_given_once_below_them() -> None:
    noisy = [*cycles("a", 50.0, 150.0), *cycles("b", 10.0, 30.0)]
    first, second = [line for line in texts(Collected(noisy, [])) if "unstable" in line]
    assert first == "a: output_tokens_per_s: unstable: the standard deviation is 71 % of the mean"
    assert second.startswith("b: ")
    assert "of the mean; see what else runs on the host, " in second


# --- taken over ----------------------------------------------------------------------------


def test_measurements_of_earlier_sessions_are_counted() -> None:
    sessions = ("one", None, "two", "one")
    cycles = [outcome(cycle=cycle, resumed=name) for cycle, name in enumerate(sessions, 1)]
    failed = outcome(cycle=5, measurement=None, failure=Failure(kind="raised", message="boom"))
    found = [text for text in texts(Collected([*cycles, failed], [])) if "made by" in text]
    assert found == [
        "resumed: 2 of 4 measurements made by one",
        "resumed: 1 of 4 measurements made by two",
    ]


def test_how_many_cycles_a_gate_judged_is_said_where_it_passed_too() -> None:
    passed = verdict(reason="4.00 J ≤ 5.00 J (median of 1); 1 of 3 cycles measured")
    told = texts(Collected([outcome()], [gate(passed)]))
    assert "a: gate passed: energy_j: 4.00 J ≤ 5.00 J (median of 1); 1 of 3 cycles measured" in told
