"""Settings that differ: what a user is told of a folder's records under others, which go only when they are replaced,
and of adapters that are no seeds of one training.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from steer_lit.bench.changed_settings import changed_settings, unlike_seeds
from steer_lit.bench.playing import BenchRun
from steer_lit.bench.run import run_bench
from steer_lit.bench.suite import BenchPolicy, Suite
from tests.bench.players import reported
from tests.bench.test_bench_run import SETTINGS, CountingGold, WordJudge, bench, lines, scenarios

pytestmark = pytest.mark.usefixtures("no_charts")


def described(
    out_dir: Path, policies: dict[str, BenchPolicy], *data: object, config: dict[str, Any] | None = None
) -> str:
    """Return what a run says about its folder's content. The run is stopped before anything is played."""
    console = Console(file=io.StringIO(), width=200)
    stopping = {name: CountingGold(policy.fingerprint, break_after=0) for name, policy in policies.items()}

    def freeze(played: object) -> None:
        raise AssertionError("nothing was recorded")

    run = BenchRun(stopping, Suite(scenarios()), WordJudge(), SETTINGS, out_dir, data, config or {}, freeze)
    with pytest.raises(KeyboardInterrupt):
        run_bench(run, console)
    return console.file.getvalue().split(f"{out_dir} holds ")[-1].split("\n")[0]  # type: ignore[attr-defined]


def test_other_settings_remove_no_record_before_its_dialogue_was_played(tmp_path: Path) -> None:
    bench(tmp_path, {"sft": CountingGold(), "grpo": CountingGold()})
    before = (tmp_path / "records.jsonl").read_bytes()
    other = {"sft": CountingGold("gold-2")}
    assert described(tmp_path, other, 200).startswith(
        "5 graded dialogues of sft under other settings: each is replaced once"
    )
    assert (tmp_path / "records.jsonl").read_bytes() == before
    broken = CountingGold("gold-2", break_after=2)
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path, {"sft": broken})
    marks = [(row["policy"], row["scenario"], row["fingerprint"]) for row in lines(tmp_path)]
    assert sorted(marks) == [  # row-0 and row-1 were replaced
        *(("grpo", f"row-{number}", "gold-1") for number in range(5)),
        *(("sft", f"row-{number}", "gold-2" if number < 2 else "gold-1") for number in range(5)),
    ]
    shown, _ = reported(tmp_path / "again", from_run=str(tmp_path))
    assert {name: figures["n"] for name, figures in shown.items()} == {"grpo": 5, "sft": 2}  # of one of the two sft
    assert bench(tmp_path, {"sft": CountingGold("gold-2")})[0]["sft"]["n"] == 5
    assert len(lines(tmp_path)) == 10


def test_records_that_will_be_replaced_or_not_shown_are_reported_first(tmp_path: Path) -> None:
    said = bench(tmp_path, {"sft": CountingGold(), "grpo": CountingGold()})[1]
    assert " holds " not in said
    same, other = CountingGold(), CountingGold("gold-2")
    replaced = "each is replaced once it has been graded anew"
    aside = "5 graded dialogues of grpo that this command does not play: they are kept and not shown"
    weights = f"5 graded dialogues of sft under other settings or weights: {replaced}"
    assert described(tmp_path, {"new": other, "sft": other}) == f"{weights}; and {aside}"
    settings = f"5 graded dialogues of sft, 5 of grpo under other settings: {replaced}"
    assert described(tmp_path, {"sft": other, "grpo": other}, 200) == settings
    assert " holds " not in bench(tmp_path, {"sft": same, "grpo": same})[1]
    assert aside in bench(tmp_path, {"sft": same})[1]
    few = "3 graded dialogues of sft, 3 of grpo that this command does not play"
    assert few in bench(tmp_path, {"sft": same, "grpo": same}, scenarios(2))[1]


def test_changed_settings_are_named_if_the_folder_has_the_old_ones(tmp_path: Path) -> None:
    other = {"sft": CountingGold("gold-2")}
    bench(tmp_path, {"sft": CountingGold()})
    before = "model: {name: nano, lora: {r: 8}}\nrollout: {max_new_tokens: 16}\npolicies: {sft: a, grpo: b}\n"
    before += "bench: {chunk: 3}\ndata: {blank_images: false}\n"
    before += "judge: {client: {settings: {model: one, read_timeout: 3}}}\n"
    (tmp_path / "config.yaml").write_text(before)
    now = {
        "model": {"name": "smol", "lora": {"r": 4}}, "rollout": {"max_new_tokens": 16}, "bench": {"chunk": 4},
        "policies": {"sft": "c", "grpo": "d"}, "judge": {"client": {"settings": {"model": "two", "read_timeout": 4}}},
        "data": {"blank_images": True},
    }  # fmt: skip
    judge, named = "judge.client.settings.model=one, now two", "model.name=nano, now smol; policies.sft=a, now c; "
    assert f"settings ({named}data.blank_images=false, now true; {judge}): " in described(
        tmp_path, other, 200, config=now
    )
    now["rollout"] = {"max_new_tokens": 200, "temperature": 1.0}
    more = "model.name=nano, now smol; rollout.max_new_tokens=16, now 200; policies.sft=a, now c; "
    assert f"({more}data.blank_images=false, now true and 2 more): " in described(tmp_path, other, 200, config=now)
    (tmp_path / "versions.json").write_text('{"played": {"conditions": "another run\'s"}}')
    assert "under other settings: " in described(tmp_path, other, 200, config=now)


def test_the_device_is_not_a_setting_that_changes_records() -> None:
    before = {"model": {"name": "nano", "device": "cpu", "max_pixels": 784}}
    now = {"model": {"name": "nano", "device": None, "max_pixels": 1568}}
    assert list(changed_settings(before, now)) == [("model.max_pixels", "784", "1568")]


# ---- adapters that are no seeds of one training

TRAINING = {"stage": "grpo", "seed": 1, "optim": {"lr": 1e-4, "betas": [0.9, 0.999]}, "trainer": {"max_steps": 10}}


def adapter(run: Path, **changed: Any) -> str:
    run.mkdir()
    OmegaConf.save(OmegaConf.create({**TRAINING, **changed}), run / "config.yaml")
    return str(run / "adapter")


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
