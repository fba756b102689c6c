"""`<run>/trajectories.jsonl`: every rollout that GRPO learned from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from steer_lit.errors import TooManyFailures
from steer_lit.files.atomic import replacing
from steer_lit.files.lines import append_lines, readable
from steer_lit.files.run_files import ROLLOUTS
from steer_lit.lit.grpo_module import GRPOModule
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.rollout.logged import step_of


class TrajectoryLog(Callback):
    """Appends every rollout of training to `<run>/trajectories.jsonl`, one file per rank."""

    def on_train_start(self, trainer: Trainer, module: PolicyModule) -> None:
        """Remove the steps that a resumed run will play again, and a line that a kill cut short.

        Each rank cleans its own file before it writes. The first rank also cleans the files of ranks that no longer
        exist.
        """
        self._forget(self._path(trainer), trainer.global_step)
        if trainer.is_global_zero:
            for path in Path(trainer.default_root_dir).glob(ROLLOUTS.replace("*", ".rank*")):
                if (rank := re.search(r"\.rank(\d+)\.", path.name)) and int(rank[1]) >= trainer.world_size:
                    self._forget(path, trainer.global_step)

    @staticmethod
    def _forget(path: Path, earlier: int) -> None:
        """Keep the rollouts of steps before `earlier`."""
        if path.is_file():
            rows = readable(path, lambda line: (step_of(line), line), "rollouts")
            with replacing(path) as kept, kept.open("w", encoding="utf-8", newline="") as file:  # it may be large
                file.writelines(line for step, line in rows if step < earlier)

    def on_train_batch_end(
        self, trainer: Trainer, module: PolicyModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(module, GRPOModule):
            self._write(trainer, module)

    def on_exception(self, trainer: Trainer, module: PolicyModule, exception: BaseException) -> None:
        """Write the rollouts of the step in which too many failed: the user will want to read them."""
        lost_step = isinstance(exception, TooManyFailures) and not trainer.validating  # a validation's step is written
        if isinstance(module, GRPOModule) and lost_step:
            self._write(trainer, module)

    def _write(self, trainer: Trainer, module: GRPOModule) -> None:
        append_lines(self._path(trainer), (rollout.to_line() for rollout in module.rollouts))

    @staticmethod
    def _path(trainer: Trainer) -> Path:
        rank = "" if trainer.is_global_zero else f".rank{trainer.global_rank}"
        return Path(trainer.default_root_dir) / ROLLOUTS.replace("*", rank)
