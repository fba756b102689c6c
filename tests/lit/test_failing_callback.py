"""An exception in a user's callback: nothing is saved after it, and the message says from where the run goes on."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback

from steer_lit.cli import main as cli
from steer_lit.files.run_files import ADAPTER, LAST
from steer_lit.lit.training_checkpoint import read_checkpoint

SMALL = ["data.source.scale=0.02", "data.batch_size=2", "data.val_size=0", "trainer.max_steps=4"]


class Fails(Callback):
    """Raises an exception after the third step unless `mended`."""

    mended = False

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 3 and not Fails.mended:
            raise KeyError("a bug of the user's")


def train(folder: Path, *words: str) -> int:
    own = f"+callbacks.own._target_={__name__}.Fails"
    return cli.run("train", [*SMALL, own, *words, f"hydra.run.dir={folder}"])


def test_a_run_that_a_callback_breaks_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyError) as failed:
        train(tmp_path / "run", "callbacks.checkpoint.every_n_steps=2")
    (said,) = failed.value.__notes__  # printed below the traceback
    assert said.startswith("stopped at step 3, step 2 is saved\nnext:    python train.py ")
    assert read_checkpoint(tmp_path / "run" / LAST)["global_step"] == 2
    monkeypatch.setattr(Fails, "mended", True)
    (command,) = re.findall("next: +(.*)", said)
    assert cli.run("train", shlex.split(command)[2:]) == 0
    assert train(tmp_path / "straight", "callbacks.checkpoint.every_n_steps=2") == 0
    resumed, straight = (tmp_path / name / ADAPTER / "adapter_model.safetensors" for name in ("run", "straight"))
    assert resumed.read_bytes() == straight.read_bytes()


def test_a_run_that_breaks_before_its_first_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyError) as failed:
        train(tmp_path)
    assert failed.value.__notes__ == ["stopped at step 3, before anything was saved to resume from"]
