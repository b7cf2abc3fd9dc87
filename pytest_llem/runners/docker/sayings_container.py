"""What is said when a container can't be made, started or used; and what it means."""

from __future__ import annotations

from pytest_llem.runners.docker.saying import FREE_SPACE, IN, Saying, say

__all__ = ["CREATE_AND_START", "GPUS", "INSTALL_TOOLKIT", "RUN"]

_TOOLKIT_URL = (
    "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/install-guide.html"
)
INSTALL_TOOLKIT = f"Install NVIDIA Container Toolkit — {_TOOLKIT_URL}"
_CONFIGURE = (
    "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
    f"  # the toolkit itself: {_TOOLKIT_URL}"
)
_DRIVER = (
    "run nvidia-smi on the host of the Docker daemon; should it fail: sudo modprobe nvidia,"
    " restart the host, or install the driver"
)

GPUS: tuple[Saying, ...] = (
    say(
        IN,
        r"could not select device driver [\"']{2} with capabilities|"
        r"could not select device driver \"nvidia\"",
        "no toolkit",
        "Docker can't give GPUs to containers: it knows no NVIDIA Container Toolkit",
        _CONFIGURE,
    ),
    say(
        IN,
        r"nvidia-container-runtime(-hook)?\S*\"?: (executable file not found|no such file)"
        r"|nvidia-container-runtime(-hook)?: no such file",
        "toolkit removed",
        "the NVIDIA Container Toolkit is gone, though Docker is set up to use it",
        f"{INSTALL_TOOLKIT}; then: sudo systemctl restart docker",
    ),
    say(
        IN,
        r"unknown (or invalid )?runtime( name| specified)?:? \"?nvidia",
        "no runtime",
        "Docker can't give GPUs to containers: it knows no runtime of the name nvidia",
        _CONFIGURE,
    ),
    say(
        IN,
        r"could not select device driver \"?cdi",
        "no cdi",
        "this Docker doesn't hand out GPUs by CDI: it is older than 25, or CDI is off",
        _CONFIGURE,
    ),
    say(
        IN,
        r"unresolvable cdi devices (?P<devices>\S+)|cdi device injection failed",
        "no cdi device",
        "Docker's CDI specification has no such GPU: {devices}",
        "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml  # nvidia-smi -L lists GPUs",
    ),
    say(
        IN,
        r"requirement error: unsatisfied condition: (?P<need>[^\s,]+)",
        "driver too old",
        "{image} needs {need}, and the NVIDIA driver of this host doesn't support it",
        "update the driver, or name an image for an earlier CUDA; see"
        " https://docs.nvidia.com/deploy/cuda-compatibility/",
    ),
    say(
        IN,
        r"device error: (?P<device>[^\s:]+): unknown device",
        "no such gpu",
        "the host of the Docker daemon has no GPU {device}",
        "nvidia-smi -L  # on that host, lists them",
    ),
    say(
        IN,
        r"libnvidia-ml\.so\.1: cannot open|load library failed",
        "no driver",
        "the host of the Docker daemon has no NVIDIA driver",
        _DRIVER,
    ),
    say(
        IN,
        r"driver/library version mismatch",
        "driver mismatch",
        "the NVIDIA driver was updated while the old one is still loaded",
        "restart the host of the Docker daemon",
    ),
    say(
        IN,
        r"nvml error|driver not loaded|driver error: failed to process request",
        "driver not loaded",
        "the NVIDIA driver doesn't work on the host of the Docker daemon: {words}",
        _DRIVER,
    ),
    say(
        IN,
        r"nvidia-container-cli: |nvidia-container-runtime",
        "toolkit failed",
        "the NVIDIA Container Toolkit refused to give GPUs to a container: {words}",
        _DRIVER,
    ),
    say(
        IN,
        r"gathering device information while adding custom device \"(?P<device>[^\"]+)",
        "no device",
        "the host of the Docker daemon has no {device}",
        _DRIVER,
    ),
)

CREATE_AND_START: tuple[Saying, ...] = (
    say(
        IN,
        r"was found but does not match the specified platform|exec format error",
        "wrong platform",
        "{image} isn't made for the processor of the Docker daemon's host",
        "name an image that is made for {platform}",
    ),
    say(
        ("pull", "create"),
        r"invalid reference format|invalid repository name|could not parse the repository",
        "bad name",
        "{image} is no name of an image: {words}",
        "write it as docker pull would take it: [registry/]repository[:tag], in lower case",
    ),
    say(
        ("create",),
        r"no such image",
        "no image",
        "there is no image {image} here",
        "docker pull {image}",
    ),
    say(
        IN,
        r"bind source path does not exist: (?P<path>\S+)",
        "no bind source",
        "there is no {path} on the host of the Docker daemon",
        "make it there; volumes name paths of the daemon's host, not of this one",
    ),
    say(
        IN,
        r"already in use by container",
        "name in use",
        "a container of an earlier session still has this name",
        "docker rm --force --volumes the container that is named here: {words}",
    ),
    say(
        IN,
        r"network (?P<network>\S+) not found|could not find bridge (?P<bridge>\S+)"
        r"|failed to create endpoint|failed to set up container networking",
        "no network",
        "the container's network isn't there: {words}",
        "docker network ls lists them; docker: {{network: none}} needs none",
    ),
    say(
        IN,
        r"no space left on device",
        "disk full",
        "the disk of the Docker daemon is full",
        FREE_SPACE,
    ),
    say(
        IN,
        r"exec: \"(?P<command>[^\"]+)\": (executable file not found|stat \S+ no such file)"
        r"|exec: \"(?P<absolute>[^\"]+)\": no such file"
        # With an init of Docker's in front the container does start, and this is in its log.
        r"|\[fatal tini \(\d+\)\] exec (?P<by_init>\S+) failed: no such file",
        "no command",
        "{image} has no {command}",
        "name an image that has Python 3 and the engine in it",
    ),
    say(
        IN,
        r"exec: \"(?P<command>[^\"]+)\": permission denied",
        "not executable",
        "the container's user may not run {command} in {image}",
        "docker: {{user: root}} in the study, or an image that its own user can use",
    ),
    say(
        IN,
        r"unable to find user|no matching entries in passwd|unable to find group",
        "no user",
        "{image} has no such user: {words}",
        "docker: {{user: UID:GID}} with numbers needs no entry in the image",
    ),
    say(
        IN,
        r"marked read-only|read-only file system",
        "read-only",
        "the container's root directory is read-only: {words}",
        "docker: {{read_only: false}} in the study",
    ),
    say(
        IN,
        r"error setting rlimit|operation not permitted.*rlimit|rlimit.*operation not permitted",
        "no limits",
        "this Docker daemon may not raise the limits of processes: {words}",
        "docker: {{ulimits: {{}}}} in the study asks for none",
    ),
    say(
        IN,
        r"cannot allocate memory|minimum memory limit|not enough memory",
        "no memory",
        "the host of the Docker daemon has too little memory for the container: {words}",
        "free some there, or make the container's own limits smaller",
    ),
    say(
        ("create",),
        r"specified value for memory|invalid size|invalid volume specification|invalid mount"
        r"|is invalid, it needs to be an absolute path|invalid ipc mode|invalid network",
        "bad setting",
        "Docker doesn't take a setting of the container: {words}",
        "correct it below docker: in the study or in .lem-config.yaml",
    ),
)

RUN: tuple[Saying, ...] = (
    say(
        ("run",),
        r"driver/library version mismatch",
        "driver mismatch",
        "the NVIDIA driver was updated while the old one is still loaded",
        "restart the host of the Docker daemon",
    ),
    say(
        ("run",),
        r"failed to initialize nvml|nvml: unknown error",
        "gpu lost",
        "the container lost its GPU, as happens when systemd reloads: {words}",
        "make the container anew; for good: CDI, or native.cgroupdriver=cgroupfs in"
        " /etc/docker/daemon.json",
    ),
    say(
        ("run",),
        r"cuda out of memory|torch\.outofmemoryerror|cuda error: out of memory",
        "gpu memory",
        "the GPU's memory is full",
        "a smaller model, batch or context; nvidia-smi shows who else uses the GPU",
    ),
    say(
        ("run",),
        r"no such (container|exec)|removal of container \S+ is already in progress",
        "removed",
        "the container was removed while it was in use",
        "run again, and leave containers with the label org.llem.session to pytest",
    ),
    say(
        ("run",),
        r"is not running|is paused|is restarting",
        "ended",
        "the container isn't running any more",
        "the end of the worker's log tells more",
    ),
    say(
        ("run",),
        r"executable file not found|no such file or directory: unknown"
        r"|\[fatal tini \(\d+\)\] exec \S+ failed: no such file",
        "no command",
        "{image} lacks a command: {words}",
        "name an image that has Python 3 and the engine in it",
    ),
    say(
        ("run",),
        r"no space left on device",
        "disk full",
        "a disk, or a tmpfs of the container, is full",
        FREE_SPACE,
    ),
)
