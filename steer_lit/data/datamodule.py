"""The only datamodule: batches of any source's rows for SFT, GRPO, grounding or pretraining, and for validation."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningDataModule

from steer_lit.data.images import open_image, picture_digest
from steer_lit.data.rows import Quarantine
from steer_lit.data.sources import (
    FileSource,
    MiniSource,
    Placed,
    Record,
    Rows,
    Unfit,
    asked_digests,
    bare_answers,
    blanked,
    content_of,
    cut_after,
    pictures_of,
    told_of_bare,
)
from steer_lit.data.steps import Cursor, SliceLoader, StepLoader, blocks_of, hold_out, hold_out_least
from steer_lit.digests import digest
from steer_lit.errors import ConfigError, Problem, SteerError
from steer_lit.files.atomic import replace_text
from steer_lit.files.run_files import PICTURES, QUARANTINE, TRAINED_ROWS
from steer_lit.numbers import counted
from steer_lit.ranks import first_rank, several_ranks
from steer_lit.stages import STAGES, Stage
from steer_lit.types import Dialogue, ImageRef

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)


class SteerDataModule(LightningDataModule):
    """Rows of `source`, in steps of `batch_size` over all ranks.

    `stage` picks what the steps hold: scenarios ("grpo") or dialogues (the others). `seed` orders the epochs. Of
    STEER-mini it also draws the `val_size` held-out rows; those of a file are the same whatever seed and stage. With
    `blank_images` every picture becomes a white one of its size. Up to `max_bad_rows` rows of a file may be bad. The
    ranges of these numbers are checked with the config.

    `unfit` and `turns_played` are set before the fit. `unfit` returns why the policy cannot use a row of a file, or
    None. If `unfit` itself is None, every row is used. `turns_played` is how many of a scenario's are played, None for
    all.
    """

    def __init__(
        self,
        source: MiniSource | FileSource,
        stage: Stage,
        batch_size: int,
        seed: int = 0,
        val_size: int = 0,
        max_turns: int = 10,
        max_bad_rows: int = 0,
        blank_images: bool = False,
    ) -> None:
        super().__init__()
        self.source = source
        self.stage = stage
        self.batch_size = batch_size
        self.val_size = val_size
        self.max_turns = max_turns
        self.blank_images = blank_images
        self._quarantine = Quarantine(max_bad_rows)
        self.unfit: Unfit | None = None
        self.turns_played: int | None = None
        self._cursor = Cursor(seed)
        self._steps: StepLoader[Record] | None = None

    def read_files(self, quarantine_dir: Path) -> None:
        """Read a file's rows now, as far as that needs no policy, so that faults show before weights are loaded.

        Bad rows, and those that `unfit` refuses later, are put aside in the folder's quarantine.jsonl; without this
        call they are only counted. `setup` writes a list of the rows to train on beside it, and for GRPO the digests of
        all pictures. Every rank reads, the first one writes. Raises what `FileSource.read` raises.
        """
        self._quarantine.path = quarantine_dir / QUARANTINE if first_rank() else None
        if isinstance(self.source, FileSource):
            self._read  # noqa: B018

    def setup(self, stage: str) -> None:
        """Read the rows of the fit before anything is trained on them.

        Raises SteerError if the processes of the run have read different rows.
        """
        if stage != "fit":
            return
        self._check_ranks_agree()  # also reads the rows and facts now, while every picture is there
        if self._place[0] == 0:
            log.info(self.describe())
            if isinstance(self.source, FileSource):
                self._warn_of([self._rows[number] for number in range(len(self._rows))])
                if self._quarantine.path is not None:  # for benchmarks of what is trained
                    learned = (self._rows[number] for block in self._blocks[0] for number in block)
                    marks = {mark for row in learned for mark in asked_digests(row)}
                    path = self._quarantine.path.with_name(TRAINED_ROWS)
                    replace_text(path, "".join(f"{mark}\n" for mark in sorted(marks)))
                    if self.stage == "grpo":  # for reports of its rollouts
                        replace_text(path.with_name(PICTURES), json.dumps(self._pictures, indent=1) + "\n")

    def _warn_of(self, rows: Sequence[Record]) -> None:
        """Warn of rows that would be learned from as often as they stand there, and of answers without their form."""
        turns = self.turns_played or self.max_turns  # files are cut already
        played = [row if isinstance(row, Dialogue) else cut_after(row, turns) for row in rows]
        if repeated := len(rows) - len(set(map(content_of, played))):
            split = "sft" if self.stage == "sft" else "rl"
            short = f", cut after {counted(turns, 'turn')} (rollout.max_turns)" if turns < self.max_turns else ""
            log.warning("data.source.%s: repeated rows%s: %s of %s", split, short, f"{repeated:,}", f"{len(rows):,}")
        if self.stage == "sft":
            bare, answers = map(sum, zip(*(bare_answers(cast(Dialogue, row)) for row in rows), strict=True))
            if bare:
                log.warning(told_of_bare(bare, answers))

    def _check_ranks_agree(self) -> None:
        """Compare the rows of all processes: each takes its share of what it has read itself."""
        mine = (self._facts, self.train_rows)
        if not several_ranks():
            return
        found: list[tuple[str, int]] = [mine] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(found, mine)
        if other := [rank for rank, theirs in enumerate(found) if theirs != found[0]]:
            raise SteerError(
                f"process {other[0]} has read other rows or pictures than process 0 ({found[other[0]][1]:,} and "
                f"{found[0][1]:,} rows to train on): start again once the files are whole, and the same on every node"
            )

    def train_dataloader(self) -> StepLoader[Record]:
        """Return the steps from the cursor on; each item is this rank's `list[Dialogue]` or `list[Scenario]`."""
        if self._steps is not None:
            self._steps.settle()
        blocks, _ = self._blocks
        rank, world_size = self._place
        if min(self.batch_size, sum(map(len, blocks))) < world_size:
            rows = counted(sum(map(len, blocks)), "row")
            remedy = f"must give each of the {world_size} ranks a row, and there is no more than {rows} to train on"
            raise ConfigError([Problem("data.batch_size", self.batch_size, remedy)])
        trainer = self.trainer
        self._steps = StepLoader(self._fetch, blocks, self._cursor, self.batch_size, rank, world_size, trainer)
        return self._steps

    def val_dataloader(self) -> SliceLoader[Record]:
        """Return the held-out rows in steps, in a fixed order."""
        return SliceLoader(self._fetch, self._blocks[1], self.batch_size, *self._place)

    def open_image(self, ref: ImageRef) -> Image:
        """Return the picture as 8-bit RGB, from the source's folder only. Raises PictureError."""
        return open_image(ref, self.source.image_root)

    def state_dict(self) -> dict[str, int | str]:
        """Return the stage, the cursor after the last finished step, the number of training rows, the rows' digest."""
        cursor = self._cursor if self._steps is None else self._steps.finished()
        place = {"seed": cursor.seed, "epoch": cursor.epoch, "position": cursor.position, "rows": self.train_rows}
        return {"stage": self.stage, **place, "facts": self._facts}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where `state_dict` stopped. Raises SteerError as `check_resumable` does."""
        self.check_resumable(state_dict, self.train_rows)
        if self._steps is not None:
            self._steps.settle()
        self._cursor.epoch, self._cursor.position = state_dict["epoch"], state_dict["position"]

    def check_resumable(self, state_dict: Mapping[str, Any], rows: int | None = None) -> None:
        """Raise SteerError if `state_dict` belongs to other rows or to another order.

        `rows` is the number of training rows; that of a file is not known without a policy, which may put rows aside.
        """
        if rows is None:
            rows = self.train_rows if isinstance(self.source, MiniSource) else state_dict["rows"]
        goes_on = "Use its experiment and data settings, or start anew from its adapter"
        remedy = f"the epoch it stopped in cannot be continued. {goes_on}"
        for key, here in (("rows", rows), ("seed", self._cursor.seed)):
            if state_dict[key] != here:
                raise SteerError(
                    f"the checkpoint's training data has {key}={state_dict[key]}, this run's has {key}={here}: {remedy}"
                )
        if state_dict["facts"] != self._facts:
            raise SteerError(
                "the checkpoint's training data has other rows than this run's (data.source, data.max_turns and "
                f"data.blank_images make them, and their files): {remedy}"
            )

    def teardown(self, stage: str) -> None:
        """Move the cursor past the finished steps while the Trainer still knows their count."""
        if stage == "fit" and self._steps is not None:
            self._steps.settle()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return the batch unchanged: rows hold no tensors, and Lightning's own transfer refuses frozen records."""
        return batch

    @property
    def train_rows(self) -> int:
        return sum(map(len, self._blocks[0]))

    @property
    def val_rows(self) -> int:
        return sum(map(len, self._blocks[1]))

    def describe(self) -> str:
        """Return one line for the log, such as `data: 1,960 scenarios to train on, 40 held out, 3 put aside`."""
        learnt_from = counted(self.train_rows, "scenario" if self.stage == "grpo" else "dialogue")
        return f"data: {learnt_from} to train on, {self.val_rows:,} held out, {len(self._quarantine):,} put aside"

    @cached_property
    def _rows(self) -> Rows:
        split = STAGES[self.stage].learns_from
        if not isinstance(self.source, FileSource):
            return self.source.rows(split, self.max_turns)
        return self.source.fitting(split, self._read, self._quarantine, self.unfit)

    @cached_property
    def _read(self) -> list[Placed]:
        """(place, record) of each row of a file, before `unfit` has looked at it."""
        assert isinstance(self.source, FileSource)
        return self.source.read(STAGES[self.stage].learns_from, self.max_turns, self._quarantine)

    @cached_property
    def _facts(self) -> str:
        """A digest of what determines the rows: a few numbers for made rows, the rows and their pictures for a file.

        Raises PictureError if a picture is gone.
        """
        split, source = STAGES[self.stage].learns_from, self.source
        if isinstance(source, FileSource):
            rows = [digest(repr(replace(record, id="")), 16) for _, record in self._read]  # ids may be line numbers
            return digest(repr((split, rows, list(self._pictures.items()), self.blank_images)), 16)
        made = (source.seed, source.mean_turns, source.size(split), self.max_turns)
        return digest(repr((split, *made, self.blank_images)), 16)

    @cached_property
    def _pictures(self) -> dict[str, str]:
        """The digest of each picture of a file's rows, by its uri, sorted. Raises PictureError."""
        pictures = {ref for _, record in self._read for ref in pictures_of(record)}
        return {
            uri: picture_digest(ImageRef(uri), self.source.image_root) for uri in sorted(ref.uri for ref in pictures)
        }

    @cached_property
    def _blocks(self) -> tuple[list[range], list[range]]:
        """(train, val) blocks of row numbers."""
        try:
            if isinstance(rows := self._rows, list):  # a file's
                # Among all that were read, since stages refuse different ones, and by turn after turn, since stages
                # may cut rows after different numbers of turns.
                read = ["".join(asked_digests(row)) for _, row in self._read]
                return hold_out_least(read, self.val_size, ["".join(asked_digests(row)) for row in rows])
            return hold_out(blocks_of(len(rows), self.source.block), self.val_size, self._cursor.seed)
        except ValueError as error:
            raise ConfigError([Problem("data.val_size", self.val_size, f"{error}{self._quarantine.told()}")]) from error

    @property
    def _place(self) -> tuple[int, int]:
        """(rank, world size)"""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _fetch(self, number: int) -> Record:
        record = self._rows[number]
        return blanked(record) if self.blank_images else record
