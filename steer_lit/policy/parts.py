"""What a policy is made of: a Qwen2.5-VL model, its tokenizer, and the few numbers everyone else needs about them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from steer_lit.errors import SteerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

# Weights a fingerprint samples: left alone by NF4, by LoRA and by a change of dtype, yet different in any two models.
_SAMPLED = ("embed_tokens.weight", "norm.weight", "layernorm.weight", "patch_embed.proj.weight", "merger.mlp.2.weight")
_SAMPLE_SIZE = 256
_ARCHITECTURE = {
    "text_config": (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "rms_norm_eps",
    ),
    "vision_config": ("depth", "hidden_size", "intermediate_size", "num_heads", "patch_size", "spatial_merge_size"),
}


@dataclass(frozen=True, slots=True)
class ModelParts:
    """A base model ready to be adapted, and what must be known to feed it.

    `eos_ids` are all tokens that end a turn, the one the template writes first (TRAPS 8). `min_pixels` and
    `max_pixels` bound a picture's area after resizing; both sides become multiples of `patch_size * merge_size`.
    `fingerprint` is the same for any dtype and for NF4, and different for other weights.
    """

    model: Qwen2_5_VLForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]
    pad_id: int
    image_token_id: int
    patch_size: int
    merge_size: int
    temporal_patch: int
    min_pixels: int
    max_pixels: int
    name: str
    fingerprint: str

    @classmethod
    def of(
        cls,
        model: Qwen2_5_VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        min_pixels: int,
        max_pixels: int,
    ) -> ModelParts:
        """Read everything from model and tokenizer. Raises SteerError when the model does not say how a turn ends."""
        end = model.generation_config.eos_token_id
        eos_ids = (end,) if isinstance(end, int) else tuple(end or ())
        if not eos_ids:
            raise SteerError(f"model {name!r}: its generation config names no end token (eos_token_id)")
        pad = tokenizer.pad_token_id
        vision = model.config.vision_config
        return cls(
            model=model,
            tokenizer=tokenizer,
            eos_ids=eos_ids,
            pad_id=eos_ids[-1] if pad is None else pad,
            image_token_id=model.config.image_token_id,
            patch_size=vision.patch_size,
            merge_size=vision.spatial_merge_size,
            temporal_patch=vision.temporal_patch_size,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
            name=name,
            fingerprint=fingerprint(model),
        )

    @property
    def longest(self) -> int:
        """How many tokens the base model was made to read."""
        return self.model.config.text_config.max_position_embeddings


def fingerprint(model: torch.nn.Module, *, tower: bool = True) -> str:
    """Twelve hex digits naming the base weights: a hash of the architecture and of a sample of values.

    Values are rounded to bfloat16 first, so that one checkpoint loaded as float32, as bfloat16 or in NF4 has one name.
    Give it the base, not PEFT's wrapper around it. Without `tower` it names the language model alone, whatever tower
    stands before it.
    """
    digest = hashlib.sha256()
    for section, keys in _ARCHITECTURE.items():
        if tower or section != "vision_config":
            config = getattr(model.config, section)
            digest.update(json.dumps([section, *(getattr(config, key) for key in keys)]).encode())
    for name, parameter in model.named_parameters():
        if name.endswith(_SAMPLED) and (tower or ".visual." not in name):
            flat = parameter.detach().reshape(-1)
            sample = flat[:: max(1, flat.numel() // _SAMPLE_SIZE)].to(torch.bfloat16).float().cpu()
            digest.update(name.encode())
            digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:12]


@contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Run the block from `seed` and give torch's random states back as they were (TRAPS 34)."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
