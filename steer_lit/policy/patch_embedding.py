"""The vision tower's first layer, a convolution whose stride is its kernel's size, as a single product."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration


def embed_as_product(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Make `model` embed patches in one product if they are on a GPU. Parameters keep their names.

    In bfloat16 torch's Conv3d takes seconds and gigabytes on several kinds of GPU (pytorch#166643). On a CPU the
    forward stays transformers': another order of sums rounds differently, by 1e-5 in float32, and published figures
    were made with it.
    """
    embedding: Any = model.model.visual.patch_embed
    embedding.forward = MethodType(_forward, embedding)


def embed_patches(patches: Tensor, kernel: Tensor) -> Tensor:
    """Return embeddings [N, D] of patches [N, C * T * P * P] by a kernel [D, C, T, P, P], in the kernel's dtype."""
    return F.linear(patches.to(kernel.dtype), kernel.flatten(1))


def _forward(embedding: Any, hidden_states: Tensor) -> Tensor:
    if hidden_states.device.type == "cpu":
        own: Tensor = type(embedding).forward(embedding, hidden_states)
        return own
    return embed_patches(hidden_states, embedding.proj.weight)
