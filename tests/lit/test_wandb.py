"""Logging to Weights & Biases. The package is replaced by stand-ins, so that the tests do not need it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import hydra
import pytest
from lightning.pytorch.loggers import WandbLogger

from steer_lit.checks import trainer
from steer_lit.cli import train_run
from steer_lit.errors import SteerError
from steer_lit.lit import transcript_log
from steer_lit.lit.grpo_module import GRPOModule
from steer_lit.lit.run_settings import RunSettings
from steer_lit.lit.transcript_log import TranscriptLog
from steer_lit.lit.transcripts import logged, page
from steer_lit.terminal import conf_files
from steer_lit.types import Trajectory

CONFIG = {"logger": {"wandb": {"_target_": "lightning.pytorch.loggers.WandbLogger"}}}


class RefusedByWandb(Exception):
    pass


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the exit codes of W&B runs that were ended; a run is open."""
    codes: list[int] = []
    package = SimpleNamespace(run=object(), Error=RefusedByWandb, finish=lambda exit_code: codes.append(exit_code))
    monkeypatch.setitem(sys.modules, "wandb", package)
    return codes


@pytest.mark.parametrize("begun", ["run-20260102_030405-ab12cd34", "offline-run-20260102_030405-ab12cd34"])
def test_a_resumed_training_continues_its_folders_wandb_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    with hydra.initialize_config_dir(str(conf_files.conf_dir()), version_base="1.3"):
        config = hydra.compose("train", ["logger=wandb", f"run_dir={tmp_path}", "callbacks=none"])
    assert train_run._trainer(config, None).loggers[0].version is None
    (tmp_path / "wandb" / begun).mkdir(parents=True)
    (tmp_path / "wandb" / "latest-run").symlink_to(begun)
    assert train_run._trainer(config, None).loggers[0].version == "ab12cd34"


def test_a_missing_wandb_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "find_spec", lambda name: None)
    (problem,) = trainer.part_problems(CONFIG)
    assert str(problem) == "logger='wandb': needs the package wandb: pip install 'wandb>=0.31,<1'"
    monkeypatch.setattr(trainer, "find_spec", lambda name: name)
    assert list(trainer.part_problems(CONFIG)) == []


def test_each_training_ends_its_wandb_run(finished: list[int]) -> None:
    with train_run._ending_wandbs_run():
        pass
    with pytest.raises(KeyError), train_run._ending_wandbs_run():
        raise KeyError
    with pytest.raises(SteerError, match=r"logger=wandb: No key.*WANDB_API_KEY"), train_run._ending_wandbs_run():
        raise RefusedByWandb("No key")
    refusal = RefusedByWandb("disk full")
    refusal.add_note("next: python train.py")
    with pytest.raises(SteerError) as caught, train_run._ending_wandbs_run():
        raise refusal
    assert caught.value.__notes__ == ["next: python train.py"]
    assert finished == [0, 1, 1, 1]


@pytest.mark.parametrize("steps_per_batch", [1, 3])
def test_rollouts_of_the_first_and_every_nth_batch_are_shown(
    monkeypatch: pytest.MonkeyPatch, steps_per_batch: int
) -> None:
    """A run of ten batches must show its last, and `batch_idx` begins anew with each epoch, here of four."""
    log, shown = TranscriptLog(every_n_batches=5), []
    monkeypatch.setattr(log, "_show", lambda *_: shown.append(batch))
    module = Mock(spec=GRPOModule, policy=None, rollouts=[], steps_per_batch=steps_per_batch)
    for batch in range(1, 11):
        log.on_train_batch_end(Mock(global_step=batch * steps_per_batch), module, None, None, (batch - 1) % 4)
    assert shown == [1, 5, 10]


def test_transcripts_are_a_table_and_pictures(
    played: Callable[..., Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row per dialogue, which names its pictures as their captions do."""
    logger, policy = Mock(spec=WandbLogger), Mock()
    policy.pictures.open_image.side_effect = lambda ref: ref.uri
    dialogues = [
        (logged(played(("harmful", 10, 10, True)), 4), ()),
        (logged(played(("harmless", 9, 9, False)), 4), ("an answer",)),
    ]
    show: Any = TranscriptLog()._show
    show(Mock(loggers=[logger], global_step=4), policy, [])
    logger.log_text.assert_not_called()
    shown = {4: ["red", "blue"], 5: ["green"]}
    dialogues[1] = (replace(dialogues[1][0], step=5), dialogues[1][1])
    monkeypatch.setattr(transcript_log, "pictures", lambda played: shown[played.step])
    show(Mock(loggers=[logger], global_step=4), policy, dialogues)
    rows = [[page(*dialogues[0])], [page(*dialogues[1])]]
    logger.log_text.assert_called_once_with("transcripts/dialogues", ["dialogue"], rows, step=4)
    uris = ["red", "blue", "green"]
    logger.log_image.assert_called_once_with("transcripts/pictures", uris, step=4, caption=uris)


def test_wandb_gets_the_runs_config() -> None:
    logger = Mock(spec=WandbLogger)
    RunSettings({"seed": 1, "optim": {"lr": 0.5}}).on_fit_start(Mock(loggers=[logger]), Mock())
    logger.log_hyperparams.assert_called_once_with({"seed": 1, "optim.lr": 0.5})
