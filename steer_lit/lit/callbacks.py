"""What a run leaves behind while it trains: the exported adapter, its rollouts, transcripts to read, its settings."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from steer_lit.errors import TooManyFailures
from steer_lit.files.atomic import replace_text
from steer_lit.files.lines import append_lines, readable
from steer_lit.files.run_files import ADAPTER, BASE, LAST, ROLLOUTS, TOWER
from steer_lit.lit.grpo_module import GRPOModule
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.lit.sft_module import SFTModule
from steer_lit.lit.transcripts import Played, logged, page, pictures
from steer_lit.policy.checkpoint import disk_errors
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.policy.tower import save_tower
from steer_lit.rollout.logged import step_of

PICTURES_SHOWN = 4


class LastCheckpoint(Checkpoint):
    """Keeps `<run>/checkpoints/last.ckpt`: every `every_n_steps` optimizer steps, at the end of training, and when a
    scheduler's SIGTERM or Ctrl-C ends it, after the step under way; a second Ctrl-C leaves at once. Of several ranks
    all stop after the step in which one heard Ctrl-C. SIGTERM is not to be relied on there: Lightning answers it with
    a message that a rank at work does not wait for.

    Lightning's ModelCheckpoint takes manual optimisation for a mistake, warns at length, and saves no last state.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self.interrupted = False  # by Ctrl-C
        self._saved_at = 0
        self._handler: Any = None  # of Ctrl-C, before this one
        self._lightnings: Any = None  # of SIGTERM, which notes that it came
        self._alone = self._tells = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at = trainer.global_step
        self._handler = signal.getsignal(signal.SIGINT)
        # Before here there is nothing to save. A job in a shell's background ignores Ctrl-C, and goes on doing so.
        listens = callable(self._handler) and threading.current_thread() is threading.main_thread()
        self._alone, self._tells = trainer.world_size == 1, trainer.is_global_zero
        if listens:
            signal.signal(signal.SIGINT, self._interrupt)
        if threading.current_thread() is threading.main_thread():  # which alone may set it
            self._lightnings = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, self._terminate)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Not `global_step % n == 0`: with several epochs a batch, a training step takes several optimizer steps.
        due = trainer.global_step // self.every_n_steps > self._saved_at // self.every_n_steps
        any_of = partial(trainer.strategy.reduce_boolean_decision, all=False)
        # Ctrl-C may be pressed while the ranks agree: it is for the next step then, and must not be overwritten here.
        interrupted, terminated = any_of(self.interrupted), any_of(trainer.received_sigterm)
        if interrupted:
            self.interrupted = True
        if due or interrupted or terminated:
            self._save(trainer)
        if interrupted and not self._alone:  # on all ranks at once; callbacks that save come last
            raise SIGTERMException

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step != self._saved_at:
            self._save(trainer)
        self._let_go()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A SIGTERM during validation."""
        alone = trainer.world_size == 1 and trainer.global_step != self._saved_at
        if alone and isinstance(exception, SIGTERMException):
            self._save(trainer)
        self._let_go()

    def _interrupt(self, *_: object) -> None:
        """Ctrl-C becomes the SIGTERM that Lightning ends training on where its state is whole; several ranks agree."""
        self._let_go()
        self.interrupted = True
        if self._tells:
            print("stopping after this step; Ctrl-C again stops at once, and saves nothing", file=sys.stderr)
        if self._alone:
            signal.raise_signal(signal.SIGTERM)

    def _terminate(self, *received: Any) -> None:
        """Say what becomes of a SIGTERM, which may come from Ctrl-C: Lightning's handler waits without a word."""
        signal.signal(signal.SIGTERM, self._lightnings)
        if self._tells and not self.interrupted:
            print("SIGTERM: stopping after this step", file=sys.stderr, flush=True)
        if callable(self._lightnings):
            self._lightnings(*received)

    def _let_go(self) -> None:
        """Of Ctrl-C. Lightning itself puts back at the end what SIGTERM was for before it."""
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, self._handler)

    def _save(self, trainer: Trainer) -> None:
        self._saved_at = trainer.global_step
        last = Path(trainer.default_root_dir) / LAST
        part = last.with_name(f"{last.name}.part")
        trainer.save_checkpoint(part)  # on every rank: each adds its random state
        if trainer.is_global_zero:
            os.replace(part, last)


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
    """Write what the policy trains under `run_dir`, in place of an earlier export, and return where.

    A folder cannot take another's place in one step, but a file can, and the weights are the only file in which the
    adapters of a run differ: so a run killed here leaves a whole adapter, the old one or the new. Raises OSError.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    name = {"adapter": ADAPTER, "tower": TOWER, "base": BASE}[policy.trains]
    target, fresh = run_dir / name, run_dir / f".{name}.part"
    try:
        with disk_errors(target):
            if name == TOWER:
                save_tower(policy.parts, target)
                return target
            shutil.rmtree(fresh, ignore_errors=True)
            policy.save_base(fresh) if name == BASE else policy.save_adapter(fresh)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)  # a full disk has need of the room
        raise
    if not target.is_dir():
        os.replace(fresh, target)
        return target
    for file in sorted(fresh.iterdir()):
        os.replace(file, target / file.name)
    fresh.rmdir()
    return target


class TrajectoryLog(Callback):
    """Appends every rollout that was trained on to `<run>/trajectories.jsonl`, one file per rank."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the steps that a resumed run is about to play again, and a line that a kill cut short.

        Each rank does so in its own file before it writes there, the first also in those of ranks that are no more.
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
            replace_text(path, "".join(line for step, line in rows if step < earlier))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(pl_module, GRPOModule):
            self._write(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The rollouts of which too many failed are the ones to look at."""
        if isinstance(pl_module, GRPOModule) and isinstance(exception, TooManyFailures):
            self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, module: GRPOModule) -> None:
        append_lines(self._path(trainer), (logged(played).to_line() for played in module.rollouts))

    @staticmethod
    def _path(trainer: Trainer) -> Path:
        rank = "" if trainer.is_global_zero else f".rank{trainer.global_rank}"
        return Path(trainer.default_root_dir) / ROLLOUTS.replace("*", rank)


class TranscriptLog(Callback):
    """Shows `dialogues` played dialogues in TensorBoard, pictures included.

    GRPO: of the rollouts of every `every_n_steps`-th step. SFT: of the replayed held-out dialogues, at each validation.
    """

    def __init__(self, dialogues: int = 4, every_n_steps: int = 10) -> None:
        self.dialogues = dialogues
        self.every_n_steps = every_n_steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(pl_module, GRPOModule) and batch_idx % self.every_n_steps == 0:
            self._show(trainer, pl_module.policy, _spread(pl_module.rollouts, self.dialogues))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, SFTModule):
            self._show(trainer, pl_module.policy, pl_module.replayed[: self.dialogues])

    def _show(self, trainer: Trainer, policy: QwenVL, dialogues: Sequence[Played]) -> None:
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger) or not trainer.is_global_zero:
                continue
            for index, played in enumerate(dialogues):
                logger.experiment.add_text(f"transcripts/{index}", page(played), played.step)
                for place, ref in enumerate(pictures(played)[:PICTURES_SHOWN]):
                    pixels = np.asarray(policy.pictures.open_image(ref))
                    tag = f"transcripts/{index}/picture{place}"
                    logger.experiment.add_image(tag, pixels, played.step, dataformats="HWC")


class RunSettings(Callback):
    """Registers the run's settings as TensorBoard hyper-parameters and, at the end, its headline as `hp_metric`.

    The metric is registered together with the settings: TensorBoard shows -1 for one that only comes later (TRAPS 41).
    Until the end it is NaN, and stays so in a run that broke off.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = flat(settings)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self.settings, {"hp_metric": float("nan")}, step=trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, PolicyModule) or pl_module.headline not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[pl_module.headline])
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_metrics({"hp_metric": value}, step=trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Of a run that was resumed at its end and is validated after its training, which had no headline."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.on_train_end(trainer, pl_module)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `a.b: value`, without Hydra's own keys; what TensorBoard cannot show becomes text."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if str(key).startswith("_"):
            continue
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            found[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def _spread(rollouts: Sequence[Played], count: int) -> list[Played]:
    """`count` rollouts evenly apart, so that several groups are seen."""
    step = max(1, len(rollouts) // max(1, count))
    return list(rollouts[::step][:count])
