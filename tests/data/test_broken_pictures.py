"""Many pictures looked at before a run."""

from __future__ import annotations

import warnings
from pathlib import Path
from threading import Barrier

import pytest
from PIL import Image

from steer_lit.data import broken_pictures as module
from steer_lit.data.images import PLACE, open_image
from steer_lit.types import ImageRef


def test_many_pictures_are_checked_in_parallel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding 100,000 photos one by one took half an hour."""
    whole = ImageRef("whole.png")
    Image.new("RGB", (6, 4)).save(tmp_path / whole.uri)
    refs = [whole, *(ImageRef(f"{number}.png") for number in range(39))]
    both = Barrier(2, timeout=60)

    def open_after_meeting(ref: ImageRef, root: Path | None) -> Image.Image:
        both.wait()
        return open_image(ref, root)

    monkeypatch.setattr(module, "_AT_ONCE", 2)
    monkeypatch.setattr(module, "open_image", open_after_meeting)
    filters = list(warnings.filters)
    broken = module.broken_pictures(refs, tmp_path)
    assert list(broken) == refs[1:]
    assert str(broken[refs[1]]) == f"picture '0.png': is no file in {tmp_path} ({PLACE})"
    assert warnings.filters == filters
