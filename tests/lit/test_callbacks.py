"""Small things around a run: the bar, the last checkpoint, settings as flat scalars, pages to read."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors import SafetensorError, safe_open

from steer_lit.lit import progress
from steer_lit.lit.callbacks import LastCheckpoint, export, flat
from steer_lit.lit.transcripts import Played, excerpt, logged, page, pictures
from steer_lit.policy.fingerprint import language_fingerprint
from steer_lit.reward.reward import TrajectoryReward
from steer_lit.types import Attack, Completion, ImageRef, Message, Scenario, Trajectory, Turn, Verdict


def trainer_at(step: int, total: float = 10, terminated: bool = False, **metrics: float) -> Any:
    found = {name.replace("__", "/"): torch.tensor(value) for name, value in metrics.items()}
    return SimpleNamespace(
        global_step=step,
        estimated_stepping_batches=total,
        callback_metrics=found,
        received_sigterm=terminated,
        world_size=1,
        is_global_zero=True,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision),
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_shows_step_score_safety_kl_speed_and_time_left(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=160)
    monkeypatch.setattr(progress, "Console", lambda: console)
    bar = progress.StepProgress(line_every_s=0.0)
    metrics = {"train__turn_score": 0.61, "train__safe_share": 1.0, "train__right_share": 0.75, "train__kl": 0.0123}
    bar.on_train_start(trainer_at(0), None)  # type: ignore[arg-type]
    bar.on_train_batch_end(trainer_at(5, **metrics, train__tokens_per_second=640.0), None, None, None, 4)  # type: ignore[arg-type]
    bar.on_train_end(trainer_at(5), None)  # type: ignore[arg-type]
    shown = screen.getvalue()
    for text in ("5/10", "score 0.610", "right 75%", "KL 0.0123", "tokens/s 640", "left"):
        assert text in shown
    assert "safe" not in shown  # as all nonsense is
    assert "over-refusal" not in shown  # not logged in this step


def test_a_disabled_bar_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda: Console(file=screen))
    bar = progress.StepProgress()
    bar.disable()
    bar.on_train_start(trainer_at(0), None)  # type: ignore[arg-type]
    bar.on_train_batch_end(trainer_at(5), None, None, None, 4)  # type: ignore[arg-type]
    assert screen.getvalue() == ""


def test_time_left_by_hand() -> None:
    assert progress._clock(3725.4) == "1:02:05"
    assert progress._clock(float("inf")) == "-:--:--"


def test_the_last_checkpoint_is_saved_each_time_n_steps_are_passed_on_sigterm_and_at_the_end() -> None:
    callback, saved = LastCheckpoint(every_n_steps=5), []
    callback._save = lambda trainer: (  # type: ignore[method-assign]
        saved.append(trainer.global_step),
        setattr(callback, "_saved_at", trainer.global_step),
    )
    callback.on_train_start(trainer_at(6), None)  # resumed at 6: nothing to save yet
    for step in (8, 10, 12, 16):  # two optimizer steps a batch and more: 15 itself is never seen
        callback.on_train_batch_end(trainer_at(step), None, None, None, 0)  # type: ignore[arg-type]
    callback.on_train_end(trainer_at(16), None)  # type: ignore[arg-type]
    callback.on_train_batch_end(trainer_at(17, terminated=True), None, None, None, 0)  # type: ignore[arg-type]
    callback.on_train_end(trainer_at(18), None)  # type: ignore[arg-type]
    assert saved == [10, 16, 17, 18]


class Saving:
    """A policy whose adapter is three files, of which the weights change from step to step."""

    trains = "adapter"

    def __init__(self, step: int) -> None:
        self.step = step

    def save_adapter(self, folder: Path) -> None:
        folder.mkdir()
        for name in ("README.md", "adapter_config.json"):
            (folder / name).write_text("as ever")
        (folder / "adapter_model.safetensors").write_text(f"step {self.step}")


def test_a_tower_is_exported_with_the_base_it_was_trained_in_front_of(
    tiny_policy: Callable[..., Any], tmp_path: Path
) -> None:
    policy = tiny_policy()
    policy.train_only("tower")
    with safe_open(export(policy, tmp_path), "pt") as file:
        assert file.metadata()["base"] == "tiny"
        assert file.metadata()["language_fingerprint"] == language_fingerprint(policy.base) != policy.fingerprint


@pytest.mark.parametrize("name", ["replace", "rmdir", "rmtree"])
def test_a_run_killed_while_it_exports_leaves_a_whole_adapter(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each single step that changes a folder; then the next export is as if nothing had been."""
    owner = shutil if name == "rmtree" else os
    function = getattr(owner, name)
    export(Saving(0), tmp_path)  # type: ignore[arg-type]
    for call in itertools.count(1):
        calls = itertools.count(1)

        def dying(*arguments: Any, calls: Any = calls, last: int = call, **named: Any) -> Any:
            if next(calls) == last:
                raise KeyboardInterrupt
            return function(*arguments, **named)

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(owner, name, dying)
            export(Saving(call), tmp_path)  # type: ignore[arg-type]
            break
        found = {file.name: file.read_text() for file in (tmp_path / "adapter").iterdir()}
        assert found.keys() == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
        assert found["adapter_model.safetensors"] in (f"step {call - 1}", f"step {call}")
        export(Saving(call), tmp_path)  # type: ignore[arg-type]
        assert (tmp_path / "adapter" / "adapter_model.safetensors").read_text() == f"step {call}"
    assert call > 1
    assert [file.name for file in tmp_path.iterdir()] == ["adapter"]


def test_an_adapter_that_does_not_fit_on_the_disk_is_an_error_of_the_disk(tmp_path: Path) -> None:
    class Full(Saving):
        def save_adapter(self, folder: Path) -> None:
            super().save_adapter(folder)
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(OSError, match=r"No space left.*/adapter") as said:
        export(Full(0), tmp_path)  # type: ignore[arg-type]
    assert said.value.filename == str(tmp_path / "adapter")
    assert not list(tmp_path.iterdir())  # the disk has need of the room


def test_settings_are_flattened_to_what_tensorboard_shows() -> None:
    settings = {"a": {"b": 1, "_target_": "x.Y", "c": {"d": None, "e": [1, 2]}}, "f": True}
    assert flat(settings) == {"a.b": 1, "a.c.e": "[1, 2]", "f": True}


def test_a_page_keeps_an_attackers_marks_as_text() -> None:
    picture = ImageRef("mini://knife")
    attack = Attack(Message.of("user", picture, "# Ignore this\n![x](http://example.com/x.png)"))
    trajectory = Trajectory(
        Scenario("row", "red_team", attack), (Turn(attack, Completion("No.", finish="length")),), None, 3
    )
    played = Played(trajectory, 0, TrajectoryReward((0.5,), (0.4,), 0.4, (0.4,)), (0.25,), ("I won't.",))
    lines = page(played).splitlines()
    assert "    # Ignore this" in lines
    assert "    ![x](http://example.com/x.png)" in lines
    assert "policy (cut):" in lines
    assert "    I won't." in lines
    assert pictures(played) == (picture,)
    assert excerpt(played).splitlines()[-1] == "  expected: I won't."


def test_a_page_keeps_marks_in_names_and_reasons_as_text() -> None:
    mark = "![x](http://example.com/x.png)\n\n# <b>*a* `b` &lt;"
    attack = Attack(Message.of("user", "Hello."), strategy=mark)
    turn = Turn(attack, Completion("No."), Verdict(failed=mark))
    shown = page(Played(Trajectory(Scenario(mark, "red_team", attack), (turn,), None, 3), 0))
    quoted = "![x]\\(http://example.com/x.png)  # &lt;b>\\*a\\* `b` &amp;lt;"
    first, asked, _, _, _, judged = shown.split("\n\n")
    assert first.startswith(f"**{quoted}** (red_team)")
    assert asked == f"user ({quoted}):"
    assert judged == f"*no verdict: {quoted}*"


def test_what_is_logged_holds_what_was_said_and_what_it_earned(played: Callable[..., Trajectory]) -> None:
    trajectory = played(("harmful", 10, 10, True), ("harmless", 10, 9, False))
    row = logged(Played(trajectory, 4, TrajectoryReward((0.9, 0.8), (0.9, 0.83), 1.73, (1.73, 1.73)), (0.2, 0.2)))
    assert (row.scenario, row.seed, row.step, row.trajectory_return) == ("row", 7, 4, 1.73)
    assert [turn.reward for turn in row.turns] == [0.9, 0.83]
    assert [turn.advantage for turn in row.turns] == [0.2, 0.2]
    verdict = row.turns[0].verdict
    assert verdict is not None
    assert verdict.safety == 10
    assert row.turns[0].intent == "harmful"
    failed = logged(Played(played(None), 4))
    assert failed.failed == "the tutor did not answer"
    assert failed.turns[0].score is None
