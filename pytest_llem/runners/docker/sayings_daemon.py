"""What is said when a daemon can't be reached, or can't fetch an image; and what it means."""

from __future__ import annotations

from pytest_llem.runners.docker.saying import AFTER, EVER, FREE_SPACE, Saying, say

__all__ = ["CONNECT", "DAEMON", "PULL"]

_NETWORK = (
    "the Docker daemon's own network and proxy must reach the registry; without one:"
    " docker save {image} elsewhere, and docker load here"
)

CONNECT: tuple[Saying, ...] = (
    say(
        ("connect",),
        r"filenotfounderror|no such file or directory",
        "not running",
        "Docker isn't running at {url}: there is no such socket",
        "sudo systemctl start docker  # or check DOCKER_HOST, and docker context ls",
    ),
    say(
        ("connect",),
        r"permissionerror|permission denied",
        "no permission",
        "this user may not use Docker at {url}",
        'sudo usermod -aG docker "$USER"  # then log in again; or use rootless Docker',
    ),
    say(
        ("connect",),
        r"connectionrefusederror|connection refused|actively refused",
        "refused",
        "nothing answers at {url}: Docker is stopped there, or it is the wrong address",
        "sudo systemctl restart docker on that host  # or check DOCKER_HOST, docker context ls",
    ),
    say(
        ("connect",),
        r"failed to resolve|name or service not known|temporary failure in name resolution",
        "unknown host",
        "the host of {url} isn't known",
        "check DOCKER_HOST and docker context ls",
    ),
    say(
        ("connect",),
        r"no route to host|network is unreachable|connection to \S+ timed out|connect timeout",
        "unreachable",
        "the host of {url} can't be reached",
        "check DOCKER_HOST, docker context ls, and the network on the way",
    ),
    say(
        ("connect",),
        r"install paramiko",
        "no ssh",
        "Python's client for Docker needs another package for {url}",
        'pip install "docker[ssh]"',
    ),
    say(
        ("connect",),
        r"client version (?P<client>\S+) is too (?P<how>new|old)",
        "wrong version",
        "Docker at {url} doesn't speak version {client} of its interface: it is too {how}",
        "unset DOCKER_API_VERSION, so that the daemon's own version is used; else update Docker",
    ),
    say(
        ("connect",),
        r"certificate|ssl|tls",
        "no trust",
        "the connection to {url} isn't trusted by one of its ends: {words}",
        "check DOCKER_TLS_VERIFY and the certificates in DOCKER_CERT_PATH",
    ),
    say(
        ("connect",),
        r"invalid bind address|port is required|unsupported url",
        "bad address",
        "{url} is no address of a Docker daemon: {words}",
        "check DOCKER_HOST; for example unix:///var/run/docker.sock",
    ),
)

PULL: tuple[Saying, ...] = (
    say(
        ("pull",),
        r"read timed out",
        "pull stalled",
        "for {silence} the Docker daemon told nothing of {image}, which it was fetching",
        "docker pull {image}  # shows how far it comes; what is there already isn't fetched twice",
    ),
    say(
        ("pull",),
        r"no space left on device",
        "disk full",
        "the disk of the Docker daemon is full: {image} can't be fetched",
        FREE_SPACE,
    ),
    say(
        ("pull",),
        r"credentials store error|docker-credential-\S+ not installed",
        "no credentials",
        "the helper that holds your docker login doesn't work: {words}",
        "install the helper that ~/.docker/config.json names, or log in again: docker login",
    ),
    say(
        ("pull",),
        r"toomanyrequests|too many requests|rate limit",
        "rate limit",
        "the registry gives no more to this address for now: {image} can't be fetched",
        "docker login, wait some hours, or use a mirror",
    ),
    say(
        ("pull",),
        r"unauthorized|authentication required|no basic auth credentials",
        "not logged in",
        "the registry gives {image} only to users who are logged in",
        "docker login {registry}",
    ),
    say(
        ("pull",),
        r"does not match the specified platform|no matching manifest for|no match for platform",
        "wrong platform",
        "there is no {image} for the processor of the Docker daemon's host",
        "name an image that is made for {platform}",
    ),
    say(
        ("pull",),
        r"pull access denied|denied: requested access|access to the resource is denied|forbidden",
        "no access",
        "there is no {image}, or this user may not have it",
        "check the name; should it be private: docker login {registry}",
    ),
    say(
        ("pull",),
        r"manifest unknown|manifest for .* not found|no such manifest",
        "no tag",
        "there is no {image} in its registry: the repository has no such tag",
        "name one of the tags that the registry's page lists",
    ),
    say(
        ("pull",),
        r"name unknown|repository .* not found|repository name not known",
        "no repository",
        "there is no repository {image} in its registry",
        "check the name",
    ),
    say(
        ("pull",),
        r"x509|certificate|server gave http response to https client|tls handshake",
        "registry not trusted",
        "the Docker daemon doesn't trust the registry of {image}: {words}",
        "give the daemon its certificate in /etc/docker/certs.d/{registry}/ca.crt",
    ),
    say(
        ("pull",),
        r"no such host|connection refused|i/o timeout|dial tcp|network is unreachable"
        r"|request canceled|context deadline exceeded|proxyconnect",
        "no registry",
        "the Docker daemon can't reach the registry of {image}: {words}",
        _NETWORK,
    ),
    say(
        ("pull",),
        r"unexpected eof|connection reset|500 internal server error|502 bad gateway"
        r"|503 service unavailable|received unexpected http status",
        "registry failed",
        "the registry failed while {image} was fetched: {words}",
        "try again; what was fetched already isn't fetched twice",
    ),
)

DAEMON: tuple[Saying, ...] = (
    say(
        EVER,
        r"read timed out|timed out",
        "no answer",
        "Docker at {url} didn't answer in time",
        "sudo systemctl restart docker  # journalctl -u docker tells why it hangs",
    ),
    say(
        AFTER,
        r"connection aborted|connection reset|connection refused|remote end closed"
        r"|response ended prematurely|incompleteread|broken pipe|no such file or directory'\)"
        r"|eof occurred|failed to establish a new connection",
        "daemon lost",
        "the connection to Docker at {url} broke: its daemon ended, or the network did",
        "see that docker info works, then run again; journalctl -u docker tells why it ended",
    ),
    say(
        AFTER,
        r"permission denied while trying to connect",
        "no permission",
        "this user may not use Docker at {url}",
        'sudo usermod -aG docker "$USER"  # then log in again; or use rootless Docker',
    ),
)
