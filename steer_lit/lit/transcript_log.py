"""A handful of dialogues in TensorBoard or W&B, to read while a run trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from steer_lit.lit.grpo_module import GRPOModule
from steer_lit.lit.sft_module import SFTModule
from steer_lit.lit.transcripts import Transcript, page, pictures
from steer_lit.policy.qwen_vl import QwenVL

PICTURES_SHOWN = 4


class TranscriptLog(Callback):
    """Shows `dialogues` played dialogues, pictures included.

    GRPO: from the rollouts of the first and every `every_n_steps`-th step. SFT: from the replayed held-out dialogues,
    at each validation.
    """

    def __init__(self, dialogues: int = 4, every_n_steps: int = 10) -> None:
        self.dialogues = dialogues
        self.every_n_steps = every_n_steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(pl_module, GRPOModule) and (batch_idx == 0 or (batch_idx + 1) % self.every_n_steps == 0):
            self._show(trainer, pl_module.policy, _spread(pl_module.rollouts, self.dialogues))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, SFTModule):
            self._show(trainer, pl_module.policy, pl_module.replayed[: self.dialogues])

    def _show(self, trainer: Trainer, policy: QwenVL, dialogues: Sequence[Transcript]) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                _show_table(logger, policy, dialogues, trainer.global_step)
            if not isinstance(logger, TensorBoardLogger) or not trainer.is_global_zero:
                continue
            for number, transcript in enumerate(dialogues, start=1):
                logger.experiment.add_text(f"transcripts/{number}", page(transcript), trainer.global_step)
                for place, ref in enumerate(pictures(transcript)[:PICTURES_SHOWN], start=1):
                    pixels = np.asarray(policy.pictures.open_image(ref))
                    tag = f"transcripts/{number}/picture{place}"
                    logger.experiment.add_image(tag, pixels, trainer.global_step, dataformats="HWC")


def _show_table(logger: WandbLogger, policy: QwenVL, dialogues: Sequence[Transcript], step: int) -> None:
    """A table of the dialogues, a row each, and their pictures."""
    if not dialogues:
        return
    numbered = list(enumerate(dialogues, start=1))
    rows = [[str(number), page(transcript)] for number, transcript in numbered]
    logger.log_text("transcripts/dialogues", ["number", "dialogue"], rows, step=step)
    opened = {
        f"{number}, picture {place}": ref
        for number, transcript in numbered
        for place, ref in enumerate(pictures(transcript)[:PICTURES_SHOWN], start=1)
    }
    if opened:
        images = [policy.pictures.open_image(ref) for ref in opened.values()]
        logger.log_image("transcripts/pictures", images, step=step, caption=list(opened))


def _spread(rollouts: Sequence[Transcript], count: int) -> list[Transcript]:
    """`count` evenly spaced rollouts, so that several groups are seen."""
    step = max(1, len(rollouts) // max(1, count))
    return list(rollouts[::step][:count])
