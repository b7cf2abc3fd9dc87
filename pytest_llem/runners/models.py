"""Whether the models of a session can be loaded: asked before anything is measured.

A model is a directory, or an id of the hub where the backend is one of ours: what a third party's
backend means by ``model`` is its own affair.
"""

from __future__ import annotations

import functools
import re
import shutil
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from pytest_llem.experiment import Experiment
from pytest_llem.extensions import WELL_KNOWN

__all__ = [
    "CONFIG",
    "Answer",
    "Finding",
    "Hub",
    "Problem",
    "Use",
    "asks_hub",
    "check",
    "fetched",
    "find_hub",
    "holds_weights",
    "in_directory",
    "listed",
    "not_here",
    "refused",
]

_OWN_WAYS = frozenset({"cache_dir", "download_dir", "token", "hf_token"})
"""Options with which an engine looks elsewhere, or as somebody else, than this check would."""

CONFIG = "config.json"
"""Without it no engine knows what to build."""

_WEIGHTS = (".safetensors", ".bin")
_FETCHED = (
    r"model(-\d+-of-\d+)?\.safetensors",
    r"[^/]+\.safetensors",
    r"pytorch_model(-\d+-of-\d+)?\.bin",
    r"[^/]+\.bin",
)
"""Many models are on the hub in several forms; an engine fetches the first it finds."""

_TIMEOUT_S = 10.0
_NAMED_IDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """An experiment that is going to be measured. ``where`` is ``file:line`` of the study."""

    experiment: Experiment
    where: str


class Finding(NamedTuple):
    """What is wrong with a model, and what to do."""

    text: str
    fix: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding with the experiments that it stops."""

    finding: Finding
    uses: tuple[Use, ...]

    @property
    def places(self) -> str:
        """``file:line`` and ids: ``s.study.yaml:12 a, b; s.study.yaml:30 c``."""
        ids: dict[str, list[str]] = {}
        for use in self.uses:
            ids.setdefault(use.where, []).append(use.experiment.id)
        return "; ".join(f"{where} {_shortened(names)}" for where, names in ids.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the hub says of a model.

    Attributes:
        status: ``silent`` where it said nothing that can be understood.
        detail: why it is silent.
        files: name to size in bytes of a model that was found.
    """

    status: Literal["found", "not found", "no revision", "no id", "gated", "silent"]
    detail: str = ""
    files: Mapping[str, int] = field(default_factory=dict)


class Hub(Protocol):
    """A hub of models, and its cache on this host.

    Attributes:
        offline: the user wants it not to be asked.
        cache: where models are kept.
    """

    offline: bool
    cache: Path

    def cached(self, model: str, revision: str | None) -> Collection[str]:
        """Names of a model's files that are here; none where its config isn't."""

    def ask(self, model: str, revision: str | None) -> Answer:
        """Ask for a model, over the network."""

    def free_bytes(self) -> int:
        """Space that is left for the cache."""


def find_hub() -> Hub | None:
    """The hub as huggingface_hub knows it; None where that isn't installed."""
    try:
        return _HuggingFace()
    except ImportError:
        return None


def check(uses: Iterable[Use], hub: Callable[[], Hub | None] = find_hub) -> list[Problem]:
    """Every problem of the models, each once.

    Args:
        uses: the experiments that are going to be measured.
        hub: makes the hub; called only when an experiment needs it.
    """
    found: dict[Finding, list[Use]] = {}
    on_hub: dict[tuple[str, str | None], list[Use]] = {}
    directory = functools.cache(in_directory)
    for use in uses:
        experiment = use.experiment
        if Path(experiment.model).is_absolute():
            if finding := directory(experiment.model, experiment.weights):
                found.setdefault(finding, []).append(use)
        elif asks_hub(experiment):
            on_hub.setdefault((experiment.model, experiment.revision), []).append(use)
    if on_hub and (known := hub()):
        found |= _check_hub(known, on_hub)
    return [Problem(finding, tuple(users)) for finding, users in found.items()]


def asks_hub(experiment: Experiment) -> bool:
    """Whether the model of an experiment that names no directory is one of the hub."""
    return experiment.backend in WELL_KNOWN and _OWN_WAYS.isdisjoint(experiment.options)


def listed(problems: Sequence[Problem]) -> str:
    """All problems as one text, with their fixes."""
    lines = [f"Models can't be used: {len(problems)} problem(s) found"]
    for number, problem in enumerate(problems, 1):
        lines.append(f"  {number}. {problem.finding.text}  ({problem.places})")
        lines.append(f"     Fix: {problem.finding.fix}")
    return "\n".join(lines)


def _shortened(ids: Sequence[str]) -> str:
    """A sweep may have thousands of experiments; the first ones show which are meant."""
    more = len(ids) - _NAMED_IDS
    return ", ".join(ids[:_NAMED_IDS]) + (f" and {more} more" if more > 0 else "")


# --- directories ---------------------------------------------------------------------------


def in_directory(model: str, weights: str) -> Finding | None:
    """What is wrong with a directory of a model; None where it can be loaded."""
    try:
        names = {file.name for file in Path(model).iterdir() if file.is_file()}
    except FileNotFoundError:
        fix = "check the path; in a study it is relative to the study's file"
        return Finding(f"{model}: there is no such directory", fix)
    except OSError as error:
        return Finding(
            f"{model}: can't be read: {error.strerror}", "point model at a directory you may read"
        )
    if CONFIG not in names:
        return Finding(f"{model}: no {CONFIG}", f"point model at a directory that holds a {CONFIG}")
    if weights == "pretrained" and not holds_weights(names):
        return Finding(
            f"{model}: no weights (*.safetensors, *.bin)",
            "put the weights there, or measure with weights: random",
        )
    return None


def holds_weights(names: Iterable[str]) -> bool:
    """Whether any of a model's files is one of weights."""
    return any(name.endswith(_WEIGHTS) for name in names)


# --- the hub -------------------------------------------------------------------------------


def _check_hub(
    hub: Hub, models: Mapping[tuple[str, str | None], list[Use]]
) -> dict[Finding, list[Use]]:
    found: dict[Finding, list[Use]] = {}
    wanted: dict[str, int] = {}
    waiting: list[Use] = []
    for (model, revision), users in models.items():
        here = hub.cached(model, revision)
        pretrained = [use for use in users if use.experiment.weights == "pretrained"]
        # A config alone is enough for random weights.
        left = users if CONFIG not in here else [] if holds_weights(here) else pretrained
        if not left:
            continue
        name = f"{model}@{revision}" if revision else model
        if hub.offline:
            found[not_here(name, model, revision, whole=CONFIG not in here)] = left
            continue
        answer = hub.ask(model, revision)
        if answer.status != "found":
            found[refused(name, answer)] = left
        elif pretrained:
            wanted[name] = sum(answer.files[file] for file in fetched(answer.files, here))
            waiting += pretrained
    if finding := _disk(hub, wanted):
        found[finding] = waiting
    return found


def fetched(files: Iterable[str], here: Collection[str]) -> list[str]:
    """The files of weights that an engine fetches, without those that are here already."""
    for pattern in _FETCHED:
        if matching := [file for file in files if re.fullmatch(pattern, file)]:
            return [file for file in matching if file not in here]
    return []


def not_here(name: str, model: str, revision: str | None, *, whole: bool) -> Finding:
    """What is wrong with a model that isn't in the cache and may not be fetched."""
    what = "not in the cache" if whole else "its weights are not in the cache"
    command = f"hf download {model}" + (f" --revision {revision}" if revision else "")
    return Finding(
        f"{name}: {what}, and HF_HUB_OFFLINE forbids to fetch it",
        f"unset HF_HUB_OFFLINE, or fetch it before: {command}",
    )


def refused(name: str, answer: Answer) -> Finding:
    """What is wrong with a model that the hub doesn't give."""
    texts = {
        "not found": Finding(
            "not found on the hub",
            "check the id, or the path of a directory, which is relative to the study's file;"
            " for a private model run: hf auth login",
        ),
        "no revision": Finding(
            "the hub has no such revision", "name a branch, a tag or a commit of the model"
        ),
        "no id": Finding(
            "neither a directory nor an id of the hub",
            "write organisation/name, or the path of a directory relative to the study's file",
        ),
        "gated": Finding(
            "gated: the hub gives it only to those who accepted its licence",
            "accept the licence on the model's page, then run: hf auth login",
        ),
    }
    silent = Finding(
        f"the hub can't be asked ({answer.detail})",
        "check network, proxy and HF_ENDPOINT, or point model at a directory",
    )
    text, fix = texts.get(answer.status, silent)
    return Finding(f"{name}: {text}", fix)


def _disk(hub: Hub, wanted: Mapping[str, int]) -> Finding | None:
    """All models together must fit: they are all going to be kept."""
    needed = sum(wanted.values())
    if not needed or needed <= (free := hub.free_bytes()):
        return None
    return Finding(
        f"{', '.join(wanted)}: weights of {_size(needed)} are to be fetched,"
        f" but {hub.cache} has {_size(free)} free",
        "free some space, or set HF_HOME to a directory on a larger disk",
    )


def _size(count: int) -> str:
    """Decimal, as disks are sold and the hub shows its files."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


class _HuggingFace:
    """The hub through its own client."""

    def __init__(self) -> None:
        # What another library warns of is no fault of the tests, whatever -W says.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import huggingface_hub
            from huggingface_hub import constants, errors

        self._client = huggingface_hub
        self._errors = errors
        self.offline = constants.HF_HUB_OFFLINE
        self.cache = Path(constants.HF_HUB_CACHE)

    def cached(self, model: str, revision: str | None) -> Collection[str]:
        """Names of the files beside the cached config."""
        try:
            config = self._client.try_to_load_from_cache(model, CONFIG, revision=revision)
        except self._errors.HFValidationError:
            return ()
        if not isinstance(config, str):
            return ()
        return {file.name for file in Path(config).parent.iterdir() if file.is_file()}

    def ask(self, model: str, revision: str | None) -> Answer:
        """Ask with a short timeout; whatever goes wrong is an answer."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return Answer(status="found", files=self._files(model, revision))
        except self._errors.GatedRepoError:
            return Answer(status="gated")
        except self._errors.RepositoryNotFoundError:
            return Answer(status="not found")
        except self._errors.RevisionNotFoundError:
            return Answer(status="no revision")
        except self._errors.HFValidationError:
            return Answer(status="no id")
        except Exception as error:
            # The client's HTTP library, and with it the errors, differ between its versions.
            first = str(error).strip().partition("\n")[0]
            return Answer(status="silent", detail=f"{type(error).__name__}: {first}")

    def _files(self, model: str, revision: str | None) -> dict[str, int]:
        info = self._client.model_info(
            model, revision=revision, files_metadata=True, timeout=_TIMEOUT_S
        )
        files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        if info.gated and CONFIG in files:
            # Everybody sees what a gated model holds; only a file tells who may have it.
            url = self._client.hf_hub_url(model, CONFIG, revision=revision)
            self._client.get_hf_file_metadata(url, timeout=_TIMEOUT_S)
        return files

    def free_bytes(self) -> int:
        """Space on the cache's disk; the cache itself may not be there yet."""
        there = next(path for path in (self.cache, *self.cache.absolute().parents) if path.exists())
        return shutil.disk_usage(there).free
