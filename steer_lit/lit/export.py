"""What a run trains, written where further runs read it: an adapter, a tower or a base model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from steer_lit.files.run_files import ADAPTER, BASE, TOWER
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.policy.checkpoint import disk_errors
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.policy.tower import save_tower


class PolicyExport(Callback):
    """Keeps `<run>/adapter`, a standard PEFT folder, up to date: at every checkpoint and at the end of training.

    A run that trains the vision tower (grounding) writes `<run>/tower.safetensors` instead, one that trains the whole
    base model (pretraining) the checkpoint folder `<run>/base`.
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._export(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._export(trainer, pl_module)

    def _export(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and isinstance(pl_module, PolicyModule):
            export(pl_module.policy, Path(trainer.default_root_dir))


def export(policy: QwenVL, run_dir: Path) -> Path:
    """Write what the policy trains under `run_dir`, in place of an earlier export, and return where. Raises OSError."""
    target = run_dir / {"adapter": ADAPTER, "tower": TOWER, "base": BASE}[policy.trains]
    if policy.trains == "tower":
        run_dir.mkdir(parents=True, exist_ok=True)
        with disk_errors(target):
            save_tower(policy.parts, target)
    else:
        replace_folder(target, policy.save_base if policy.trains == "base" else policy.save_adapter)
    return target


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder, and put it in `target`'s place.

    A folder cannot take another's place in one step, but a file can, and the weights are the only file in which the
    adapters of a run differ: so a run killed here leaves a whole adapter, the old one or the new. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.part")
    try:
        with disk_errors(target):
            shutil.rmtree(fresh, ignore_errors=True)
            write(fresh)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)  # a full disk needs the room
        raise
    if not target.is_dir():
        os.replace(fresh, target)
        return
    for file in sorted(fresh.iterdir()):
        os.replace(file, target / file.name)
    fresh.rmdir()
