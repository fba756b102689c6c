"""What TensorBoard shows of a run that went on in its folder."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from steer_lit.cli import main as cli


def test_steps_that_are_taken_again_are_shown_once(tmp_path: Path) -> None:
    words = ["data.source.scale=0.01", "data.val_size=10", "data.batch_size=2", "callbacks.checkpoint.every_n_steps=2"]
    words += [f"hydra.run.dir={tmp_path}", "optim.schedule=constant", "trainer.val_check_interval=9"]
    last, kept = tmp_path / "checkpoints/last.ckpt", tmp_path / "kept.ckpt"
    assert cli.run("train", [*words, "trainer.max_steps=2"]) == 0
    last.rename(kept)
    assert cli.run("train", [*words, "trainer.max_steps=4", f"ckpt_path={kept}"]) == 0
    assert cli.run("train", [*words, "trainer.max_steps=5", f"ckpt_path={kept}"]) == 0  # as after a kill
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5]
