"""What images need of CUDA, by real values of NVIDIA's images, against real drivers."""

from __future__ import annotations

import pytest

from pytest_llem.runners.docker.cuda import needs

CUDA_12_9 = (
    "cuda>=12.9 brand=unknown,driver>=535,driver<536 brand=grid,driver>=535,driver<536"
    " brand=tesla,driver>=550,driver<551"
)


@pytest.mark.parametrize(
    ("env", "driver", "cuda", "met"),
    [
        ({}, "470.1", (11, 4), True),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12.9"}, "575.51.03", (12, 9), True),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12.9"}, "580.65.06", (13, 0), True),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12.9"}, "550.54.14", (12, 4), False),
        ({"NVIDIA_REQUIRE_CUDA": CUDA_12_9}, "535.54.03", (12, 2), True),
        ({"NVIDIA_REQUIRE_CUDA": CUDA_12_9}, "550.54.14", (12, 4), True),
        ({"NVIDIA_REQUIRE_CUDA": CUDA_12_9}, "545.23.06", (12, 3), False),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=9.0"}, "450.1", (11, 0), True),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=13", "NVIDIA_DISABLE_REQUIRE": "1"}, "1", (9, 0), True),
        # Any driver of the same major version will do where the image itself asks for nothing.
        ({"CUDA_VERSION": "12.9.1"}, "525.60.13", (12, 0), True),
        ({"CUDA_VERSION": "12.9.1"}, "470.1", (11, 4), False),
        ({"CUDA_VERSION": "13.0.2"}, "575.51.03", (12, 9), False),
        ({"CUDA_VERSION": "none"}, "1.1", (1, 0), True),
        ({"NVIDIA_REQUIRE_CUDA": "what>is=this"}, "1.1", (1, 0), True),
    ],
)
def test_a_driver_will_do_or_not(
    env: dict[str, str], driver: str, cuda: tuple[int, int], met: bool
) -> None:
    assert needs(env).met_by(driver, cuda) == met


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({"NVIDIA_REQUIRE_CUDA": CUDA_12_9}, "cuda>=12.9"),
        ({"NVIDIA_REQUIRE_CUDA": "brand=x,cuda>=12.1 driver>=1"}, "cuda>=12.1"),
        ({"CUDA_VERSION": "12.9.1"}, "cuda>=12.0"),
        ({}, ""),
    ],
)
def test_what_is_wanted_is_named(env: dict[str, str], wanted: str) -> None:
    assert needs(env).wanted == wanted
