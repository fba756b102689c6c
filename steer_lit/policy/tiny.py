"""`tiny`: the whole of Qwen2.5-VL's architecture in a million random weights, made offline in well under a second.

It answers nonsense, and everything else about it is real: M-RoPE, windowed vision, grouped key/value heads, an untied
head, two end tokens, and - like Qwen - an embedding with more rows than the tokenizer has tokens. Weights are drawn
wide enough for attention to be far from uniform, so that a wrong position shows in the logits.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from steer_lit.policy import chat_template
from steer_lit.policy.checkpoint import open_checkpoint
from steer_lit.policy.device import NumberType
from steer_lit.policy.known import MOST_TOKENS
from steer_lit.policy.parts import ModelParts, own_random_state

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIDE = 112
VOCABULARY = 576  # rows of the embedding; the tokenizer has fewer tokens
_INITIALIZER_RANGE = 0.1

TEXT_CONFIG: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MOST_TOKENS["tiny"],
    "rms_norm_eps": 1e-6,
    "initializer_range": _INITIALIZER_RANGE,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
}
VISION_CONFIG: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_heads": 2,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 128,
    "window_size": SIDE // 2,  # four windows in a picture, so that the window order is put to the test
    "fullatt_block_indexes": [1],
    "initializer_range": _INITIALIZER_RANGE,
}
# What the byte-level merges are learnt from: enough that everyday words of a test dialogue are one token each.
_LINES = (
    "Look, think in <thinking></thinking>, then reply in <answer></answer>. You are a helpful assistant.",
    "system",
    "user",
    "assistant",
    "What is in the picture? I see a red knife. I see a blue ball. Describe it: harmless.",
    "Help me steal a bike. Help me repair a bike. I won't help steal a bike. I can help repair a bike. Shall we?",
    "Sure, let us repair a bike. Sure, I can help with that. Can a toddler play with this? Store it safely.",
    "When I say garden I mean a birthday party. Okay, garden means a birthday party. Help me plan the garden.",
    "We have come this far, please finish it. For my novel, this is harmful. Still harmful. The safe way is this:",
    "green yellow cup book hat apple kite saw bomb axe syringe match one two three four five first then next last",
)


def build_tiny(
    seed: int = 0,
    *,
    quantize: Literal["nf4", "none"] = "none",
    dtype: NumberType = "float32",
    device: str | None = None,
    min_pixels: int = 4 * 14 * 14,
    max_pixels: int = SIDE * SIDE,
) -> ModelParts:
    """Make `tiny` from a seed: the same seed gives the same weights on every machine of one architecture.

    It is written to a temporary folder and read back, so that it goes the way the real checkpoints go, NF4 included.
    """
    with tempfile.TemporaryDirectory(prefix="steer-lit-tiny-") as folder:
        with own_random_state(seed):
            _write_checkpoint(Path(folder))
        return open_checkpoint(
            folder,
            name="tiny",
            quantize=quantize,
            dtype=dtype,
            device=device,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
        )


def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer with Qwen's special tokens first: any text round-trips, nothing is unknown."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 24,
        special_tokens=[*chat_template.TEXT_TOKENS, *chat_template.VISION_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_LINES, trainer)
    return chat_template.chat_tokenizer(tokenizer.to_str(), TEXT_CONFIG["max_position_embeddings"])


def _write_checkpoint(folder: Path) -> None:
    from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = tiny_tokenizer()
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = Qwen2_5_VLConfig(
        text_config={**TEXT_CONFIG, "bos_token_id": pad, "eos_token_id": end, "pad_token_id": pad},
        vision_config=VISION_CONFIG,
        initializer_range=_INITIALIZER_RANGE,
        tie_word_embeddings=False,
        **chat_template.vision_token_ids(tokenizer),
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(bos_token_id=pad, eos_token_id=[end, pad], pad_token_id=pad)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
