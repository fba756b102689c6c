"""Weights & Biases: one W&B run for each run folder."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.loggers import WandbLogger


class WandbLog(WandbLogger):
    """Lightning's W&B logger, with its files in `<save_dir>/wandb`.

    A training resumed in its folder continues its W&B run, whose id ends the names of the folders there. The API key is
    the environment's, or that of `wandb login`.
    """

    def __init__(self, save_dir: str, project: str, entity: str | None, name: str, offline: bool) -> None:
        begun = [path.name.rpartition("-")[2] for path in Path(save_dir, "wandb").glob("*run-*-*")]
        known = begun[0] if begun else None
        super().__init__(save_dir=save_dir, project=project, entity=entity, name=name, offline=offline, id=known)
