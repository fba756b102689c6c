"""`nano`: Qwen2.5-VL in five million weights, which plays the paper's number of rollouts on a CPU in minutes.

It was trained from scratch (`+experiment=pretrain_nano`) and comes with the package as an ordinary checkpoint folder.
It knows only the words of STEER-mini.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from steer_lit.policy.base_model import PLAIN, BaseModelSettings, open_checkpoint
from steer_lit.policy.fresh import SMALL_TOWER, open_fresh, spread
from steer_lit.policy.model_facts import CONTEXT_LENGTH, SHIPPED
from steer_lit.policy.parts import ModelParts

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration

VOCABULARY = 2048
TOKENS = VOCABULARY - 24  # like Qwen's, the embedding has more rows than the tokenizer has tokens
_EMBEDDING_STD = 0.05
_BUILD_SEED = 0

TEXT_CONFIG: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_LENGTH["nano"],
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]},
}
VISION_CONFIG: dict[str, Any] = {
    **SMALL_TOWER,
    "depth": 3,
    "out_hidden_size": TEXT_CONFIG["hidden_size"],
    "fullatt_block_indexes": [1, 2],
}


def build_nano(weights: Path | None, tower: Path | None = None, settings: BaseModelSettings = PLAIN) -> ModelParts:
    """Open the checkpoint folder `weights`, or make fresh weights, always the same, if it is None.

    `tower` is a file of vision tower weights that replace the checkpoint's.
    """
    if weights is not None:
        return open_checkpoint(str(weights), settings, name="nano", tower=tower)
    from transformers import AutoTokenizer

    return open_fresh(
        AutoTokenizer.from_pretrained(SHIPPED, local_files_only=True),
        _draw,
        text_config=TEXT_CONFIG,
        vision_config=VISION_CONFIG,
        tie_word_embeddings=True,
        seed=_BUILD_SEED,
        settings=settings,
        name="nano",
        tower=tower,
    )


def _draw(model: Qwen2_5_VLForConditionalGeneration) -> None:
    spread(model.parameters())
    model.get_input_embeddings().weight.data.normal_(std=_EMBEDDING_STD)
