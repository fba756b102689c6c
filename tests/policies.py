"""The policy that tests start from: `tiny`, with an adapter that has an effect or without. A test names only what it is
about.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steer_lit.policy.qwen_vl import QwenVL


def small_policy(**changed: Any) -> QwenVL:
    """Load `tiny` in float32, with a fresh adapter and STEER-mini's pictures."""
    from steer_lit.data.images import open_image
    from steer_lit.policy.load import load_policy
    from steer_lit.policy.lora import LoraSettings

    settings: dict[str, Any] = {
        "name": "tiny", "quantize": "none", "dtype": "float32", "lora": LoraSettings(r=4, alpha=8),
        "system_prompt": "Be kind.", "open_image": open_image, "min_pixels": 784, "max_pixels": 12544,
    }  # fmt: skip
    return load_policy(**{**settings, **changed})


def moved(policy: QwenVL) -> QwenVL:
    """Move the adapter a little from where it is. A fresh one has no effect, because its B matrices are zero."""
    import torch

    generator = torch.Generator().manual_seed(5)
    for parameter in policy.adapter_parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return policy


def redrawn(policy: QwenVL) -> QwenVL:
    """Draw the whole adapter anew, large enough to change what is sampled."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.adapter_parameters().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator).to(parameter) * 0.1)
    return policy


def ending_at_every(policy: QwenVL, nth: int) -> QwenVL:
    """Let every `nth` token end a turn, so that dialogues go on to later turns and their rows differ in length."""
    tokens = policy.base.config.text_config.vocab_size
    policy.parts = replace(policy.parts, eos_ids=tuple(range(0, tokens, nth)))
    return policy
