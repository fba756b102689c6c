"""Values of the model section that cannot work on any machine: all are reported at once, each by its key."""

from __future__ import annotations

import math

import pytest

from steer_lit.policy.model_values import value_problems


def keys(problems: list) -> list[str]:
    return [problem.key for problem in problems]


def test_every_bad_value_is_named_at_once():
    problems = value_problems(
        {
            "name": "tiny",
            "quantize": "int8",
            "dtype": "float16",
            "min_pixels": 900,
            "max_pixels": 800,
            "source": "somewhere",
            "tower": "tower.safetensors",
            "weights": "shipped",
            "lora": {"r": 0, "alpha": -1, "dropout": 1.0, "dtype": "half", "targets": ["qkv"]},
        }
    )
    assert sorted(keys(problems)) == [
        "model.dtype",
        "model.lora.alpha",
        "model.lora.dropout",
        "model.lora.dtype",
        "model.lora.r",
        "model.lora.targets",
        "model.max_pixels",
        "model.quantize",
        "model.source",
        "model.tower",
        "model.weights",
    ]
    assert "nf4, none" in str(problems[0])


@pytest.mark.parametrize("key", ["min_pixels", "max_pixels"])
@pytest.mark.parametrize("pixels", [math.inf, math.nan, 800.5, True, "many", None])
def test_pixels_are_a_whole_number(key, pixels):
    assert keys(value_problems({"name": "tiny", key: pixels})) == [f"model.{key}"]


@pytest.mark.parametrize("r", [1.5, "many", None, math.inf, True])
def test_a_rank_is_a_whole_number(r):
    assert keys(value_problems({"name": "tiny", "lora": {"r": r}})) == ["model.lora.r"]


def test_a_model_that_is_not_built_in_needs_a_source():
    assert keys(value_problems({"name": "llava"})) == ["model.source"]


def test_nanos_tower_goes_with_the_weights_it_was_trained_for(tmp_path):
    shipped = {"name": "nano", "weights": "shipped", "tower": "trained"}
    assert value_problems(shipped) == []
    for weights in (None, str(tmp_path)):
        assert keys(value_problems({**shipped, "weights": weights})) == ["model.tower"]
        for tower in (None, str(tmp_path / "tower")):
            assert value_problems({"name": "nano", "weights": weights, "tower": tower}) == []
