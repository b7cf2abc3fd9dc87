"""Leaves names of hosts and users, and paths, out of a report: plain data -> plain data. Pure.

Known names are replaced wherever they stand as a word. Paths are known by their form, also those
that nobody named: of one that isn't below the project a file's own name is left, so that a message
still says which file it is about.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

__all__ = ["Known", "redacted"]

HOST, USER, PATH = "<host>", "<user>", "<path>"

_KEPT = frozenset(
    {
        *("backend", "kind", "meter", "method", "metric", "mode", "outcome", "phase", "quality"),
        *("device", "dtype", "scenario", "source", "image_source", "worker", "weights", "finished"),
        *("digest", "tokens_sha256", "sha256", "family", "order"),
    }
)
"""Fields whose values are words of this project, or digests; a user may have any of them as a name.

``source`` is also that of prompts, a file's name: its path is taken off by form all the same.
"""

_NOBODY = frozenset({"localhost", "root", "nobody", "user", "runner", "ubuntu", "none", "null"})
"""Names that thousands share, and that are words of messages besides."""

_PUBLIC = (
    *("docker.com", "docker.io", "ghcr.io", "github.com", "githubusercontent.com"),
    *("huggingface.co", "hf.co", "nvcr.io", "nvidia.com", "python.org", "pytorch.org", "quay.io"),
    *("readthedocs.io", "doi.org", "vllm.ai", "kernel.org", "debian.org", "arxiv.org"),
)
"""Sites whose addresses tell nothing of where something ran."""

_URL = re.compile(r"\b([a-z][a-z0-9+.-]*)://([^\s/'\"<>|,;]*)([^\s'\"<>|,;]*)", re.IGNORECASE)
_UP = re.compile(r"(?<![\w./-])(?:\.\./)+[^\s'\"<>|,;:]*")
_ABSOLUTE = re.compile(r"(?<![\w.~/>-])/(?:[^\s/'\"<>|,;:()\[\]{}]+/)+[^\s/'\"<>|,;:()\[\]{}]*/?")
_WINDOWS = re.compile(r"\b[A-Za-z]:\\[^\s'\"<>|,;:]+")
_REGISTRY = re.compile(r"\b([\w-]+(?:\.[\w-]+)+(?::\d+)?|[\w.-]+:\d+)/(?=[\w.-]+(?:/[\w.-]+)*[:@])")


_QUOTED = re.compile(r"[^\s/]*%2F\S*")
"""A path as the names of logs and side files have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of who runs this, and where.

    Attributes:
        root: pytest's root directory: what is below it is named from there.
        folders: others to be left out: the home directory, where pytest was called.
        hosts: names of this host, and ``users`` of who runs this.
    """

    root: str
    folders: Collection[str] = ()
    hosts: Collection[str] = ()
    users: Collection[str] = ()


def redacted(document: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """A report without them, which says so.

    Args:
        document: of ``json_report.document``.
        known: names and folders besides those that the report itself tells.
    """
    hosts = {*known.hosts, *(name.partition(".")[0] for name in known.hosts), *_hosts(document)}
    words = [(name, HOST) for name in hosts] + [(name, USER) for name in known.users]
    rules = [*_folders(known), *_forms, *_names(words)]

    def clean(text: str) -> str:
        for rule in rules:
            text = rule(text)
        return _QUOTED.sub(lambda found: _unquoted(found[0], rules), text)

    return {**_walked(document, clean), "redacted": True}


_Rule = Callable[[str], str]


def _walked(data: Mapping[str, Any], clean: _Rule) -> dict[str, Any]:
    return {str(name): _value(str(name), value, clean) for name, value in data.items()}


def _value(name: str, value: Any, clean: _Rule) -> Any:
    if isinstance(value, str):
        return _by_form(value) if name in _KEPT else clean(value)
    if isinstance(value, Mapping):
        return _walked(value, clean)
    if isinstance(value, (list, tuple)):
        return [_value(name, each, clean) for each in value]
    return value


def _hosts(data: Any) -> Iterator[str]:
    """Hosts that a report names: those of daemons, and of xdist workers elsewhere."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            if name in {"host", "daemon"} and isinstance(value, str):
                found = _URL.search(value)
                address = found[2] if found else value if name == "host" else ""
                yield address.rpartition("@")[2].partition(":")[0]
            else:
                yield from _hosts(value)
    elif isinstance(data, (list, tuple)):
        for value in data:
            yield from _hosts(value)


def _names(words: Collection[tuple[str, str]]) -> Iterator[_Rule]:
    """Rules for names, the longest first; as words, whatever their case."""
    for name, instead in sorted(words, key=lambda row: -len(row[0])):
        if name and name.lower() not in _NOBODY:
            form = re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)
            yield functools.partial(form.sub, instead)


def _folders(known: Known) -> Iterator[_Rule]:
    """Rules for known folders, which may have spaces in them: the longest first."""
    root = known.root.rstrip("/\\")
    for folder in sorted({root, *(f.rstrip("/\\") for f in known.folders)}, key=len, reverse=True):
        if len(folder) > 1:
            # What is below the root is named from there.
            inside, itself = ("", ".") if folder == root else (f"{PATH}/", PATH)
            name = re.escape(folder)
            yield functools.partial(re.compile(rf"{name}[/\\]").sub, inside)
            yield functools.partial(re.compile(rf"{name}(?![\w-])").sub, itself)


def _unquoted(text: str, rules: Sequence[_Rule]) -> str:
    """A quoted path, cleaned and quoted again; as it was where there is nothing to clean."""
    plain = cleaned = unquote(text)
    for rule in rules:
        cleaned = rule(cleaned)
    return text if cleaned == plain else quote(cleaned, safe="<>")


# --- what tells by its form ----------------------------------------------------------------


def _url(text: str) -> str:
    def instead(found: re.Match[str]) -> str:
        scheme, host, rest = found.groups()
        if scheme.lower() in {"file", "unix"}:
            return f"{scheme}://{_shortened(host + rest)}"
        bare = host.rpartition("@")[2].partition(":")[0].lower()
        if bare in {"localhost", "127.0.0.1"} or bare.endswith(_PUBLIC):
            return found[0]
        return f"{scheme}://{HOST}"

    return _URL.sub(instead, text)


def _paths(text: str) -> str:
    for form in (_ABSOLUTE, _WINDOWS, _UP):
        text = form.sub(lambda found: _shortened(found[0]), text)
    return text


def _registry(text: str) -> str:
    """``registry.corp:5000/team/vllm:1`` without its host, where that isn't a public one."""

    def instead(found: re.Match[str]) -> str:
        host = found[1].partition(":")[0].lower()
        return found[0] if host.endswith(_PUBLIC) or host == "localhost" else f"{HOST}/"

    return _REGISTRY.sub(instead, text)


_forms: tuple[_Rule, ...] = (_url, _paths, _registry)


def _by_form(text: str) -> str:
    for rule in _forms:
        text = rule(text)
    return text


def _shortened(path: str) -> str:
    """A path's last part, where that can't be somebody's folder: it is deep, or a file."""
    parts = [part for part in re.split(r"[/\\]", path) if part not in {"", ".."}]
    last = parts[-1] if parts else ""
    return f"{PATH}/{last}" if len(parts) > 3 or "." in last.strip(".") else PATH
