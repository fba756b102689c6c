"""The parts of a policy: a Qwen2.5-VL model, its tokenizer, and the few numbers that other modules need of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from steer_lit.errors import SteerError
from steer_lit.policy.fingerprint import fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration


@dataclass(frozen=True, slots=True)
class ModelParts:
    """A base model ready for an adapter, and the facts needed to feed it.

    `eos_ids` are all tokens that end a turn; the first is the one the template writes (TRAPS 8). `min_pixels` and
    `max_pixels` bound a picture's area after resizing; both sides become multiples of `patch_size * merge_size`.
    `fingerprint` is the same for any dtype and for NF4, and differs for other weights, a merged adapter's included.
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
        source: str,
        name: str,
        min_pixels: int,
        max_pixels: int,
    ) -> ModelParts:
        """Read everything from model and tokenizer; `source` is the checkpoint they were loaded from.

        Raises SteerError if the model names no end token, and what `fingerprint` raises.
        """
        end = model.generation_config.eos_token_id
        eos_ids = (end,) if isinstance(end, int) else tuple(end or ())
        if not eos_ids:
            remedy = "add eos_token_id to its generation_config.json, or name another model.source"
            raise SteerError(f"model {name!r}: its generation config names no end token: {remedy}")
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
            fingerprint=fingerprint(model, source),
        )

    @property
    def context_length(self) -> int:
        """How many tokens the base model was made to read."""
        return self.model.config.text_config.max_position_embeddings


@contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Run the block from `seed`, then restore torch's random states (TRAPS 34)."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
