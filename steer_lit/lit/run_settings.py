"""A run's settings and its monitored metric, for the loggers' tables of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn

from steer_lit.dotted import leaves
from steer_lit.lit.policy_module import PolicyModule


class RunSettings(Callback):
    """Gives every logger the run's settings: as the run's config in W&B, and as hyper-parameters in TensorBoard, where
    the monitored metric follows at the end as `hp_metric`.

    The metric is registered together with the settings: TensorBoard shows -1 for one that only comes later (TRAPS 41).
    Until the end it is NaN, and stays so in a run that broke off.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = flat(settings)

    def on_fit_start(self, trainer: Trainer, module: PolicyModule) -> None:
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):  # others show each metric's last value by themselves
                logger.log_hyperparams(self.settings)
            elif not _registered(logger):
                logger.log_hyperparams(self.settings, {"hp_metric": float("nan")})

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


def _registered(logger: TensorBoardLogger) -> bool:
    """Return whether the run was begun in its folder: TensorBoard shows the first settings that it finds there."""
    return Path(logger.log_dir, logger.NAME_HPARAMS_FILE).is_file()


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten settings to `a.b: value`. Values that TensorBoard cannot show become text.

    Of Hydra's keys only the names of classes that are not this package's are kept. Of a client only its model is: the
    rest says where a server is and how it is reached. Nor are other addresses, which may be private, shown.
    """
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in leaves(settings)
        if value is not None and _shown(key.split("."), str(value))
    }


def _shown(names: Sequence[str], value: str) -> bool:
    if names[-1] == "_target_":
        return not value.startswith("steer_lit.")
    hydras = any(name.startswith("_") for name in names)
    return not hydras and "://" not in value and ("client" not in names or names[-1] == "model")
