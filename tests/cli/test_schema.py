"""``python -m pytest_llem schema``: the schemas as they come with the package."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from pytest_llem.__main__ import main


@pytest.mark.parametrize("what", ["report", "study"])
def test_a_schema_is_printed(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", what]) == 0
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:pytest-llem:{what}:1"
