"""A run's settings and its monitored metric, for the loggers' tables of runs; in TensorBoard, no step of it twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from steer_lit.dotted import leaves

if TYPE_CHECKING:  # it calls hide_after
    from steer_lit.lit.policy_module import PolicyModule


class RunSettings(Callback):
    """Logs the run's settings: as the run's config in W&B, and as hyper-parameters in TensorBoard, where the monitored
    metric follows at the end as `hp_metric`.

    The metric is registered together with the settings: TensorBoard shows -1 for one that only comes later (TRAPS 41).
    Until the end it is NaN, and stays so in a run that broke off.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = flat(settings)

    def on_fit_start(self, trainer: Trainer, module: PolicyModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger | WandbLogger):  # for hparams.yaml, or the run's config
                logger.log_hyperparams(self.settings)

    def on_train_start(self, trainer: Trainer, module: PolicyModule) -> None:
        """Register the settings now: only now is it known at which step a resumed run begins.

        A resumed run's NaN is logged for the next step, where `hide_after` hides it: that comes after all callbacks.
        """
        step = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):  # W&B's table of runs shows each metric's last value by itself
                logger.log_hyperparams(self.settings, {"hp_metric": float("nan")}, step=step and step + 1)

    def on_train_end(self, trainer: Trainer, module: PolicyModule) -> None:
        if module.monitored.name not in trainer.callback_metrics:
            return
        if module.validated_at != trainer.global_step:  # an earlier step's value; the validation is still to come
            return
        value = float(trainer.callback_metrics[module.monitored.name])
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_metrics({"hp_metric": value}, step=trainer.global_step)

    def on_validation_end(self, trainer: Trainer, module: PolicyModule) -> None:
        """Log the monitored metric of a run that is validated only after its training, as after a resume at its end."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.on_train_end(trainer, module)


def hide_after(step: int, loggers: Iterable[Logger]) -> None:
    """Have TensorBoard leave out what was written until now for steps after `step`, which a resumed run takes again.

    `PolicyModule` calls it as training starts, whatever callbacks a run has. `SummaryWriter(purge_step=step + 1)`
    writes the same event, but Lightning opens the file before it restores the checkpoint, which holds the step.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            start = SessionLog(status=SessionLog.START)
            logger.experiment.file_writer.add_event(Event(step=step + 1, session_log=start))


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten settings to `a.b: value`, without Hydra's keys. Values that TensorBoard cannot show become text."""
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in leaves(settings)
        if value is not None and not any(name.startswith("_") for name in key.split("."))
    }
