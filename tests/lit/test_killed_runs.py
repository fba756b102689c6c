"""A run that is killed twice with SIGKILL and resumed each time equals, bit for bit, a run that was never killed.

Every part of a run is its own process, which dies at a chosen call of a chosen function. Nothing is closed, flushed or
cleaned up. The tests compare the files at the end and the metrics of each finished step.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from steer_lit.cli import main as cli
from steer_lit.lit.training_checkpoint import read_checkpoint
from tests.forked import started
from tests.kills import Kill, arm, in_a_process
from tests.lit.test_gradient_exact import ChecksumTutor
from tests.policies import ending_at_every, small_policy
from tests.settings import objective_settings, optim_settings, rollout_settings

BATCHES = 6  # two epochs: an epoch has 13 rows in steps of 5, 5 and 3


def run_part(stage: str, folder: Path, kill: Kill | None) -> None:
    """Train from the last checkpoint in `folder`, or from the start, until the end or the kill."""
    from lightning import Callback, Trainer, seed_everything

    from steer_lit.data.datamodule import SteerDataModule
    from steer_lit.data.sources import MiniSource
    from steer_lit.lit.export import PolicyExport
    from steer_lit.lit.last_checkpoint import LastCheckpoint
    from steer_lit.lit.trajectory_log import TrajectoryLog

    class Diary(Callback):
        """Writes one line per finished batch: every metric except times, and the rollouts."""

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            played = [str(rollout) for rollout in getattr(module, "rollouts", ())]
            with (folder / "diary.jsonl").open("a") as file:
                file.write(json.dumps([trainer.global_step, figures, played]) + "\n")
            figures.clear()

    seed_everything(3, verbose=False)
    module, steps_a_batch = make_module(stage)
    figures: dict[str, float] = {}
    log = module.log

    def noted(name: str, value: Any) -> None:
        if "second" not in name:
            figures[name] = float(value)
        log(name, value)

    module.log = noted
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
    source = MiniSource(sft=13, rl=13, bench=10, captions=10, primer=100, mean_turns=2)
    last = folder / "checkpoints" / "last.ckpt"
    resumed = last if last.is_file() else None
    data = SteerDataModule(source, stage, batch_size=5, max_turns=3)  # type: ignore[arg-type]
    trainer.fit(module, data, ckpt_path=resumed, weights_only=True)


def make_module(stage: str) -> tuple[Any, int]:
    """Return the module, and the number of optimizer steps per batch."""
    from steer_lit.attacker.adaptive import AdaptiveAttacker
    from steer_lit.lit.grpo_module import GRPOModule
    from steer_lit.lit.sft_module import SFTModule
    from steer_lit.policy.lora import LoraSettings
    from steer_lit.reward.reward import Reward

    lora = LoraSettings(r=4, alpha=8, dtype="bfloat16")  # so that a checkpoint needs the float32 masters
    policy = ending_at_every(small_policy(lora=lora), 4)
    optim = optim_settings(lr=1e-2, schedule="cosine", warmup=0.3)
    if stage == "sft":
        return SFTModule(policy, optim, micro_tokens=256), 1
    rollout = rollout_settings(group_size=2, max_turns=3, max_new_tokens=8)
    players = (AdaptiveAttacker(extra_turns=2), ChecksumTutor(), Reward())
    return GRPOModule(policy, *players, rollout, objective_settings(epochs=2), optim, micro_tokens=512, seed=1), 2


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {stage: tmp_path_factory.mktemp(stage) for stage in ("sft", "grpo")}
    for stage, folder in folders.items():
        in_a_process(run_part, stage, kill=None, folder=folder)
    return folders


ENGINE, ATTACKER = "steer_lit.rollout.engine:SampledSession", "steer_lit.attacker.adaptive:AdaptiveAttacker"
OPTIMIZER, LOG = "steer_lit.lit.master_weights:MasterAdamW", "steer_lit.rollout.logged:LoggedTrajectory"
# A GRPO batch plays 10 dialogues of up to 3 turns and trains on them twice. Batches 2, 4 and 6 are followed by a
# checkpoint.
KILLS = {
    "grpo: while sampling, before any checkpoint; then between the two updates of a batch": (
        "grpo",
        Kill(ENGINE, "step", 9),
        Kill(OPTIMIZER, "step", 8, "checkpoints/last.ckpt"),
    ),
    "grpo: while attacking; then mid-accumulation": (
        "grpo",
        Kill(ATTACKER, "_next", 45, "checkpoints/last.ckpt"),
        Kill(OPTIMIZER, "collect", 15, "checkpoints/last.ckpt"),
    ),
    "grpo: while rollouts are written down; then with a checkpoint written that is not yet the last": (
        "grpo",
        Kill(LOG, "to_line", 25, "checkpoints/last.ckpt"),
        Kill("os", "replace", 6, "checkpoints/last.ckpt.part"),  # after the rollouts and the adapter's four files
    ),
    "sft: mid-accumulation; then with half of the adapter's files replaced": (
        "sft",
        Kill(OPTIMIZER, "collect", 12, "checkpoints/last.ckpt"),
        Kill("os", "replace", 3, ".adapter.part"),
    ),
}


def test_the_uninterrupted_run_is_a_sensitive_reference(never_killed: dict[str, Path]) -> None:
    """There must be advantages, an attacker that reacts and a moving adapter. Otherwise a resumed run could
    not differ.
    """
    rows = [json.loads(line) for line in (never_killed["grpo"] / "trajectories.jsonl").read_text().splitlines()]
    turns = [turn for row in rows for turn in row["turns"]]
    assert {turn["strategy"] for turn in turns} >= {"deepen", "persistence"}
    assert len({turn["advantage"] for turn in turns}) > 20
    for folder in never_killed.values():
        norms = [json.loads(line)[1]["train/grad_norm"] for line in diary(folder)]
        assert len(set(norms)) == BATCHES
        assert min(norms) > 0


@pytest.mark.parametrize(("stage", "first", "second"), KILLS.values(), ids=KILLS)
def test_trap_35_a_run_killed_twice_equals_the_uninterrupted_run(
    stage: str, first: Kill, second: Kill, never_killed: dict[str, Path], tmp_path: Path
) -> None:
    for kill in (first, second, None):
        in_a_process(run_part, stage, kill=kill, folder=tmp_path)
    straight = never_killed[stage]
    told, again = diary(straight), diary(tmp_path)
    assert len(told) == BATCHES
    assert len(again) > BATCHES  # some batches were taken twice, with the same result
    assert sorted(set(again)) == sorted(told)
    for name in ("adapter/adapter_model.safetensors", *(["trajectories.jsonl"] if stage == "grpo" else [])):
        assert (tmp_path / name).read_bytes() == (straight / name).read_bytes(), name
    assert_equal(checkpoint(tmp_path), checkpoint(straight))


def diary(folder: Path) -> list[str]:
    return (folder / "diary.jsonl").read_text().splitlines()


STOPPED = ["+experiment=grpo_tiny", "data.source.scale=0.02", "trainer.max_steps=8", "trainer.limit_val_batches=0"]
STOPPED += ["callbacks.checkpoint.every_n_steps=1", "data.batch_size=2", "rollout.max_turns=2", "logger=none"]
STOPPED += ["rollout.max_new_tokens=24"]


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("never_stopped")
    assert cli.run("train", [*STOPPED, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.mark.parametrize(
    ("with_signal", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=lambda v: str(v)
)
def test_trap_35_a_command_stopped_by_a_signal_can_be_resumed_exactly(
    never_stopped: Path, tmp_path: Path, with_signal: signal.Signals, code: int
) -> None:
    """The signal comes from another process, at no particular moment. Each process has its own hash seed."""
    killed, last = tmp_path / "killed", tmp_path / "killed" / "checkpoints" / "last.ckpt"
    command = started("train", [*STOPPED, f"hydra.run.dir={killed}"], tmp_path / "said")
    while not last.is_file():
        time.sleep(0.02)
        assert command.is_alive()
    assert command.pid is not None
    os.kill(command.pid, with_signal)
    command.join()
    assert command.exitcode == code
    said = (tmp_path / "said").read_text()
    if with_signal != signal.SIGKILL:
        *_, stopped, following = said.splitlines()
        assert re.fullmatch(r"stopped, step \d is saved", stopped)
        assert shlex.split(following.removeprefix("next: ")) == [
            "python", "train.py", *STOPPED, f"hydra.run.dir={killed}"
        ]  # fmt: skip
        assert "Traceback" not in said
    assert cli.run("train", [*STOPPED, f"hydra.run.dir={killed}"]) == 0
    for name in ("trajectories.jsonl", "adapter/adapter_model.safetensors"):
        assert (killed / name).read_bytes() == (never_stopped / name).read_bytes(), name


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_on_two_ranks_saves_the_step_under_way(
    sent: signal.Signals, code: int, repository: Path, tmp_path: Path
) -> None:
    """A terminal sends Ctrl-C to both ranks at once, `kill` a SIGTERM to the first alone."""
    words = ["data.source.scale=0.05", "data.val_size=0", "data.batch_size=2", "trainer.max_steps=300"]
    words += ["trainer.devices=2", "trainer.strategy=ddp", "trainer.limit_val_batches=0", "logger=csv"]
    call = [sys.executable, "train.py", *words, f"hydra.run.dir={tmp_path}"]
    command = subprocess.Popen(
        call, cwd=repository, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    said = ""
    while "step 1" not in said:
        said += command.stdout.readline()
        assert command.poll() is None
    (os.killpg if sent == signal.SIGINT else os.kill)(command.pid, sent)
    _, errors = command.communicate(timeout=300)
    assert command.returncode == code
    assert errors.count("stopping after this step") == 1
    last = tmp_path / "checkpoints" / "last.ckpt"
    step = read_checkpoint(last)["global_step"]
    assert f"stopped, step {step} is saved\n" in errors
    with (tmp_path / "csv/metrics.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, step + 1))
    assert "Traceback" not in errors
    assert len(torch.load(last, weights_only=True)["steer_lit"]["random_states"]) == 2


def checkpoint(folder: Path) -> dict[str, Any]:
    """Return the parts of the last checkpoint that determine how a run continues. The rest is Lightning's count of
    hooks.
    """
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
