"""`<run>/best_adapter`: the adapter at the best validation, which may be the last."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from torch import Tensor

from steer_lit.files.atomic import replace_folder
from steer_lit.files.run_files import BEST, BEST_FACTS
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.policy.tensors import disk_errors


@dataclass(frozen=True, slots=True)
class Best:
    """The validation after `step` gave the monitored metric `metric` its best `value`, with the adapter `weights`."""

    step: int
    metric: str
    value: float
    weights: Mapping[str, Tensor]  # on the CPU


class BestAdapter(Callback):
    """Keeps `<run>/best_adapter`, a PEFT folder like `<run>/adapter`, with step and value in its best.json.

    It is written at each validation whose monitored metric is strictly better than all before. The checkpoint also
    holds it, weights included: a resumed run, in its folder or another, starts with the best as of that checkpoint, not
    with one from steps that it will take again. Runs that train no adapter have none.
    """

    def __init__(self) -> None:
        self.best: Best | None = None
        self.forgets = False  # what the checkpoint holds: of validations that those to come cannot be compared with

    def before(self, step: int) -> Best | None:
        """Return the best adapter if it is from before `step`, otherwise None."""
        return self.best if self.best is not None and self.best.step < step else None

    def state_dict(self) -> dict[str, Any]:
        """Return plain types and tensors; {} before the first validation."""
        best = self.best
        if best is None:
            return {}
        return {"step": best.step, "metric": best.metric, "value": best.value, "weights": dict(best.weights)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = None if self.forgets else Best(**state_dict)

    def on_fit_start(self, trainer: Trainer, module: PolicyModule) -> None:
        """Restore the folder to the checkpoint's best: the run may have got further before it was killed."""
        if module.policy.trains != "adapter" or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir) / BEST
        if self.best is None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        with module.policy.wearing(self.best.weights):
            _write(module.policy, self.best, folder)

    def on_validation_end(self, trainer: Trainer, module: PolicyModule) -> None:
        if module.policy.trains != "adapter" or trainer.sanity_checking:
            return
        monitored = module.monitored
        value = float(trainer.callback_metrics.get(monitored.name, math.nan))  # the same on all ranks
        if not monitored.better(value, None if self.best is None else self.best.value):
            return
        weights = {name: tensor.cpu() for name, tensor in module.policy.adapter_state().items()}
        self.best = Best(trainer.global_step, monitored.name, value, weights)
        if trainer.is_global_zero:
            _write(module.policy, self.best, Path(trainer.default_root_dir) / BEST)


def _write(policy: QwenVL, best: Best, folder: Path) -> None:
    """Write the folder. Raise OSError."""

    def save(part: Path) -> None:
        policy.save_adapter(part)
        facts = {"step": best.step, "metric": best.metric, "value": best.value}
        (part / BEST_FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    with disk_errors(folder):
        replace_folder(folder, save)
