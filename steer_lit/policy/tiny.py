"""`tiny`: the whole of Qwen2.5-VL's architecture in a million random weights, made offline in well under a second.

Its answers are nonsense, but everything else is real: M-RoPE, windowed vision, grouped key/value heads, an untied
head, two end tokens, and - like Qwen - an embedding with more rows than the tokenizer has tokens. Weights are drawn
wide enough for attention to be far from uniform, so that a wrong position shows in the logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steer_lit.mini_world import SIDE
from steer_lit.policy.base_model import PLAIN, BaseModelSettings
from steer_lit.policy.fresh import learn_tokenizer, open_fresh
from steer_lit.policy.model_facts import CONTEXT_LENGTH
from steer_lit.policy.parts import ModelParts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VOCABULARY = 576  # rows of the embedding; the tokenizer has fewer tokens
_INITIALIZER_RANGE = 0.1
_BUILD_SEED = 0

TEXT_CONFIG: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_LENGTH["tiny"],
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
    "window_size": SIDE // 2,  # four windows in a picture, so that the window order is tested
    "fullatt_block_indexes": [1],
    "initializer_range": _INITIALIZER_RANGE,
}
# The byte-level merges are learnt from these lines: enough to make everyday words of a test dialogue one token each.
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


def build_tiny(settings: BaseModelSettings = PLAIN) -> ModelParts:
    """Make `tiny`, the same in all runs, whatever their seed: an adapter fits only one base."""
    return open_fresh(
        tiny_tokenizer(),
        text_config=TEXT_CONFIG,
        vision_config=VISION_CONFIG,
        initializer_range=_INITIALIZER_RANGE,
        tie_word_embeddings=False,
        seed=_BUILD_SEED,
        settings=settings,
        name="tiny",
    )


def tiny_tokenizer() -> PreTrainedTokenizerBase:
    return learn_tokenizer(_LINES, VOCABULARY - 24, TEXT_CONFIG["max_position_embeddings"])
