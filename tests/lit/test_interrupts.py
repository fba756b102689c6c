"""Ctrl-C during training: the step under way is finished and saved. A second Ctrl-C stops at once."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback

from steer_lit.lit.last_checkpoint import LastCheckpoint
from steer_lit.lit.sft_module import SFTModule
from steer_lit.lit.training_checkpoint import read_checkpoint
from tests.settings import optim_settings


class CtrlC(Callback):
    """Sends a signal `times` times, in the second step or in the validation after it."""

    def __init__(self, times: int, validating: bool = False, sent: signal.Signals = signal.SIGINT) -> None:
        self.times, self.validating, self.sent = times, validating, sent

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if not self.validating and trainer.global_step == 1:
            self.press()

    def on_validation_batch_start(self, *_: Any) -> None:
        self.press()

    def press(self) -> None:
        for _ in range(self.times):
            signal.raise_signal(self.sent)


@pytest.mark.parametrize("validating", [False, True])
def test_ctrl_c_saves_the_step_under_way(
    validating: bool, make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path, capsys: Any
) -> None:
    before = signal.getsignal(signal.SIGINT)
    checkpoint = LastCheckpoint(every_n_steps=100)
    callbacks = [CtrlC(1, validating), checkpoint]
    data = small_world("sft", val_size=10 if validating else 0)
    settings = {"val_check_interval": 2, "check_val_every_n_epoch": None} if validating else {}
    trainer = make_trainer(8, callbacks=callbacks, enable_checkpointing=True, **settings)
    with pytest.raises(SystemExit):
        trainer.fit(SFTModule(tiny_policy(), optim_settings(lr=1e-2), micro_tokens=2048), data)
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 2
    assert checkpoint.interrupted
    assert signal.getsignal(signal.SIGINT) == before
    said = capsys.readouterr().err
    assert "stopping after this step; Ctrl-C again stops at once" in said
    assert said.count("stopping") == 1


class Said(Callback):
    """Collects what was printed up to the end of each step."""

    def __init__(self, capsys: Any) -> None:
        self.capsys, self.said = capsys, ""

    def on_train_batch_end(self, *_: Any) -> None:
        self.said += self.capsys.readouterr().err


def test_sigterm_is_reported_at_once_and_only_once(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path, capsys: Any
) -> None:
    before, said = signal.getsignal(signal.SIGTERM), Said(capsys)
    callbacks = [said, CtrlC(2, sent=signal.SIGTERM), LastCheckpoint(every_n_steps=100)]
    trainer = make_trainer(8, callbacks=callbacks, enable_checkpointing=True)
    with pytest.raises(SystemExit):
        trainer.fit(SFTModule(tiny_policy(), optim_settings(lr=1e-2), micro_tokens=2048), small_world("sft"))
    assert [line for line in said.said.splitlines() if "stopping" in line] == ["SIGTERM: stopping after this step"]
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 2
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_ctrl_c_leaves_at_once(make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    trainer = make_trainer(8, callbacks=[CtrlC(2), LastCheckpoint(every_n_steps=100)], enable_checkpointing=True)
    try:
        with pytest.raises(SystemExit):
            trainer.fit(SFTModule(tiny_policy(), optim_settings(lr=1e-2), micro_tokens=2048), small_world("sft"))
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning ignores SIGINT from then on
    assert trainer.global_step == 1
    assert not (tmp_path / "checkpoints").exists()


class CtrlCWhileRanksAgree(Callback):
    """Sends Ctrl-C in the second step, after this rank has reported that it got no signal."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step:
            return
        answer, checkpoint = trainer.strategy.reduce_boolean_decision, trainer.checkpoint_callback
        checkpoint._only_rank = False

        def pressed(decision: bool, all: bool = True) -> bool:
            agreed = answer(decision, all=all)
            if trainer.global_step == 2 and not checkpoint.interrupted:
                signal.raise_signal(signal.SIGINT)
            return agreed

        trainer.strategy.reduce_boolean_decision = pressed


def test_ctrl_c_while_ranks_agree_ends_the_next_step(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    checkpoint = LastCheckpoint(every_n_steps=100)
    trainer = make_trainer(8, callbacks=[checkpoint, CtrlCWhileRanksAgree()], enable_checkpointing=True)
    with pytest.raises(SystemExit):
        trainer.fit(SFTModule(tiny_policy(), optim_settings(lr=1e-2), micro_tokens=2048), small_world("sft"))
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 3
    assert checkpoint.interrupted
