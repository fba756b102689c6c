"""`nano` was learnt from the primer and nothing else, and what comes with the package is what its recipe makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from steer_lit.data.mini_primer import PrimerSplit
from steer_lit.policy.checkpoint import open_checkpoint, save_base
from steer_lit.policy.fresh import learn_tokenizer
from steer_lit.policy.known import SHIPPED
from steer_lit.policy.lora import LoraSettings, attach_adapter
from steer_lit.policy.nano import TEXT_CONFIG, TOKENS, VISION_CONFIG, build_nano
from steer_lit.policy.parts import ModelParts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def nano() -> ModelParts:
    return build_nano(SHIPPED)


def lines() -> Iterator[str]:
    """The primer's texts, and what a renderer puts around them."""
    rows = PrimerSplit(0, 4_000)
    for number in range(len(rows)):
        yield from (message.text for message in rows.dialogue(number).messages)
    prompt = OmegaConf.load(ROOT / "conf/system_prompt.yaml").system_prompt
    for text in ("system", "user", "assistant", prompt):
        yield from [text] * 100


def test_the_tokenizer_is_the_one_that_the_primer_gives(nano: ModelParts) -> None:
    longest = TEXT_CONFIG["max_position_embeddings"]
    assert learn_tokenizer(lines(), TOKENS, longest).get_vocab() == nano.tokenizer.get_vocab()
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


def test_fresh_weights_come_from_the_seed_and_are_others(nano: ModelParts) -> None:
    fresh, again, other = build_nano(None), build_nano(None), build_nano(None, seed=1)
    assert fresh.fingerprint == again.fingerprint
    assert len({nano.fingerprint, fresh.fingerprint, other.fingerprint}) == 3
    assert fresh.tokenizer.get_vocab() == nano.tokenizer.get_vocab()
    weights = dict(fresh.model.named_parameters())
    assert weights["model.language_model.layers.0.mlp.down_proj.weight"].std() == pytest.approx(768**-0.5, rel=0.02)
    assert weights["model.language_model.embed_tokens.weight"].std() == pytest.approx(0.05, rel=0.02)


def test_a_base_written_under_its_adapter_opens_as_it_was(nano: ModelParts, tmp_path: Path) -> None:
    fresh = build_nano(None, seed=3)
    attach_adapter(fresh.model, LoraSettings(), seed=0)
    save_base(fresh, tmp_path / "base")
    opened = open_checkpoint(
        str(tmp_path / "base"), name="x", quantize="none", dtype="float32", device="cpu", min_pixels=1, max_pixels=1
    )
    assert opened.fingerprint == fresh.fingerprint
    assert opened.eos_ids == fresh.eos_ids
    rounded = {name.replace(".base_layer", ""): weight for name, weight in fresh.model.named_parameters()}
    for name, weight in opened.model.named_parameters():
        assert torch.equal(weight, rounded[name].to(torch.bfloat16).float()), name
