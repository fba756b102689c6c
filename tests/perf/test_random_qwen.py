"""The random checkpoint has the sizes of the published ones."""

from __future__ import annotations

import pytest
import torch

from steer_lit.policy.model_facts import SHIPPED
from steer_lit.policy.nano import build_nano
from tests.perf.random_qwen import random_model


@pytest.mark.parametrize(
    ("size", "parameters"), [("3b", 3_754_622_976), ("7b", 8_292_166_656)]
)  # from the hub's page of Qwen/Qwen2.5-VL-3B-Instruct and -7B-Instruct
def test_the_number_of_weights_equals_qwens(size: str, parameters: int) -> None:
    tokenizer = build_nano(SHIPPED).tokenizer
    with torch.device("meta"):
        model = random_model(size, tokenizer)
    assert sum(weights.numel() for weights in model.parameters()) == parameters
