"""A registry of images on 127.0.0.1: one image to pull, and each way in which a pull fails.

    with Registry(base_tar(cache)) as registry:
        client.api.pull(registry.repository(WHOLE), tag="1", stream=True, decode=True)

Daemons speak plain HTTP with registries of their own host. What a repository does is its name.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import platform
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = [
    "BROKEN",
    "FORBIDDEN",
    "OTHER_ARCHITECTURE",
    "RATE_LIMITED",
    "SLOW",
    "STALLED",
    "UNAUTHORIZED",
    "UNKNOWN",
    "WHOLE",
    "Registry",
]

WHOLE = "whole/image"
"""Is pulled, with the tags ``1`` and ``latest``; no other tag is there."""
SLOW = "slow/image"
"""As WHOLE, a piece at a time."""
STALLED = "stalled/image"
"""As WHOLE, of which the second half doesn't come while the registry is there."""
OTHER_ARCHITECTURE = "other-architecture/image"
"""Has an image for another kind of processor only."""
UNAUTHORIZED = "unauthorized/image"
FORBIDDEN = "forbidden/image"
UNKNOWN = "unknown/image"
RATE_LIMITED = "limited/image"
BROKEN = "broken/image"
"""The registry has an error of its own."""

_ERRORS: Mapping[str, tuple[int, str, str]] = {
    UNAUTHORIZED: (401, "UNAUTHORIZED", "authentication required"),
    FORBIDDEN: (403, "DENIED", "requested access to the resource is denied"),
    UNKNOWN: (404, "NAME_UNKNOWN", "repository name not known to registry"),
    RATE_LIMITED: (
        429,
        "TOOMANYREQUESTS",
        "You have reached your pull rate limit. You may increase the limit by authenticating.",
    ),
    BROKEN: (500, "UNKNOWN", "internal error"),
}
_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"  # a plain tar may come as one too
_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64")
_OTHER_ARCHITECTURE = "arm64" if _ARCHITECTURE == "amd64" else "amd64"
_CONFIG = "application/vnd.docker.container.image.v1+json"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Registry:
    """A registry; as a context manager it serves until the end.

    Args:
        layer: tar of the files of its image.
        env: of its image, beside PATH.
        labels: of its image.
        slow_s: how long a pull of SLOW takes.
    """

    def __init__(
        self,
        layer: Path,
        *,
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        slow_s: float = 2.0,
    ) -> None:
        self.layer = layer
        self.slow_s = slow_s
        self.layer_digest = _digest(layer.read_bytes())
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        variables = {"PATH": path, **(env or {})}
        self.config = json.dumps(
            {
                "architecture": _ARCHITECTURE,
                "os": "linux",
                "config": {
                    "Env": [f"{key}={value}" for key, value in variables.items()],
                    "Labels": dict(labels or {}),
                    "Cmd": ["python3"],
                },
                "rootfs": {"type": "layers", "diff_ids": [self.layer_digest]},
                "history": [{"created_by": "the rig"}],
            }
        ).encode()
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _IMAGE,
                "config": {
                    "mediaType": _CONFIG,
                    "size": len(self.config),
                    "digest": _digest(self.config),
                },
                "layers": [
                    {
                        "mediaType": _LAYER,
                        "size": layer.stat().st_size,
                        "digest": self.layer_digest,
                    }
                ],
            }
        ).encode()
        self.digest = _digest(self.manifest)
        """Of the image, as ``RepoDigests`` have it."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.registry = self
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.closed = threading.Event()

    def __enter__(self) -> Registry:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def requests(self) -> list[str]:
        """The paths that were asked for, in order."""
        return self._server.requests

    def repository(self, name: str) -> str:
        """A repository with the registry's address before it, without a tag."""
        return f"127.0.0.1:{self._server.server_address[1]}/{name}"

    def of_other_architecture(self) -> bytes:
        """A list of one image, which is not for this host."""
        one = {
            "mediaType": _IMAGE,
            "size": len(self.manifest),
            "digest": self.digest,
            "platform": {"architecture": _OTHER_ARCHITECTURE, "os": "linux"},
        }
        return json.dumps({"schemaVersion": 2, "mediaType": _LIST, "manifests": [one]}).encode()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    registry: Registry

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.requests: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of daemons that hung up: one that is full, or was killed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing on stderr."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        parts = self.path.strip("/").split("/")
        if parts == ["v2"]:
            return self._answer(b"{}", "application/json")
        name, kind, reference = "/".join(parts[1:-2]), parts[-2], parts[-1]
        if name in _ERRORS:
            return self._error(*_ERRORS[name])
        if kind == "blobs":
            return self._blob(name, reference)
        return self._manifest(name, reference)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _manifest(self, name: str, reference: str) -> None:
        registry = self.server.registry
        others = registry.of_other_architecture()
        if name == OTHER_ARCHITECTURE and reference in ("1", "latest", _digest(others)):
            return self._answer(others, _LIST)
        if reference in ("1", "latest", registry.digest):
            return self._answer(registry.manifest, _IMAGE)
        return self._error(404, "MANIFEST_UNKNOWN", "manifest unknown")

    def _blob(self, name: str, reference: str) -> None:
        registry = self.server.registry
        if reference == _digest(registry.config):
            return self._answer(registry.config, "application/octet-stream")
        if reference != registry.layer_digest:
            return self._error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        size = registry.layer.stat().st_size
        self._head(200, "application/octet-stream", size)
        with registry.layer.open("rb") as file:
            if name == STALLED:
                self.wfile.write(file.read(size // 2))
                registry.closed.wait()
                return None
            if name != SLOW:
                return shutil.copyfileobj(file, self.wfile)
            pieces = 20
            while piece := file.read(size // pieces + 1):
                self.wfile.write(piece)
                time.sleep(registry.slow_s / pieces)
        return None

    def _error(self, status: int, code: str, message: str) -> None:
        errors = [{"code": code, "message": message, "detail": {}}]
        self._answer(json.dumps({"errors": errors}).encode(), "application/json", status)

    def _answer(self, content: bytes, kind: str, status: int = 200) -> None:
        self._head(status, kind, len(content), _digest(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: int, kind: str, size: int, digest: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if digest is not None:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
