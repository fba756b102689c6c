"""The vision tower's input of a picture: patches of normalised pixels and the shape of their grid."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from steer_lit.policy.parts import ModelParts

if TYPE_CHECKING:
    from PIL.Image import Image


def to_patches(image: Image, parts: ModelParts) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `(pixel_values [n_patches, 3 * temporal_patch * patch_size**2] float32, grid_thw [3] int64)`.

    The picture is resized to an area between `parts.min_pixels` and `parts.max_pixels`, with both sides multiples of
    `patch_size * merge_size`; n_patches = t * h * w of the grid. Raises ValueError beyond an aspect ratio of 200.
    """
    processor = _processor(parts.patch_size, parts.merge_size, parts.temporal_patch, parts.min_pixels, parts.max_pixels)
    batch = processor(images=image.convert("RGB"), return_tensors="pt")
    return batch["pixel_values"], batch["image_grid_thw"][0]


@lru_cache(maxsize=8)
def _processor(patch_size: int, merge_size: int, temporal_patch: int, min_pixels: int, max_pixels: int) -> Any:
    """Make the Pillow kind: the same pixels on every machine, and no need for torchvision."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        patch_size=patch_size,
        merge_size=merge_size,
        temporal_patch_size=temporal_patch,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
    )
