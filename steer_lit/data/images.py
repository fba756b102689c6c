"""Opens the pictures that rows name, guarding against hostile names and files.

Rows, and the picture files that they name, are untrusted. A name is looked up under one data folder and nowhere else, a
file is read as a still picture in one of six plain formats, and its size is checked before a pixel is decoded. Every
fault of a picture raises a `PictureError` that names it.
"""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from steer_lit.data.mini_pictures import draw
from steer_lit.errors import SteerError
from steer_lit.ranks import first_rank
from steer_lit.texts import first_lines
from steer_lit.types import ImageRef

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow knows some forty more formats; some of them start other programs (EPS), some are never fuzzed.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
PLACE = "data.source.folder; data.folder in a synthesis"  # the keys that name the folder of pictures
MAX_PIXELS = 64 * 2**20  # a 64-megapixel photo: 192 MiB as RGB
_LARGE = 8 * 2**20  # pixels; with copies for transparency, 64 megapixels take 1.5 GB, so threads take turns
_ALONE = Lock()
_AT_ONCE = min(8, os.cpu_count() or 1)  # pictures decoded side by side; each of several ranks does the same
MAX_ASPECT = 200  # Qwen2.5-VL's image processor refuses longer strips
_BLANK = "blank:"  # starts the name of a white picture, which no row can use: see `picture_named`
_GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")


class PictureError(SteerError, ValueError):
    """A picture that cannot be used: names the picture and the reason."""

    def __init__(self, uri: str, reason: str) -> None:
        self.uri, self.reason = uri, reason
        super().__init__(f"picture {uri!r}: {reason}")


def picture_named(name: str) -> ImageRef:
    """Return the picture that a row calls `name`. A name that looks like a white picture's gets `./` in front."""
    return ImageRef(f"./{name}" if name.startswith(_BLANK) else name)


def blank(ref: ImageRef) -> ImageRef:
    """Return the white picture of the size of `ref`, for a policy that may not see."""
    return ImageRef(_BLANK + original(ref).uri)


def original(ref: ImageRef) -> ImageRef:
    """Return the picture that a white one stands for, since only the policy is kept from seeing it, not its judges."""
    return ImageRef(ref.uri.removeprefix(_BLANK))


def open_image(ref: ImageRef, root: Path | None = None) -> Image:
    """Return the picture as 8-bit RGB: first frame, turned upright by its EXIF tag, transparency laid over white.

    `mini://` pictures are drawn; any other name is a file path under `root` (`data.source.folder`), absolute or not.
    Raises PictureError.
    """
    from PIL import Image, ImageOps

    if (whole := original(ref)) != ref:
        return Image.new("RGB", open_image(whole, root).size, "white")
    if ref.uri.startswith("mini://"):
        try:
            return draw(ref.uri)
        except ValueError as error:
            raise PictureError(ref.uri, str(error)) from error
    file = str(_picture_path(ref.uri, root))
    with _opened(ref.uri, file) as image, _ALONE if math.prod(image.size) > _LARGE else nullcontext():
        # Pixels first: some formats keep EXIF behind them, and asking for it would decode as a side effect.
        image.load()
        with suppress(Exception):  # a broken tag is not a broken picture
            ImageOps.exif_transpose(image, in_place=True)  # turned before its other tags are looked at
        return _rgb(image)


def broken_pictures(pictures: Collection[ImageRef], root: Path | None) -> dict[ImageRef, PictureError]:
    """Open each picture once; return the faults of those that do not open. Shows a progress bar.

    They are opened in threads: decoding is most of the work, and Pillow lets go of the interpreter for it.
    """

    def fault(ref: ImageRef) -> PictureError | None:
        try:
            open_image(ref, root)
        except PictureError as error:
            return PictureError(error.uri, error.reason)  # the traceback of `error` would hold on to the picture
        return None

    console = Console(stderr=True)
    # What `open_image` sets aside and puts back of warnings belongs to all threads, so it is also done around them.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(_AT_ONCE) as pool:
        looked = track(
            zip(pictures, pool.map(fault, pictures), strict=True),
            "looking at every picture",
            total=len(pictures),
            console=console,
            transient=True,
            disable=not (pictures and first_rank() and console.is_terminal),
        )
        try:
            return {ref: error for ref, error in looked if error is not None}
        finally:
            pool.shutdown(cancel_futures=True)  # after a Ctrl-C too


def picture_digest(ref: ImageRef, root: Path | None = None) -> str:
    """Return a digest of the picture's file, "" for `mini://`, whose name says everything. Raises PictureError."""
    uri = original(ref).uri
    if uri.startswith("mini://"):
        return ""
    path = _picture_path(uri, root)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise PictureError(uri, f"cannot be read ({error.strerror})") from error


def picture_format(data: bytes) -> str:
    """Return which of FORMATS a picture's bytes have, by their header. Raises PictureError."""
    with _opened("inside the row", BytesIO(data)) as image:
        return str(image.format)


@contextmanager
def _opened(uri: str, file: str | BytesIO) -> Iterator[Image]:
    """Open the file and check the size in its header. Anything raised inside leaves as a PictureError about `uri`."""
    from PIL import Image

    try:
        # Pillow warns about sizes we bound ourselves, and about broken tags in pictures that are otherwise fine.
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
            _check_size(uri, *image.size)
            yield image
    except PictureError:
        raise
    except Exception as error:  # decoders meet hostile bytes: Pillow raises OSError, SyntaxError, struct.error, ...
        # Only the first line, without the file's name, which the message already has, or the address of the BytesIO.
        detail = first_lines(error).replace(f" {file!r}", "")
        raise PictureError(uri, f"cannot be decoded ({type(error).__name__}: {detail})") from error


def _check_size(uri: str, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise PictureError(uri, f"is empty ({width} x {height} pixels)")
    if width * height > MAX_PIXELS:
        raise PictureError(uri, f"claims {width} x {height} pixels, at most {MAX_PIXELS} are decoded")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(uri, f"is {width} x {height} pixels: sides may differ {MAX_ASPECT} times at most")


def _picture_path(uri: str, root: Path | None) -> Path:
    """Return the file that `uri` names, links followed. Raises PictureError unless it is a regular file in `root`."""
    if "://" in uri or uri.startswith("data:"):
        remedy = "write its path alone" if uri.lower().startswith("file:") else "download it and name the file"
        raise PictureError(uri[:100], f"only files and mini:// pictures are read; {remedy}")
    if root is None:
        raise PictureError(uri, "is a file, and no folder was named to look in (data.source.folder)")
    try:
        folder = root.resolve()
        path = (folder / uri).resolve()
        inside, found = path.is_relative_to(folder), path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, a circle of links
        reason = getattr(error, "strerror", None) or str(error)
        raise PictureError(uri[:100], f"is not a file name ({reason})") from error
    if not inside:
        raise PictureError(uri, f"lies outside {folder} ({PLACE})")
    if not found:
        raise PictureError(uri, f"is not a file in {folder} ({PLACE})")
    return path


def _rgb(image: Image) -> Image:
    """Convert any mode to 8-bit RGB. Raises ValueError if white is not defined (floats, 32-bit integers)."""
    from PIL import Image

    if image.mode in _GREY_16:
        wide = image.convert("I")
        low, high = wide.getextrema()
        if low < 0 or high > 0xFFFF:  # type: ignore[operator]
            raise ValueError(f"grey values {low}..{high} are not 16-bit")
        # 65535 / 257 == 255; the half makes Pillow's truncation round.
        return wide.point(lambda value: value * (1 / 257) + 0.5).convert("L").convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
