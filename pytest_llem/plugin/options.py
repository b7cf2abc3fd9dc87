"""Command-line options and ini settings. All default to None, so that *not given* can be seen."""

from __future__ import annotations

import argparse

import pytest

__all__ = ["add_options"]

_RUNNER_OPTIONS = ("pytorch", "vllm", "tensorrt")


def add_options(parser: pytest.Parser) -> None:
    """Add everything to the group ``llem`` of pytest's help."""
    group = parser.getgroup("llem", "LLM inference energy benchmarks")
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
    group.addoption(
        "--llem-json",
        dest="llem_json",
        metavar="PATH",
        help="Write one JSON document with all measurements, statistics and gates.",
    )
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
    _add_settings(parser)


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
        "llem_results_dir",
        type="string",
        default="results",
        help="Directory for results, relative to the root directory.",
    )
