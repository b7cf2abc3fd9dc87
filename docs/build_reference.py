"""Writes what is made of the code: docs/reference.md, tables of docs/report.md, and JSON Schemas.

python docs/build_reference.py
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a program, it begins in its own folder
from docs import report_schema, report_tables
from pytest_llem.__main__ import commands
from pytest_llem.experiment import (
    NOT_IN_DIGEST,
    Concurrency,
    Decoding,
    Experiment,
    Lognormal,
    LognormalShape,
    Poisson,
    Prompts,
    Slo,
    Uniform,
    Warmup,
)
from pytest_llem.extensions import WELL_KNOWN, Abilities, abilities
from pytest_llem.metrics import METRICS
from pytest_llem.plugin.options import add_options
from pytest_llem.reports.document import SCHEMA
from pytest_llem.study import json_schema
from pytest_llem.study.keys import (
    Carbon,
    DockerSettings,
    Execution,
    Gaps,
    Requires,
    ThermalGaps,
    UserConfig,
)

__all__ = ["PAGE", "REPORT", "Recorder", "made", "main", "page"]

PAGE = Path(__file__).with_name("reference.md")
REPORT = Path(__file__).with_name("report.md")

_DEFAULTS: Mapping[str, str] = {
    "id": "made from its own fields",
    "gpus": "`tensor_parallel` × `pipeline_parallel`",
    "Range.steps": "required, but not for `pow2`",
    ".lem-config.yaml.results_dir": "`results`",
    "llem_results_dir": "`results`",
}
"""Where the code's default is no answer for a reader."""

_HEAD = """\
# Reference

Made from the code by `python docs/build_reference.py`; a test keeps it current. How the parts work
together stands in [study.md](study.md) and [runners.md](runners.md).

A null means *not set*: the field keeps its default. `none` is a word of its own: it switches the
thing off. *Not in this version* marks what is refused with these words at collection.
"""

_EXPERIMENT = """\
At the top of a study they are shared by all its experiments; in `variants` and `experiments` they
belong to some. `expect` and `requires` may stand in all three places as well. What is in the
[digest](study.md#the-digest) makes an experiment what it is."""

_DOCKER = """\
What a study doesn't say is left to `docker` in [.lem-config.yaml](#lem-configyaml). What these do
stands in [containers.md](containers.md)."""

_USER = """\
Which file is read, and what happens to mistakes in it, stands in
[runners.md](runners.md#the-users-own-settings)."""

_SECTIONS: Sequence[tuple[str, str, type, str]] = (
    ("###", "prompts", Prompts, ""),
    ("####", "prompts.input_tokens.uniform", Uniform, ""),
    ("####", "prompts.input_tokens.lognormal", LognormalShape, ""),
    ("###", "warmup", Warmup, ""),
    ("###", "decoding", Decoding, ""),
    ("###", "scenario.poisson", Poisson, ""),
    ("###", "scenario.concurrency", Concurrency, ""),
    ("###", "slo", Slo, ""),
    ("##", "execution", Execution, ""),
    ("###", "execution.gaps", Gaps, ""),
    ("##", "requires", Requires, ""),
    ("##", "docker", DockerSettings, _DOCKER),
    ("##", ".lem-config.yaml", UserConfig, _USER),
    ("###", ".lem-config.yaml: thermal_gaps", ThermalGaps, ""),
    ("###", ".lem-config.yaml: carbon", Carbon, ""),
)
"""Depth, title, class and introduction."""

_TITLES = {cls.__name__: title for _, title, cls, _ in _SECTIONS} | {
    "Lognormal": "prompts.input_tokens.lognormal"
}


class Recorder:
    """Takes the place of pytest's parser, its groups included, and notes what is added."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.options: dict[str, dict[str, Any]] = {}
        self.settings: dict[str, dict[str, Any]] = {}

    def getgroup(self, *_: object) -> Recorder:
        """Itself."""
        return self

    def addoption(self, *names: str, **told: Any) -> None:
        """Note an option."""
        self.options[", ".join(names)] = told

    def addini(self, name: str, **told: Any) -> None:
        """Note a setting."""
        self.settings[name] = told


def page() -> str:
    """The whole page."""
    schema = json_schema.schema(WELL_KNOWN)
    defs = schema["$defs"] | json_schema.definitions(UserConfig, Lognormal)
    parts = [_HEAD, *_study(schema), *_shapes(defs), *_experiment(defs)]
    for depth, title, cls, introduction in _SECTIONS:
        parts += [f"{depth} {title}", introduction, _class(cls, title, defs)]
    parts += [*_backends(), *_metrics(), *_pytest(), *_commands()]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def made() -> dict[Path, str]:
    """Every file that is made of the code, with what belongs into it."""
    report = json.dumps(report_schema.schema(), indent=2, ensure_ascii=False)
    return {
        PAGE: page(),
        REPORT: report_tables.filled(REPORT.read_text(encoding="utf-8")),
        json_schema.SHIPPED: f"{json_schema.text(WELL_KNOWN)}\n",
        SCHEMA: f"{report}\n",
    }


def main() -> None:
    """Write them all."""
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")


# --- sections ------------------------------------------------------------------------------


def _study(schema: Mapping[str, Any]) -> Iterator[str]:
    fields = set(schema["$defs"]["Experiment"]["properties"]) - {"expect", "requires"}
    rows = [
        [f"`{name}`", _STUDY_TYPES[name], part["description"]]
        for name, part in schema["properties"].items()
        if name not in fields
    ]
    yield "## Keys of a study"
    yield _table(["key", "type", "meaning"], rows)
    yield "Every other key at the top of a study is a field of its experiments."


_STUDY_TYPES = {
    "name": "text",
    "base": "path",
    "sweep": "mapping of fields to lists or [ranges](#ranges)",
    "variants": "mapping of groups to mappings of names to fields",
    "experiments": "list of mappings of fields",
    "execution": "[mapping](#execution)",
    "runners": "mapping of backends to [runners](runners.md#values)",
    "images": "mapping of backends to images",
    "docker": "[mapping](#docker)",
    "expect": "mapping of [metrics](#metrics) to [limits](#limits), or a list of such",
    "requires": "[mapping](#requires)",
}


def _experiment(defs: Mapping[str, Any]) -> Iterator[str]:
    yield "## Fields of an experiment"
    yield _EXPERIMENT
    rows = []
    for field in dataclasses.fields(Experiment):
        if field.name != "options":
            digest = "no" if field.name in NOT_IN_DIGEST else "yes"
            rows.append([*_row(field, field.name, defs["Experiment"], defs), digest])
    rows.append(["a backend's name", "mapping", "none", "options for that engine", "yes"])
    yield _table(["field", "type", "default", "meaning", "in the digest"], rows)


def _class(cls: type, title: str, defs: Mapping[str, Any]) -> str:
    rows = [
        _row(field, f"{title.replace(': ', '.')}.{field.name}", defs[cls.__name__], defs)
        for field in dataclasses.fields(cast(Any, cls))
    ]
    return _table(["field", "type", "default", "meaning"], rows)


def _shapes(defs: Mapping[str, Any]) -> Iterator[str]:
    yield "### Ranges"
    rows = []
    for name, part in defs["Range"]["properties"].items():
        default = f"`{part['default']}`" if "default" in part else "required"
        default = _DEFAULTS.get(f"Range.{name}", default)
        rows.append([f"`{name}`", _type(part, name, defs), default, part["description"]])
    yield _table(["key", "type", "default", "meaning"], rows)
    yield "### Limits"
    bounds = defs["Bounds"]["properties"].items()
    types = {"max_regression": "percent, like `5%`"}
    rows = [[f"`{name}`", types.get(name, "number"), part["description"]] for name, part in bounds]
    yield _table(["key", "type", "meaning"], rows)


def _backends() -> Iterator[str]:
    yield "## Backends"
    yield "What an experiment asks and its backend can't do is refused at collection."
    head = ["backend", "scenarios", "devices", "batch_size", "parallel", "decoding"]
    yield _table(head, [[f"`{name}`", *_can(abilities(name))] for name in WELL_KNOWN])


def _can(can: Abilities | None) -> list[str]:
    if can is None:
        return ["not in this version", *[""] * 4]
    return [
        _codes(sorted(can.scenarios)),
        _codes(sorted(can.devices)),
        "yes" if can.batches else "no",
        "no" if not can.parallel else "yes" if can.tensor_parallel else "pipeline",
        _codes(sorted(can.decoding)) or "greedy only",
    ]


def _metrics() -> Iterator[str]:
    yield "## Metrics"
    yield "Formulas and sources: [methodology.md](methodology.md#metrics)."
    yield _table(
        ["metric", "unit", "better", "meaning"],
        [
            [f"`{m.name}`", m.unit, "higher" if m.higher_is_better else "lower", m.title]
            for m in METRICS.values()
        ],
    )


def _pytest() -> Iterator[str]:
    recorder = Recorder()
    add_options(cast(pytest.Parser, recorder))
    yield "## Options of the command line"
    options = []
    for name, told in recorder.options.items():
        between = " " if told.get("action") == "append" else "="
        metavar = f"{between}{told['metavar']}" if "metavar" in told else ""
        options.append([f"`{name}{metavar}`", _sentence(told["help"])])
    yield _table(["option", "meaning"], options)
    yield "## Settings of the ini file"
    settings = []
    for name, told in recorder.settings.items():
        given = [told["default"]] if isinstance(told["default"], str) else told["default"]
        default = _DEFAULTS.get(name) or _codes(given) or "none"
        meaning = _sentence(told["help"])
        settings.append([f"`{name}`", _INI[told["type"]], default, meaning])
    yield _table(["setting", "type", "default", "meaning"], settings)


def _commands() -> Iterator[str]:
    yield "## Commands beside pytest"
    yield "`python -m pytest_llem COMMAND`; each has `--help`, too."
    found = commands(argparse.ArgumentParser()).choices
    rows = []
    for name, parser in found.items():
        rows.append([f"`{name}`", "", _sentence(str(parser.description))])
        for action in parser._actions:
            if isinstance(action, argparse._HelpAction):
                continue
            metavar = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
            shown = " ".join(filter(None, [", ".join(action.option_strings), str(metavar)]))
            if action.choices:
                shown = shown.replace(str(metavar), "|".join(map(str, action.choices)))
            rows.append(["", f"`{shown}`", _sentence(str(action.help))])
    yield _table(["command", "option", "meaning"], rows)


_INI = {"args": "patterns", "linelist": "lines", "string": "text", "bool": "true or false"}


# --- cells ---------------------------------------------------------------------------------


def _row(field: Any, path: str, made: Mapping[str, Any], defs: Mapping[str, Any]) -> list[str]:
    part = made["properties"][field.name]
    meaning = part.get("description", "")
    kind = _type(part, f"{field.name} {meaning}", defs)
    return [f"`{field.name}`", kind, _default(field, path, part), meaning]


def _default(field: Any, path: str, part: Mapping[str, Any]) -> str:
    if path in _DEFAULTS:
        return _DEFAULTS[path]
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "required"
    default = part.get("default")
    if default is None or isinstance(default, dict):
        return "none" if default is None else "see there"
    return f"`{default:g}`" if isinstance(default, float) else f"`{str(default).lower()}`"


def _type(part: Mapping[str, Any], name: str, defs: Mapping[str, Any]) -> str:
    """A type in words; null goes without saying."""
    if name.partition(" ")[0] == "backend":
        return "name of a [backend](#backends)"
    kinds = list(dict.fromkeys(_kinds(part, name, defs)))
    kinds.sort(key=lambda kind: kind.startswith("list"))
    return " or ".join(filter(None, [", ".join(kinds[:-1]), *kinds[-1:]]))


def _kinds(part: Mapping[str, Any], name: str, defs: Mapping[str, Any]) -> Iterator[str]:
    if "anyOf" in part:
        for option in part["anyOf"]:
            yield from _kinds(option, name, defs)
    elif "$ref" in part:
        target = part["$ref"].rpartition("/")[2]
        title = _TITLES[target]
        text = f"`{{{title.rpartition('.')[2]}: …}}`" if target in _FORMS else "mapping"
        yield f"[{text}](#{_anchor(title)})"
    elif "const" in part or "enum" in part:
        values = part["enum"] if "enum" in part else [part["const"]]
        yield from (f"`{value}`" for value in values if value is not None)
    else:
        kinds = [part["type"]] if isinstance(part["type"], str) else part["type"]
        yield from (_plain(kind, part, name, defs) for kind in kinds if kind != "null")


_FORMS = {"Uniform", "Lognormal", "Poisson", "Concurrency"}
"""Classes that are one of several forms of a field, told apart by their only key."""


def _plain(kind: str, part: Mapping[str, Any], name: str, defs: Mapping[str, Any]) -> str:
    field, _, meaning = name.partition(" ")
    if kind in {"integer", "number"}:
        seconds = field.endswith("_s") or meaning.startswith("seconds")
        what = "whole number" if kind == "integer" else "seconds" if seconds else "number"
        return what + _bounds(part)
    if kind == "array":
        several = part.get("prefixItems")
        inner = several[0] if several else part["items"]
        return f"{'two' if several else 'list of'} {_plural(_type(inner, field, defs))}"
    if kind == "object":
        values = [*part.get("patternProperties", {}).values(), part.get("additionalProperties")]
        if isinstance(values[0], dict) and values[0]:
            return f"mapping of names to {_plural(_type(values[0], field, defs))}"
        return "mapping"
    return {"string": "text", "boolean": "true or false"}[kind]


def _plural(kind: str) -> str:
    return re.sub(r"\b(text|mapping|number)\b", r"\1s", kind)


def _bounds(part: Mapping[str, Any]) -> str:
    words = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to" if "minimum" in part else "and at most",
        "exclusiveMaximum": "and below",
    }
    return "".join(f" {word} {part[key]:g}" for key, word in words.items() if key in part)


def _anchor(title: str) -> str:
    """As sites that show Markdown make it of a heading."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _sentence(text: str) -> str:
    """A help text as part of a table: without its full stop, beginning small."""
    return text[0].lower() + text[1:].removesuffix(".")


def _codes(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names if name)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def _escaped(cell: str) -> str:
    return re.sub(r"([|<])", r"\\\1", cell)


if __name__ == "__main__":
    main()
