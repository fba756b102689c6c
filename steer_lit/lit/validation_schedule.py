"""The validations that Lightning alone would skip: after a run's last step, and one due when the run was saved.

Lightning has no public interface for either, so this module reads and sets counters and flags of its loops.
"""

from __future__ import annotations

from lightning import Trainer


def at_end(trainer: Trainer) -> bool:
    """Return whether the run's last step has been taken."""
    last_epoch = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
    return last_epoch or trainer.global_step >= trainer.max_steps > 0


def owes_validation(trainer: Trainer) -> bool:
    """Return whether a resumed run was saved between a step and its validation, which Lightning would skip.

    Lightning does continue a validation that had begun, after the batches it had counted. Their results are lost, so
    that validation is made to start over.
    """
    loop = trainer.fit_loop.epoch_loop
    if loop.val_loop.restarted_mid_evaluation:
        loop.val_loop.restarting = False
    if not loop.restarted_on_train_batch_end or not trainer.enable_validation:
        return False
    # Lightning's own rule for a step that was not the run's last.
    if (epochs := trainer.check_val_every_n_epoch) is None:
        return (loop.total_batch_idx + 1) % trainer.val_check_batch == 0
    return (trainer.current_epoch + 1) % epochs == 0 and (loop.batch_idx + 1) % trainer.val_check_batch == 0


def validate(trainer: Trainer) -> None:
    """Run the whole validation, as Lightning does after a step."""
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.restarting = False
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True
