"""What TensorBoard and metrics.csv hold of a run that was resumed in its folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from steer_lit.cli import main as cli
from steer_lit.lit.csv_log import CsvLog
from steer_lit.lit.resumed_logs import log_missing
from tests.kills import Kill, arm, in_a_process


def shown(folder: Path) -> dict[str, list[int]]:
    """Return the steps of every tag that TensorBoard shows."""
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = [(events.Scalars, "scalars"), (events.Tensors, "tensors"), (events.Images, "images")]
    return {tag: [event.step for event in read(tag)] for read, kind in tags for tag in events.Tags()[kind]}


def test_repeated_steps_are_shown_once(tmp_path: Path) -> None:
    words = ["data.source.scale=0.01", "data.val_size=10", "data.batch_size=2", "callbacks.checkpoint.every_n_steps=2"]
    words += [f"hydra.run.dir={tmp_path}", "optim.schedule=constant", "trainer.val_check_interval=9"]
    words += ["replay.dialogues=0"]
    last, kept = tmp_path / "checkpoints/last.ckpt", tmp_path / "kept.ckpt"
    assert cli.run("train", [*words, "trainer.max_steps=2"]) == 0
    last.rename(kept)
    assert cli.run("train", [*words, "trainer.max_steps=4", f"ckpt_path={kept}"]) == 0
    assert cli.run("train", [*words, "trainer.max_steps=5", f"ckpt_path={kept}"]) == 0  # as after a kill
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5]


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
    assert cli.run("train", [*words, f"ckpt_path={tmp_path}/checkpoints/last.ckpt"]) == 0
    assert shown(tmp_path) == before


def rows(folder: Path) -> list[dict[str, Any]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: row[name] for name in row if "second" not in name} for row in csv.DictReader(file)]


LOGGER = "lightning.pytorch.trainer.connectors.logger_connector.logger_connector:_LoggerConnector"
OPTIMIZER = "steer_lit.lit.master_weights:MasterAdamW"


def run_part(words: list[str], folder: Path, kill: Kill | None) -> None:
    """Train from the last checkpoint in `folder`, or from the start, until the end or the kill."""
    if kill is not None:
        arm(kill)
    last = folder / "checkpoints" / "last.ckpt"
    resumed = [f"ckpt_path={last}"] if last.is_file() else []
    assert cli.run("train", [*words, f"hydra.run.dir={folder}", *resumed]) == 0


def before_logging(call: int) -> Kill:
    """Kill between the saving and the logging of this process's `call`th step."""
    return Kill(LOGGER, "update_train_step_metrics", call)


@pytest.mark.parametrize(
    ("experiment", "every", "kills"),
    [
        ("sft_tiny", 1, [before_logging(3), before_logging(1)]),  # in step 3, followed by a validation; then the last
        ("sft_tiny", 3, [before_logging(2), before_logging(2)]),  # in step 2, which is not logged; then the last
        ("grpo_tiny", 1, [before_logging(1), Kill(OPTIMIZER, "step", 1)]),  # step 1; then in step 2, with it logged
    ],
)
def test_a_step_saved_but_not_logged_when_killed_is_logged_once_by_the_resumed_run(
    experiment: str, every: int, kills: list[Kill], tmp_path: Path
) -> None:
    words = [f"+experiment={experiment}", "data.source.scale=0.02", "data.val_size=10", "data.batch_size=2"]
    words += ["trainer.val_check_interval=3", f"trainer.max_steps={4 if experiment == 'sft_tiny' else 2}"]
    words += ["callbacks.checkpoint.every_n_steps=1", f"trainer.log_every_n_steps={every}"]
    words += ["+logger.csv={_target_: steer_lit.lit.csv_log.CsvLog, path: '${run_dir}/metrics.csv'}"]
    words += ["rollout.max_turns=2", "rollout.max_new_tokens=8"] if experiment == "grpo_tiny" else []
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for folder, parts in ((straight, [None]), (killed, [*kills, None])):
        folder.mkdir()
        for kill in parts:
            in_a_process(run_part, words, kill=kill, folder=folder)

    def tags(folder: Path) -> dict[str, list[int]]:  # each start of a run shows its settings
        return {tag: steps for tag, steps in shown(folder).items() if "hp" not in tag}

    assert rows(killed) == rows(straight)
    assert tags(killed) == tags(straight)


def test_a_run_that_goes_on_in_another_folder_logs_only_its_own_steps(tmp_path: Path) -> None:
    words = ["+experiment=sft_tiny", "data.source.scale=0.02", "data.val_size=0", "data.batch_size=2", "logger=none"]
    words += ["+logger.csv={_target_: steer_lit.lit.csv_log.CsvLog, path: '${run_dir}/metrics.csv'}"]
    words += ["trainer.max_steps=3", "callbacks.checkpoint.every_n_steps=1"]
    first, other = tmp_path / "first", tmp_path / "other"
    first.mkdir()
    in_a_process(run_part, words, kill=before_logging(2), folder=first)
    resumed = f"ckpt_path={first}/checkpoints/last.ckpt"
    assert cli.run("train", [*words, f"hydra.run.dir={other}", resumed]) == 0
    assert [row["step"] for row in rows(other)] == ["3"]


def test_a_logger_that_cannot_be_asked_is_given_no_step_again(tmp_path: Path) -> None:
    class Jots(Logger):
        name, version = "jots", ""

        def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

        def log_metrics(self, *_: Any, **__: Any) -> None:
            pytest.fail("it may have the step")

    log_missing(3, {"train/loss": 0.5}, [Jots(), CsvLog(str(tmp_path / "metrics.csv"))])
    assert rows(tmp_path) == [{"step": "3", "train/loss": "0.5"}]
