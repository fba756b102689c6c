"""Opens many pictures before anything depends on them, to find those that do not open."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection
from multiprocessing.pool import ThreadPool
from pathlib import Path

from rich.console import Console
from rich.progress import track

from steer_lit.data.images import PictureError, open_image
from steer_lit.ranks import first_rank
from steer_lit.types import ImageRef

_AT_ONCE = min(8, os.cpu_count() or 1)  # pictures decoded side by side; each of several ranks does the same


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
    with warnings.catch_warnings(action="ignore"), ThreadPool(_AT_ONCE) as pool:
        looked = track(
            zip(pictures, pool.imap(fault, pictures, chunksize=4), strict=True),
            "looking at every picture",
            total=len(pictures),
            console=console,
            transient=True,
            disable=not (pictures and first_rank() and console.is_terminal),
        )
        return {ref: error for ref, error in looked if error is not None}
