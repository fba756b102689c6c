"""The vision tower: its weights in a file of their own, which tower training writes and `nano` and `smol` read, and its
first layer, a convolution whose stride is its kernel's size, as a single product.
"""

from __future__ import annotations

from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from steer_lit.errors import SteerError
from steer_lit.files.atomic import replacing
from steer_lit.policy.fingerprint import language_fingerprint
from steer_lit.policy.parts import ModelParts
from steer_lit.policy.tensors import tensor_mismatch

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLForConditionalGeneration

_BASE, _LANGUAGE = "base", "language_fingerprint"  # in the file's metadata: the model that the tower was trained with


def save_tower(parts: ModelParts, path: Path) -> None:
    """Write the vision tower and its merger as bfloat16 safetensors, all at once or not at all.

    The file names the base by its language weights, since training changed the tower's own.
    """
    state = {key: value.detach().to("cpu", torch.bfloat16).contiguous() for key, value in _tower(parts.model).items()}
    facts = {"format": "pt", _BASE: parts.name, _LANGUAGE: language_fingerprint(parts.model)}
    with replacing(path) as unfinished:
        save_file(state, unfinished, metadata=facts)


def load_tower(model: Qwen2_5_VLForConditionalGeneration, path: Path) -> None:
    """Copy a saved tower into the model, in the model's dtype. Names and shapes must agree exactly.

    Raises SteerError if they do not, if numbers are not finite, or if the file says that the tower was trained with
    other language weights (the shipped towers do not say).
    """
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
        saved = load_file(path)
    except SafetensorError as error:
        raise SteerError(f"vision tower weights {str(path)!r} cannot be read as safetensors: {error}") from error
    here = language_fingerprint(model)
    if (there := facts.get(_LANGUAGE, here)) != here:
        raise SteerError(
            f"vision tower weights {str(path)!r} were trained in front of base {facts.get(_BASE)!r} with language "
            f"weights {there}, this model's are {here}; choose the model and model.weights they belong to, or another "
            "model.tower"
        )
    own = _tower(model)
    if reason := tensor_mismatch(saved, own):
        raise SteerError(f"vision tower weights {str(path)!r} do not fit: {reason}; name another model.tower")
    with torch.no_grad():
        for key, parameter in own.items():
            parameter.copy_(saved[key])


def _tower(model: Qwen2_5_VLForConditionalGeneration) -> dict[str, Tensor]:
    return model.model.visual.state_dict()


def embed_as_product(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Make `model` embed patches in one product if they are on a GPU. Parameters keep their names.

    In bfloat16 torch's Conv3d takes seconds and gigabytes on several kinds of GPU (pytorch#166643). On a CPU the
    forward stays transformers': another order of sums rounds differently, by 1e-5 in float32, and published figures
    were made with it.
    """
    embedding: Any = model.model.visual.patch_embed
    embedding.forward = MethodType(_embed, embedding)


def embed_patches(patches: Tensor, kernel: Tensor) -> Tensor:
    """Return embeddings [N, D] of patches [N, C * T * P * P] by a kernel [D, C, T, P, P], in the kernel's dtype."""
    return F.linear(patches.to(kernel.dtype), kernel.flatten(1))


def _embed(embedding: Any, hidden_states: Tensor) -> Tensor:
    if hidden_states.device.type == "cpu":
        own: Tensor = type(embedding).forward(embedding, hidden_states)
        return own
    return embed_patches(hidden_states, embedding.proj.weight)
