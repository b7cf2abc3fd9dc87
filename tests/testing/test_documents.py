"""docs/extending.md shows the example that is tested, and names every promise."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_llem.testing import BACKEND_PROMISES, METER_PROMISES, Promise, backend_conformance
from tests.documents import ROOT
from tests.testing.backends import changed

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "tests" / "third_party_example"


def test_the_backend_that_is_shown_is_the_one_that_is_tested() -> None:
    assert f"```python\n# llem_example.py\n{(EXAMPLE / 'llem_example.py').read_text()}```" in PAGE


def test_its_entry_point_is_the_one_that_is_shown() -> None:
    (point,) = re.findall(r"^example = .*$", PAGE, re.MULTILINE)
    installed = (EXAMPLE / "llem_example-1.0.dist-info" / "entry_points.txt").read_text()
    assert point.replace('"', "") in installed.splitlines()


@pytest.mark.parametrize("promises", [BACKEND_PROMISES, METER_PROMISES], ids=["backend", "meter"])
def test_every_promise_stands_in_its_table(promises: Sequence[Promise[Any]]) -> None:
    rows = "".join(f"| `{promise.name}` | {promise.text} |\n" for promise in promises)
    assert f"| promise | what is promised |\n| --- | --- |\n{rows}" in PAGE


def test_the_failure_that_is_shown_is_like_those_that_are_told() -> None:
    wrong = changed(lambda c: dataclasses.replace(c, token_ids=c.token_ids[1:]))
    with pytest.raises(AssertionError) as caught:
        backend_conformance(wrong, skip=[p.name for p in BACKEND_PROMISES if p.name != "exact"])
    shown = next(
        text for text in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL) if "exact" in text
    )
    told = str(caught.value).splitlines()
    assert f"of {len(BACKEND_PROMISES)} promises" in shown
    # In its head there are other counts; the lines of the promise and of its trials are the same.
    assert shown.splitlines()[1] == told[1]
    assert shown.splitlines()[2] in told
    assert shown.splitlines()[-1] == told[-1]
