"""The JSON Schema that comes with the package, ready to check reports with."""

from __future__ import annotations

import functools
import json

from jsonschema import Draft202012Validator

from pytest_llem.reports.document import SCHEMA

__all__ = ["validator"]


@functools.cache
def validator() -> Draft202012Validator:
    """Of reports."""
    return Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
