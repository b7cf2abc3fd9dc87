"""Secrets in what is written down."""

from __future__ import annotations

import pytest

from pytest_llem.results.masks import MASK, masked
from pytest_llem.wire import to_dict
from tests.builders import experiment


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "token", "hf_token", "OPENAI_API_KEY", "apikey", "AWS_SECRET_ACCESS_KEY"]
)
def test_a_text_under_the_name_of_a_secret_is_not_shown(name: str) -> None:
    assert masked({"env": {name: "x"}}) == {"env": {name: MASK}}
    assert masked({"options": {"deep": [{name: "x"}]}}) == {"options": {"deep": [{name: MASK}]}}


def test_what_is_no_secret_is_shown() -> None:
    shown = {
        "env": {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "4", "KEYBOARD": "de"},
        "output_tokens": 3,
        "token": 7,
        "max_tokens": "12",
    }
    assert masked(shown) == shown


def test_an_experiment_without_secrets_stays_as_it_is() -> None:
    data = to_dict(experiment(env={"A": "1"}, meters=("nvml",)))
    assert masked(data) == data
