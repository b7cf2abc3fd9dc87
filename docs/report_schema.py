"""The JSON Schema of a report, made of the very types that are written into one.

Everything is closed and required: a report that lacks a field, or has one more, isn't valid.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from docs.report_shapes import BY_NAME, SHAPES
from docs.report_words import WORDS, plain
from pytest_llem.metrics import METRICS
from pytest_llem.reports.document import SCHEMA_VERSION, Report
from pytest_llem.worker.model_facts import DERIVED

__all__ = ["fields", "kinds", "meaning", "schema"]

_Schema = dict[str, Any]
_SCALARS: Mapping[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    types.NoneType: "null",
}
_UNITS = {name: f"{metric.title}, in {metric.unit}" for name, metric in METRICS.items()}


def schema() -> _Schema:
    """The JSON Schema, draft 2020-12, of a report of this version."""
    defs: dict[str, _Schema] = {}
    whole = _class(Report, defs)
    whole["properties"]["schema_version"]["const"] = SCHEMA_VERSION
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:pytest-llem:report:{SCHEMA_VERSION}",
        "title": "pytest-llem report",
        **whole,
        "$defs": dict(sorted(defs.items())),
    }


def fields(cls: type) -> dict[str, Any]:
    """Fields of a record or a shape with their types."""
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else hints
    return {name: SHAPES.get(f"{cls.__name__}.{name}", hints[name]) for name in names}


def kinds(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a type; itself where there is one only."""
    union = typing.get_origin(hint) in {typing.Union, types.UnionType}
    return typing.get_args(hint) if union else (hint,)


def _class(cls: type, defs: dict[str, _Schema]) -> _Schema:
    properties = {}
    for name, hint in fields(cls).items():
        path = f"{cls.__name__}.{name}"
        made = _named(path, defs) if path in BY_NAME else _type(hint, defs)
        properties[name] = {**made, "description": plain(meaning(cls, name))}
    return {"description": str(cls.__doc__).partition("\n")[0], **_closed(properties)}


def meaning(cls: type, name: str) -> str:
    """What a field means, links included; of one that a study has, too, in the study's words."""
    if dataclasses.is_dataclass(cls):
        (field,) = (f for f in dataclasses.fields(cls) if f.name == name)
        if "description" in field.metadata:
            return str(field.metadata["description"])
    owners = (cls.__name__, _LIKE.get(cls.__name__, ""))
    keys = [*(f"{owner}.{name}" for owner in owners), name]
    return WORDS[next(key for key in keys if key in WORDS)]


_LIKE = {"GpuTestbed": "Testbed", "FileWorkload": "Workload", "ThermalGap": "FixedGap"}
"""Shapes, and those that they were derived from."""


def _type(hint: Any, defs: dict[str, _Schema]) -> _Schema:
    options = kinds(hint)
    if len(options) > 1:
        return _either([_type(option, defs) for option in options])
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple and args[-1] is Ellipsis:
        return {"type": "array", "items": _type(args[0], defs)}
    if origin is tuple:
        items = [_type(arg, defs) for arg in args]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        inner = {} if args[1] is Any else {"additionalProperties": _type(args[1], defs)}
        return {"type": "object", **inner}
    return _ref(hint, defs)


def _ref(cls: type, defs: dict[str, _Schema]) -> _Schema:
    if cls.__name__ not in defs:
        defs[cls.__name__] = {}  # it may hold others of its own kind
        defs[cls.__name__] = _class(cls, defs)
    return {"$ref": f"#/$defs/{cls.__name__}"}


def _either(options: list[_Schema]) -> _Schema:
    """Scalars as a list of types, for people who read it."""
    if all(set(option) == {"type"} for option in options):
        return {"type": [option["type"] for option in options]}
    return {"anyOf": options}


def _named(path: str, defs: dict[str, _Schema]) -> _Schema:
    """A mapping with every metric."""
    cls, may_be_empty = BY_NAME[path]
    names = list(DERIVED if path.endswith(".derived") else METRICS)
    value = _ref(cls, defs)
    made = _closed({name: value | _unit(name) for name in names})
    return {"anyOf": [made, _closed({})]} if may_be_empty else made


def _unit(name: str) -> _Schema:
    return {"description": _UNITS[name]} if name in _UNITS else {}


def _closed(properties: Mapping[str, _Schema]) -> _Schema:
    return {
        "type": "object",
        # Before what is in it: who checks a report learns soon of what is missing.
        "required": list(properties),
        "additionalProperties": False,
        "properties": dict(properties),
    }
