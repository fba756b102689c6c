"""The progress bar of a run, and the lines that replace it without a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from steer_lit.lit import progress
from steer_lit.lit.sft_module import SFTModule
from tests.settings import optim_settings


def trainer_at(step: int, total: float = 10, **metrics: float) -> Any:
    found = {name.replace("__", "/"): torch.tensor(value) for name, value in metrics.items()}
    facts = {"global_step": step, "max_steps": -1, "estimated_stepping_batches": total}
    return SimpleNamespace(**facts, validating=False, callback_metrics=found)


@pytest.fixture
def module(tiny_policy: Callable[..., Any]) -> SFTModule:
    """Return a module of a run of ten steps."""
    made = SFTModule(tiny_policy(), optim_settings(lr=1e-2), 2048)
    made.trainer = trainer_at(0)
    return made


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_shows_step_score_safety_kl_speed_and_time_left(
    terminal: bool, module: SFTModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=160)
    monkeypatch.setattr(progress, "Console", lambda: console)
    bar = progress.StepProgress(line_every_s=0.0)
    metrics = {"train__turn_score": 0.61, "train__safe_share": 1.0, "train__right_share": 0.75, "train__kl": 0.0123}
    bar.on_train_start(trainer_at(0), module)
    bar.on_train_batch_end(trainer_at(5, **metrics, train__tokens_per_second=640.0), module, None, None, 4)
    bar.on_train_end(trainer_at(5), module)
    shown = screen.getvalue()
    for text in ("5/10", "score 0.610", "right 75%", "KL 0.0123", "tokens/s 640", "left"):
        assert text in shown
    assert "safe" not in shown  # all of tiny's nonsense is safe
    assert "over-refusal" not in shown  # not logged in this step


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_step_shows_its_progress(terminal: bool, module: SFTModule, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = [0.0], io.StringIO()
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(progress, "Console", lambda: Console(file=screen, force_terminal=terminal, width=160))
    bar, trainer = progress.StepProgress(), trainer_at(0)
    bar.on_train_start(trainer, module)
    for seconds, ended in ((4, 0), (30, 5), (65, 8), (90, 12), (200, 320)):
        clock[0] = float(seconds)
        module.tell("played", ended, 320)
        if bar._bar is not None:
            bar._bar.refresh()
    clock[0], trainer.global_step = 230.0, 1
    trainer.callback_metrics["train/kl"] = torch.tensor(0.5)
    bar.on_train_batch_end(trainer, module, None, None, 0)
    clock[0] = 231.0
    module.tell("played", 0, 320)
    clock[0] = 280.0
    module.tell("learned", 4, 320)
    bar.on_train_end(trainer, module)
    shown = screen.getvalue()
    if terminal:
        assert all(f"played {ended}/320" in shown for ended in (0, 5, 8, 12, 320))
        assert "learned 4/320  KL 0.5000" in shown
    else:
        lines = shown.splitlines()
        assert lines[:3] == [f"step 1: dialogues played {ended}/320" for ended in (0, 8, 320)]
        assert lines[3].startswith("step 1/10")
        assert len(lines) == 4  # a later step starts with a new minute


def test_a_validations_progress_disappears_at_its_end(module: SFTModule, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda: Console(file=screen, force_terminal=True, width=160))
    bar, trainer = progress.StepProgress(), trainer_at(3, train__kl=0.5)
    bar.on_train_start(trainer, module)
    module.tell("validated", 7, 40)
    shown = [task.fields["numbers"] for task in bar._bar.tasks]  # type: ignore[union-attr]
    bar.on_validation_end(trainer, module)
    after = [task.fields["numbers"] for task in bar._bar.tasks]  # type: ignore[union-attr]
    bar.on_train_end(trainer, module)
    assert (shown, after) == (["validated 7/40  KL 0.5000"], ["KL 0.5000"])


def test_a_run_resumed_before_a_validation_says_once_that_it_is_at_work(
    module: SFTModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a validation comes in several batches, and the step after it follows within the minute."""
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda: Console(file=screen, width=160))
    bar, trainer = progress.StepProgress(), trainer_at(3)
    trainer.validating = True
    bar.on_train_start(trainer, module)
    for total in (4, 4, 2):
        for ended in range(total + 1):
            module.tell("validated", ended, total)
    assert screen.getvalue().splitlines() == ["step 3: dialogues validated 0/4"]


def test_without_a_terminal_a_validation_has_a_line_of_its_own(
    module: SFTModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a step's metrics it would look like that step's metric."""
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda: Console(file=screen, width=160))
    bar, trainer = progress.StepProgress(), trainer_at(4, train__loss=0.5, val__loss=0.25)
    bar.on_train_batch_end(trainer, module, None, None, 3)
    bar.on_validation_end(trainer, module)
    step, validation = screen.getvalue().splitlines()
    assert "loss 0.500" in step
    assert "val" not in step
    assert validation == "step 4: validation  val loss 0.250"


def test_cut_and_failed_dialogues_are_shown_if_there_are_any(
    module: SFTModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda: Console(file=screen, width=160))
    bar, nan = progress.StepProgress(line_every_s=0.0), float("nan")
    for share in (0.0, 0.4375):
        metrics = {"train__turn_score": 0.5, "train__ratio": nan, "train__failed_share": share}
        metrics["train__truncated_share"] = 2 * share
        trainer = trainer_at(
            7, **metrics, val__right_share=nan if share else 0.5, val__failed_share=1.0 if share else 0
        )
        bar.on_train_batch_end(trainer, module, None, None, 6)
        bar.on_validation_end(trainer, module)
    lines = [line.split("  ")[1:] for line in screen.getvalue().splitlines()]
    assert lines[0][0] == "score 0.500"
    assert not any("failed" in text or "cut" in text for text in lines[0] + lines[1])
    assert lines[2][:3] == ["score 0.500", "cut 88%", "failed 44%"]
    assert lines[3] == ["val failed 100%"]  # a validation without a verdict has a line too


def test_a_disabled_bar_says_nothing(module: SFTModule, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda: Console(file=screen))
    bar = progress.StepProgress()
    bar.disable()
    bar.on_train_start(trainer_at(0), module)
    bar.on_train_batch_end(trainer_at(5), module, None, None, 4)
    assert screen.getvalue() == ""


def test_time_left_by_hand() -> None:
    assert progress.clock(3725.4) == "1:02:05"
    assert progress.clock(float("inf")) == "-:--:--"
