"""`nano`: the shipped checkpoint, fresh weights, and a base that is written while it has an adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steer_lit.policy.base_model import PLAIN, open_checkpoint, save_base
from steer_lit.policy.lora import LoraSettings, attach_adapter
from steer_lit.policy.model_facts import SHIPPED
from steer_lit.policy.nano import TEXT_CONFIG, VISION_CONFIG, build_nano
from steer_lit.policy.parts import ModelParts


@pytest.fixture(scope="module")
def nano() -> ModelParts:
    return build_nano(SHIPPED)


def test_any_text_survives_the_tokenizer(nano: ModelParts) -> None:
    text = "Unheard-of: 火 \u2028 <|image_pad|>"
    ids = nano.tokenizer(text, split_special_tokens=True)["input_ids"]
    assert nano.tokenizer.decode(ids) == text


def test_the_shipped_weights_have_the_recipes_sizes(nano: ModelParts) -> None:
    text, vision = nano.model.config.text_config, nano.model.config.vision_config
    rope = {key: text.rope_parameters[key] for key in TEXT_CONFIG["rope_parameters"]}
    sizes = {key: getattr(text, key) for key in TEXT_CONFIG if key != "rope_parameters"}
    assert {**sizes, "rope_parameters": rope} == TEXT_CONFIG
    assert {key: getattr(vision, key) for key in VISION_CONFIG} == VISION_CONFIG
    assert sum(parameter.numel() for parameter in nano.model.parameters()) < 5_000_000
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 11_000_000


def test_fresh_weights_are_reproducible_and_not_the_shipped_ones(nano: ModelParts) -> None:
    fresh, again = build_nano(None), build_nano(None)
    assert fresh.fingerprint == again.fingerprint != nano.fingerprint
    assert fresh.tokenizer.get_vocab() == nano.tokenizer.get_vocab()
    weights = dict(fresh.model.named_parameters())
    assert weights["model.language_model.layers.0.mlp.down_proj.weight"].std() == pytest.approx(768**-0.5, rel=0.02)
    assert weights["model.language_model.embed_tokens.weight"].std() == pytest.approx(0.05, rel=0.02)


def test_a_base_written_with_its_adapter_attached_opens_unchanged(nano: ModelParts, tmp_path: Path) -> None:
    fresh = build_nano(None)
    attach_adapter(fresh.model, LoraSettings(r=4, alpha=8), seed=0)
    save_base(fresh, tmp_path / "base")
    opened = open_checkpoint(str(tmp_path / "base"), PLAIN, name="x")
    assert opened.fingerprint == fresh.fingerprint
    assert opened.eos_ids == fresh.eos_ids
    rounded = {name.replace(".base_layer", ""): weight for name, weight in fresh.model.named_parameters()}
    for name, weight in opened.model.named_parameters():
        assert torch.equal(weight, rounded[name].to(torch.bfloat16).float()), name
