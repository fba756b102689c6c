"""Pictures as a server takes them: PNG bytes of a bounded size."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from steer_lit.types import ImageRef, OpenImage

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_SENT_PIXELS = 512 * 512  # authors' evaluator
_KEPT = 64  # a group shares its picture, and so do all turns of a dialogue


class PngPictures:
    """Encodes the pictures that `open_image` opens, scaled to `min_pixels`..`max_pixels`. Its errors pass through."""

    def __init__(self, open_image: OpenImage, max_pixels: int, min_pixels: int = 1) -> None:
        self._open_image = open_image
        self._min_pixels, self._max_pixels = min_pixels, max_pixels
        self.png = lru_cache(_KEPT)(self._png)

    def _png(self, ref: ImageRef) -> bytes:
        image = self._open_image(ref)
        pixels = image.width * image.height
        if pixels > self._max_pixels:
            image = _scaled(image, math.sqrt(self._max_pixels / pixels), math.floor)
        elif pixels < self._min_pixels:
            image = _scaled(image, math.sqrt(self._min_pixels / pixels), math.ceil)
        written = io.BytesIO()
        image.save(written, "PNG")
        return written.getvalue()


def _scaled(image: Image, scale: float, whole: Callable[[float], int]) -> Image:
    return image.resize((max(1, whole(image.width * scale)), max(1, whole(image.height * scale))))
