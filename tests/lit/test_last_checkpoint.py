"""When the last checkpoint is written."""

from __future__ import annotations

import csv
import io
import resource
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from steer_lit.lit.csv_log import CsvLog
from steer_lit.lit.last_checkpoint import LastCheckpoint
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.lit.sft_module import SFTModule
from steer_lit.lit.training_checkpoint import CheckpointFile
from tests.settings import optim_settings


def trainer_at(step: int, saved: list[int], terminated: bool = False) -> Any:
    return SimpleNamespace(
        global_step=step,
        save_checkpoint=lambda path: saved.append(step),
        default_root_dir="no such folder",
        received_sigterm=terminated,
        world_size=1,
        is_global_zero=True,
        _results=None,
        _logger_connector=None,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
    )


def test_the_last_checkpoint_is_saved_every_n_steps_on_sigterm_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # Lightning is not there to restore SIGTERM's handler
    callback, saved = LastCheckpoint(every_n_steps=5), list[int]()
    callback.on_train_start(trainer_at(6, saved), None)  # type: ignore[arg-type]  # resumed at 6: nothing to save yet
    for step in (8, 10, 12, 16):  # a batch may take two steps or more: step 15 is never seen
        callback.on_train_batch_end(trainer_at(step, saved), None, None, None, 0)  # type: ignore[arg-type]
    callback.on_train_end(trainer_at(16, saved), None)  # type: ignore[arg-type]
    callback.on_train_batch_end(trainer_at(17, saved, terminated=True), None, None, None, 0)  # type: ignore[arg-type]
    callback.on_train_end(trainer_at(18, saved), None)  # type: ignore[arg-type]
    assert saved == [10, 16, 16, 17, 18]  # twice at the end, because the last validation lies between


def test_a_run_with_nothing_left_to_train_is_saved_after_its_validation() -> None:
    """Its training never begins."""
    callback, saved = LastCheckpoint(every_n_steps=5), list[int]()
    for step, fn in enumerate((TrainerFn.FITTING, TrainerFn.VALIDATING)):
        trainer = trainer_at(step, saved)
        trainer.state = SimpleNamespace(fn=fn)
        callback.on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert saved == [1]


@pytest.fixture
def room_for_10_kb() -> Iterator[None]:
    """The system refuses to let any file grow beyond that, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("room_for_10_kb")
def test_a_partial_checkpoint_is_removed_when_the_disk_is_full(tmp_path: Path) -> None:
    """It would take space from the next file to be saved. The checkpoint before stays."""
    last = tmp_path / "checkpoints" / "last.ckpt"
    CheckpointFile().save_checkpoint({"step": 1}, last)
    with pytest.raises(OSError, match="File too large"):
        CheckpointFile().save_checkpoint({"step": 2, "weights": torch.zeros(10_000)}, last)
    assert list(last.parent.iterdir()) == [last]
    assert torch.load(last, weights_only=True) == {"step": 1}


def test_ctrl_c_while_a_checkpoint_is_written_is_no_error_of_torchs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pressed(io.FileIO):
        writes = 0

        def write(self, data: Any) -> int:
            self.writes += 1
            if self.writes == 3:
                raise KeyboardInterrupt
            return super().write(data)

    last = tmp_path / "last.ckpt"
    CheckpointFile().save_checkpoint({"step": 1}, last)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: Pressed(path, mode))
        with pytest.raises(KeyboardInterrupt):
            CheckpointFile().save_checkpoint({"step": 2}, last)
    assert list(tmp_path.iterdir()) == [last]
    assert torch.load(last, weights_only=True) == {"step": 1}


def test_a_checkpoint_needs_no_room_outside_the_runs_folder(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning would write it to $TMPDIR first."""
    policy = tiny_policy()
    trainer = make_trainer(max_steps=1, enable_checkpointing=True, callbacks=[LastCheckpoint(1)])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))
    trainer.fit(SFTModule(policy, optim_settings(1e-3), micro_tokens=2048), small_world("sft"))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


def test_a_users_own_checkpoint_plugin_stays(make_trainer: Any, small_world: Any, tiny_policy: Any) -> None:
    own = AsyncCheckpointIO()
    trainer = make_trainer(max_steps=1, plugins=[own])
    trainer.fit(SFTModule(tiny_policy(), optim_settings(1e-3), micro_tokens=2048), small_world("sft"))
    assert trainer.strategy.checkpoint_io is own


class LogsOwn(Callback):
    """A user's: logs the square of each step, its average over an epoch, and the largest step of an epoch."""

    def on_train_batch_end(
        self, trainer: Trainer, module: PolicyModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = float(trainer.global_step)
        module.log("square", step**2, on_step=True, on_epoch=True, batch_size=1)
        module.log("largest", step, on_step=False, on_epoch=True, reduce_fx="max", batch_size=1)


@pytest.mark.parametrize("every_n_steps", [1, 2, 50])
def test_what_a_users_callback_averages_over_epochs_is_logged_once_a_step(
    every_n_steps: int, make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """The step that is saved is logged before. Lightning logged its value again, at its own count of batches."""
    log = CsvLog(str(tmp_path / "metrics.csv"))
    settings = {"max_epochs": 2, "limit_train_batches": 3, "log_every_n_steps": 1, "enable_checkpointing": True}
    trainer = make_trainer(max_steps=-1, logger=log, callbacks=[LogsOwn(), LastCheckpoint(every_n_steps)], **settings)
    trainer.fit(SFTModule(tiny_policy(), optim_settings(1e-3), micro_tokens=2048), small_world("sft"))
    with log.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [row for row in rows if row["train/loss"]]
    assert [(row["step"], float(row["square_step"])) for row in steps] == [(str(n), n**2) for n in range(1, 7)]
    epochs = [row for row in rows if row not in steps]
    assert [float(row["square_epoch"]) for row in epochs] == [pytest.approx(14 / 3), pytest.approx(77 / 3)]
    assert [float(row["largest"]) for row in epochs] == [3, 6]


def test_the_last_step_is_logged_before_it_is_saved(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """Lightning logs it whatever `log_every_n_steps` is, and afterwards: a kill in between lost its row for good."""
    log, logged = CsvLog(str(tmp_path / "metrics.csv")), []

    class Saved(Callback):
        def on_save_checkpoint(self, *_: Any) -> None:
            with log.path.open(newline="") as file:
                logged.append([int(row["step"]) for row in csv.DictReader(file)])

    settings = {"log_every_n_steps": 2, "enable_checkpointing": True}
    trainer = make_trainer(3, logger=log, callbacks=[LastCheckpoint(3), Saved()], **settings)
    trainer.fit(SFTModule(tiny_policy(), optim_settings(1e-3), micro_tokens=2048), small_world("sft"))
    assert logged == [[2, 3]] * 2  # as it is due, and at the end
