"""Out of memory, provoked: what is said, and which batch is said to fit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.pytorch_memory import largest_that_fits, out_of_memory
from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment

TINY = Path(__file__).parents[2] / "benchmarks" / "models" / "tiny-llama"


@pytest.mark.parametrize(
    ("fits", "said"),
    [
        (3, "batch_size 2 fits, it was tried"),
        (16, "batch_size 8 fits, it was tried"),
        (0, "not even a single request fits; take a smaller dtype, or shorter prompts and outputs"),
    ],
)
def test_the_largest_of_the_halves_that_was_tried_is_named(fits: int, said: str) -> None:
    tried: list[int] = []

    def attempt(size: int) -> bool:
        tried.append(size)
        return size <= fits

    assert largest_that_fits(16, attempt) == said
    assert tried == [size for size in (8, 4, 2, 1) if size >= (tried[-1])]


def test_trying_ends_when_it_takes_too_long() -> None:
    clock = iter([0.0, 1.0, 70.0])
    said = largest_that_fits(64, lambda _: False, lambda: next(clock))
    assert said == "batch_size 32 doesn't fit either; smaller ones were not tried"


def test_other_errors_are_not_taken_for_it() -> None:
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("out of memory"))


def load(**changes: Any) -> Any:
    pytest.importorskip("transformers")
    from pytest_llem.backends.pytorch import PytorchBackend

    values: dict[str, Any] = {"weights": "random", "device": "cpu", "dtype": "float32", **changes}
    return PytorchBackend().load(Experiment(model=str(TINY), **values))


@pytest.mark.engine
def test_a_model_that_does_not_fit_says_so() -> None:
    # Half a petabyte: more than an address space holds, whatever the kernel promises.
    with pytest.raises(
        LlemError, match=r"out of memory while loading .*tiny-llama as float32"
    ) as e:
        load(options={"vocab_size": 10**12})
    assert "you tried to allocate" in str(e.value)


@pytest.mark.engine
def test_a_request_that_does_not_fit_alone_says_so() -> None:
    from pytest_llem.extensions import Workload

    engine = load(options={"cache": "static"})
    whole = Workload(prompts=[[1], [2]], output_tokens=10**13, batch_size=2, seed=0)
    with pytest.raises(LlemError, match=r"^out of memory on cpu in prefill with batch_size 2") as e:
        engine.run(whole, lambda _: None)
    assert "not even a single request fits" in str(e.value)


PROGRAM = """
import re, resource, sys
from pathlib import Path
from pytest_llem.backends.pytorch import PytorchBackend
from pytest_llem.errors import LlemError
from pytest_llem.experiment import Experiment
from pytest_llem.extensions import Workload

# One thread: others would want address space of their own.
engine = PytorchBackend().load(Experiment(
    model=sys.argv[1], weights="random", device="cpu", dtype="float32", options={"threads": 1}))

def run(count, length):
    prompts = [[n] * length for n in range(count)]
    whole = Workload(prompts=prompts, output_tokens=2, batch_size=count, seed=0)
    return engine.run(whole, lambda _: None)

run(2, 8)
kb = re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
limit = int(kb) * 1024 + 150 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    run(64, 1000)
except LlemError as error:
    print(error)
    size = int(re.search(r"batch_size (\\d+) fits", str(error))[1])
    print(len(run(size, 1000)))
"""


@pytest.mark.engine
@pytest.mark.once
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_batch_that_does_not_fit_names_one_that_does() -> None:
    pytest.importorskip("transformers")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(TINY)], capture_output=True, text=True, check=True
    )
    said, again = done.stdout.splitlines()
    text = (
        r"out of memory on cpu in prefill with batch_size 64, prompts of up to 1000 tokens and 2 to"
        r" generate: batch_size (\d+) fits, it was tried \(.*allocate.*\)"
    )
    found = re.fullmatch(text, said)
    assert found
    # And it does: it was computed once more.
    assert int(again) == int(found[1]) < 64
