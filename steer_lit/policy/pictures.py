"""Pictures as the language model sees them, encoded once by the frozen tower and reused by every row and turn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from steer_lit.policy.parts import ModelParts
from steer_lit.policy.positions import Grid
from steer_lit.types import ImageRef, OpenImage

if TYPE_CHECKING:
    from PIL.Image import Image

CACHE_BYTES = 1 << 30  # for features
MAX_PATCHED = 64  # pictures held as pixels: 6 MB each at 512 x 512
TOWER_PATCHES = 1 << 14  # most in one pass of the tower, since its activations add up: 12 pictures of 512 x 512


class Pictures:
    """Patches, grids and features of pictures.

    `open_image(ref)` returns a PIL RGB picture; the data layer decides where pictures may come from. Features are kept
    only while the tower is frozen (TRAPS 30); `train_tower` sets `tower_trains`.
    """

    def __init__(self, parts: ModelParts, open_image: OpenImage) -> None:
        self.parts, self.open_image = parts, open_image
        self.tower_trains = False
        self._features: OrderedDict[ImageRef, torch.Tensor] = OrderedDict()
        self._feature_bytes = 0
        self._patches: dict[ImageRef, tuple[torch.Tensor, torch.Tensor]] = {}  # of pictures with no features yet
        self._grids: dict[ImageRef, Grid] = {}

    def grid(self, ref: ImageRef) -> Grid:
        """Return the picture's rows and columns of language-model tokens."""
        if ref not in self._grids:
            _, rows, columns = self._patched(ref)[1].tolist()
            self._grids[ref] = rows // self.parts.merge_size, columns // self.parts.merge_size
        return self._grids[ref]

    def tokens(self, ref: ImageRef) -> int:
        """Count the picture's language-model tokens."""
        rows, columns = self.grid(ref)
        return rows * columns

    def features(self, refs: Sequence[ImageRef]) -> torch.Tensor:
        """Return the pictures' language-model embeddings [sum of tokens, H], in order."""
        if self.tower_trains:
            once = list(dict.fromkeys(refs))
            features = dict(zip(once, self._encode(once), strict=True))
            return torch.cat([features[ref] for ref in refs])
        missing = list(dict.fromkeys(ref for ref in refs if ref not in self._features))
        with torch.no_grad():
            fresh = dict(zip(missing, self._encode(missing), strict=True)) if missing else {}
        found = [fresh[ref] if ref in fresh else self._features[ref] for ref in refs]
        for ref, feature in fresh.items():
            self._remember(ref, feature)
        return torch.cat(found)

    def train_tower(self, trains: bool) -> None:
        """Set whether the tower trains. If so, every call encodes anew, since weights change and need gradients."""
        self.tower_trains = trains
        self._features.clear()
        self._feature_bytes = 0

    def _patched(self, ref: ImageRef) -> tuple[torch.Tensor, torch.Tensor]:
        if ref not in self._patches:
            if len(self._patches) >= MAX_PATCHED:
                self._patches.clear()
            self._patches[ref] = to_patches(self.open_image(ref), self.parts)
        return self._patches[ref]

    def _encode(self, refs: Sequence[ImageRef]) -> list[torch.Tensor]:
        """Encode each picture, in passes of at most `TOWER_PATCHES` patches or one picture."""
        found: list[torch.Tensor] = []
        waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        for ref in refs:
            picture = self._patched(ref)
            if waiting and sum(len(patches) for patches, _ in [*waiting, picture]) > TOWER_PATCHES:
                found += self._pass_tower(waiting)
                waiting = []
            waiting.append(picture)
        return [*found, *self._pass_tower(waiting)]

    def _pass_tower(self, pictures: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, ...]:
        patches, grids = zip(*pictures, strict=True)
        visual: Any = self.parts.model.model.visual
        device = next(visual.parameters()).device
        grid_thw = torch.stack(grids).to(device)
        tokens = visual(torch.cat(patches).to(device, visual.dtype), grid_thw=grid_thw).pooler_output
        return tokens.split((grid_thw.prod(-1) // self.parts.merge_size**2).tolist())

    def _remember(self, ref: ImageRef, feature: torch.Tensor) -> None:
        self._patches.pop(ref, None)
        self._features[ref] = feature.clone()  # a split is a view that would keep the whole batch alive
        self._feature_bytes += feature.nbytes
        while self._feature_bytes > CACHE_BYTES:
            self._feature_bytes -= self._features.popitem(last=False)[1].nbytes


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
