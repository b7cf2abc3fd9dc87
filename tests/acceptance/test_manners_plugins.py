"""A study beside other plugins, and with a user's fixtures; the table is in README.md."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest

from tests.acceptance.conftest import Project, ran

TWO = """\
execution: {cycles: 2}
experiments:
  - {id: alpha, expect: {energy_j: {max: 1000}}}
  - {id: beta}
"""
ALL_PASSED = [
    "alpha::c1 PASSED",
    "beta::c1 PASSED",
    "alpha::c2 PASSED",
    "alpha::gate PASSED",
    "beta::c2 PASSED",
]

SLOW = """\
id: alpha
execution: {cycles: 1}
fake: {token_s: 0.25}
expect: {energy_j: {max: 1000}}
"""
"""A measurement of 1.5 s: two requests of three tokens, one after the other."""


def measured_s(project: Project) -> list[float]:
    """How long the windows were that the report tells of."""
    windows = [
        window for m in project.report()["measurements"] for window in m["measurement"]["windows"]
    ]
    return [window["duration_s"] for window in windows if window["phase"] == "measure"]


def test_junit_has_a_case_for_each_item_with_figures_as_properties(project: Project) -> None:
    project.study("id: alpha\nexecution: {cycles: 1}\nexpect: {energy_j: {max: 0}}\n")
    result = project.run("benchmarks", "-v", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=1)
    assert ran(result) == ["alpha::c1 PASSED", "alpha::gate FAILED"]
    cycle, gate = ElementTree.parse(project.pytester.path / "junit.xml").iter("testcase")
    assert (cycle.get("classname"), cycle.get("name")) == ("benchmarks.s.study.yaml.alpha", "c1")
    properties = {p.get("name"): float(p.get("value", "")) for p in cycle.iter("property")}
    assert properties["llem.energy_j"] > 0
    assert properties["llem.power_mean_w"] == pytest.approx(10)
    assert (gate.get("classname"), gate.get("name")) == ("benchmarks.s.study.yaml.alpha", "gate")
    judged = {p.get("name"): float(p.get("value", "")) for p in gate.iter("property")}
    assert judged == {"llem.median.energy_j": properties["llem.energy_j"]}
    (failure,) = gate.iter("failure")
    assert str(failure.get("message")).startswith("energy_j: ")


def test_without_the_plugin_a_study_is_just_a_file(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks", "-v", "-p", "no:llem")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert ran(result) == []


def test_without_xdist_all_is_as_with_it(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks", "-v", "-p", "no:xdist")
    result.assert_outcomes(passed=5)
    assert ran(result) == ALL_PASSED


def test_without_the_cache_all_is_as_with_it(project: Project) -> None:
    project.study(TWO)
    result = project.run("benchmarks", "-v", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=5)
    assert ran(result) == ALL_PASSED


def test_strict_configuration_raises_no_warning_or_error(project: Project) -> None:
    project.study(TWO)
    # An interpreter of its own: warnings of imports count too.
    options = ("-W", "error", "--strict-markers", "--strict-config", "--llem-gaps=none")
    result = project.pytester.runpytest_subprocess("benchmarks", "-v", *options)
    result.assert_outcomes(passed=5)
    assert ran(result) == ALL_PASSED


def test_a_timeout_for_tests_does_not_limit_measurements(project: Project) -> None:
    project.switch_on("timeout")
    path = project.study(SLOW)
    project.pytester.makepyfile(test_own="import time\ndef test_slow(): time.sleep(600)\n")
    options = ("-v", "--timeout=1", "--llem-json=report.json")
    result = project.run("benchmarks", "test_own.py", *options)
    result.assert_outcomes(passed=2, failed=1)
    assert ran(result) == ["alpha::c1 PASSED", "alpha::gate PASSED", "test_slow FAILED"]
    assert min(measured_s(project)) > 1
    gate = project.run(f"{path}::alpha::gate", *options)
    assert ran(gate) == ["alpha::gate PASSED"]
    assert min(measured_s(project)) > 1


def test_a_timeout_marker_on_a_measurement_is_obeyed(project: Project) -> None:
    project.switch_on("timeout")
    project.study(SLOW.replace("0.25", "100"))
    project.pytester.makeconftest(
        """
        import pytest

        def pytest_itemcollected(item):
            if item.name == "c1":
                item.add_marker(pytest.mark.timeout(1))
        """
    )
    result = project.run("benchmarks", "-v")
    result.assert_outcomes(failed=2)
    assert ran(result) == ["alpha::c1 FAILED", "alpha::gate FAILED"]
    result.stdout.fnmatch_lines(
        [
            "benchmarks/s.study.yaml:*: alpha cycle 1 failed (local runner)",
            "E   Timeout *1.0s*",
            "E   fix: raise the limit *",
            "E   1 of 1 cycles failed: Timeout *1.0s*",
        ]
    )
    assert [outcome["failure"]["kind"] for outcome in project.journal()] == ["timeout"]


def test_randomly_shuffles_other_tests_but_no_study(project: Project) -> None:
    project.switch_on("randomly")
    project.study(TWO)
    project.study("id: gamma\nexecution: {cycles: 2}\n", name="t.study.yaml")
    own = [f"test_{number}" for number in range(8)]
    text = "".join(f"def {name}(): pass\n" for name in own)
    (project.folder / "test_own.py").write_text(text)
    result = project.run("benchmarks", "-v", "--randomly-seed=1")
    result.assert_outcomes(passed=15)
    seen = [line for line in ran(result) if not line.startswith("test_")]
    assert seen == [*ALL_PASSED, "gamma::c1 PASSED", "gamma::c2 PASSED"]
    shuffled = [line.split()[0] for line in ran(result) if line.startswith("test_")]
    assert shuffled != own
    assert sorted(shuffled) == own


def test_a_rerun_replaces_the_try_before_and_both_are_kept(project: Project) -> None:
    project.switch_on("rerunfailures")
    once = project.pytester.path / "once"
    project.study(
        f"""\
        id: alpha
        execution: {{cycles: 2}}
        fake: {{fail_once: {once}}}
        expect: {{energy_j: {{max: 1000}}}}
        """
    )
    result = project.run("benchmarks", "-v", "--reruns=1", "--llem-json=report.json")
    assert ran(result) == [
        "alpha::c1 RERUN",
        "alpha::c1 PASSED",
        "alpha::c2 PASSED",
        "alpha::gate PASSED",
    ]
    result.stdout.fnmatch_lines(
        [
            "alpha  *2/2*passed",
            "alpha: c1: the last try counts; one before: fake failed in measure*",
        ]
    )
    report = project.report()
    for kept in (report["measurements"], project.journal()):
        tries = [(outcome["cycle"], outcome["failure"] is None) for outcome in kept]
        assert tries == [(1, False), (1, True), (2, True)]
    (summary,) = report["experiments"]
    assert (summary["cycles"], summary["measured"], summary["statistics"]["energy_j"]["n"]) == (
        2,
        2,
        2,
    )
    (gate,) = report["gates"]
    assert (gate["outcome"], gate["cycles"]) == ("passed", 2)


def test_a_cycle_that_fails_at_each_try_is_one_cycle_that_failed(project: Project) -> None:
    project.switch_on("rerunfailures")
    project.study("id: alpha\nexecution: {cycles: 1}\nfake: {raise_in: run}\n")
    result = project.run("benchmarks", "-v", "--reruns=1", "--llem-json=report.json")
    assert ran(result) == ["alpha::c1 RERUN", "alpha::c1 FAILED"]
    result.stdout.fnmatch_lines(["alpha  *0/1 *", "none of the 1 measurements was made"])
    (summary,) = project.report()["experiments"]
    assert (summary["cycles"], summary["measured"]) == (1, 0)


def test_a_rerun_has_figures_of_its_own_in_junit(project: Project) -> None:
    project.switch_on("rerunfailures")
    project.study("id: alpha\nexecution: {cycles: 1}\nfake: {drop_tokens: 1}\n")
    result = project.run("benchmarks", "-v", "--reruns=1", "--llem-strict", "--junitxml=junit.xml")
    assert ran(result) == ["alpha::c1 RERUN", "alpha::c1 FAILED"]
    cases = list(ElementTree.parse(project.pytester.path / "junit.xml").iter("testcase"))
    names = [[p.get("name") for p in case.iter("property")] for case in cases]
    assert [found.count("llem.energy_j") for found in names] == [1, 1]


def test_a_gate_that_is_rerun_stands_once_in_the_report(project: Project) -> None:
    project.switch_on("rerunfailures")
    path = project.study("id: alpha\nexecution: {cycles: 2}\nexpect: {energy_j: {max: 0}}\n")
    result = project.run(f"{path}::alpha::gate", "-v", "--reruns=1", "--llem-json=report.json")
    assert ran(result) == ["alpha::gate RERUN", "alpha::gate FAILED"]
    report = project.report()
    assert [outcome["cycle"] for outcome in report["measurements"]] == [1, 2, 1, 2]
    assert [gate["outcome"] for gate in report["gates"]] == ["failed"]
    assert report["experiments"][0]["measured"] == 2


def test_html_shows_each_item_and_the_failure(project: Project) -> None:
    project.switch_on("html")
    project.study("id: alpha\nexecution: {cycles: 1}\nexpect: {energy_j: {max: 0}}\n")
    result = project.run("benchmarks", "-v", "--html=report.html")
    result.assert_outcomes(passed=1, failed=1)
    page = (project.pytester.path / "report.html").read_text()
    (blob,) = re.findall(r'data-jsonblob="([^"]*)"', page)
    tests = json.loads(html.unescape(blob))["tests"]
    shown = {name.partition("::")[2]: entry[-1]["result"] for name, entry in tests.items()}
    assert shown == {"alpha::c1": "Passed", "alpha::gate": "Failed"}
    log = tests["benchmarks/s.study.yaml::alpha::gate"][-1]["log"]
    assert "s.study.yaml:11: gate of alpha failed" in html.unescape(log)


@pytest.mark.parametrize("options", [("-W", "error"), ("-n2",)], ids=["alone", "xdist"])
def test_json_report_has_the_figures_of_each_test(
    project: Project, options: tuple[str, ...]
) -> None:
    project.switch_on("json-report")
    project.study("execution: {cycles: 1}\nid: alpha\nexpect: {energy_j: {max: 0}}\n")
    project.study("id: beta\nfake: {raise_in: run}\n", name="t.study.yaml")
    command = ("benchmarks", "--json-report", "--json-report-file=tests.json", *options)
    project.run(*command, "--llem-cycles=1").assert_outcomes(passed=1, failed=2)
    report = json.loads((project.pytester.path / "tests.json").read_text())
    tests = {test["nodeid"].partition("::")[2]: test for test in report["tests"]}
    cycle, gate = tests["alpha::c1"]["metadata"], tests["alpha::gate"]["metadata"]
    assert (
        cycle.items()
        >= {
            "llem.study": "s",
            "llem.experiment": "alpha",
            "llem.backend": "fake",
            "llem.runner": "local",
            "llem.cycle": 1,
        }.items()
    )
    assert cycle["llem.power_mean_w"] == pytest.approx(10)
    assert gate["llem.median.energy_j"] == pytest.approx(cycle["llem.energy_j"])
    failed = tests["beta::c1"]["metadata"]
    assert failed["llem.experiment"] == "beta"
    assert "llem.requests_per_s" not in failed
    # And the whole session at the end of the document.
    about = report["llem"]
    assert (about["measurements"], about["gates"]) == (1, {"failed": 1})
    medians = {each["experiment"]: each for each in about["experiments"]}
    assert medians["alpha"]["llem.energy_j"] == cycle["llem.energy_j"]
    assert report["exitcode"] == 1


def test_asyncio_in_auto_mode_leaves_items_and_serves_their_fixtures(project: Project) -> None:
    project.switch_on("asyncio")
    project.study(TWO)
    project.pytester.makeini("[pytest]\nasyncio_mode = auto")
    project.pytester.makeconftest(
        """
        import asyncio
        import pytest

        @pytest.fixture(autouse=True)
        async def ready(request):
            await asyncio.sleep(0)
            print("ready for", request.node.name)
            yield
        """
    )
    (project.folder / "test_own.py").write_text("async def test_async(): pass\n")
    result = project.run("benchmarks", "-v", "-rP")
    result.assert_outcomes(passed=6)
    assert ran(result) == [*ALL_PASSED, "test_async PASSED"]
    assert result.outlines.count("ready for gate") == 1


def test_autouse_fixtures_of_every_scope_reach_the_items(project: Project) -> None:
    project.study(TWO)
    project.study("id: gamma\nexecution: {cycles: 2}\n", name="t.study.yaml")
    project.pytester.makeconftest(
        """
        import pytest

        def make(scope):
            @pytest.fixture(autouse=True, scope=scope)
            def fixture(request):
                yield
                print("END", scope, request.node.nodeid)
            return fixture

        f1, f2, f3, f4, f5 = map(make, ("session", "package", "module", "class", "function"))
        """
    )
    result = project.run("benchmarks", "-v", "-rA")
    result.assert_outcomes(passed=7)
    names = [line.split()[0] for line in [*ALL_PASSED, "gamma::c1", "gamma::c2"]]
    ends = [line.split()[1:] for line in result.outlines if line.startswith("END ")]
    # Items have no class: a fixture of that scope lasts as long as the item.
    assert Counter(scope for scope, *_ in ends) == {
        "session": 1,
        "package": 1,
        "module": 2,
        "class": 7,
        "function": 7,
    }
    for scope in ("class", "function"):
        assert [
            node.partition("::")[2] for kind, *rest in ends if kind == scope for node in rest
        ] == names
    studies = [node for kind, *rest in ends if kind == "module" for node in rest]
    assert studies == ["benchmarks/s.study.yaml", "benchmarks/t.study.yaml"]


SHOW = """
def pytest_addoption(parser):
    parser.addoption("--skip-preflight", dest="other", metavar="WHAT")

def pytest_report_header(config):
    return f"other={config.option.other} ours={config.getoption('llem_skip_preflight')}"
"""


def test_another_owner_of_skip_preflight_keeps_it(project: Project) -> None:
    project.study(TWO)
    (project.pytester.path / "other_owner.py").write_text(SHOW)
    listed = project.run(
        "benchmarks", "--collect-only", "-p", "other_owner", "--skip-preflight=checks"
    )
    assert listed.ret == pytest.ExitCode.OK
    listed.stdout.fnmatch_lines(["other=checks ours=None"])
    (project.folder / "conftest.py").write_text(SHOW)
    options = ("--skip-preflight=checks", "--llem-skip-preflight")
    result = project.run("benchmarks", "-v", *options)
    result.assert_outcomes(passed=5)
    assert ran(result) == ALL_PASSED
    result.stdout.fnmatch_lines(["other=checks ours=True"])


def test_skip_preflight_is_ours_where_nobody_else_has_it(project: Project) -> None:
    project.study(TWO)
    show = SHOW.replace(
        'parser.addoption("--skip-preflight", dest="other", metavar="WHAT")', "pass"
    )
    project.pytester.makeconftest(show.replace("other={config.option.other} ", ""))
    result = project.run("benchmarks", "-v", "-k", "beta and c1", "--skip-preflight")
    result.assert_outcomes(passed=1, deselected=4)
    assert ran(result) == ["beta::c1 PASSED"]
    result.stdout.fnmatch_lines(["ours=True"])


def test_with_two_xdist_workers_items_run_once_and_gates_judge_all(project: Project) -> None:
    limit = "expect: {energy_j: {max: 1000}}"
    project.study(
        f"execution: {{cycles: 2}}\nexperiments: [{{id: alpha}}, {{id: beta}}]\n{limit}\n"
    )
    result = project.run("benchmarks", "-v", "-n2", "--llem-json=report.json")
    result.assert_outcomes(passed=6)
    names = [f"{name}::{item}" for name in ("alpha", "beta") for item in ("c1", "c2", "gate")]
    assert sorted(ran(result)) == [f"{name} PASSED" for name in names]
    report = project.report()
    made = sorted((m["experiment"], m["cycle"]) for m in report["measurements"])
    assert made == [("alpha", 1), ("alpha", 2), ("beta", 1), ("beta", 2)]
    gates = sorted(
        (gate["experiment"], gate["cycles"], gate["outcome"]) for gate in report["gates"]
    )
    assert gates == [("alpha", 2, "passed"), ("beta", 2, "passed")]


def test_tests_of_hypothesis_run_beside_a_study(project: Project) -> None:
    project.switch_on("hypothesis")
    project.study(TWO)
    project.pytester.makepyfile(
        test_own="""
        from hypothesis import given, strategies

        @given(strategies.integers())
        def test_any(number):
            assert number == number
        """
    )
    options = ("-v", "--hypothesis-show-statistics")
    result = project.run("benchmarks", "test_own.py", *options)
    result.assert_outcomes(passed=6)
    assert ran(result) == [*ALL_PASSED, "test_any PASSED"]
    result.stdout.fnmatch_lines(["test_own.py::test_any:", "*100 passing*"])
