"""A run whose validation fails, however often, makes it up and then equals one whose validations all succeeded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer

from steer_lit.errors import ServerDown
from steer_lit.files.run_files import LAST
from steer_lit.lit.last_checkpoint import LastCheckpoint
from tests.lit.test_checkpoints import grpo_module

STEPS, EPOCH = 8, 2
Line = tuple[int, int, str]


class Diary(Callback):
    """Notes step, epoch and kind of each step and validation."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        self.lines.append((trainer.global_step, trainer.current_epoch, "trained"))

    def on_validation_end(self, trainer: Trainer, *_: object) -> None:
        # As logged: a resumed run has left the epoch that has ended.
        self.lines.append((trainer.global_step, int(trainer.callback_metrics["epoch"]), "validated"))


def validated(step: int) -> Line:
    return step, (step - 1) // EPOCH, "validated"


@pytest.fixture
def fit(make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path) -> Callable[..., tuple[list[Line], Any]]:
    def fit(
        folder: str, resume: str | None = None, dies_at: int | None = None, validating: bool = True, **settings: Any
    ) -> tuple[list[Line], Any]:
        module, diary, place = grpo_module(tiny_policy(adapted=True)), Diary(), tmp_path / folder
        score = module.tutor.score

        def dies(dialogues: Any) -> Any:
            if module.trainer.validating is validating and module.global_step == dies_at:
                raise ServerDown("nobody answers")
            return score(dialogues)

        module.tutor.score = dies  # type: ignore[method-assign]
        every: dict[str, Any] = {"val_check_interval": 3, "check_val_every_n_epoch": None, "limit_val_batches": 1}
        both = {"callbacks": [LastCheckpoint(1), diary], "enable_checkpointing": True, "default_root_dir": place}
        trainer = make_trainer(**{"max_steps": STEPS, **every, **both, **settings})
        data = small_world("grpo", batch_size=5, val_size=30)
        assert len(data.train_dataloader()) == EPOCH
        try:
            trainer.fit(module, data, ckpt_path=resume and place / resume, weights_only=True)
        except ServerDown:
            assert dies_at is not None
        else:
            assert dies_at is None
        return diary.lines, module.policy.adapter_state()

    return fit


EVERY_SECOND_EPOCH = {"check_val_every_n_epoch": 2, "val_check_interval": 1.0}


@pytest.mark.parametrize(("step", "every"), [(3, {}), (6, {}), (4, EVERY_SECOND_EPOCH)], ids=str)
def test_a_validation_that_fails_again_and_again_is_made_up(step: int, every: dict[str, Any], fit: Any) -> None:
    straight, ended = fit("straight", **every)
    done = straight.index(validated(step))
    for resume, expected in ((None, straight[:done]), (LAST, []), (LAST, [])):
        assert fit("broken", resume, dies_at=step, **every)[0] == expected
    rest, resumed = fit("broken", LAST, **every)
    assert rest == straight[done:]
    assert all(torch.equal(resumed[name], tensor) for name, tensor in ended.items())


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_a_longer_run_goes_on_from_a_failed_last_validation(steps: int, fit: Any) -> None:
    """It makes that validation up only if it has one there itself."""
    straight, _ = fit("straight")
    before, _ = fit("broken", dies_at=steps, max_steps=steps)
    rest, _ = fit("broken", LAST)
    assert [*before, *rest] == straight


@pytest.mark.parametrize(("step", "every"), [(3, {}), (2, {}), (2, EVERY_SECOND_EPOCH)], ids=str)
def test_a_run_whose_step_fails_makes_up_no_validation_that_it_has_had(
    step: int, every: dict[str, Any], fit: Any
) -> None:
    straight, ended = fit("straight", **every)
    before, _ = fit("broken", dies_at=step, validating=False, **every)
    rest, resumed = fit("broken", LAST, **every)
    assert [*before, *rest] == straight
    assert all(torch.equal(resumed[name], tensor) for name, tensor in ended.items())


def test_a_step_that_fails_after_a_made_up_validation_does_not_repeat_it(fit: Any) -> None:
    straight, _ = fit("straight")
    fit("broken", dies_at=3)
    made_up, _ = fit("broken", LAST, dies_at=3, validating=False)
    rest, _ = fit("broken", LAST)
    assert made_up == [validated(3)]
    assert rest == straight[straight.index(*made_up) + 1 :]
