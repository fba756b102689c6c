"""The validations that Lightning alone would skip, after a run's last step and one due when the run was saved; the
epochs that it counts wrongly in a checkpoint.

Lightning has no public interface for either, so this module reads and sets counters and flags of its loops.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import Trainer

from steer_lit.lit.training_checkpoint import PLACE


def at_end(trainer: Trainer, epochs: int, step: int) -> bool:
    """Return whether a run has nothing left to train after this number of whole epochs and steps.

    Of a resumed run Lightning tells for itself, except of one saved in the validation after its last step: to Lightning
    that epoch is trained but not ended, and it would begin another. (Its own count of epochs cannot be asked: for a run
    saved after an epoch's last step it has moved on by now.)
    """
    return epochs >= (trainer.max_epochs or -1) > 0 or step >= trainer.max_steps > 0


def correct_epoch_counts(checkpoint: dict[str, Any]) -> None:
    """Count the epochs of a checkpoint by the data's own place.

    Lightning counts one as completed that was broken off, after `max_steps` or an early stop, and one fewer as begun
    after going on from the last step of an epoch. A run that goes on would end an epoch too early or too late, and log
    other epochs than one that was not stopped.
    """
    place = checkpoint[PLACE]
    begun = place["epoch"] + bool(place["position"])
    ended = place["epoch"] - (not place["position"] and _saved_in_step(checkpoint))
    for counts in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        counts.update(ready=begun, started=begun, processed=ended, completed=ended)


def _saved_in_step(checkpoint: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint was saved before its step was logged, and validated if that was due."""
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    return batches["completed"] < batches["processed"]


def owes_validation(trainer: Trainer, epochs: int, validated_at: int) -> bool:
    """Return whether a resumed run, saved after this number of whole epochs, has a validation to make up.

    One is due after its last step, and the last complete one, after step `validated_at`, was another. Lightning's own
    account does not survive a second failure of that validation. It would also go on in the middle of a validation,
    without the results before: it is kept from that.
    """
    loop = trainer.fit_loop.epoch_loop
    loop.val_loop.reset_restart_stage()
    if not trainer.enable_validation or trainer.global_step == validated_at:
        return False
    # Lightning's own rule for a step that was not the run's last.
    batches = loop.batch_progress
    if (every := trainer.check_val_every_n_epoch) is None:
        return batches.total.ready % trainer.val_check_batch == 0
    ready = batches.current.ready or trainer.num_training_batches  # none: an epoch's first step failed
    return (epochs + (ready < trainer.num_training_batches)) % every == 0 and ready % trainer.val_check_batch == 0


def validate(trainer: Trainer) -> None:
    """Run the whole validation, as Lightning does after a step."""
    trainer.validating = True
    loop = trainer.fit_loop.epoch_loop.val_loop
    loop.restarting = False
    loop.run()
    loop._has_run = False  # Lightning would take an epoch saved in its last validation for one with nothing left to end
    trainer.training = True
