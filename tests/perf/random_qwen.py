"""A checkpoint of Qwen2.5-VL's own shapes with random weights: shows whether a step fits, and runs, without a download.

python -m tests.perf.random_qwen outputs/random_3b --size 3b

The folder then is `model.source` of any `_3b` or `_7b` experiment. The tokenizer is smol's, with less than a third of
Qwen's tokens; the vocabulary's rows, and so the head's cost, are all there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from steer_lit.policy.chat_template import vision_token_ids
from steer_lit.policy.smol import smol_checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

# config.json of Qwen/Qwen2.5-VL-3B-Instruct and -7B-Instruct
TEXT: dict[str, dict[str, Any]] = {
    "3b": {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
    },
    "7b": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
}
BOTH: dict[str, Any] = {
    "max_position_embeddings": 128000,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
VISION: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}


def random_model(size: str, tokenizer: PreTrainedTokenizerBase) -> Qwen2_5_VLForConditionalGeneration:
    """Return a model with weights drawn in bfloat16: 7.5 GB (3b) or 16.6 GB (7b)."""
    from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = Qwen2_5_VLConfig(
        text_config=TEXT[size] | BOTH | ends,
        vision_config=VISION | {"out_hidden_size": TEXT[size]["hidden_size"]},
        tie_word_embeddings=size == "3b",
        **vision_token_ids(tokenizer),
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
    model.generation_config = GenerationConfig(**ends)
    return model


def write(folder: Path, size: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smol_checkpoint())
    model = random_model(size, tokenizer)
    model.save_pretrained(folder, max_shard_size="4GB")  # in parts, like Qwen's checkpoints
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="random weights in Qwen2.5-VL's shapes")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=sorted(TEXT), required=True)
    options = parser.parse_args()
    write(options.folder, options.size)
