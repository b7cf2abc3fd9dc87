"""For those who write a backend or a meter: does it keep what measurements rely on?

In a test of one's own, whatever it is run by::

    from pytest_llem.testing import backend_conformance

    def test_it_is_a_backend() -> None:
        backend_conformance("mine")

That is one test, which names every promise that isn't kept. For a test of each promise::

    @pytest.fixture(scope="module")
    def trial() -> Iterator[BackendTrial]:
        with BackendTrial("mine") as trial:
            yield trial

    @pytest.mark.parametrize("promise", BACKEND_PROMISES, ids=str)
    def test_it_keeps(promise: Promise[BackendTrial], trial: BackendTrial) -> None:
        promise(trial)

The promises stand in docs/extending.md.
"""

from pytest_llem.testing.backends import BACKEND_PROMISES, backend_conformance
from pytest_llem.testing.meters import METER_PROMISES, MeterTrial, meter_conformance
from pytest_llem.testing.promises import Promise
from pytest_llem.testing.trial import TINY_MODEL, BackendTrial

__all__ = [
    "BACKEND_PROMISES",
    "METER_PROMISES",
    "TINY_MODEL",
    "BackendTrial",
    "MeterTrial",
    "Promise",
    "backend_conformance",
    "meter_conformance",
]
