"""Says whether a callback ended a run before its last step, and which one as far as that is known."""

from __future__ import annotations

from lightning import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer

_ADVICE = " Signaling Trainer to stop."  # ends each reason of EarlyStopping's


def early_stop(trainer: Trainer) -> str:
    """Return where and by what a fit was ended early, such as `at step 3 of 60 by EarlyStopping (...)`, or ""."""
    steps, epochs = trainer.max_steps, trainer.max_epochs or -1
    # Lightning counts an epoch that was broken off as completed.
    all_epochs = trainer.current_epoch >= epochs > 0 and trainer.is_last_batch
    if trainer.global_step >= steps > 0 or all_epochs:
        return ""
    whole = f"of {steps}" if steps > 0 else f"in epoch {max(1, trainer.current_epoch)} of {epochs}"
    named = next(filter(None, map(_by, trainer.callbacks)), "by a callback (trainer.should_stop was set)")
    return f"at step {trainer.global_step} {whole} {named}"


def _by(callback: Callback) -> str:
    name = type(callback).__name__
    if isinstance(callback, EarlyStopping) and (reason := callback.stopping_reason_message):
        return f"by {name} ({reason.removesuffix(_ADVICE).rstrip('.')})"
    left = callback.time_remaining() if isinstance(callback, Timer) else None
    return f"by {name} (its time was up)" if left is not None and left <= 0 else ""
