"""Prompts of a file as token ids, and what a report says of an experiment's prompts."""

from __future__ import annotations

import functools
import hashlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import WELL_KNOWN
from pytest_llem.prompt_file import SYNTHETIC, Contents, read

__all__ = ["BYTES", "Loaded", "about", "load", "warnings"]

BYTES = "bytes"
"""The tokenizer of models without one: each byte of the text in UTF-8 is a token id."""

_BYTE_IDS = 256
_FILES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"),
    *("tekken.json", "tokenizer_config.json"),
)
"""Any of them in a model's directory says that it has a tokenizer."""

_CHUNK_BYTES = 1 << 20

Tokenize = Callable[[list[str]], list[list[int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The prompts of a file.

    Attributes:
        name: of the file.
        prompts: token ids of each, those for the warm-up behind those that count.
        lines: on which they begin.
        sha256: of the whole file.
        tokenizer: what made ids of text; None where there was none.
        left_out: conversations without a prompt.
        lengths: lines that also say how long the answer is to be.
    """

    name: str
    prompts: tuple[tuple[int, ...], ...]
    lines: tuple[int, ...]
    sha256: str
    tokenizer: str | None
    left_out: int
    lengths: int

    def check(self, vocab_size: int) -> None:
        """See whether a model knows all the ids.

        Raises:
            LlemError: when it doesn't.
        """
        if self.tokenizer == BYTES and vocab_size < _BYTE_IDS:
            raise LlemError(
                f"{self.name} holds text, the model has no tokenizer, and bytes as tokens take a"
                f" vocabulary of {_BYTE_IDS} or more, not {vocab_size};"
                " give prompt_token_ids in the file"
            )
        for line, prompt in zip(self.lines, self.prompts, strict=True):
            if max(prompt) >= vocab_size:
                raise LlemError(
                    f"{self.name}:{line}: token id {max(prompt)} is not in the model's vocabulary"
                    f" of {vocab_size}; is the file made for another model?"
                )


def load(experiment: Experiment) -> Loaded:
    """The prompts of an experiment whose source is a file: those that count, then the warm-up's.

    Raises:
        LlemError: when the file can't be used, or its text can't be made ids.
    """
    wanted = experiment.prompts
    path = Path(wanted.source)
    more = 0 if experiment.warmup == "none" else experiment.warmup.prompts
    try:
        stat = path.stat()
    except (OSError, ValueError) as error:
        raise LlemError(f"{path}: can't be read: {error}") from error
    loaded = _load(
        path, wanted.count + more, stat.st_mtime_ns, stat.st_size, _tokenizer_of(experiment)
    )
    if len(loaded.prompts) < wanted.count:
        raise LlemError(
            f"{path}: {wanted.count} prompts are asked for, and it has {len(loaded.prompts)}"
        )
    return loaded


def about(experiment: Experiment, lengths: Sequence[int]) -> dict[str, Any]:
    """What a report says of the prompts that count.

    Args:
        experiment: they belong to.
        lengths: of each, in tokens; one at least.
    """
    found: dict[str, Any] = {"source": SYNTHETIC, "tokenizer": None, "sha256": None}
    if experiment.prompts.source != SYNTHETIC:
        loaded = load(experiment)
        found = {"source": loaded.name, "tokenizer": loaded.tokenizer, "sha256": loaded.sha256}
        found["equal_prompts"] = _equal(experiment, loaded)
        found["left_out"] = loaded.left_out
    return found | {
        "input_tokens": {
            "min": min(lengths),
            "median": statistics.median(lengths),
            "max": max(lengths),
        }
    }


def warnings(experiment: Experiment) -> tuple[str, ...]:
    """What to know about the prompts of a file."""
    if experiment.prompts.source == SYNTHETIC:
        return ()
    loaded = load(experiment)
    found = []
    if equal := _equal(experiment, loaded):
        found.append(
            f"{equal} of {experiment.prompts.count} prompts of {loaded.name} are equal to one"
            " before them; an engine that knows a prompt computes less; remove them"
        )
    if loaded.lengths:
        found.append(
            f"{loaded.name} says output_tokens on {loaded.lengths} lines, which is not looked at:"
            f" each request gets the study's output_tokens, {experiment.output_tokens}"
        )
    return tuple(found)


def _equal(experiment: Experiment, loaded: Loaded) -> int:
    prompts = loaded.prompts[: experiment.prompts.count]
    return len(prompts) - len(set(prompts))


@functools.lru_cache(maxsize=2)
def _load(
    path: Path, most: int, _changed_ns: int, _size: int, tokenizer: _Tokenizer | None
) -> Loaded:
    """Read and tokenized once: a measurement asks several times, a kept worker again."""
    contents = read(path, most)
    if contents.problems:
        raise LlemError("\n".join(contents.problems))
    texts = [entry.prompt for entry in contents.entries if isinstance(entry.prompt, str)]
    used, tokenize = _maker(tokenizer) if texts else (None, _bytes)
    ids = iter(tokenize(texts) if texts else ())
    prompts = [
        tuple(next(ids) if isinstance(entry.prompt, str) else entry.prompt)
        for entry in contents.entries
    ]
    lines = tuple(entry.line for entry in contents.entries)
    for line, prompt in zip(lines, prompts, strict=True):
        if not prompt:
            raise LlemError(f"{path}:{line}: the tokenizer makes no token of it")
    return _loaded(path, contents, tuple(prompts), lines, used)


def _loaded(
    path: Path,
    contents: Contents,
    prompts: tuple[tuple[int, ...], ...],
    lines: tuple[int, ...],
    used: str | None,
) -> Loaded:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            whole.update(chunk)
    return Loaded(
        name=path.name,
        prompts=prompts,
        lines=lines,
        sha256=whole.hexdigest(),
        tokenizer=used,
        left_out=contents.left_out,
        lengths=contents.lengths,
    )


# --- tokenizers ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tokenizer:
    """Where a tokenizer comes from: a directory, or a model of the hub."""

    source: str
    revision: str | None
    trusted: bool


def _tokenizer_of(experiment: Experiment) -> _Tokenizer | None:
    """The one that an engine's options name, or the model's own; None where there is none."""
    options = experiment.options
    trusted = options.get("trust_remote_code") is True
    named = options.get("tokenizer")
    if isinstance(named, str) and named:
        revision = options.get("tokenizer_revision")
        return _Tokenizer(named, revision if isinstance(revision, str) else None, trusted)
    folder = Path(experiment.model)
    if folder.is_absolute():
        has_one = any((folder / name).is_file() for name in _FILES)
    else:
        # What another's backend calls a model need not be one of the hub.
        has_one = experiment.backend in WELL_KNOWN
    return _Tokenizer(experiment.model, experiment.revision, trusted) if has_one else None


def _maker(tokenizer: _Tokenizer | None) -> tuple[str, Tokenize]:
    """What makes ids of texts, and how a report calls it."""
    if tokenizer is None:
        return BYTES, _bytes
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise LlemError(
            f"{tokenizer.source}: its tokenizer needs transformers, which isn't installed where"
            " the worker runs; run: pip install transformers, or give prompt_token_ids in the file"
        ) from error
    source: dict[str, Any] = {"revision": tokenizer.revision} if tokenizer.revision else {}
    if tokenizer.trusted:
        source["trust_remote_code"] = True
    try:
        made = AutoTokenizer.from_pretrained(tokenizer.source, **source)
    except Exception as error:
        # A library's, of any kind: the file is wrong, the hub is silent, a package is missing.
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise LlemError(
            f"{tokenizer.source}: its tokenizer can't be loaded: {first};"
            " give prompt_token_ids in the file, or mend the model's tokenizer files"
        ) from error
    # Whole, whatever length the tokenizer warns of: an engine says itself what is too long.
    return type(made).__name__, lambda texts: list(made(texts, verbose=False)["input_ids"])


def _bytes(texts: list[str]) -> list[list[int]]:
    return [list(text.encode()) for text in texts]
