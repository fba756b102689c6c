"""Resuming with a real Trainer: a stopped and resumed run sees the same rows as a run that was never stopped."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from steer_lit.data.datamodule import SteerDataModule
from steer_lit.data.sources import MiniSource
from steer_lit.types import Dialogue

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*pre-optimization state:UserWarning"),  # the state after the step is wanted
    pytest.mark.filterwarnings("ignore:.*exists and is not empty:UserWarning"),  # the folder resumed from
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]


class Crash(Exception):
    pass


class Recorder(pl.LightningModule):
    """Runs two backward passes per step, like a module with micro-batches. May crash between the two."""

    automatic_optimization = False

    def __init__(self, crash_at: int | None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.crash_at = crash_at
        self.finished: list[list[str]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters())

    def training_step(self, batch: list[Dialogue], batch_idx: int) -> None:
        optimizer = self.optimizers()
        self.manual_backward(self.weight * 1)
        if self.global_step == self.crash_at:
            raise Crash
        self.manual_backward(self.weight * 1)
        optimizer.step()
        self.finished.append([row.id for row in batch])

    def validation_step(self, batch: list[Dialogue], batch_idx: int) -> None: ...


def fit(folder: Path, *, crash_at: int | None = None, **options: object) -> list[list[str]]:
    """Continue from the newest checkpoint in `folder`, saving after each step. Return the rows of each
    finished step.
    """
    newest = max(folder.glob("*.ckpt"), key=lambda path: int(path.stem), default=None)
    saver = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1, auto_insert_metric_name=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[saver],
        **options,  # type: ignore[arg-type]
    )
    module = Recorder(crash_at)
    data = SteerDataModule(MiniSource(sft=47, rl=1, bench=1, captions=1, primer=100), "sft", batch_size=8, val_size=10)
    with suppress(Crash):
        trainer.fit(module, data, ckpt_path=newest, weights_only=True)
    return module.finished


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Run three epochs of five steps."""
    steps = fit(tmp_path_factory.mktemp("whole"), max_steps=15)
    assert len(steps) == 15
    assert sorted(chain(*steps[:5])) == sorted(chain(*steps[5:10]))
    assert steps[:5] != steps[5:10]
    return steps


@pytest.mark.parametrize(
    "stops",
    [
        (3, 7),  # in the first epoch, then in the second
        (5, 10),  # at an epoch's end, twice
        (4, 6, 9, 11),
    ],
)
def test_trap_35_a_run_resumed_twice_across_epochs_sees_the_same_rows(
    tmp_path: Path, uninterrupted: list[list[str]], stops: tuple[int, ...]
) -> None:
    steps = [step for stop in (*stops, 15) for step in fit(tmp_path, max_steps=stop)]
    assert steps == uninterrupted


def test_trap_35_a_step_that_crashed_between_micro_batches_is_repeated(
    tmp_path: Path, uninterrupted: list[list[str]]
) -> None:
    steps = [step for crash_at in (3, 8, None) for step in fit(tmp_path, crash_at=crash_at, max_steps=15)]
    assert steps == uninterrupted


def test_trap_35_a_run_with_limited_epochs_can_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = fit(tmp_path / "whole", max_steps=8, limit_train_batches=2)
    assert whole[2:4] != whole[:2]  # each epoch has its own order
    parts = [fit(tmp_path / "parts", max_steps=stop, limit_train_batches=2) for stop in (2, 3, 8)]
    assert list(chain(*parts)) == whole


def test_overfitting_repeats_the_same_rows(tmp_path: Path) -> None:
    steps = fit(tmp_path, max_steps=3, overfit_batches=1)
    assert steps == [steps[0]] * 3
