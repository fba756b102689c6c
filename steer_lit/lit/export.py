"""Exports what a run trains, for later runs to read: an adapter, a tower or a base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from steer_lit.files.atomic import replace_folder
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.policy.tensors import disk_errors
from steer_lit.policy.tower import save_tower
from steer_lit.stages import EXPORTS


class PolicyExport(Callback):
    """Keeps `<run>/adapter`, a standard PEFT folder, up to date: at every checkpoint and at the end of training.

    Grounding, which trains the vision tower, writes `<run>/tower.safetensors` instead. Pretraining, which trains the
    whole base model, writes the checkpoint folder `<run>/base`.
    """

    def on_save_checkpoint(self, trainer: Trainer, module: PolicyModule, checkpoint: dict[str, Any]) -> None:
        self._export(trainer, module)

    def on_train_end(self, trainer: Trainer, module: PolicyModule) -> None:
        self._export(trainer, module)

    def _export(self, trainer: Trainer, module: PolicyModule) -> None:
        if trainer.is_global_zero:
            export(module.policy, Path(trainer.default_root_dir))


def export(policy: QwenVL, run_dir: Path) -> None:
    """Write what the policy trains under `run_dir`, over an earlier export. Raise OSError."""
    target = run_dir / EXPORTS[policy.trains].path
    run_dir.mkdir(parents=True, exist_ok=True)
    with disk_errors(target):
        if policy.trains == "tower":
            save_tower(policy.parts, target)
        else:
            replace_folder(target, policy.save_base if policy.trains == "base" else policy.save_adapter)
