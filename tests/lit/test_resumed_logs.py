"""What TensorBoard and metrics.csv hold of a run that was resumed in its folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from steer_lit.cli import main as cli
from tests.kills import Kill, arm, in_a_process


def shown(folder: Path) -> dict[str, list[int]]:
    """Return the steps of every tag that TensorBoard shows."""
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = [(events.Scalars, "scalars"), (events.Tensors, "tensors"), (events.Images, "images")]
    return {tag: [event.step for event in read(tag)] for read, kind in tags for tag in events.Tags()[kind]}


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return [{name: row[name] for name in row if "second" not in name} for row in csv.DictReader(file)]


def test_repeated_steps_are_shown_once(tmp_path: Path) -> None:
    words = ["data.source.scale=0.01", "data.val_size=10", "data.batch_size=2", "callbacks.checkpoint.every_n_steps=2"]
    words += [f"hydra.run.dir={tmp_path}", "optim.schedule=constant", "trainer.val_check_interval=9"]
    words += ["replay.dialogues=0", "logger=[csv,tensorboard]"]
    last, kept = tmp_path / "checkpoints/last.ckpt", tmp_path / "kept.ckpt"
    assert cli.run("train", [*words, "trainer.max_steps=2"]) == 0
    last.rename(kept)
    first = rows(tmp_path / "csv/metrics.csv")
    assert cli.run("train", [*words, "trainer.max_steps=4", f"ckpt_path={kept}"]) == 0
    assert cli.run("train", [*words, "trainer.max_steps=5", f"ckpt_path={kept}"]) == 0  # as after a kill
    steps = shown(tmp_path)
    assert steps["train/loss"] == [1, 2, 3, 4, 5]
    assert steps["hp_metric"] == [0, 2, 5]  # NaN where the run began, then each end that was not overtaken
    table = rows(tmp_path / "csv/metrics.csv")
    assert [row["step"] for row in table if row["train/loss"]] == list("12345")
    assert table[: len(first)] == first
    words.append("~callbacks.settings")  # it writes a NaN that is to be hidden, but the rest is hidden without it
    assert cli.run("train", [*words, "trainer.max_steps=3", f"ckpt_path={kept}"]) == 0
    assert shown(tmp_path)["train/loss"] == [1, 2, 3]


def test_a_continuation_with_nothing_left_to_train_says_so_and_logs_its_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data.source.scale=0.01", "data.val_size=10", "data.batch_size=2", "trainer.max_steps=2"]
    words += ["replay.dialogues=0", "logger=[csv,tensorboard]"]
    first, other = tmp_path / "first", tmp_path / "other"
    assert cli.run("train", [*words, f"hydra.run.dir={first}"]) == 0
    assert "nothing was left to train" not in "".join(capsys.readouterr())
    saved = f"ckpt_path={first}/checkpoints/last.ckpt"
    assert cli.run("train", [*words, f"hydra.run.dir={other}", saved, "optim.lr=1e-3"]) == 0
    said = f"nothing was left to train: {saved} had taken step 2, the last with trainer.max_steps=2; a higher one"
    assert said in "".join(capsys.readouterr())
    (validated,), before = rows(other / "csv/metrics.csv"), rows(first / "csv/metrics.csv")[-1]
    assert (validated["step"], validated["val/loss"]) == ("2", before["val/loss"])
    assert shown(other)["val/loss"] == [2]


@pytest.mark.parametrize(
    ("words", "through"),
    [
        (["trainer.max_epochs=1"], True),
        (["trainer.max_epochs=2", "+trainer.max_time=00:00:00:00"], False),  # as a limit of time may, before a step
    ],
)
def test_only_a_run_at_its_end_has_nothing_left_to_train(
    words: list[str], through: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["data.source.scale=0.01", "data.val_size=0", "data.batch_size=50", "replay.dialogues=0"]
    assert cli.run("train", [*common, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}"]) == 0
    capsys.readouterr()
    saved = f"ckpt_path={tmp_path}/checkpoints/last.ckpt"
    assert cli.run("train", [*common, *words, saved, "optim.lr=1e-3", f"hydra.run.dir={tmp_path / 'other'}"]) == 0
    told = "".join(capsys.readouterr())
    assert (", the last with trainer.max_epochs=1; a higher" in told) == ("nothing was left" in told) == through


@pytest.mark.parametrize("every_n_steps", [2, 9])
def test_a_run_resumed_at_its_end_shows_nothing_twice(every_n_steps: int, tmp_path: Path) -> None:
    """The run is validated again for its final message. A checkpoint may be due at the last step or later."""
    words = ["data.source.scale=0.01", "data.val_size=10", "data.batch_size=2", f"hydra.run.dir={tmp_path}"]
    words += ["trainer.max_steps=2", "trainer.val_check_interval=2", "replay.dialogues=1", "replay.max_new_tokens=4"]
    words.append(f"callbacks.checkpoint.every_n_steps={every_n_steps}")

    assert cli.run("train", words) == 0
    before = shown(tmp_path)
    assert before["hp_metric"] == [0, 2]
    assert before["val/loss"] == [2]
    (tmp_path / "versions.json").unlink()  # where it stands that the run is finished
    assert cli.run("train", words) == 0
    assert shown(tmp_path) == before


OPTIMIZER = "steer_lit.lit.master_weights:MasterAdamW"


def run_part(words: list[str], folder: Path, kill: Kill | None) -> None:
    """Train in `folder`, until the end or the kill."""
    if kill is not None:
        arm(kill)
    assert cli.run("train", [*words, f"hydra.run.dir={folder}"]) == 0


def before_saving(call: int) -> Kill:
    """Kill before this process's `call`th checkpoint is written."""
    return Kill("steer_lit.lit.training_checkpoint:CheckpointFile", "save_checkpoint", call)


def after_saving(call: int) -> Kill:
    return before_saving(call)._replace(after=True)


@pytest.mark.parametrize(
    ("experiment", "every", "kills"),
    [
        ("sft_tiny", 1, [before_saving(3), after_saving(2)]),  # in step 3, which is taken again; then in the last
        ("sft_tiny", 3, [after_saving(2), after_saving(1)]),  # in step 2, which is not logged; then in step 3
        ("grpo_tiny", 1, [after_saving(1), Kill(OPTIMIZER, "step", 1)]),  # in step 1; then in step 2
    ],
)
def test_every_step_is_logged_once_by_a_run_that_is_killed_as_it_saves(
    experiment: str, every: int, kills: list[Kill], tmp_path: Path
) -> None:
    words = [f"+experiment={experiment}", "data.source.scale=0.02", "data.val_size=10", "data.batch_size=2"]
    words += ["trainer.val_check_interval=3", f"trainer.max_steps={4 if experiment == 'sft_tiny' else 2}"]
    words += ["callbacks.checkpoint.every_n_steps=1", f"trainer.log_every_n_steps={every}", "logger=[csv,tensorboard]"]
    words += ["rollout.max_turns=2", "rollout.max_new_tokens=8"] if experiment == "grpo_tiny" else []
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for folder, parts in ((straight, [None]), (killed, [*kills, None])):
        folder.mkdir()
        for kill in parts:
            in_a_process(run_part, words, kill=kill, folder=folder)
    assert rows(killed / "csv/metrics.csv") == rows(straight / "csv/metrics.csv")
    assert shown(killed) == shown(straight)
