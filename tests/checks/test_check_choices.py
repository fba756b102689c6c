"""What a check allows is what the owner of the key takes, where asking that one would be slow."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from steer_lit.checks import leaves
from steer_lit.data.sources import Stage
from steer_lit.objective.advantage import Scale
from steer_lit.objective.grpo import KlEstimator
from steer_lit.objective.normalise import Normaliser
from steer_lit.policy import preflight
from steer_lit.policy.checkpoint import BaseSettings
from steer_lit.policy.device import NumberType
from steer_lit.policy.lora import LoraSettings
from steer_lit.policy.qwen_vl import Trains


@pytest.mark.parametrize(
    ("allowed", "taken"),
    [
        (leaves._CHOICES["stage"], get_args(Stage)),
        (leaves._CHOICES["module.trains"], get_args(Trains)),
        (leaves._CHOICES["objective.scale"], get_args(Scale)),
        (leaves._CHOICES["objective.normaliser"], get_args(Normaliser)),
        (leaves._CHOICES["objective.kl_estimator"], get_args(KlEstimator)),
        (preflight._CHOICES["quantize"], get_args(get_type_hints(BaseSettings)["quantize"])),
        (preflight._CHOICES["dtype"], ("auto", *get_args(NumberType))),
        (preflight._CHOICES["lora.dtype"], get_args(get_type_hints(LoraSettings)["dtype"])),
    ],
)
def test_choices_are_those_of_their_owners(allowed: tuple[str, ...], taken: tuple[str, ...]) -> None:
    assert sorted(allowed) == sorted(taken)
