"""`<run>/checkpoints/last.ckpt`, kept up to date: the checkpoint from which a stopped run goes on."""

from __future__ import annotations

import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from steer_lit.files.run_files import LAST
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.terminal.stdout import stop_unread_by


class LastCheckpoint(Checkpoint):
    """Writes `<run>/checkpoints/last.ckpt` every `every_n_steps` optimizer steps, at a run's end, and when stopped.

    A scheduler's SIGTERM, Ctrl-C, or a closed pipe on standard output (`| tee`, which Ctrl-C ends as well) stops a run
    after the current step; a second Ctrl-C, at once. Several ranks all stop after the step in which one of them
    received either signal.

    Lightning's ModelCheckpoint takes manual optimisation for a mistake, warns at length, and does not save at the end.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self.interrupted = False  # by Ctrl-C or a closed pipe
        self.unread = False  # by a closed pipe: nobody reads the output
        self._terminated = False  # by SIGTERM, of several ranks
        self._saved_at = 0
        self._sigint_before: Any = None  # the handler of Ctrl-C before this callback's
        self._sigterm_before: Any = None  # Lightning's handler of SIGTERM, which notes that the signal came
        self._only_rank = self._first_rank = True

    def on_train_start(self, trainer: Trainer, module: PolicyModule) -> None:
        """Listen from now on: before this there is nothing to save."""
        self._saved_at = trainer.global_step
        self._only_rank, self._first_rank = trainer.world_size == 1, trainer.is_global_zero
        stop_unread_by(self._stop_unread)
        if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
            return
        self._sigint_before, self._sigterm_before = map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))
        signal.signal(signal.SIGTERM, self._terminate)
        if callable(self._sigint_before):  # a shell's background job ignores Ctrl-C, and goes on ignoring it
            signal.signal(signal.SIGINT, self._interrupt)

    def on_train_batch_end(
        self, trainer: Trainer, module: PolicyModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Not `global_step % n == 0`: with several epochs per batch, a training step takes several optimizer steps.
        due = trainer.global_step // self.every_n_steps > self._saved_at // self.every_n_steps
        any_of = partial(trainer.strategy.reduce_boolean_decision, all=False)
        # If Ctrl-C is pressed while the ranks agree, it counts for the next step and must not be overwritten here.
        interrupted = any_of(self.interrupted)
        stops = any_of(interrupted or self._terminated or trainer.received_sigterm)
        if interrupted:
            self.interrupted = True
        if due or stops:
            _log_step(trainer, module)
            self.save(trainer)
        if stops and not self._only_rank:  # on all ranks at once; callbacks that save come last
            raise SIGTERMException

    def on_train_end(self, trainer: Trainer, module: PolicyModule) -> None:
        self.save(trainer)  # even if the last step is saved: its validation may have found a new best adapter
        self._let_go()
        stop_unread_by(None)

    def on_validation_end(self, trainer: Trainer, module: PolicyModule) -> None:
        """Save a run that was resumed at its end, and is validated only after its training, which took no step."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.save(trainer)

    def on_exception(self, trainer: Trainer, module: PolicyModule, exception: BaseException) -> None:
        """Save after a SIGTERM during validation, or after a validation that ended since the step was saved.

        Not after other exceptions: a callback that raised one may have left the policy or itself half changed, and a
        resumed run would not call it again for that step.
        """
        unsaved = trainer.global_step != self._saved_at or module.validated_at == trainer.global_step
        if unsaved and trainer.world_size == 1 and isinstance(exception, SIGTERMException):
            self.save(trainer)
        self._let_go()
        stop_unread_by(None)

    def _interrupt(self, *_: object) -> None:
        """Stop once on Ctrl-C; a second one has its earlier effect."""
        self._let_go()
        if self._first_rank:
            print("stopping after this step; Ctrl-C again stops at once, and saves nothing", file=sys.stderr)
        self._stop()

    def _stop_unread(self) -> None:
        """Stop as after Ctrl-C, unless that has been pressed: the step is finished and saved."""
        self.unread = True
        if not self.interrupted:
            self._stop()

    def _stop(self) -> None:
        """Raise SIGTERM, after which Lightning stops with its state whole. Several ranks agree instead."""
        self.interrupted = True
        if self._only_rank:
            signal.raise_signal(signal.SIGTERM)

    def _terminate(self, *received: Any) -> None:
        """Announce a SIGTERM, unless it comes from Ctrl-C, and pass it to Lightning's handler, which is silent.

        Several ranks agree instead: Lightning's handler waits for ranks that are in the middle of a step.
        """
        if self._first_rank and not (self.interrupted or self._terminated):
            print("SIGTERM: stopping after this step", file=sys.stderr, flush=True)
        self._terminated = not self._only_rank
        if self._only_rank:
            signal.signal(signal.SIGTERM, self._sigterm_before)
            if callable(self._sigterm_before):
                self._sigterm_before(*received)

    def _let_go(self) -> None:
        """Restore the earlier handler of Ctrl-C. Lightning itself restores that of SIGTERM at the end."""
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, self._sigint_before)

    def save(self, trainer: Trainer) -> None:
        """Write last.ckpt as of now. Every rank must call it: each adds its random state."""
        self._saved_at = trainer.global_step
        trainer.save_checkpoint(Path(trainer.default_root_dir) / LAST)


def _log_step(trainer: Trainer, module: PolicyModule) -> None:
    """Log the step that is about to be saved, if it is one to log, as the last is.

    Lightning does so after its callbacks: a kill in between, or a stop of several ranks, would leave the step out of
    the logs. The step's values are dropped, so that it does not log them again; sums for an epoch's averages stay.
    """
    connector, results = trainer._logger_connector, trainer._results
    if results is not None and (connector.should_update_logs or module.is_last_step):
        connector.on_batch_end()  # notes the results for progress bar and callbacks
        connector.log_metrics(connector.metrics["log"])
        for result in results.values():
            result._forward_cache = None  # the step's value, also of a result that is averaged over an epoch as well
