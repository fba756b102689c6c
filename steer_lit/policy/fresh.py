"""Checkpoints of random weights, for models that are built here. They open as real ones do, NF4 included."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from steer_lit.mini_world import SIDE
from steer_lit.policy import chat_template
from steer_lit.policy.base_model import BaseModelSettings, open_checkpoint
from steer_lit.policy.parts import ModelParts, own_random_state
from steer_lit.policy.tensors import disk_errors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

# For the vision towers of `nano` and `smol`. One window is a whole picture, so every block attends to all of it.
SMALL_TOWER: Mapping[str, Any] = {
    "hidden_size": 128, "intermediate_size": 384, "num_heads": 4, "patch_size": 14, "spatial_merge_size": 2,
    "temporal_patch_size": 2, "window_size": SIDE,
}  # fmt: skip


def open_fresh(
    tokenizer: PreTrainedTokenizerBase,
    draw: Callable[[Qwen2_5_VLForConditionalGeneration], None] = lambda model: None,
    *,
    settings: BaseModelSettings,
    name: str,
    tower: Path | None = None,
    **sizes: Any,
) -> ModelParts:
    """Open a model that `write_fresh` makes of `tokenizer`, `draw` and `sizes`. See also `open_checkpoint`."""
    with tempfile.TemporaryDirectory(prefix="steer-lit-fresh-") as folder:
        with disk_errors(Path(folder)):
            write_fresh(Path(folder), tokenizer, draw, **sizes)
        return open_checkpoint(folder, settings, name=name, tower=tower)


def write_fresh(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    draw: Callable[[Qwen2_5_VLForConditionalGeneration], None],
    *,
    text_config: Mapping[str, Any],
    vision_config: Mapping[str, Any],
    seed: int,
    **config: Any,
) -> None:
    """Write a checkpoint of these sizes: the same seed gives the same weights on every machine of one architecture.

    transformers draws the weights, then `draw` may draw them again. `config` holds other keys of Qwen2_5_VLConfig.
    """
    from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    text = {"bos_token_id": pad, "eos_token_id": end, "pad_token_id": pad, **text_config}
    config |= {"text_config": text, "vision_config": dict(vision_config), **chat_template.vision_token_ids(tokenizer)}
    with own_random_state(seed):
        model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config))
        draw(model)
    ends = {"bos_token_id": text["bos_token_id"], "eos_token_id": [end, pad], "pad_token_id": pad}
    model.generation_config = GenerationConfig(**ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def learn_tokenizer(lines: Iterable[str], tokens: int, max_length: int) -> PreTrainedTokenizerBase:
    """Learn a byte-level BPE tokenizer of at most `tokens` tokens from `lines`.

    Qwen's special tokens come first. Any text round-trips, and what `lines` repeat is one token.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=tokens,
        special_tokens=[*chat_template.TEXT_TOKENS, *chat_template.VISION_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return chat_template.chat_tokenizer(tokenizer.to_str(), max_length)


def spread(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Draw matrices with standard deviation 1 / sqrt(inputs).

    transformers' 0.02 suits widths of a thousand; at width 128 attention would start out flat.
    """
    with torch.no_grad():
        for parameter in parameters:
            if parameter.ndim >= 2:
                parameter.normal_(std=1 / parameter[0].numel() ** 0.5)
