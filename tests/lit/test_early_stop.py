"""A callback that ends a run early: the run's last lines say so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import EarlyStopping, Timer
from omegaconf import OmegaConf

from steer_lit.cli import main as cli
from steer_lit.cli.closing import Result, closing
from steer_lit.lit.early_stop import early_stop

EARLY = ["_target_=lightning.pytorch.callbacks.EarlyStopping", "monitor=val/loss", "patience=1", "min_delta=9"]
SMALL = ["data.source.scale=0.02", "data.batch_size=2", "data.val_size=10", "trainer.limit_val_batches=1"]


def test_a_run_that_a_callback_ends_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, "trainer.max_steps=9", "trainer.val_check_interval=1", f"hydra.run.dir={tmp_path}"]
    assert cli.run("train", [*words, *(f"+callbacks.early.{word}" for word in EARLY)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("early:")]
    assert line.startswith(
        "early:   stopped at step 2 of 9 by EarlyStopping (Monitored metric val/loss did not improve"
    )
    assert line.endswith(f"); {tmp_path}/adapter is of that step")


def ended(step: int, epoch: int = 0, last: bool = False, *callbacks: Any, steps: int = -1, epochs: int = -1) -> str:
    trainer: Any = SimpleNamespace(
        global_step=step, max_steps=steps, max_epochs=epochs, current_epoch=epoch, is_last_batch=last
    )
    trainer.callbacks = callbacks
    return early_stop(trainer)


def test_an_early_stop_names_its_callback_as_far_as_known() -> None:
    assert ended(9, steps=9) == ""
    assert ended(9, 3, True, epochs=3) == ""
    assert ended(9, 3, True, steps=12, epochs=3) == ""  # whichever comes first
    unknown = "by a callback (trainer.should_stop was set)"
    assert ended(8, 3, False, epochs=3) == f"at step 8 in epoch 3 of 3 {unknown}"
    spent = Timer(duration={"seconds": 0})
    idle = EarlyStopping("val/loss")
    assert ended(8, 1, False, idle, steps=9) == f"at step 8 of 9 {unknown}"
    assert ended(8, 1, False, idle, spent, steps=9) == "at step 8 of 9 by Timer (its time was up)"


def test_a_run_without_an_export_names_none(tmp_path: Path) -> None:
    said = closing(OmegaConf.create({"stage": "sft"}), tmp_path, Result("val/loss", early="at step 2 of 9 by x"))
    assert said == f"run: {tmp_path}, nothing exported\nearly:   stopped at step 2 of 9 by x"
