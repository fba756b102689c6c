"""TensorBoard's record of a run that was resumed in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from steer_lit.cli import main as cli


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

    def shown() -> dict[str, list[int]]:
        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        tags = [(events.Scalars, "scalars"), (events.Tensors, "tensors"), (events.Images, "images")]
        return {tag: [event.step for event in read(tag)] for read, kind in tags for tag in events.Tags()[kind]}

    assert cli.run("train", words) == 0
    before = shown()
    assert before["hp_metric"] == [0, 2]
    assert before["val/loss"] == [2]
    assert cli.run("train", [*words, f"ckpt_path={tmp_path}/checkpoints/last.ckpt"]) == 0
    assert shown() == before
