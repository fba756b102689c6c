"""A handful of dialogues in TensorBoard or W&B, to read while a run trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from steer_lit.lit.grpo_module import GRPOModule
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.lit.sft_module import SFTModule
from steer_lit.lit.transcripts import page, pictures
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.rollout.logged import LoggedTrajectory
from steer_lit.types import ImageRef

PICTURES_SHOWN = 4
Shown = Sequence[tuple[LoggedTrajectory, Sequence[str]]]  # dialogues, each with its stored answers, if any


class TranscriptLog(Callback):
    """Shows `dialogues` played dialogues, pictures included.

    GRPO: from the rollouts of the first and every `every_n_batches`-th batch. SFT: from the replayed held-out
    dialogues, at each validation.
    """

    def __init__(self, dialogues: int = 4, every_n_batches: int = 10) -> None:
        self.dialogues = dialogues
        self.every_n_batches = every_n_batches

    def on_train_batch_end(
        self, trainer: Trainer, module: PolicyModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not isinstance(module, GRPOModule):
            return
        batches = trainer.global_step // module.steps_per_batch  # so far; `batch_idx` begins anew in each epoch
        if batches == 1 or batches % self.every_n_batches == 0:
            spread = _spread(module.rollouts, self.dialogues)
            self._show(trainer, module.policy, [(rollout, ()) for rollout in spread])

    def on_validation_end(self, trainer: Trainer, module: PolicyModule) -> None:
        if isinstance(module, SFTModule):
            self._show(trainer, module.policy, module.replayed[: self.dialogues])

    def _show(self, trainer: Trainer, policy: QwenVL, dialogues: Shown) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and dialogues:
                rows = [[page(*dialogue)] for dialogue in dialogues]
                logger.log_text("transcripts/dialogues", ["dialogue"], rows, step=trainer.global_step)
                uris = [uri for dialogue, _ in dialogues for uri in pictures(dialogue)[:PICTURES_SHOWN]]
                images = [policy.pictures.open_image(ImageRef(uri)) for uri in uris]
                logger.log_image("transcripts/pictures", images, step=trainer.global_step, caption=uris)
            if not isinstance(logger, TensorBoardLogger) or not trainer.is_global_zero:
                continue
            for number, (dialogue, expected) in enumerate(dialogues, start=1):
                logger.experiment.add_text(f"transcripts/{number}", page(dialogue, expected), trainer.global_step)
                for place, uri in enumerate(pictures(dialogue)[:PICTURES_SHOWN], start=1):
                    pixels = np.asarray(policy.pictures.open_image(ImageRef(uri)))
                    tag = f"transcripts/{number}/picture{place}"
                    logger.experiment.add_image(tag, pixels, trainer.global_step, dataformats="HWC")


def _spread(rollouts: Sequence[LoggedTrajectory], count: int) -> list[LoggedTrajectory]:
    """Return `count` evenly spaced rollouts, so that several groups are seen."""
    step = max(1, len(rollouts) // max(1, count))
    return list(rollouts[::step][:count])
