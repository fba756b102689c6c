"""Opens the pictures that a report shows: those that were played, and no others of their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from steer_lit.bench.manifest import Manifest
from steer_lit.bench.provenance import saved_config
from steer_lit.data.images import PictureError, open_image, original, picture_digest
from steer_lit.data.sources import FileSource
from steer_lit.files.run_files import PICTURES, saved_facts
from steer_lit.types import ImageRef, OpenImage, Split

if TYPE_CHECKING:
    from PIL.Image import Image

NOT_SHOWN = ("not shown", "pictures that are not, or may not be, those of the run")
_UNKNOWN = "may be another than was judged, since a joined run has not recorded which"


def picture_opener(data: Mapping[str, Any]) -> OpenImage:
    """Return what opens the pictures of a config's `data`. Raises ConfigError if its files agree on no folder."""
    return partial(open_image, root=_folder(data))


def _folder(data: Mapping[str, Any]) -> Path | None:
    source = data.get("source")
    given: dict[str, Any] = source if isinstance(source, dict) else {}
    files = {key: given[key] for key in get_args(Split) if isinstance(given.get(key), str | list)}
    folder = given.get("folder")
    return FileSource(**files, folder=folder if isinstance(folder, str) else None).image_root


def trained_pictures(run: Path, shown: Iterable[str], started_in: Path = Path()) -> tuple[OpenImage, list[str]]:
    """Return what `judged_pictures` does, for those `shown` in the rollouts of a GRPO run."""
    marks = saved_facts(run / PICTURES)  # {} of a run that recorded none
    recorded = {uri: marks[uri] for uri in dict.fromkeys(shown) if uri in marks}
    return _recorded_pictures([(saved_config(run).get("data", {}), recorded)], started_in)


def judged_pictures(runs: Sequence[Manifest], started_in: Path = Path()) -> tuple[OpenImage, list[str]]:
    """Return a function that opens the pictures of one or several benchmarks, and why it refuses some of them: their
    files have changed, or one name stands for several. Each is looked for in the folders of all `runs`, which are
    relative to `started_in`.

    Pictures of a run that recorded no digests are opened by name alone, and not at all if it is joined with runs whose
    pictures lie elsewhere.
    """
    return _recorded_pictures([(run.data, run.pictures) for run in runs], started_in)


def _recorded_pictures(
    runs: Sequence[tuple[Mapping[str, Any], Mapping[str, str] | None]], started_in: Path
) -> tuple[OpenImage, list[str]]:
    folders = list(dict.fromkeys((started_in / folder).resolve() for data, _ in runs if (folder := _folder(data))))
    unknown = len(folders) > 1 and any(recorded is None for _, recorded in runs)
    marks: dict[str, set[str]] = {}
    for uri, mark in (each for _, recorded in runs for each in (recorded or {}).items()):
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
            faults[uri] = "has changed since the run"

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
