"""What NVIDIA's toolkit does before a container starts, with the simulated driver.

    hook.py FOLDER < state.json

FOLDER is that of a :class:`tests.rig.docker.driver.Driver`. It fails in the words of
``nvidia-container-cli`` where a test wants that, or a container asks for what the machine hasn't.
It is a program of its own, and needs nothing but the standard library.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

_COMPARE: Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": lambda have, want: have >= want,
    "<=": lambda have, want: have <= want,
    ">": lambda have, want: have > want,
    "<": lambda have, want: have < want,
    "=": lambda have, want: have == want,
}
_MOUNT = """\
set -e
while [ $# -gt 0 ]; do
    mkdir -p "$(dirname "$2")"
    if [ -d "$1" ]; then mkdir -p "$2"; else : >>"$2"; fi
    mount --bind "$1" "$2"
    [ "$3" = rw ] || mount -o "remount,bind,$3" "$2"
    shift 3
done
"""


def fail(text: str) -> NoReturn:
    """End as the toolkit ends."""
    sys.exit(f"Auto-detected mode as 'legacy'\nnvidia-container-cli: {text}")


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def holds(condition: str, have: Mapping[str, str]) -> bool:
    """Whether one condition holds, such as ``cuda>=12.8``, ``driver<471`` or ``brand=tesla``."""
    match = re.fullmatch(r"(\w+)(>=|<=|<|>|=)(.+)", condition)
    if match is None or match[1] not in have:
        return False
    name, operator, wanted = match.groups()
    if name == "brand":
        return have[name] == wanted
    own = numbers(have[name])
    return _COMPARE[operator](own[: len(numbers(wanted))], numbers(wanted))


def check_requirements(env: Mapping[str, str], have: Mapping[str, str]) -> None:
    """One of the alternatives of ``NVIDIA_REQUIRE_CUDA`` must hold with all its conditions."""
    alternatives = env.get("NVIDIA_REQUIRE_CUDA", "").split()
    if not alternatives or env.get("NVIDIA_DISABLE_REQUIRE") in ("1", "true"):
        return
    if not any(all(holds(one, have) for one in each.split(",")) for each in alternatives):
        fail(
            f"requirement error: unsatisfied condition: {alternatives[0]}, please update your "
            "driver to a newer version, or use an earlier cuda container: unknown"
        )


def visible_gpus(wanted: str, uuids: list[str]) -> list[int]:
    """The machine's GPUs that a container gets, by index or UUID."""
    if wanted == "all":
        return list(range(len(uuids)))
    found = []
    for name in wanted.split(",") if wanted != "none" else []:
        if name in uuids:
            found.append(uuids.index(name))
        elif name.isdigit() and int(name) < len(uuids):
            found.append(int(name))
        else:
            fail(f"device error: {name}: unknown device")
    return found


def mount(pid: int, root: Path, mounts: list[tuple[Path, str, str]]) -> None:
    """Mount files and folders into a container's root, in its own mount namespace."""
    into = [(str(source), str(root / target.lstrip("/")), how) for source, target, how in mounts]
    arguments = [text for one in into for text in one]
    namespace = ("nsenter", "--target", str(pid), "--mount")
    subprocess.run([*namespace, "sh", "-c", _MOUNT, "sh", *arguments], check=True)


def main() -> None:
    folder = Path(sys.argv[1])
    state = json.load(sys.stdin)
    bundle = Path(state["bundle"])
    config = json.loads((bundle / "config.json").read_text())
    env = dict(entry.split("=", 1) for entry in config["process"]["env"])
    wanted = env.get("NVIDIA_VISIBLE_DEVICES", "")
    if wanted in ("", "void"):
        return
    if (folder / "failure").exists():
        fail((folder / "failure").read_text().strip())
    lines = (folder / "machine" / "simnvml.conf").read_text().splitlines()
    machine = dict(line.split("=", 1) for line in lines)
    cuda, driver = int(machine["cuda"]), machine["driver"]
    uuids = [machine[f"gpu{gpu}.uuid"] for gpu in range(int(machine["ngpus"]))]
    visible = visible_gpus(wanted, uuids)
    have = {"cuda": f"{cuda // 1000}.{cuda % 1000 // 10}", "driver": driver, "brand": "tesla"}
    check_requirements(env, have)
    capabilities = env.get("NVIDIA_DRIVER_CAPABILITIES") or "compute,utility"
    if not {"all", "utility"} & set(capabilities.split(",")):
        return  # NVML comes with "utility" only
    own = folder / "containers" / state["id"]
    places = "marks=/run/simnvml/marks\nstats=/run/simnvml/calls\nwatch=1\n"
    own.write_text(f"visible={','.join(map(str, visible))}\n{places}")
    libraries = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}"
    mounts = [
        (folder / "libnvidia-ml.so.1", f"{libraries}/libnvidia-ml.so.1", "ro"),
        (folder / "nvidia-smi", "/usr/bin/nvidia-smi", "ro"),
        (folder / "machine", "/run/simnvml", "rw"),
        (own, "/run/simnvml/container.conf", "ro"),
    ]
    mount(state["pid"], bundle / config["root"]["path"], mounts)


if __name__ == "__main__":
    main()
