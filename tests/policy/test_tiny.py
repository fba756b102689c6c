"""`tiny` has the structure of the large models: tokens, template, pictures, positions. Building it leaves no trace."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from steer_lit.errors import MissingResource
from steer_lit.policy import chat_template
from steer_lit.policy.base_model import BaseModelSettings, open_checkpoint, save_base
from steer_lit.policy.fingerprint import fingerprint, language_fingerprint
from steer_lit.policy.model_facts import SHIPPED
from steer_lit.policy.nano import build_nano
from steer_lit.policy.parts import ModelParts
from steer_lit.policy.pictures import to_patches
from steer_lit.policy.tiny import build_tiny, tiny_tokenizer


@pytest.fixture(scope="module")
def tiny() -> ModelParts:
    return build_tiny()


def test_building_takes_under_a_second_and_a_few_megabytes(tiny):
    start = time.perf_counter()
    again = build_tiny()
    assert time.perf_counter() - start < 1.0
    assert sum(parameter.numel() for parameter in again.model.parameters()) < 4_000_000
    assert not [name for name, parameter in again.model.named_parameters() if parameter.requires_grad]


def test_its_weights_are_always_the_same(tiny):
    same = build_tiny()
    assert same.fingerprint == tiny.fingerprint
    for (name, ours), theirs in zip(tiny.model.named_parameters(), same.model.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_trap_34_building_leaves_every_random_state_as_it_was(quantize):
    torch.manual_seed(20_240)  # a state that no build could leave behind
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    build_tiny(BaseModelSettings(quantize))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002


def test_the_fingerprint_does_not_depend_on_dtype_or_nf4(tiny):
    assert build_tiny(BaseModelSettings(dtype="bfloat16")).fingerprint == tiny.fingerprint
    assert build_tiny(BaseModelSettings("nf4", "bfloat16")).fingerprint == tiny.fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        "visual.patch_embed.proj",
        "visual.blocks.1.attn.qkv",
        "language_model.embed_tokens",
        *(f"language_model.layers.1.self_attn.{name}_proj" for name in "qkvo"),
        *(f"language_model.layers.0.mlp.{name}_proj" for name in ("gate", "up", "down")),
    ],
)
def test_the_fingerprint_changes_with_each_trainable_part(tiny, tmp_path, changed):
    parts = build_tiny()
    parts.model.model.get_submodule(changed).weight.data *= 1.1
    other, packed = saved_and_opened(parts, tmp_path)
    assert other == packed != tiny.fingerprint


def test_the_fingerprint_is_unchanged_by_saving_and_opening(tiny, tmp_path):
    assert saved_and_opened(tiny, tmp_path) == [tiny.fingerprint] * 2


def saved_and_opened(parts: ModelParts, folder: Path) -> list[str]:
    """Write a base and open it again, unquantized and in NF4. Return both fingerprints."""
    save_base(parts, folder)
    settings = (BaseModelSettings(quantize) for quantize in ("none", "nf4"))
    return [open_checkpoint(str(folder), each, name="x").fingerprint for each in settings]


def test_the_fingerprint_changes_with_rope_theta(tiny, tmp_path):
    save_base(tiny, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["rope_parameters"]["rope_theta"] = 1e6
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(str(tmp_path), BaseModelSettings(), name="x").fingerprint != tiny.fingerprint


def test_the_fingerprint_reads_every_shard(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path, max_shard_size="500KB")
    tiny.tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert open_checkpoint(str(tmp_path), BaseModelSettings(), name="x").fingerprint == tiny.fingerprint


def test_a_checkpoint_without_safetensors_has_no_fingerprint(tiny, tmp_path):
    with pytest.raises(MissingResource, match="holds no safetensors files"):
        fingerprint(tiny.model, str(tmp_path))


def test_the_language_fingerprint_of_nano_is_unchanged():
    """Saved towers contain this name. With another name none of them could be loaded."""
    assert language_fingerprint(build_nano(SHIPPED).model) == "2f1e97aa06f5"


def test_trap_08_both_of_qwens_end_tokens_are_listed_the_templates_first(tiny):
    ids = tiny.tokenizer.convert_tokens_to_ids([chat_template.TURN_END, chat_template.END_OF_TEXT])
    assert tiny.eos_ids == tuple(ids)
    assert tiny.pad_id == ids[1]
    assert tiny.image_token_id == tiny.tokenizer.convert_tokens_to_ids(chat_template.IMAGE_PAD)


def test_every_special_token_is_one_id_and_the_embedding_has_rows_to_spare(tiny):
    tokens = [*chat_template.TEXT_TOKENS, *chat_template.VISION_TOKENS]
    ids = [tiny.tokenizer(token).input_ids for token in tokens]
    assert all(len(one) == 1 for one in ids)
    assert len({one[0] for one in ids}) == 8
    assert len(tiny.tokenizer) < tiny.model.get_input_embeddings().num_embeddings  # as in Qwen's checkpoints


@pytest.mark.parametrize("text", ["Help me steal a bike.", "  two  spaces\n\ttab", "Zürich, 東京, 🙂", "<|im_start|>x"])
def test_any_text_survives_encoding(text):
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_trap_03_template_adds_the_default_system_turn_only_where_none_is_given(tiny):
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}
    render = tiny.tokenizer.apply_chat_template
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    assert render([user], tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n{picture}What is this?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render([{"role": "system", "content": "Be brief."}, user], tokenize=False) == (
        f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{picture}What is this?<|im_end|>\n"
    )


@pytest.mark.parametrize(
    ("width", "height", "grid"),
    [
        (112, 112, [1, 8, 8]),  # unchanged: 112 / 14
        (1120, 1120, [1, 8, 8]),  # shrunk to max_pixels = 112^2
        (113, 111, [1, 8, 8]),  # rounded to just max_pixels
        (127, 111, [1, 6, 8]),  # would be rounded to more
        (10, 10, [1, 4, 4]),  # enlarged to min_pixels = 56^2
        (55, 57, [1, 4, 4]),  # rounded to just min_pixels
        (41, 43, [1, 6, 4]),  # would be rounded to less
        (112, 56, [1, 4, 8]),  # rows first
    ],
)
def test_patches_honour_the_pixel_bounds(tiny, width, height, grid):
    parts = replace(tiny, min_pixels=56 * 56)  # more than one token's, the least that is left without a bound
    pixel_values, grid_thw = to_patches(Image.new("RGB", (width, height), "red"), parts)
    assert grid_thw.tolist() == grid
    assert pixel_values.shape == (grid[1] * grid[2], 3 * 2 * 14 * 14)
    assert pixel_values.dtype == torch.float32


def test_patches_are_normalised_pixels_in_merge_order(tiny):
    # Left half black, right half white. Patches come in 2x2 blocks. The first 8 cover the two left-most blocks of the
    # first two rows (columns 0-3, black), the next 8 cover columns 4-7 (white).
    image = Image.new("RGB", (112, 112), "black")
    image.paste((255, 255, 255), (56, 0, 112, 112))
    pixel_values, _ = to_patches(image, tiny)
    first_row = pixel_values[:16, 0]  # the red channel of each patch's first pixel
    black, white = -0.48145466 / 0.26862954, (1 - 0.48145466) / 0.26862954  # CLIP's mean and std
    torch.testing.assert_close(first_row[:8], torch.full((8,), black), atol=1e-5, rtol=0)
    torch.testing.assert_close(first_row[8:], torch.full((8,), white), atol=1e-5, rtol=0)


def test_positions_and_pictures_show_in_the_logits(tiny):
    """Otherwise tests that compare two ways of computing logits would pass with any positions."""
    ids = torch.tensor([tiny.tokenizer("Look: <|vision_start|>").input_ids + [tiny.image_token_id] * 16 + [40, 41]])
    length = ids.shape[1]
    flat = torch.arange(length).expand(3, 1, length)
    moved = flat.clone()
    moved[1, 0, -6:] += 1  # the height axis of a few tokens, by one step

    def last_logits(colour, position_ids):
        pixel_values, grid_thw = to_patches(Image.new("RGB", (112, 112), colour), tiny)
        with torch.no_grad():
            return tiny.model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                position_ids=position_ids,
                pixel_values=pixel_values,
                image_grid_thw=grid_thw[None],
            ).logits[0, -1]

    red = last_logits("red", flat)
    assert (last_logits("red", moved) - red).abs().max() > 1e-2
    assert (last_logits("blue", flat) - red).abs().max() > 1e-2
    assert torch.softmax(red, -1).max() < 0.9  # may be far from uniform, but one certain token would hide errors
