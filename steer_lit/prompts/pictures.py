"""Pictures as a server takes them: PNG bytes of a bounded size."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from steer_lit.types import ImageRef

if TYPE_CHECKING:
    from PIL.Image import Image

OpenImage = Callable[[ImageRef], "Image"]

_KEPT = 64  # a group shares its picture, and so do all turns of a dialogue


class PngPictures:
    """Encodes what `open_image` opens, scaled down where it has more than `max_pixels`. Raises what that raises."""

    def __init__(self, open_image: OpenImage, max_pixels: int) -> None:
        self._open_image = open_image
        self._max_pixels = max_pixels
        self.png = lru_cache(_KEPT)(self._png)

    def _png(self, ref: ImageRef) -> bytes:
        image = self._open_image(ref)
        scale = math.sqrt(self._max_pixels / (image.width * image.height))
        if scale < 1:
            image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
        written = io.BytesIO()
        image.save(written, "PNG")
        return written.getvalue()
