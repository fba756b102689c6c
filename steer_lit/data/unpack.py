"""Pictures that lie inside rows, taken out into files that rows can name.

`datasets` and verl keep a picture as `{"bytes": ..., "path": ...}`, chat clients as `data:image/png;base64,...`. Rows
of a run name files alone (`images.py`), so whoever brings such rows converts them once (`convert.py`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from steer_lit.atomic import replacing
from steer_lit.data.content import DATA_URL
from steer_lit.data.images import PictureError, picture_format
from steer_lit.errors import RowError

_NAMED = ("image", "images", "image_url", "url", "path", "value")  # keys whose text is a picture's name


@dataclass(frozen=True, slots=True)
class PictureFolder:
    """Where the pictures of the rows in `out` go: a folder beside it, where each lies once under a digest of itself.

    `names` are those saved so far, as the rows of `out` name them.
    """

    out: Path
    names: set[str] = field(default_factory=set)

    @property
    def path(self) -> Path:
        return self.out.with_name(f"{self.out.stem}_pictures")

    def unpacked(self, value: object, source: str, number: int) -> object:
        """The row with a file's name in place of each picture inside it. Raises RowError where one is no picture."""
        return self._unpacked(value, "", "", source, number)

    def _unpacked(self, value: object, key: str, place: str, source: str, number: int) -> object:
        try:
            if isinstance(value, Mapping):
                if isinstance(data := value.get("bytes"), bytes):
                    return self._save(data)
                if "bytes" in value and data is None and isinstance(value.get("path"), str):
                    return value["path"]
                return {
                    name: self._unpacked(item, str(name), f"{place}.{name}" if place else str(name), source, number)
                    for name, item in value.items()
                }
            if isinstance(value, list | tuple):
                items = enumerate(value)
                return [self._unpacked(item, key, f"{place}[{index}]", source, number) for index, item in items]
            if isinstance(value, str) and key in _NAMED and value.startswith(DATA_URL):
                return self._save(_decoded(value))
        except PictureError as error:
            raise RowError(source, number, place, str(error)) from error
        return value

    def _save(self, data: bytes) -> str:
        name = f"{self.path.name}/{hashlib.sha256(data).hexdigest()[:32]}.{picture_format(data).lower()}"
        if name not in self.names:
            with replacing(self.out.parent / name) as part:
                part.write_bytes(data)
            self.names.add(name)
        return name


def _decoded(url: str) -> bytes:
    head, comma, text = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise PictureError(url[:60], "must go on with ;base64, and the picture")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError(url[:60], f"is no base64 ({error})") from error
