"""When the last checkpoint is written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from steer_lit.lit.last_checkpoint import LastCheckpoint
from steer_lit.lit.training_checkpoint import OWN, PLACE


def trainer_at(step: int, terminated: bool = False) -> Any:
    return SimpleNamespace(
        global_step=step,
        received_sigterm=terminated,
        world_size=1,
        is_global_zero=True,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
    )


def test_the_last_checkpoint_is_saved_every_n_steps_on_sigterm_and_at_the_end() -> None:
    callback, saved = LastCheckpoint(every_n_steps=5), []
    callback._save = lambda trainer: (  # type: ignore[method-assign]
        saved.append(trainer.global_step),
        setattr(callback, "_saved_at", trainer.global_step),
    )
    callback.on_train_start(trainer_at(6), None)  # resumed at 6: nothing to save yet
    for step in (8, 10, 12, 16):  # a batch may take two steps or more: step 15 is never seen
        callback.on_train_batch_end(trainer_at(step), None, None, None, 0)  # type: ignore[arg-type]
    callback.on_train_end(trainer_at(16), None)  # type: ignore[arg-type]
    callback.on_train_batch_end(trainer_at(17, terminated=True), None, None, None, 0)  # type: ignore[arg-type]
    callback.on_train_end(trainer_at(18), None)  # type: ignore[arg-type]
    assert saved == [10, 16, 16, 17, 18]  # twice at the end, because the last validation lies between


def test_a_run_with_nothing_left_to_train_is_saved_after_its_validation() -> None:
    """Its training never begins. The save removes the checkpoint of the validation that had failed."""
    callback, saved = LastCheckpoint(every_n_steps=5), []
    callback._save = lambda trainer: saved.append(trainer.state.fn)  # type: ignore[method-assign]
    for fn in (TrainerFn.FITTING, TrainerFn.VALIDATING):
        callback.on_validation_end(SimpleNamespace(state=SimpleNamespace(fn=fn)), None)  # type: ignore[arg-type]
    assert saved == [TrainerFn.VALIDATING]


@pytest.mark.parametrize(("failed_at", "left"), [(3, False), (5, False), (6, True), (None, True)])
def test_a_failed_steps_checkpoint_is_removed_once_it_is_overtaken(
    failed_at: int | None, left: bool, tmp_path: Path
) -> None:
    """The command that went on from it would take a later run back. One that is further, or damaged, is left alone."""
    failed = tmp_path / "checkpoints" / "failed.ckpt"
    failed.parent.mkdir()
    failed.write_bytes(b"half")
    if failed_at is not None:
        torch.save({"global_step": failed_at, "optimizer_states": [], PLACE: {}, OWN: {}}, failed)
    saved = SimpleNamespace(
        global_step=5, default_root_dir=str(tmp_path), save_checkpoint=Path.touch, is_global_zero=True
    )
    LastCheckpoint(every_n_steps=5)._save(saved)  # type: ignore[arg-type]
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert failed.is_file() is left


def test_a_partial_checkpoint_is_removed_when_the_disk_is_full(tmp_path: Path) -> None:
    """It would take space from the next file to be saved."""

    def save(path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(b"half")
        raise OSError("No space left")

    trainer = SimpleNamespace(global_step=5, default_root_dir=str(tmp_path), save_checkpoint=save, is_global_zero=True)
    with pytest.raises(OSError, match="No space left"):
        LastCheckpoint(every_n_steps=5)._save(trainer)  # type: ignore[arg-type]
    assert list((tmp_path / "checkpoints").iterdir()) == []
