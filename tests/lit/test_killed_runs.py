"""A run that is killed with SIGKILL, twice, and resumed each time is to the last bit the run that was never killed.

Every part of a run is a process of its own, which dies at a chosen call of a chosen function: nothing is closed,
flushed or cleaned up. What is compared is what is on disk in the end, and what each finished step said about itself.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import pkgutil
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

# One server loads the libraries once; each part of a run is forked from it before any work was done there.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["lightning", "peft", "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl"])
BATCHES = 6  # of two epochs: an epoch has 25 rows in steps of 10, 10 and 5


class Kill(NamedTuple):
    """Before the `call`th call of `name` in `owner`, a module or `module:class`."""

    owner: str
    name: str
    call: int


def arm(kill: Kill) -> None:
    """Make this process die there."""
    owner, calls = pkgutil.resolve_name(kill.owner), itertools.count(1)
    function = getattr(owner, kill.name)

    def dying(*arguments: Any, **named: Any) -> Any:
        if next(calls) == kill.call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)

    setattr(owner, kill.name, dying)


def run_part(stage: str, folder: Path, kill: Kill | None) -> None:
    """Train from the last checkpoint in `folder`, or from the start, to the end or until killed."""
    from lightning import Callback, Trainer, seed_everything

    from steer_lit.data.datamodule import SteerDataModule
    from steer_lit.data.sources import MiniSource
    from steer_lit.lit.callbacks import LastCheckpoint, PolicyExport, TrajectoryLog

    class Diary(Callback):
        """One line for each finished batch: every figure but the times, and the tokens that were sampled."""

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            figures = {name: float(value) for name, value in trainer.callback_metrics.items() if "second" not in name}
            tokens = [played.trajectory.trace.token_ids for played in getattr(module, "rollouts", ())]
            with (folder / "diary.jsonl").open("a") as file:
                file.write(json.dumps([trainer.global_step, figures, tokens]) + "\n")

    seed_everything(3, verbose=False)
    module, steps_a_batch = make_module(stage)
    if kill is not None:
        arm(kill)
    trainer = Trainer(
        max_steps=BATCHES * steps_a_batch,
        max_epochs=-1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Diary(), TrajectoryLog(), LastCheckpoint(every_n_steps=2 * steps_a_batch), PolicyExport()],
        default_root_dir=folder,
    )
    source = MiniSource(sft=25, rl=25, bench=10, captions=10, mean_turns=2)
    last = folder / "checkpoints" / "last.ckpt"
    resumed = last if last.is_file() else None
    trainer.fit(module, SteerDataModule(source, stage, 10, max_turns=3), ckpt_path=resumed, weights_only=True)  # type: ignore[arg-type]


def make_module(stage: str) -> tuple[Any, int]:
    """The module, and how many optimizer steps it takes for a batch."""
    from steer_lit.attacker.adaptive import AdaptiveAttacker
    from steer_lit.data.images import open_image
    from steer_lit.lit.grpo_module import GRPOModule, ObjectiveSettings, RolloutSettings
    from steer_lit.lit.optim import OptimSettings
    from steer_lit.lit.sft_module import SFTModule
    from steer_lit.policy.load import load_policy
    from steer_lit.policy.lora import LoraSettings
    from steer_lit.reward.reward import Reward
    from steer_lit.tutor.rubric import RubricTutor

    policy = load_policy(
        name="tiny",
        quantize="none",
        dtype="float32",
        lora=LoraSettings(r=4, alpha=8, dtype="bfloat16"),  # so that the masters have to be in the checkpoint
        system_prompt="Be kind.",
        open_image=open_image,
        min_pixels=784,
        max_pixels=12544,
    )
    optim = OptimSettings(lr=1e-2, schedule="cosine", warmup=0.3)
    if stage == "sft":
        return SFTModule(policy, optim, micro_tokens=512), 1
    rollout = RolloutSettings(group_size=2, max_turns=2, max_new_tokens=6)
    players = (AdaptiveAttacker(), RubricTutor(), Reward())
    return GRPOModule(policy, *players, rollout, ObjectiveSettings(epochs=2), optim, micro_tokens=1024, seed=1), 2


def play_part(stage: str, folder: Path, kill: Kill | None = None) -> None:
    part = FORK.Process(target=run_part, args=(stage, folder, kill))
    part.start()
    part.join()
    assert part.exitcode == (0 if kill is None else -signal.SIGKILL)


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {stage: tmp_path_factory.mktemp(stage) for stage in ("sft", "grpo")}
    for stage, folder in folders.items():
        play_part(stage, folder)
    return folders


ENGINE, ATTACKER = "steer_lit.rollout.engine:SampledSession", "steer_lit.attacker.adaptive:AdaptiveAttacker"
OPTIMIZER, CALLBACKS = "steer_lit.lit.master_weights:MasterAdamW", "steer_lit.lit.callbacks"
# A batch of GRPO plays 20 dialogues of 2 turns and learns from them twice; there are checkpoints after batches 2, 4, 6.
KILLS = {
    "grpo: while sampling, before any checkpoint; between the two updates of a batch": (
        "grpo",
        Kill(ENGINE, "step", 9),
        Kill(OPTIMIZER, "step", 8),
    ),
    "grpo: while attacking; mid-accumulation, in the second epoch": (
        "grpo",
        Kill(ATTACKER, "next", 50),
        Kill(OPTIMIZER, "collect", 45),
    ),
    "grpo: while rollouts are written down; before a written checkpoint takes the last one's place": (
        "grpo",
        Kill(CALLBACKS, "record", 55),
        Kill("os", "replace", 3),
    ),
    "sft: mid-accumulation; the adapter's folder is gone and the new one not yet in place": (
        "sft",
        Kill(OPTIMIZER, "collect", 10),
        Kill("os", "replace", 1),
    ),
}


@pytest.mark.parametrize(("stage", "first", "second"), KILLS.values(), ids=KILLS)
def test_a_run_killed_twice_is_the_run_that_was_never_killed(
    stage: str, first: Kill, second: Kill, never_killed: dict[str, Path], tmp_path: Path
) -> None:
    for kill in (first, second, None):
        play_part(stage, tmp_path, kill)
    straight = never_killed[stage]
    told, again = diary(straight), diary(tmp_path)
    assert len(told) == BATCHES
    assert len(again) > BATCHES or first.call < 10  # some batches were taken a second time
    assert sorted(set(again)) == sorted(told)  # and went as they had the first time
    for name in ("adapter/adapter_model.safetensors", *(["trajectories.jsonl"] if stage == "grpo" else [])):
        assert (tmp_path / name).read_bytes() == (straight / name).read_bytes(), name
    assert_equal(checkpoint(tmp_path), checkpoint(straight))


def diary(folder: Path) -> list[str]:
    return (folder / "diary.jsonl").read_text().splitlines()


def checkpoint(folder: Path) -> dict[str, Any]:
    """What of the last checkpoint says how a run goes on. The rest is Lightning's count of its own hooks."""
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    kept = ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "steer_lit", "SteerDataModule")
    return {name: saved[name] for name in kept}


def assert_equal(found: Any, expected: Any) -> None:
    """Nested plain types and tensors, to the last bit."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_equal(found[key], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected
