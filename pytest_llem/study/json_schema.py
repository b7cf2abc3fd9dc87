"""What a study may say as a JSON Schema: for editors, and for tools that write studies.

It is made of the very classes that validate a study, so it can't say anything else than they do.
It sees one file only, and no two fields at once: ``load`` refuses more than it does.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from pytest_llem.experiment import Experiment
from pytest_llem.extensions import known_backends
from pytest_llem.metrics import METRICS
from pytest_llem.study.identity import NAME
from pytest_llem.study.keys import DockerSettings, Execution, Requires

__all__ = ["SHIPPED", "definitions", "schema", "text"]

SHIPPED = Path(__file__).with_name("study.schema.json")
"""The schema of the well-known backends; ``python docs/build_reference.py`` writes it anew."""

_Schema = dict[str, Any]

_HELP = {
    "name": "name of the study; that of its file up to the first dot when not given",
    "base": "file whose fields this one is laid over, relative to this one",
    "sweep": "a grid: each (dotted) field has a list of values or a range",
    "variants": "a grid of named alternatives: group to name to fields",
    "experiments": "experiments written out, each merged onto the shared fields",
    "execution": "how often and in which order the experiments are measured",
    "runners": "backend to runner: local, docker, docker:<image>, or one that a package brings",
    "images": "backend to container image",
    "docker": "how containers are run",
    "expect": "limits that a gate judges; a list where some are for some experiments only",
    "requires": "what a host must have; measurements that need more than it has are skipped",
}
_NULL = {"type": "null"}
_PERCENT = r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$"


def schema(backends: Collection[str]) -> _Schema:
    """The JSON Schema, draft 2020-12, of a study file.

    Args:
        backends: names that may stand for a backend; below each stand options of its engine.
    """
    defs = definitions(Experiment, Execution, DockerSettings, Requires)
    fields = defs["Experiment"]["properties"]
    del fields["options"]
    # What has nothing of its own may be called nothing: it is named after its file.
    fields["id"] = {**fields["id"], "pattern": rf"^({NAME.pattern})?$"}
    fields["backend"] = {**fields["backend"], "enum": [*sorted(backends), None]}
    paths = dict(_paths(defs, "Experiment"))
    for name in sorted(backends):
        fields[name] = {"type": ["object", "null"], "description": f"options of {name}'s engine"}
    shared = {name: {"$ref": f"#/$defs/Experiment/properties/{name}"} for name in fields}
    fields["expect"] = _described("expect", _one_or_more("OwnLimits"))
    fields["requires"] = _described("requires", _or_null(_ref("Requires")))
    defs |= _limits() | {"Values": _VALUES, "Range": _RANGE}
    own: dict[str, _Schema] = {
        "name": {"type": ["string", "null"]},
        "base": {"type": ["string", "null"], "minLength": 1},
        "sweep": _sweep(paths, backends),
        "variants": _named(_named(_or_null(_ref("Experiment")), minProperties=1), nullable=True),
        "experiments": {"type": ["array", "null"], "items": _ref("Experiment")},
        "execution": _or_null(_ref("Execution")),
        "runners": _by_backend(backends),
        "images": _by_backend(backends),
        "docker": _or_null(_ref("DockerSettings")),
        "expect": _one_or_more("Limits"),
        "requires": _or_null(_ref("Requires")),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:pytest-llem:study:1",
        "title": "pytest-llem study",
        "description": "What to measure of LLM inference, how often, and what it must keep to.",
        **_closed({name: _described(name, part) for name, part in own.items()} | shared),
        "$defs": dict(sorted(defs.items())),
    }


def text(backends: Collection[str] | None = None) -> str:
    """The JSON Schema for reading.

    Args:
        backends: names that may stand for a backend; by default all that a study may name here.
    """
    if backends is None:
        backends = known_backends()
    return json.dumps(schema(backends), indent=2, ensure_ascii=False)


# --- what the classes say ------------------------------------------------------------------


class _Generator(GenerateJsonSchema):
    """Pydantic's own, without titles that only repeat a name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def dataclass_schema(self, schema: Any) -> _Schema:
        """Not every version of pydantic takes over what a class says of itself."""
        made = super().dataclass_schema(schema)
        made.pop("title", None)
        return {**made, "description": str(schema["cls"].__doc__).partition("\n")[0]}

    def str_schema(self, schema: Any) -> _Schema:
        made = super().str_schema(schema)
        return {**made, "type": ["string", "number"]} if "coerce_numbers_to_str" in schema else made

    def dict_schema(self, schema: Any) -> _Schema:
        made = super().dict_schema(schema)
        if patterns := made.get("patternProperties"):
            made["patternProperties"] = {key: _or_null(part) for key, part in patterns.items()}
            made["additionalProperties"] = False
        return made


def definitions(*classes: type) -> dict[str, _Schema]:
    """The classes, and those of their fields, by name: as parts of a study may give them.

    No field is required, as others may stand in a base or further up, and each may be null, which
    means *not set*.
    """
    asked: list[Any] = [(cls, "validation", TypeAdapter(cls)) for cls in classes]
    _, found = TypeAdapter.json_schemas(asked, schema_generator=_Generator)
    defs: dict[str, _Schema] = found["$defs"]
    for made in defs.values():
        made.pop("required", None)
        made["properties"] = {name: _optional(part) for name, part in made["properties"].items()}
    for made in list(defs.values()):
        for part in made["properties"].values():
            _let_alternatives_be_null(part, defs)
    return defs


def _optional(part: _Schema) -> _Schema:
    """A field that may be null, with a default that says something."""
    default = _without_nulls(part.get("default"))
    rest = {key: value for key, value in part.items() if key != "default"}
    return {**_or_null(rest), **({} if default in (None, "", {}, []) else {"default": default})}


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}


def _let_alternatives_be_null(part: _Schema, defs: Mapping[str, _Schema]) -> None:
    """``{poisson: null, concurrency: 4}`` over ``{poisson: 2}`` leaves the second one alone."""
    kinds = [defs[_target(option)] for option in part.get("anyOf", ()) if "$ref" in option]
    for kind in kinds:
        for name in [name for other in kinds for name in other["properties"]]:
            kind["properties"].setdefault(name, {**_NULL, "description": "not beside the other"})


def _target(ref: Mapping[str, str]) -> str:
    return ref["$ref"].rpartition("/")[2]


def _paths(
    defs: Mapping[str, _Schema], name: str, prefix: str = ""
) -> Iterator[tuple[str, str | None]]:
    """Every (dotted) field below a class, with its description."""
    for field, part in defs[name]["properties"].items():
        if part.get("type") == "null":
            continue
        yield prefix + field, part.get("description")
        for option in part.get("anyOf", ()):
            if "$ref" in option:
                yield from _paths(defs, _target(option), f"{prefix}{field}.")


# --- parts ---------------------------------------------------------------------------------


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/$defs/{name}"}


def _or_null(part: _Schema) -> _Schema:
    """The same, or null; what takes anything stays as it is."""
    if not part or "anyOf" in part:
        options = part.get("anyOf", [_NULL])
        return part if _NULL in options else {**part, "anyOf": [*options, _NULL]}
    if "$ref" in part or "const" in part:
        rest = {key: value for key, value in part.items() if key not in {"$ref", "const", "type"}}
        own = {key: value for key, value in part.items() if key not in rest}
        return {"anyOf": [own, _NULL], **rest}
    kinds = [part["type"]] if isinstance(part["type"], str) else part["type"]
    enum = {"enum": [*part["enum"], None]} if "enum" in part else {}
    return {**part, "type": [*kinds, "null"], **enum}


def _described(name: str, part: _Schema) -> _Schema:
    return {**part, "description": _HELP[name]}


def _closed(properties: _Schema, **more: Any) -> _Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def _named(part: _Schema, *, nullable: bool = False, **more: Any) -> _Schema:
    """A mapping of names that may be part of an experiment's."""
    return {
        "type": ["object", "null"] if nullable else "object",
        "propertyNames": {"pattern": f"^{NAME.pattern}$"},
        "additionalProperties": part,
        **more,
    }


def _by_backend(backends: Collection[str]) -> _Schema:
    part = {"type": ["string", "null"], "minLength": 1}
    return {**_closed(dict.fromkeys(sorted(backends), part)), "type": ["object", "null"]}


def _one_or_more(name: str) -> _Schema:
    return {"anyOf": [_ref(name), {"type": "array", "items": _ref(name)}, _NULL]}


def _limits() -> dict[str, _Schema]:
    """Limits of a whole study, and those of a part of it, which may take some of them back."""
    bounds = {
        "min": {"type": "number", "description": "at least"},
        "max": {"type": "number", "description": "at most"},
        "max_regression": {
            "type": "string",
            "pattern": _PERCENT,
            "description": "how much worse than the reference it may be, like 5%",
        },
    }
    where = {"type": "object", "description": "(dotted) fields or variants, and their values"}
    titles = {name: f"{metric.title}, in {metric.unit}" for name, metric in METRICS.items()}
    own = {name: _or_null(_ref("Bounds") | {"description": t}) for name, t in titles.items()}
    return {
        "Bounds": _closed(bounds, minProperties=1),
        "Limits": _closed(
            {"where": where}
            | {name: _ref("Bounds") | {"description": t} for name, t in titles.items()}
        ),
        "OwnLimits": _closed({"where": where} | own),
    }


# --- sweep ---------------------------------------------------------------------------------

_VALUES: _Schema = {"anyOf": [{"type": "array", "minItems": 1}, {"$ref": "#/$defs/Range"}]}
_STEPS = {"type": ["integer", "null"], "minimum": 1, "maximum": 10_000}
_RANGE: _Schema = {
    "description": "values from one number to another, both included",
    **_closed(
        {
            "from": {"type": "number", "description": "the first value"},
            "to": {"type": "number", "description": "the last value"},
            "steps": {
                **_STEPS,
                "description": "how many values; by default pow2 gives every power of two",
            },
            "scale": {
                "enum": ["linear", "log", "pow2", None],
                "description": "equal differences, equal ratios, or powers of two",
                "default": "linear",
            },
        }
    ),
    "required": ["from", "to"],
    "if": {"properties": {"scale": {"const": "pow2"}}, "required": ["scale"]},
    "else": {"properties": {"steps": {"type": "integer"}}, "required": ["steps"]},
}


def _sweep(paths: Mapping[str, str | None], backends: Collection[str]) -> _Schema:
    """The fields that may be swept: all but the name, and whatever an engine takes."""
    values = _ref("Values")
    free = "|".join(["env", *sorted(backends)])
    engine = {
        "anyOf": [
            {"type": "array", "minItems": 1},
            {"type": "object", "additionalProperties": values},
        ],
        "description": "its engine's options, each with a list of values or a range",
    }
    fields = {
        path: {**values, **({"description": help_} if help_ else {})}
        for path, help_ in paths.items()
        if path != "id"
    }
    return {
        **_closed(fields | dict.fromkeys(sorted(backends), engine)),
        "type": ["object", "null"],
        "patternProperties": {rf"^({free})\..": values},
    }
