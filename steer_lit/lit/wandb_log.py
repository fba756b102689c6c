"""Weights & Biases: one run there for each run folder."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.loggers import WandbLogger


class WandbLog(WandbLogger):
    """Lightning's W&B logger, its files in `<save_dir>/wandb`. A training that goes on in its folder goes on with the
    run that it began there: the folders within are named for when they were made, and end with that run's id.

    The key is the environment's, or that of `wandb login`.
    """

    def __init__(self, save_dir: str, project: str, entity: str | None, name: str, offline: bool) -> None:
        begun = [path.name.rpartition("-")[2] for path in Path(save_dir, "wandb").glob("*run-*-*")]
        known = begun[0] if begun else None
        super().__init__(save_dir=save_dir, project=project, entity=entity, name=name, offline=offline, id=known)
