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
from steer_lit.terminal.stdout import REFUSED

SMALL = ["data.source.scale=0.02", "data.batch_size=2", "data.val_size=0", "trainer.max_steps=4"]
OWN = f"callbacks.own._target_={__name__}.Fails"
BUG = 'KeyError: "a bug of the user\'s"'


class Fails(Callback):
    """Raises an exception after the third step unless `mended`."""

    mended = False

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 3 and not Fails.mended:
            raise KeyError("a bug of the user's")


def train(folder: Path, *words: str) -> int:
    return cli.run("train", [*SMALL, f"+{OWN}", *words, f"hydra.run.dir={folder}"])


def test_a_run_that_a_callback_breaks_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run", "callbacks.checkpoint.every_n_steps=2") == REFUSED
    own, _, said = capsys.readouterr().err.partition(f"{BUG}\n")
    assert own.splitlines()[-4:-2] == [f"{OWN} raised KeyError", "Traceback (most recent call last):"]
    assert said.startswith("stopped at step 3, step 2 is saved\nnext:    python train.py ")
    assert read_checkpoint(tmp_path / "run" / LAST)["global_step"] == 2
    monkeypatch.setattr(Fails, "mended", True)
    (command,) = re.findall("next: +(.*)", said)
    assert cli.run("train", shlex.split(command)[2:]) == 0
    assert train(tmp_path / "straight", "callbacks.checkpoint.every_n_steps=2") == 0
    resumed, straight = (tmp_path / name / ADAPTER / "adapter_model.safetensors" for name in ("run", "straight"))
    assert resumed.read_bytes() == straight.read_bytes()


def test_a_run_that_breaks_before_its_first_checkpoint_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path) == REFUSED
    said = capsys.readouterr().err
    assert said.endswith(f"{BUG}\nstopped at step 3, before anything was saved to resume from\n")
