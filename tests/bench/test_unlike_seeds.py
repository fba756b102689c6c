"""Adapters that are no seeds of one training are told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from steer_lit.bench.unlike_seeds import unlike_seeds

TRAINING = {"stage": "grpo", "seed": 1, "optim": {"lr": 1e-4, "betas": [0.9, 0.999]}, "trainer": {"max_steps": 10}}


def adapter(run: Path, **changed: Any) -> str:
    run.mkdir()
    OmegaConf.save(OmegaConf.create({**TRAINING, **changed}), run / "config.yaml")
    return str(run / "adapter")


def test_runs_on_other_generated_rows_are_no_seeds_of_one_training(tmp_path: Path) -> None:
    seeds = [adapter(tmp_path / name, data={"source": {"seed": at}}) for at, name in enumerate("ab")]
    assert [said.partition("differ in ")[2] for said in unlike_seeds({"full": seeds})] == ["data.source.seed (0, 1)"]


def test_adapters_of_one_run_are_no_seeds(tmp_path: Path) -> None:
    one, other = adapter(tmp_path / "a"), adapter(tmp_path / "b", seed=2)
    found = list(unlike_seeds({"full": [one, other, f"{tmp_path}/a/best_adapter", "base"], "alone": one}))
    said = f"2 of them are of one run, {tmp_path / 'a'}"
    assert found == [f"policies.full counts as seeds of one training, but {said}"]
    assert (
        list(unlike_seeds({"full": [f"{tmp_path}/copies/1", f"{tmp_path}/copies/2"], "base": ["base", "base"]})) == []
    )
    (link := tmp_path / "link").symlink_to(tmp_path / "a")
    assert len(list(unlike_seeds({"full": [one, f"{link}/adapter"]}))) == 1


def test_the_base_policy_is_of_no_run_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = adapter(tmp_path / "a"), adapter(tmp_path / "here", stage="sft")
    monkeypatch.chdir(tmp_path / "here")
    assert list(unlike_seeds({"full": [one, "base"]})) == []


def test_runs_that_differ_in_their_seed_alone_are_seeds_of_one_training(tmp_path: Path) -> None:
    start = {
        "init_from": "a/adapter",
        "model": {"seed": 1, "init_from": "a/adapter", "device": "cpu"},
        "tutor": {"client": {"settings": {"cache_dir": "a/cache"}}},
    }
    other = {
        "seed": 2,
        "init_from": "b/adapter",
        "model": {"seed": 2, "init_from": "b/adapter", "device": "cuda:1"},
        "tutor": {"client": {"settings": {"cache_dir": "b/cache"}}},
        "run_dir": "elsewhere",
    }
    seeds = [adapter(tmp_path / "a", **start), adapter(tmp_path / "b", **other)]
    assert list(unlike_seeds({"full": seeds, "sft": seeds[0], "base": "base"})) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"optim": {"lr": 1e-5, "betas": [0.9, 0.999]}}, "optim.lr (0.0001, 1e-05)"),
        ({"trainer": {"max_steps": 100}}, "trainer.max_steps (10, 100)"),
        ({"reward": {"alpha": 0.3}}, "reward.alpha (not there, 0.3)"),
        ({"ablation": "single_turn"}, "ablation (not there, single_turn)"),
        ({"stage": "sft", "trainer": {"max_steps": 9}, "reward": {"a": 1, "b": 2}},
         "stage (grpo, sft), trainer.max_steps (10, 9), reward.a (not there, 1) and 1 more"),
    ],
)  # fmt: skip
def test_other_differences_are_named(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    seeds = [adapter(tmp_path / "a"), adapter(tmp_path / "b", **changed), adapter(tmp_path / "c", seed=3)]
    told = f"policies.full counts as seeds of one training, but they differ in {said}"
    assert list(unlike_seeds({"full": seeds})) == [told]
    assert list(unlike_seeds({"full": [{"adapter": one, "system_prompt": "x"} for one in seeds]})) == [told]


def test_nothing_is_said_of_runs_that_are_not_known(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("a: [")
    unknown = [str(tmp_path / "gone" / "adapter"), str(tmp_path / "broken" / "adapter"), "base", "server:m"]
    assert list(unlike_seeds({"full": [*unknown, adapter(tmp_path / "a")]})) == []
