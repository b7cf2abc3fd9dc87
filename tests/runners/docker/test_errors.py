"""The daemon's words to causes: every saying, phases, what is hidden and what is unknown."""

from __future__ import annotations

import docker.errors
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.errors import ContainerError
from pytest_llem.runners.docker.errors import SAYINGS, said, translate, translated
from pytest_llem.runners.docker.saying import Phase

SHIM = (
    "failed to create shim task: OCI runtime create failed: runc create failed: unable to start"
    " container process: "
)
HOOK = (
    f"{SHIM}error during container init: error running hook #0: error running hook: exit status 1,"
    " stdout: , stderr: Auto-detected mode as 'legacy'\nnvidia-container-cli: "
)
ABORTED = "Error while fetching server API version: ('Connection aborted.', "
X = "x/y:1"

ROWS: list[tuple[Phase, str, str]] = [
    ("connect", f"{ABORTED}FileNotFoundError(2, 'No such file or directory'))", "not running"),
    ("connect", f"{ABORTED}ConnectionRefusedError(111, 'Connection refused'))", "refused"),
    ("connect", "Failed to establish a new connection: [Errno 111] Connection refused", "refused"),
    ("connect", f"{ABORTED}PermissionError(13, 'Permission denied'))", "no permission"),
    ("connect", "UnixHTTPConnectionPool: Read timed out. (read timeout=10)", "no answer"),
    ("connect", "Install paramiko package to enable ssh:// support", "no ssh"),
    (
        "connect",
        "client version 1.45 is too new. Maximum supported API version is 1.41",
        "wrong version",
    ),
    ("connect", "Failed to resolve 'far' ([Errno -2] Name or service not known)", "unknown host"),
    ("connect", "[Errno 113] No route to host", "unreachable"),
    ("connect", "Connection to 10.0.0.1 timed out. (connect timeout=10)", "unreachable"),
    ("connect", "SSLCertVerificationError: certificate verify failed", "no trust"),
    ("connect", "Invalid bind address protocol: foo://x", "bad address"),
    ("start", 'could not select device driver "" with capabilities: [[gpu]]', "no toolkit"),
    (
        "start",
        f'{SHIM}exec: "nvidia-container-runtime-hook": executable file not found in $PATH',
        "toolkit removed",
    ),
    (
        "start",
        (
            "error running hook #0: fork/exec /usr/bin/nvidia-container-runtime-hook: no such"
            " file or directory"
        ),
        "toolkit removed",
    ),
    ("create", "Unknown runtime specified nvidia", "no runtime"),
    ("create", "unknown or invalid runtime name: nvidia", "no runtime"),
    ("start", 'could not select device driver "cdi" with capabilities: []', "no cdi"),
    (
        "start",
        "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7",
        "no cdi device",
    ),
    (
        "start",
        (
            f"{HOOK}requirement error: unsatisfied condition: cuda>=12.9, please update your"
            " driver to a newer version, or use an earlier cuda container: unknown"
        ),
        "driver too old",
    ),
    ("start", f"{HOOK}device error: 3: unknown device: unknown", "no such gpu"),
    (
        "start",
        f"{HOOK}initialization error: nvml error: driver not loaded: unknown",
        "driver not loaded",
    ),
    (
        "start",
        f"{HOOK}initialization error: driver error: failed to process request: unknown",
        "driver not loaded",
    ),
    (
        "start",
        (
            f"{HOOK}initialization error: load library failed: libnvidia-ml.so.1: cannot open"
            " shared object file: no such file or directory: unknown"
        ),
        "no driver",
    ),
    (
        "start",
        f"{HOOK}initialization error: nvml error: driver/library version mismatch: unknown",
        "driver mismatch",
    ),
    ("start", f"{HOOK}mount error: something new", "toolkit failed"),
    ("run", "Failed to initialize NVML: Unknown Error", "gpu lost"),
    ("run", "Failed to initialize NVML: Driver/library version mismatch", "driver mismatch"),
    ("run", "CUDA out of memory. Tried to allocate 2.00 GiB", "gpu memory"),
    ("pull", f"manifest for {X} not found: manifest unknown: manifest unknown", "no tag"),
    (
        "pull",
        (
            f"pull access denied for {X}, repository does not exist or may require 'docker login':"
            " denied: requested access to the resource is denied"
        ),
        "no access",
    ),
    ("pull", f"repository {X} not found: name unknown: repository name not known", "no repository"),
    ("pull", "unauthorized: authentication required", "not logged in"),
    ("pull", "no basic auth credentials", "not logged in"),
    ("pull", "toomanyrequests: You have reached your pull rate limit.", "rate limit"),
    (
        "pull",
        (
            'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on'
            " 127.0.0.53:53: no such host"
        ),
        "no registry",
    ),
    ("pull", 'Get "http://127.0.0.1:9/v2/": dial tcp: connect: connection refused', "no registry"),
    (
        "pull",
        (
            "failed to register layer: Error processing tar file(exit status 1): write /usr/x: no"
            " space left on device"
        ),
        "disk full",
    ),
    (
        "pull",
        "Credentials store error: StoreError('Credentials store docker-credential-x exited with'",
        "no credentials",
    ),
    ("pull", "no matching manifest for linux/amd64 in the manifest list", "wrong platform"),
    (
        "pull",
        "x509: certificate signed by unknown authority",
        "registry not trusted",
    ),
    ("pull", "received unexpected HTTP status: 500 Internal Server Error", "registry failed"),
    ("pull", "invalid reference format: repository name must be lowercase", "bad name"),
    ("create", f"No such image: {X}", "no image"),
    (
        "create",
        (
            "image with reference x was found but does not match the specified platform: wanted"
            " linux/arm64, actual: linux/amd64"
        ),
        "wrong platform",
    ),
    ("start", f'{SHIM}exec: "python3": executable file not found in $PATH: unknown', "no command"),
    (
        "start",
        f'{SHIM}exec: "/x/python": stat /x/python: no such file or directory: unknown',
        "no command",
    ),
    ("start", "[FATAL tini (7)] exec python3 failed: No such file or directory", "no command"),
    ("run", "[FATAL tini (7)] exec python3 failed: No such file or directory", "no command"),
    ("start", f'{SHIM}exec: "/etc/passwd": permission denied: unknown', "not executable"),
    (
        "create",
        'invalid mount config for type "bind": bind source path does not exist: /data/m',
        "no bind source",
    ),
    (
        "start",
        (
            'error gathering device information while adding custom device "/dev/nvidia0": no such'
            " file or directory"
        ),
        "no device",
    ),
    (
        "create",
        'Conflict. The container name "/n" is already in use by container "a"',
        "name in use",
    ),
    ("run", "Container 0f1e is not running", "ended"),
    ("run", "No such container: 0f1e", "removed"),
    ("start", "network nonet not found", "no network"),
    ("start", "could not find bridge docker0: route ip+net: no such network", "no network"),
    ("start", "unable to find user nobody: no matching entries in passwd file", "no user"),
    ("create", "container rootfs is marked read-only", "read-only"),
    ("start", "error setting rlimits for ready process: error setting rlimit", "no limits"),
    ("create", "The specified value for memory (8x) should specify the units.", "bad setting"),
    (
        "run",
        "('Connection broken: IncompleteRead(0 bytes read)'): Response ended prematurely",
        "daemon lost",
    ),
    (
        "run",
        "('Connection aborted.', ConnectionResetError(104, 'Connection reset by'",
        "daemon lost",
    ),
    ("start", "UnixHTTPConnectionPool: Read timed out. (read timeout=10)", "no answer"),
    (
        "pull",
        "UnixHTTPConnectionPool(host='localhost', port=None): Read timed out.",
        "pull stalled",
    ),
]


@pytest.mark.parametrize(("phase", "words", "cause"), ROWS)
def test_words_have_a_cause_and_a_fix(phase: Phase, words: str, cause: str) -> None:
    error = translate(RuntimeError(words), phase, url="unix:///d.sock", image=X, root="/var/d")
    assert (error.cause, error.phase, error.kind) == (cause, phase, "container")
    assert error.fix
    assert "{" not in error.message.replace(words, "")


def test_every_saying_has_been_said() -> None:
    causes = {cause for _, _, cause in ROWS}
    assert {saying.cause for saying in SAYINGS} - causes == {"no memory"}


def test_a_cause_is_said_in_few_words_that_do_not_change() -> None:
    assert all(len(saying.cause.split()) <= 3 for saying in SAYINGS)
    assert all(saying.cause == saying.cause.lower() for saying in SAYINGS)


@pytest.mark.parametrize(
    ("words", "causes"),
    [
        # Of a start it is a command that the image lacks, of a pull it is nothing known.
        (
            'exec: "x": executable file not found in $PATH',
            {"start": "no command", "pull": "unknown"},
        ),
        ("permission denied", {"connect": "no permission", "pull": "unknown"}),
        ("no such image: x", {"create": "no image", "connect": "unknown"}),
        ("no space left on device", {"pull": "disk full", "start": "disk full"}),
        ("connection refused", {"connect": "refused", "pull": "no registry", "run": "daemon lost"}),
    ],
)
def test_the_phase_decides_before_the_words_do(words: str, causes: dict[Phase, str]) -> None:
    assert {phase: translate(OSError(words), phase).cause for phase in causes} == causes


def test_nothing_of_a_pull_is_ever_called_a_gpu_problem() -> None:
    gpu = {saying.cause for saying in SAYINGS if "nvidia" in saying.message.lower()}
    found = {translate(RuntimeError(words), "pull").cause for _, words, _ in ROWS}
    assert gpu
    assert not gpu & found


def test_an_unknown_error_keeps_the_words_and_says_where_to_look() -> None:
    error = translate(RuntimeError(f"{SHIM}the moon is in the way"), "start", image=X)
    assert error.cause == "unknown"
    assert error.message == f"Docker refused to start a container of {X}: the moon is in the way"
    assert "journalctl -u docker" in error.fix


def test_an_error_without_words_is_named() -> None:
    assert "TimeoutError" in translate(TimeoutError(), "run").message


def test_what_is_named_in_the_words_is_named_in_the_message() -> None:
    image = "r.example:5000/team/Image:1"
    wanted = translate(
        RuntimeError(f"{HOOK}requirement error: unsatisfied condition: cuda>=12.9, please"),
        "start",
        image=image,
    )
    assert wanted.message.startswith(f"{image} needs cuda>=12.9, ")
    login = translate(RuntimeError("unauthorized"), "pull", image=image)
    assert login.fix == "docker login r.example:5000"
    bind = translate(RuntimeError("bind source path does not exist: /Data/Model"), "create")
    assert bind.message.startswith("there is no /Data/Model on ")
    command = translate(RuntimeError('exec: "/Bin/Py": no such file or directory'), "start")
    assert command.message == "the image has no /Bin/Py"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("Get https://user:pass@r.example/v2/: eof", "Get https://***@r.example/v2/: eof"),
        ("token=abc123 was refused", "token=*** was refused"),
        ('{"password": "abc"}', '{"password": "***"}'),
        ("HF_TOKEN=abc,X=1", "HF_TOKEN=***,X=1"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
        ("it was hf_abcdefghijkl.", "it was ***."),
    ],
)
def test_secrets_are_hidden(words: str, shown: str) -> None:
    assert said(words) == shown


@given(st.text(alphabet="abcdefgh0123456789", min_size=8, max_size=30))
def test_no_hub_token_is_ever_shown(secret: str) -> None:
    token = f"hf_{secret}"
    for phase in ("connect", "pull", "create", "start", "run"):
        error = translate(RuntimeError(f"strange: {token}"), phase, image=token, url=token)
        assert token not in error.message + error.fix


@given(st.text(max_size=2000))
def test_any_words_are_translated_into_one_short_line(words: str) -> None:
    error = translate(RuntimeError(words), "start", image=words)
    assert len(error.message) < 1000
    assert len(error.message.splitlines()) == 1


def test_errors_of_docker_and_of_the_connection_are_translated() -> None:
    for raised in (
        docker.errors.DockerException("no such image: x"),
        docker.errors.APIError("400", explanation="no such image: x"),
        requests.ReadTimeout("Read timed out."),
        ConnectionResetError(104, "Connection reset by peer"),
    ):
        with pytest.raises(ContainerError) as caught, translated("create", image="x"):
            raise raised
        assert caught.value.__cause__ is raised
        assert caught.value.cause in {"no image", "no answer", "daemon lost"}


def test_other_errors_are_not_docker_s() -> None:
    with pytest.raises(KeyError), translated("create"):
        raise KeyError("x")
