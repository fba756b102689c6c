"""Saves pictures that are embedded in rows as files that rows can name.

`datasets` and verl keep a picture as `{"bytes": ..., "path": ...}`, with the bytes in base64 in JSON; chat clients keep
it as `data:image/png;base64,...`. The rows of a run may only name files (`images.py`), so such rows are converted once
(`convert.py`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from steer_lit.data.content import DATA_URL
from steer_lit.data.images import PictureError, picture_format
from steer_lit.errors import RowError

_NAMED = ("image", "images", "image_url", "url", "path", "value")  # keys whose text is a picture's name


@dataclass(frozen=True, slots=True)
class PictureFolder:
    """The folder beside `out` for the pictures of its rows; each picture is saved once, named by its digest.

    `names` are the pictures saved so far, as the rows of `out` name them.
    """

    out: Path
    names: set[str] = field(default_factory=set)

    @property
    def path(self) -> Path:
        return self.out.with_name(f"{self.out.stem}_pictures")

    def unpacked(self, value: object, source: str, number: int) -> object:
        """Return the row with a file name in place of each embedded picture. Raises RowError if one is no picture."""
        return self._unpacked(value, "", "", partial(RowError, source, number))

    def _unpacked(self, value: object, key: str, place: str, error: Callable[[str, str], RowError]) -> object:
        """Unpack `value`, which stands at `place`, under `key` as the last key on the way."""
        try:
            if isinstance(value, Mapping):
                if isinstance(data := value.get("bytes"), bytes):
                    return self._save(data)
                if isinstance(data, str) and key in _NAMED:  # as JSON has them
                    return self._save(_decoded(f"{DATA_URL};base64,{data}"))
                if "bytes" in value and data is None:  # `datasets` has the path but has not read the file
                    return value.get("path")
                within = f"{place}." if place else ""
                return {name: self._unpacked(item, name, f"{within}{name}", error) for name, item in value.items()}
            if isinstance(value, list | tuple):
                return [self._unpacked(item, key, f"{place}[{at}]", error) for at, item in enumerate(value)]
            if isinstance(value, str) and key in _NAMED and value.startswith(DATA_URL):
                return self._save(_decoded(value))
        except PictureError as bad:
            raise error(place, str(bad)) from bad
        return value

    def _save(self, data: bytes) -> str:
        name = f"{self.path.name}/{hashlib.sha256(data).hexdigest()[:32]}.{picture_format(data).lower()}"
        if name not in self.names:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.out.parent / name).write_bytes(data)  # half a file does no harm: nothing names it before `out` exists
            self.names.add(name)
        return name


def _decoded(url: str) -> bytes:
    head, comma, text = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise PictureError(url[:60], "must go on with ;base64, and the picture")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise PictureError(url[:60], f"is no base64 ({error})") from error
