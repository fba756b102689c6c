"""A run that is continued with other settings says so, in its folder and in reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from steer_lit.bench.provenance import provenance, training_settings
from steer_lit.bench.unlike_seeds import unlike_seeds
from steer_lit.cli import main as cli
from steer_lit.cli.going_on import earlier_than
from steer_lit.files.run_files import LAST, earlier_settings

WORDS = ["+experiment=sft_tiny", "data.batch_size=2", "~logger.tensorboard", "callbacks.curves=null"]
WORDS += ["data.val_size=0", "data.source.scale=0.01", "replay.dialogues=0", "optim.schedule=constant"]


def trained(run: Path, steps: int, lr: str, *more: str) -> Path:
    given = [f"hydra.run.dir={run}", f"trainer.max_steps={steps}", f"optim.lr={lr}"]
    assert cli.run("train", [*WORDS, *given, *more]) == 0
    return run


def continued(run: Path) -> str | None:
    return dict(provenance(run)).get("continued")


def test_a_run_that_is_continued_with_other_settings_records_the_earlier_ones(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", 1, "1e-4")
    assert continued(one) is None
    saved = f"ckpt_path={one / LAST}"
    two = trained(tmp_path / "two", 2, "1e-5", saved)
    ((step, settings),) = earlier_settings(two)
    assert (step, settings["optim.lr"], settings["trainer.max_steps"]) == (1, 1e-4, 1)
    told = ["optim.lr 0.0001 to step 1 -> 1e-05", "trainer.max_steps 1 to step 1 -> 2"]
    assert continued(two) == f"from a run with other settings: {told[1]}, {told[0]}"
    three = trained(tmp_path / "three", 2, "1e-5", f"ckpt_path={two / LAST}")
    assert continued(three) == continued(two)  # continued as it was
    four = trained(tmp_path / "four", 3, "1e-6", f"ckpt_path={two / LAST}")
    assert [(step, settings["optim.lr"]) for step, settings in earlier_settings(four)] == [(1, 1e-4), (2, 1e-5)]

    shutil.copytree(one, tmp_path / "same")
    again = f"ckpt_path={tmp_path / 'same' / LAST}"
    kept = tmp_path / "same" / "checkpoints" / "kept.ckpt"
    shutil.copyfile(tmp_path / "same" / LAST, kept)
    assert "optim.lr 0.0001 to step 1 -> 0.001" in (continued(trained(tmp_path / "same", 2, "1e-3", again)) or "")
    assert "lr" not in (continued(trained(tmp_path / "same", 2, "1e-4", f"ckpt_path={kept}")) or "")  # as it began

    shutil.copyfile(one / LAST, tmp_path / "alone.ckpt")
    moved = trained(tmp_path / "moved", 2, "1e-4", f"ckpt_path={tmp_path / 'alone.ckpt'}")
    assert continued(moved) == "from a run with other settings: settings not known to step 1 -> known"


@pytest.mark.parametrize("earlier", [None, 3, [3], [["x", {}]], [[1, 2]], {"a": 1}])
def test_an_edited_record_says_nothing(tmp_path: Path, earlier: object) -> None:
    (tmp_path / "versions.json").write_text(json.dumps({"earlier": earlier}))
    assert earlier_settings(tmp_path) == []


def test_reports_and_seeds_tell_of_adapters_of_continued_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(name: str, *earlier: tuple[int, dict[str, Any]]) -> str:
        (folder := tmp_path / name).mkdir()
        (folder / "config.yaml").write_text("stage: sft\noptim: {lr: 1.0e-05}\nmodel: {seed: 1}\n")
        (folder / "versions.json").write_text(json.dumps({"earlier": earlier}))
        return str(folder / "adapter")

    monkeypatch.chdir(run("here", (1, {"optim.lr": 1}))[: -len("/adapter")])  # not the run of the policy `base`
    whole, logged = run("a"), run("b", (5, {"callbacks.progress": 1, "model.seed": 2}))
    other = run("c", (10, {"optim.lr": 1e-4}), (20, {"optim.lr": 3e-5, "model.weights": "/home/me/x/y"}))
    assert list(unlike_seeds({"full": [whole, logged]})) == []
    (said,) = unlike_seeds({"full": [whole, other]})
    assert "optim.lr (1e-05, 0.0001 to step 10 -> 3e-05 to step 20 -> 1e-05)" in said
    bench = tmp_path / "bench"
    bench.mkdir()
    (bench / "config.yaml").write_text(f"policies: {{base: base, whole: {whole}, full: [{logged}, {other}]}}\n")
    lr, weights = "0.0001 to step 10 -> 3e-05 to step 20 -> 1e-05", "…/x/y to step 20 -> not there"
    assert continued(bench) == f"full@2 from a run with other settings: optim.lr {lr}, model.weights {weights}"
    (best := tmp_path / "c" / "best_adapter").mkdir()
    for step, told in [(10, {"0.0001"}), (11, {"0.0001 to step 10", "3e-05"}), (21, set(lr.split(" -> ")))]:
        (best / "best.json").write_text(json.dumps({"step": step}))
        assert set(training_settings(best)["optim.lr"]) == told


def test_a_setting_that_was_not_there_is_told_from_one_that_is_null(tmp_path: Path) -> None:
    """As a parameter of a class of the user's own."""
    (run := tmp_path / "one").mkdir()
    (saved := run / LAST).parent.mkdir()
    saved.touch()
    (run / "config.yaml").write_text("stage: grpo\nreward: {bonus: null, kept: 1}\n")
    now = OmegaConf.create({"stage": "grpo", "reward": {"kept": 1, "malus": None}})
    changed = [(5, {"reward.malus": "not there", "reward.bonus": None})]
    assert earlier_than(5, saved, tmp_path / "two", now) == changed
