"""Command-line options and ini settings. All default to None, so that *not given* can be seen."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import pytest

__all__ = ["add_options", "add_short_option", "longest_wait_s"]

_RUNNER_OPTIONS = ("pytorch", "vllm", "tensorrt")
_SHORT = "--skip-preflight"
_SKIP_PREFLIGHT: dict[str, Any] = {
    "dest": "llem_skip_preflight",
    "action": "store_true",
    "default": None,
    "help": "Start containers without looking first whether Docker works.",
}


def add_options(parser: pytest.Parser) -> None:
    """Add everything to the group ``llem`` of pytest's help."""
    group = _group(parser)
    for backend in _RUNNER_OPTIONS:
        group.addoption(
            f"--llem-runner-{backend}",
            dest=f"llem_runner_{backend}",
            metavar="RUNNER",
            help=f"Where {backend} runs: local, docker or docker:<image>.",
        )
    group.addoption(
        "--llem-runner",
        dest="llem_runner",
        action="append",
        type=_pair,
        metavar="BACKEND=RUNNER",
        help="Where a backend runs; may be given for several.",
    )
    _add_reports(group)
    group.addoption(
        "--llem-allow-estimated",
        dest="llem_allow_estimated",
        action="store_true",
        default=None,
        help="Let gates judge estimated energy as if it were measured.",
    )
    group.addoption(
        "--llem-strict",
        dest="llem_strict",
        action="store_true",
        default=None,
        help="Fail whatever is not a clean pass: skipped, estimated, integrity flagged.",
    )
    group.addoption(
        "--llem-dist",
        dest="llem_dist",
        choices=("auto", "off"),
        metavar="{auto,off}",
        help="With pytest-xdist: auto has one worker run all of an experiment; off leaves its items"
        " to xdist, one by one.",
    )
    _add_comparison(group)
    group.addoption("--llem-skip-preflight", **_SKIP_PREFLIGHT)
    group.addoption(
        "--llem-pull",
        dest="llem_pull",
        choices=("missing", "never"),
        metavar="{missing,never}",
        help="Container images that aren't here: fetch them, or fail, whatever a study says.",
    )
    _add_execution(group)
    _add_settings(parser)


def _add_reports(group: Any) -> None:
    group.addoption(
        "--llem-json",
        dest="llem_json",
        metavar="PATH",
        help="Write one JSON document with all measurements, statistics and gates.",
    )
    group.addoption(
        "--llem-html",
        dest="llem_html",
        metavar="PATH",
        help="Write one HTML page that holds all it shows: verdict, figures, table, how it was"
        " measured. Needs pytest-llem[html].",
    )
    group.addoption(
        "--llem-markdown",
        dest="llem_markdown",
        metavar="PATH",
        help="Write a summary in Markdown, for a CI job; behind what is there already where PATH is"
        " that of $GITHUB_STEP_SUMMARY.",
    )
    group.addoption(
        "--llem-redact",
        dest="llem_redact",
        action="store_true",
        default=None,
        help="Leave names of hosts and users, and paths, out of every report.",
    )


def _add_comparison(group: Any) -> None:
    group.addoption(
        "--llem-save",
        dest="llem_save",
        nargs="?",
        const="",
        type=_save_name,
        metavar="NAME",
        help="Keep the session's report as a reference, to compare later ones with:"
        " <results>/references/<NAME>.json; without a name that of the session.",
    )
    group.addoption(
        "--llem-compare",
        dest="llem_compare",
        action="append",
        metavar="PATH",
        help="Compare with a report, all reports of a directory, or a saved name; may be given"
        " several times.",
    )
    group.addoption(
        "--llem-ab",
        dest="llem_ab",
        action="append",
        metavar="[BACKEND=]RUNNER",
        help="Measure everything in a second environment too, cycle by cycle, and compare with it:"
        " local:<python or virtual environment>, docker:<image>; may be given for several"
        " backends.",
    )
    group.addoption(
        "--llem-compare-fail",
        dest="llem_compare_fail",
        action="append",
        metavar="METRIC:PERCENT",
        help="Fail where a metric is worse than that beyond noise, in every study:"
        " energy_per_output_token_j:5%%; may be given several times.",
    )


def _save_name(text: str) -> str:
    """Refuse what was meant for pytest: an option without a value takes the word behind it."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) or os.path.exists(text):  # noqa: PTH110
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name for a reference; write --llem-save=NAME, or --llem-save last"
        )
    return text


def _add_execution(group: Any) -> None:
    group.addoption(
        "--llem-cycles",
        dest="llem_cycles",
        type=_count,
        metavar="N",
        help="Repetitions of each experiment, whatever a study says.",
    )
    group.addoption(
        "--llem-gaps",
        dest="llem_gaps",
        type=_gaps,
        metavar="GAPS",
        help="Rest between measurements, whatever a study says: thermal, none or seconds.",
    )
    group.addoption(
        "--llem-warmup",
        dest="llem_warmup",
        type=_warmup,
        metavar="N",
        help="Warm-up requests before each measurement, or none, whatever a study says.",
    )
    group.addoption(
        "--llem-wait",
        dest="llem_wait",
        type=_wait_s,
        metavar="SECONDS",
        help="Longest wait for GPUs, or for the host, that other sessions measure on: seconds, or"
        " none for any; an hour where nothing is said.",
    )
    group.addoption(
        "--llem-resume",
        dest="llem_resume",
        nargs="?",
        const="",
        metavar="SESSION",
        help="Go on with a session that was cut short, by its name or folder, and take over what it"
        " measured; without a name with the latest of these studies.",
    )
    group.addoption(
        "--llem-plan",
        dest="llem_plan",
        action="store_true",
        default=None,
        help="Measure nothing; show what would be measured, where, and how long it may take.",
    )
    group.addoption(
        "--llem-schema",
        dest="llem_schema",
        action="store_true",
        default=None,
        help="Print the JSON Schema of studies, for editors, and exit.",
    )


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _warmup(text: str) -> int | str:
    return text if text == "none" else _count(text)


def _gaps(text: str) -> float | str:
    if text in {"thermal", "none"}:
        return text
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not thermal, none or a number of seconds")
    return seconds


def _wait_s(text: str) -> float:
    try:
        seconds = math.inf if text == "none" else float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not none or a number of seconds")
    return seconds


def longest_wait_s(config: pytest.Config) -> float:
    """How long to wait for devices that other sessions have, in seconds; may be infinite.

    Raises:
        pytest.UsageError: when the setting can't be understood.
    """
    given: float | None = config.getoption("llem_wait")
    try:
        return _wait_s(config.getini("llem_wait")) if given is None else given
    except argparse.ArgumentTypeError as error:
        raise pytest.UsageError(f"ini llem_wait: {error}") from error


def add_short_option(parser: pytest.Parser, args: Sequence[str]) -> None:
    """Add ``--skip-preflight``, unless a plugin or an initial conftest has it already.

    The name is a common one, and a second owner would be an error of the whole session.

    Args:
        parser: with all options of others.
        args: the command line, which may have to hold what others require.
    """
    try:
        _, unknown = parser.parse_known_and_unknown_args([_SHORT, *args])
    except pytest.UsageError:
        return  # It's taken, and wants a value; or pytest is about to say what else is wrong.
    if _SHORT in unknown:
        _group(parser).addoption(_SHORT, **_SKIP_PREFLIGHT)


def _group(parser: pytest.Parser) -> pytest.OptionGroup:
    return parser.getgroup("llem", "LLM inference energy benchmarks")


def _pair(text: str) -> str:
    """Check the form of ``BACKEND=RUNNER`` while pytest can still say which option is wrong."""
    backend, equals, _ = text.partition("=")
    if not equals or not backend.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form BACKEND=RUNNER")
    return text


def _add_settings(parser: pytest.Parser) -> None:
    parser.addini(
        "llem_files",
        type="args",
        default=["*.study.yaml", "*.study.yml"],
        help="Glob patterns of study files.",
    )
    parser.addini(
        "llem_collect",
        type="string",
        default="named",
        help="named: collect studies only below paths given on the command line or in testpaths;"
        " always: collect all.",
    )
    parser.addini(
        "llem_runners",
        type="linelist",
        default=[],
        help="Where backends run, a line each: backend = runner.",
    )
    parser.addini(
        "llem_images",
        type="linelist",
        default=[],
        help="Container images of backends, a line each: backend = image.",
    )
    parser.addini(
        "llem_compare_fail",
        type="linelist",
        default=[],
        help="Budgets for comparisons, a line each: metric:percent.",
    )
    parser.addini(
        "llem_wait",
        type="string",
        default="3600",
        help="Longest wait for GPUs, or for the host, that other sessions measure on: seconds, or"
        " none for any.",
    )
    parser.addini(
        "llem_results_dir",
        type="string",
        default="",
        help="Directory for results, relative to the root directory; by default results.",
    )
