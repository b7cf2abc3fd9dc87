"""The hub of models as containers need it: its cache on this host, and the user's token.

Without huggingface_hub, which need not be installed where only containers measure.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from pytest_llem.runners.models import CONFIG, fetched, holds_weights

__all__ = ["cache_folder", "fetch", "model_folder", "needed", "offline", "snapshot", "token"]

_INDEX = "model.safetensors.index.json"
_TRUE = frozenset({"1", "on", "yes", "true"})
_LEFT_OUT = re.compile(
    r"\..*|.*\.(safetensors|bin|gguf|h5|msgpack|onnx|ot|pth|tflite|png|jpg|gif|mp4)|.*/.*"
)
"""Weights are chosen apart from the rest; what is in folders are other forms of the model."""


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps models, by the variables that it honours; links resolved."""
    named = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    return _path(named or _home(environ) + "/hub", environ).resolve()


def _home(environ: Mapping[str, str]) -> str:
    general = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return environ.get("HF_HOME") or f"{general}/huggingface"


def _path(text: str, environ: Mapping[str, str]) -> Path:
    known = re.sub(r"\$\{?(\w+)\}?", lambda found: environ.get(found[1], found[0]), text)
    return Path(known).expanduser()


def offline(environ: Mapping[str, str]) -> bool:
    """Whether the user wants the hub not to be asked."""
    wishes = (environ.get("HF_HUB_OFFLINE", ""), environ.get("TRANSFORMERS_OFFLINE", ""))
    return any(wish.lower() in _TRUE for wish in wishes)


def token(environ: Mapping[str, str]) -> str | None:
    """The user's token: a variable's, else that of the last login; None where there is none."""
    text = environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN")
    if not text:
        named = environ.get("HF_TOKEN_PATH") or _home(environ) + "/token"
        try:
            text = _path(named, environ).read_text()
        except (OSError, UnicodeDecodeError):
            return None
    return text.replace("\r", "").replace("\n", "").strip() or None


def model_folder(model: str) -> str:
    """Name of a model's folder in the cache."""
    return f"models--{model.replace('/', '--')}"


def snapshot(cache: Path, model: str, revision: str | None, *, weights: bool) -> Path | None:
    """The directory of a model that is in the cache as a whole; None where it isn't.

    Args:
        cache: of :func:`cache_folder`.
        model: its id.
        revision: branch, tag or commit; None for ``main``.
        weights: whether they are needed; else a config is enough.
    """
    own = cache / model_folder(model)
    wanted = revision or "main"
    # Without a reference of that name it may be a commit itself.
    with contextlib.suppress(OSError, UnicodeDecodeError):
        wanted = (own / "refs" / wanted).read_text().strip()
    folder = own / "snapshots" / wanted
    if not (folder / CONFIG).is_file():
        return None
    return folder if not weights or _has_weights(folder) else None


def _has_weights(folder: Path) -> bool:
    """Whether all of them are there: a fetch that was interrupted leaves some."""
    names = {file.name for file in folder.iterdir() if file.is_file()}
    if _INDEX in names:
        try:
            parts = set(json.loads((folder / _INDEX).read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError, OSError):
            return False
        return parts <= names
    return holds_weights(names)


def fetch(
    model: str,
    revision: str | None,
    cache: Path,
    *,
    weights: bool,
    token: str | None,
    tell: Callable[[str], None],
) -> bool:
    """Fetch a model into the cache; False where huggingface_hub isn't installed here.

    Args:
        model: its id.
        revision: branch, tag or commit; None for the hub's default.
        cache: of :func:`cache_folder`.
        weights: whether they are needed.
        token: the user's; None asks as nobody in particular.
        tell: takes a line on how far it is.

    Raises:
        OSError: when the hub doesn't give it, or it can't be written; also what the client of the
            hub raises is one, whatever its HTTP library.
    """
    try:
        import huggingface_hub
    except ImportError:
        return False
    try:
        info = huggingface_hub.model_info(
            model, revision=revision, files_metadata=True, token=token or False
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        names = needed(sizes, weights=weights)
        total = sum(sizes[name] for name in names)
        done = 0
        for name in names:
            tell(f"fetching {model}: {_shown(done)} of {_shown(total)}, {name}")
            # One at a time: what is shown is true, and a break costs one file at most.
            huggingface_hub.hf_hub_download(
                model, name, revision=revision, cache_dir=cache, token=token or False
            )
            done += sizes[name]
    except OSError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise OSError(f"{type(error).__name__}: {first}") from error
    return True


def needed(names: Collection[str], *, weights: bool) -> list[str]:
    """The files of a model on the hub that engines read."""
    rest = sorted(name for name in names if not _LEFT_OUT.fullmatch(name))
    return rest + (sorted(fetched(sorted(names), ())) if weights else [])


def _shown(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
