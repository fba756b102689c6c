"""Opens the pictures that a report shows: those that were judged, and no others of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from steer_lit.bench.manifest import Manifest
from steer_lit.data.images import PictureError, open_image, original, picture_digest
from steer_lit.data.sources import FileSource
from steer_lit.types import ImageRef, OpenImage, Split

if TYPE_CHECKING:
    from PIL.Image import Image

_UNKNOWN = "may be another than was judged, since a joined run has not recorded which"


def picture_opener(data: Mapping[str, Any], started_in: Path = Path()) -> OpenImage:
    """Return what opens the pictures of a config's `data`, whose paths are relative to the folder `started_in`.

    Raises ConfigError if its files agree on no folder.
    """
    root = _folder(data)
    return partial(open_image, root=None if root is None else started_in / root)


def _folder(data: Mapping[str, Any]) -> Path | None:
    source = data.get("source")
    given: dict[str, Any] = source if isinstance(source, dict) else {}
    files = {key: given[key] for key in get_args(Split) if isinstance(given.get(key), str | list)}
    folder = given.get("folder")
    return FileSource(**files, folder=folder if isinstance(folder, str) else None).image_root


def judged_pictures(runs: Sequence[Manifest]) -> tuple[OpenImage, list[str]]:
    """Return a function that opens the pictures of one or several benchmarks, and why it refuses some of them: their
    files have changed, or one name stands for several. Each is looked for in the folders of all `runs`.

    Pictures of a run that recorded no digests are opened by name alone, and not at all if it is joined with runs whose
    pictures lie elsewhere.
    """
    folders = list(dict.fromkeys(folder.resolve() for run in runs if (folder := _folder(run.data))))
    unknown = len(folders) > 1 and any(run.pictures is None for run in runs)
    marks: dict[str, set[str]] = {}
    for uri, mark in (each for run in runs for each in (run.pictures or {}).items()):
        marks.setdefault(uri, set()).add(mark)
    found: dict[str, Path] = {}
    faults: dict[str, str] = {}
    for uri, judged in marks.items():
        there = {folder: mark for folder in folders if (mark := _digest(uri, folder))}
        if len(judged) > 1:
            faults[uri] = "means different pictures in the joined runs"
        elif same := [folder for folder, mark in there.items() if mark in judged]:
            found[uri] = same[0]
        elif there:
            faults[uri] = "has changed since it was judged"

    def opened(ref: ImageRef) -> Image:
        if unknown and not original(ref).uri.startswith("mini://"):
            raise PictureError(ref.uri, _UNKNOWN)
        if (fault := faults.get(ref.uri)) is not None:
            raise PictureError(ref.uri, fault)
        return open_image(ref, found.get(ref.uri, next(iter(folders), None)))

    told = [str(PictureError(uri, fault)) for uri, fault in faults.items()]
    return opened, [f"picture files, if there are any: {_UNKNOWN}"] if unknown else told


def _digest(uri: str, folder: Path) -> str:
    """Return the digest of the picture in a folder, "" if there is none."""
    try:
        return picture_digest(ImageRef(uri), folder)
    except PictureError:
        return ""
