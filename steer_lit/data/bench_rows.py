"""The scenarios that a benchmark plays, from any source and as its policies see them, with their pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from steer_lit.data.images import open_image, picture_digest
from steer_lit.data.rows import Quarantine
from steer_lit.data.sources import (
    BenchSplit,
    FileSource,
    MiniSource,
    Place,
    Record,
    Rows,
    blanked,
    content_of,
    cut_after,
)
from steer_lit.files.run_files import QUARANTINE
from steer_lit.numbers import counted, few
from steer_lit.types import ImageRef, Scenario

if TYPE_CHECKING:
    from PIL.Image import Image


log = logging.getLogger(__name__)

# The keys of a config's `data` that BenchRows takes; the others are for training.
READ = ("source", "max_turns", "blank_images", "max_bad_rows")


class BenchRows:
    """The scenarios of a `split` of `source`, in order: "bench", or "rl", which GRPO plays. Read when first asked for.

    A row of a file that repeats an earlier one under whatever id, as far as it is played (`turns_played`, None: to its
    end), is left out: intervals would count it as a dialogue of its own. A row's own system message is used only if the
    run has no `system_prompt`, as in the authors' evaluator. With `blank_images` every picture becomes a white one of
    its size. Up to `max_bad_rows` rows of a file may be bad; they are put aside in `quarantine_dir`/quarantine.jsonl,
    or only counted if that is None.
    """

    def __init__(
        self,
        source: MiniSource | FileSource,
        max_turns: int,
        split: BenchSplit = "bench",
        system_prompt: str = "",
        blank_images: bool = False,
        max_bad_rows: int = 0,
        quarantine_dir: str | None = None,
        turns_played: int | None = None,
    ) -> None:
        self.source = source
        self.max_turns = max_turns
        self.turns_played = turns_played
        self.split = split
        self.system_prompt = system_prompt
        self.blank_images = blank_images
        self._quarantine = Quarantine(
            max_bad_rows, None if quarantine_dir is None else Path(quarantine_dir, QUARANTINE)
        )
        self._digests: dict[ImageRef, str] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Scenario]:
        for number in range(len(self)):
            scenario = cast(Scenario, self._rows[number])
            if self.system_prompt and scenario.system is not None:
                scenario = replace(scenario, system=None)
            yield cast(Scenario, blanked(scenario)) if self.blank_images else scenario

    @property
    def quarantined(self) -> int:
        """The number of rows put aside; 0 before the rows are read."""
        return len(self._quarantine)

    def open_image(self, ref: ImageRef) -> Image:
        """Return the picture as 8-bit RGB, from the source's folder only. Raises PictureError."""
        return open_image(ref, self.source.image_root)

    def picture_digest(self, ref: ImageRef) -> str:
        """Return `images.picture_digest` of the picture, whose file is read only once. Raises PictureError."""
        if ref not in self._digests:
            self._digests[ref] = picture_digest(ref, self.source.image_root)
        return self._digests[ref]

    @cached_property
    def _rows(self) -> Rows:
        if isinstance(self.source, MiniSource):  # all are different
            return self.source.rows(self.split, self.max_turns)
        read = self.source.read(self.split, self.max_turns, self._quarantine)
        given = self.source.fitting(self.split, read, self._quarantine)
        turns, first, repeated = self.turns_played or self.max_turns, dict[object, Record](), list[Place]()
        for (place, _), row in zip(read, given, strict=True):
            if first.setdefault(content_of(cut_after(row, turns)), row) is not row:
                repeated.append(place)
        rows = list(first.values())
        if repeated:
            one_file = len({file for (file, _), _ in read}) == 1
            which = few([f"{number}" if one_file else f"{number} of {file}" for file, number in repeated])
            far = "" if turns >= self.max_turns else f" in what is played, {counted(turns, 'turn')}"
            said = "%s left out (%s), the same as earlier rows%s: each is played once"
            log.warning(said, counted(len(repeated), "row"), which, far)
        with_own = sum(cast(Scenario, row).system is not None for row in rows)
        if with_own and self.system_prompt:
            said = "%d of %d rows bring a system message; system_prompt is used instead, empty it to use theirs"
            log.warning(said, with_own, len(rows))
        return rows
