"""A run ends with exactly one validation of its final weights, whatever trainer.val_check_interval is."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer

from steer_lit.lit.last_checkpoint import LastCheckpoint
from steer_lit.lit.sft_module import SFTModule
from steer_lit.lit.training_checkpoint import OWN, read_checkpoint
from tests.settings import optim_settings

EVERY = {"check_val_every_n_epoch": None, "num_sanity_val_steps": 0}


class Validated(Callback):
    """Notes the steps that were validated."""

    def __init__(self, steps: list[int]) -> None:
        self.steps = steps

    def on_validation_end(self, trainer: Trainer, *_: object) -> None:
        self.steps.append(trainer.global_step)


def fit(make_trainer: Any, policy: Any, data: Any, resume: Path | None = None, **settings: Any) -> list[int]:
    """Fit. Return the steps at which the run validated."""
    module = SFTModule(policy, optim_settings(lr=1e-2, schedule="constant", warmup=0.0), micro_tokens=2048)
    validated: list[int] = []
    callbacks = [Validated(validated), *settings.pop("callbacks", [LastCheckpoint(100)])]
    trainer = make_trainer(**{**EVERY, "callbacks": callbacks, "enable_checkpointing": True, **settings})
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return validated


@pytest.mark.parametrize(
    ("steps", "interval", "at"), [(3, 9, [3]), (3, 2, [2, 3]), (4, 2, [2, 4]), (3, 3, [3]), (1, 1, [1])]
)
def test_the_last_step_is_validated_once(
    steps: int, interval: int, at: list[int], make_trainer: Any, small_world: Any, tiny_policy: Any
) -> None:
    world = small_world("sft", val_size=10)
    assert fit(make_trainer, tiny_policy(), world, max_steps=steps, val_check_interval=interval) == at


@pytest.mark.parametrize("interval", [2, 4])
def test_the_last_step_of_the_last_epoch_is_validated_once(
    interval: int, make_trainer: Any, small_world: Any, tiny_policy: Any
) -> None:
    world = small_world("sft", batch_size=10, val_size=10)
    settings = {"max_steps": -1, "max_epochs": 2, "val_check_interval": interval}
    assert len(world.train_dataloader()) == 3
    assert fit(make_trainer, tiny_policy(), world, **settings) == [*range(interval, 6, interval), 6]


def test_a_run_without_rows_held_out_validates_nothing(make_trainer: Any, small_world: Any, tiny_policy: Any) -> None:
    assert fit(make_trainer, tiny_policy(), small_world("sft"), max_steps=2, val_check_interval=9) == []
    rows = small_world("sft", val_size=10)
    assert fit(make_trainer, tiny_policy(), rows, max_steps=2, val_check_interval=9, limit_val_batches=0) == []


def test_an_extended_run_equals_one_of_that_length(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """The validation at its first end changes neither the weights nor the steps of later validations."""
    straight, longer = tiny_policy(adapted=True), tiny_policy()
    every = {"val_check_interval": 2}
    world = {"batch_size": 7, "val_size": 10}
    found = fit(make_trainer, straight, small_world("sft", **world), max_steps=5, **every)
    first = {"max_steps": 3, "default_root_dir": tmp_path / "first", **every}
    assert fit(make_trainer, tiny_policy(adapted=True), small_world("sft", **world), **first) == [2, 3]
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    assert [2, *fit(make_trainer, longer, small_world("sft", **world), last, max_steps=5, **every)] == found
    for name, tensor in straight.adapter_state().items():
        assert torch.equal(longer.adapter_state()[name], tensor), name


def test_a_checkpoint_saved_in_the_last_validation_resumes_as_finished(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """Such a checkpoint is written if a server dies in the last validation. To Lightning the epoch is then trained but
    not ended, and it would begin another one.
    """
    world, settings = {"batch_size": 10, "val_size": 10}, {"max_steps": -1, "max_epochs": 1, "val_check_interval": 2}
    module = SFTModule(tiny_policy(), optim_settings(lr=1e-2, schedule="constant", warmup=0.0), micro_tokens=2048)
    trainer = make_trainer(**{**EVERY, **settings})
    path = tmp_path / "stopped.ckpt"
    module.on_validation_epoch_start = lambda: trainer.save_checkpoint(path)  # type: ignore[method-assign]
    trainer.fit(module, small_world("sft", **world))
    assert torch.load(path, weights_only=True)["global_step"] == trainer.global_step == 3
    resumed = tiny_policy()
    assert fit(make_trainer, resumed, small_world("sft", **world), path, **settings) == []
    for name, tensor in module.policy.adapter_state().items():
        assert torch.equal(resumed.adapter_state()[name], tensor), name


class CtrlC(Callback):
    """Presses Ctrl-C in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.step - 1:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("step", "at"), [(2, [2, 3]), (3, [2, 3]), (4, [2, 4])])
def test_a_validation_that_ended_after_ctrl_c_is_not_repeated(
    step: int, at: list[int], make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """Lightning validates the step before it stops, if one batch is all that is validated. Servers may be paid for it,
    and loggers would have its figures twice.
    """
    world, validated = {"batch_size": 10, "val_size": 10}, Validated([])
    straight, resumed = tiny_policy(), tiny_policy()
    settings = {"max_steps": at[-1], "val_check_interval": 2}
    assert fit(make_trainer, straight, small_world("sft", **world), **settings) == at
    stops = {"callbacks": [validated, CtrlC(step), LastCheckpoint(100)], **settings}
    with pytest.raises(SystemExit):
        fit(make_trainer, tiny_policy(), small_world("sft", **world), **stops)
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)[OWN]["validated_at"] == step  # else a run at its end is owed one
    assert validated.steps + fit(make_trainer, resumed, small_world("sft", **world), last, **settings) == at
    for name, tensor in straight.adapter_state().items():
        assert torch.equal(resumed.adapter_state()[name], tensor), name


class Stop(Callback):
    """Ends a run at a step as an early stop does, or saves it as at Ctrl-C or at a server's death in a validation."""

    def __init__(self, how: str, step: int, path: Path) -> None:
        self.how, self.step, self.path = how, step, path

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.step and self.how == "saved":
            trainer.save_checkpoint(self.path)
        trainer.should_stop |= trainer.global_step == self.step and self.how == "should_stop"

    def on_validation_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.step and self.how == "validating":
            trainer.save_checkpoint(self.path)


class Epochs(Callback):
    """Notes the epoch of every step, as loggers are told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        self.seen.append((trainer.global_step, trainer.current_epoch))


@pytest.mark.parametrize(
    ("how", "steps"),
    [
        ("saved", [1, 3, 6, 9]),
        ("validating", [2, 6]),
        ("should_stop", [1, 3, 4, 6]),
        ("max_steps", [2, 3, 7]),
        ("max_epochs", [3, 6]),
    ],
)
def test_trap_43_a_run_of_epochs_goes_on_to_its_end(
    how: str, steps: list[int], make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """Lightning counts an epoch twice that was saved after its last step, or broken off by `max_steps`."""
    world = {"batch_size": 10, "val_size": 10}
    whole = {"max_steps": -1, "max_epochs": 3, "val_check_interval": 2}
    straight, seen = tiny_policy(adapted=True), Epochs()
    fit(make_trainer, straight, small_world("sft", **world), **whole, callbacks=[LastCheckpoint(100), seen])
    assert seen.seen == [(number + 1, number // 3) for number in range(9)]
    for step in steps:
        folder = tmp_path / str(step)
        stop, resumed, rest = Stop(how, step, folder / "saved.ckpt"), tiny_policy(), Epochs()
        shorter = {"max_steps": {"max_steps": step}, "max_epochs": {"max_epochs": step // 3}}.get(how, {})
        begun = {**whole, **shorter, "default_root_dir": folder, "callbacks": [LastCheckpoint(100), stop]}
        fit(make_trainer, tiny_policy(adapted=True), small_world("sft", **world), **begun)
        saved = stop.path if stop.path.exists() else folder / "checkpoints" / "last.ckpt"
        going_on = {**whole, "default_root_dir": folder, "callbacks": [LastCheckpoint(100), rest]}
        fit(make_trainer, resumed, small_world("sft", **world), saved, **going_on)
        assert rest.seen == seen.seen[step:]
        for name, tensor in straight.adapter_state().items():
            assert torch.equal(resumed.adapter_state()[name], tensor), name


@pytest.mark.parametrize("how", ["saved", "validating"])
def test_trap_43_a_run_stopped_at_the_ends_of_two_epochs_goes_on_to_its_end_and_beyond(
    how: str, make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """After going on from an epoch's last step, Lightning counts one epoch fewer as begun than as ended."""
    settings = {"max_steps": -1, "val_check_interval": 3}
    saved, seen = None, list[tuple[int, int]]()
    for step, epochs in ((3, 3), (6, 3), (9, 3), (12, 4)):
        stop, rest = Stop(how, step, tmp_path / f"{step}.ckpt"), Epochs()
        going_on = {**settings, "max_epochs": epochs, "callbacks": [LastCheckpoint(100), stop, rest]}
        world = small_world("sft", batch_size=10, val_size=10)
        fit(make_trainer, tiny_policy(adapted=saved is None), world, saved, **going_on)
        saved = stop.path
        seen += [place for place in rest.seen if place[0] <= step]
        assert rest.seen[-1][0] == 3 * epochs
    assert seen == [(number + 1, number // 3) for number in range(12)]
