"""SFT, GRPO from its adapter, a resumed run and the benchmark, run through the command line in this process."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import OmegaConf

from steer_lit.cli import main as cli
from steer_lit.cli.closing import Result, closing, opening
from steer_lit.cli.going_on import result_at_end
from steer_lit.errors import SteerError
from steer_lit.files.run_files import LAST
from steer_lit.lit.policy_module import PolicyModule
from steer_lit.lit.rollout_metrics import rollout_ratios
from steer_lit.lit.sft_module import SFTModule
from steer_lit.lit.training_checkpoint import OWN, read_checkpoint
from steer_lit.prompts.fill import Prompt

MADE = {"source": {"_target_": "steer_lit.data.sources.MiniSource"}}  # generated rows
SMALL = ["data.source.scale=0.02", "data.batch_size=2", "data.val_size=10", "trainer.limit_val_batches=1"]
SHORT = ["trainer.max_steps=2", "trainer.val_check_interval=2", "callbacks.transcripts.every_n_batches=1"]
GRPO = ["rollout.max_turns=2", "rollout.max_new_tokens=6", "rollout.group_size=2"]
GRPO_TINY = "+experiment=grpo_tiny"


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and what it printed."""

    folder: Path
    said: str

    @property
    def next(self) -> list[str]:
        """Return the words of the single next command that the run printed."""
        (command,) = re.findall(r"^next: +(.*)$", self.said, re.MULTILINE)
        return shlex.split(command)

    def events(self) -> Any:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self.folder / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        return events


def train(folder: Path, *words: str) -> Run:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cli.run("train", [*words, f"hydra.run.dir={folder}"]) == 0
    return Run(folder, said.getvalue())


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Run:
    machine = "hardware=cpu"
    return train(
        tmp_path_factory.mktemp("sft"), machine, *SMALL, *SHORT, "replay.dialogues=2", "replay.max_new_tokens=6"
    )


@pytest.fixture(scope="module")
def grpo(sft: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    python, script, *words = sft.next
    assert (python, script) == ("python", "train.py")
    return train(tmp_path_factory.mktemp("grpo"), *words, *SMALL, *SHORT, *GRPO)


def test_a_run_prints_its_adapters_folder_and_the_next_command(sft: Run, grpo: Run) -> None:
    begun = [f"SFT of tiny, 2 steps, seed 1, into {sft.folder}; libraries load first"]
    begun.append(f"GRPO of tiny from {sft.folder}/adapter, 2 steps, seed 1, into {grpo.folder}; libraries load first")
    for run, first in zip((sft, grpo), begun, strict=True):
        assert run.said.splitlines()[0] == first
        assert re.match(r"INFO: data: \d+ ", run.said.splitlines()[1])
        (log,) = run.folder.glob("*.log")
        assert "LoRA r=" in log.read_text()
        assert f"adapter: {run.folder}/adapter" in run.said
    noise = "(model=tiny has random weights, its words mean nothing)"
    assert f"\na held-out dialogue, as the policy answers it now {noise}:\n" in sft.said
    assert sft.next[2:] == ["+experiment=grpo_tiny", f"init_from={sft.folder}/adapter", "hardware=cpu"]
    sides = [f"policies.sft={sft.folder}/adapter", f"policies.grpo={grpo.folder}/adapter"]
    assert grpo.next[2:] == ["model=tiny", *sides, "bench.limit=20", "rollout.max_new_tokens=6"]


@pytest.mark.parametrize(("max_steps", "said"), [(1, "1 step"), (2, "2 steps"), (-1, "epochs: 3")])
def test_the_first_line_states_the_length_of_the_run(max_steps: int, said: str) -> None:
    config = {"stage": "grpo", "model": {"name": "tiny"}, "seed": 1, "ckpt_path": None, "init_from": None}
    config["trainer"] = {"max_steps": max_steps, "max_epochs": 3}
    rest = f"{said}, seed 1, into x; libraries load first"
    assert opening(OmegaConf.create(config), Path("x")) == f"GRPO of tiny from the base policy (no init_from), {rest}"
    for start in ({"init_from": "a"}, {"init_from": "b", "ckpt_path": "a"}):
        assert opening(OmegaConf.create(config | start), Path("x")) == f"GRPO of tiny from a, {rest}"
    assert opening(OmegaConf.create(config | {"stage": "sft"}), Path("x")) == f"SFT of tiny, {rest}"


@pytest.mark.parametrize(
    ("stage", "export", "following"),
    [
        ("sft", "adapter", "python train.py +experiment=grpo_tiny init_from={export}"),
        ("grpo", "adapter", "python bench.py model=tiny policies.grpo={export} bench.limit=20"),
        ("ground", "tower.safetensors", "python train.py +experiment=sft_smol model.tower={export}"),
        ("pretrain", "base", "python train.py +experiment=ground_nano model.weights={export}"),
    ],
)
def test_only_an_export_that_was_written_is_named(tmp_path: Path, stage: str, export: str, following: str) -> None:
    model = {"ground": "smol", "pretrain": "nano"}.get(stage, "tiny")
    config = OmegaConf.create({"stage": stage, "name": f"{stage}_{model}", "model": {"name": model}, "data": MADE})
    assert closing(config, tmp_path, Result("val/loss", 0.5)) == f"run: {tmp_path}, nothing exported   val/loss 0.500"
    (tmp_path / export).touch()
    said = closing(config, tmp_path, Result("val/loss", 0.5))
    assert said.splitlines()[0].split()[1:] == [str(tmp_path / export), "val/loss", "0.500"]
    assert said.splitlines()[1].split(maxsplit=1)[1] == following.format(export=tmp_path / export)


def test_a_last_validation_without_a_score_is_shown_beside_the_best_one(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    config = OmegaConf.create({"stage": "grpo", "name": "grpo_tiny", "model": {"name": "tiny"}, "data": MADE})
    said = closing(config, tmp_path, Result("val/right_share", math.nan, best=(2, 0.5))).splitlines()
    assert said[0] == f"adapter: {tmp_path / 'adapter'}   val/right_share nan"
    assert said[1] == f"best:    {tmp_path / 'best_adapter'}   val/right_share 0.500 at step 2"
    assert said[2].startswith("next:    python bench.py")


def test_the_next_command_after_a_tower_names_the_weights_it_was_trained_for(tmp_path: Path) -> None:
    config = OmegaConf.create({"stage": "ground", "name": "ground_nano", "model": {"name": "nano"}})
    (tmp_path / "tower.safetensors").touch()
    words = ["+experiment=ground_nano", "model.weights=a/base", "optim.lr=1e-4"]
    step = closing(config, tmp_path, Result("val/exact_share"), words).splitlines()[1]
    assert step.endswith(f"+experiment=sft_nano model.weights=a/base model.tower={tmp_path}/tower.safetensors")


def test_the_next_command_keeps_the_words_on_machine_model_and_server(tmp_path: Path) -> None:
    (tmp_path / "adapter").touch()

    def said(stage: str, *words: str) -> str:
        named = {"stage": stage, "name": f"{stage}_7b", "model": {"name": "qwen2_5_vl_7b"}}
        return closing(OmegaConf.create({**named, "data": MADE}), tmp_path, Result("val/loss"), words).splitlines()[1]

    both = ["model.source=/models/a b", "model.lora.r=8", "system_prompt=Be kind", "server.model=t"]
    machine = ["debug=step", "hardware=gpu_80gb"]
    words = [both[0], *machine, *both[1:], "+experiment=sft_7b", "optim.lr=1e-4", "hydra.run.dir=x"]
    assert said("sft", *words).endswith(f"init_from={tmp_path}/adapter {shlex.join([*both[:2], *machine, *both[2:]])}")
    assert said("grpo", *words).endswith(f"bench.limit=300 {shlex.join(both)}")


def test_null_switches_off_a_callback_or_a_logger(tmp_path: Path) -> None:
    small = ["data.source.sft=20", "data.val_size=10", "data.batch_size=10", "trainer.max_steps=1"]
    small += ["replay.dialogues=0"]
    off = ["callbacks.checkpoint=null", "logger.tensorboard=null", f"hydra.run.dir={tmp_path}"]
    assert cli.run("train", ["+experiment=sft_tiny", *small, *off]) == 0
    assert (tmp_path / "adapter").is_dir()
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize("length", [["trainer.max_steps=2"], ["trainer.max_steps=-1", "trainer.max_epochs=1"]])
def test_a_run_resumed_from_its_end_is_validated_and_takes_no_step(
    length: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a run was stopped by a dead server in its last validation. The checkpoint knows of no validation."""
    small = ["data.source.sft=30", "data.batch_size=10", "data.val_size=10", "replay.dialogues=0"]
    words = ["+experiment=sft_tiny", *small, *length, "trainer.val_check_interval=100", f"hydra.run.dir={tmp_path}"]
    assert cli.run("train", words) == 0
    path = tmp_path / "checkpoints" / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    ended = capsys.readouterr().out.splitlines()[-3:]
    assert "val/loss" in ended[0]
    for finished in (True, False):
        if not finished:
            (tmp_path / "versions.json").unlink()
        assert cli.run("train", words) == 0
        said = capsys.readouterr().out
        assert said.splitlines()[-3:] == ended
        assert ("finished already" in said) == finished
    assert torch.load(path, weights_only=True)["global_step"] == saved["global_step"]


def test_a_run_that_a_callback_ends_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop = ["_target_=lightning.pytorch.callbacks.EarlyStopping", "monitor=val/loss", "patience=1", "min_delta=9"]
    small = ["data.source.scale=0.02", "data.batch_size=2", "data.val_size=10", "trainer.limit_val_batches=1"]
    words = [*small, "trainer.max_steps=9", "trainer.val_check_interval=1", f"hydra.run.dir={tmp_path}"]
    assert cli.run("train", [*words, *(f"+callbacks.early.{word}" for word in stop)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("early:")]
    assert line == f"early:   ended at step 2 of 9; {tmp_path}/adapter is of that step"


EVERY_SECOND_EPOCH = ["trainer.max_steps=-1", "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2"]
EVERY_SECOND_EPOCH += ["trainer.val_check_interval=1.0", "callbacks.transcripts=null"]


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_whose_last_epoch_has_no_validation_is_validated_once_at_its_end(
    killed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed or not after it has saved its last step and before that validation is complete."""
    small = ["data.source.sft=30", "data.batch_size=10", "data.val_size=10", "replay.dialogues=0"]
    words = ["+experiment=sft_tiny", *small, "logger=[csv,tensorboard]", *EVERY_SECOND_EPOCH]
    validated, ends = list[int](), PolicyModule.on_validation_epoch_end
    dies = [True] if killed else []

    def complete(module: Any) -> None:
        if module.trainer.state.fn == TrainerFn.VALIDATING and dies and dies.pop():
            raise SteerError("killed")
        validated.append(module.global_step)
        ends(module)

    monkeypatch.setattr(PolicyModule, "on_validation_epoch_end", complete)
    if killed:
        assert cli.run("train", [*words, f"hydra.run.dir={tmp_path}"]) == 2
    run = train(tmp_path, *words)
    assert validated == [4, 6]
    assert read_checkpoint(tmp_path / LAST)[OWN]["validated_at"] == 6
    with (tmp_path / "csv/metrics.csv").open() as file:
        losses = {int(row["step"]): float(row["val/loss"]) for row in csv.DictReader(file) if row.get("val/loss")}
    assert losses.keys() == {4, 6}
    hp_metric = [
        (event.step, event.value) for event in run.events().Scalars("hp_metric") if not math.isnan(event.value)
    ]
    assert hp_metric == [(6, pytest.approx(losses[6]))]
    assert f"val/loss {losses[6]:.3f}" in run.said
    assert json.loads((tmp_path / "best_adapter/best.json").read_text())["step"] == min(losses, key=losses.__getitem__)


def test_sigterm_in_a_validation_after_the_training_leaves_it_to_the_resumed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["data.source.sft=30", "data.batch_size=5", "data.val_size=10", "replay.dialogues=0", "logger=none"]
    words = ["+experiment=sft_tiny", *small, *EVERY_SECOND_EPOCH, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}"]
    with monkeypatch.context() as patch:
        patch.setattr(SFTModule, "validation_step", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert cli.run("train", words) == 143
    stopped, following = capsys.readouterr().err.splitlines()
    assert stopped == "stopped, step 4, this run's last, is saved; only the last validation is missing"
    assert result_at_end(tmp_path) is None  # the same command makes it up
    resume = shlex.split(following.removeprefix("next:"))
    assert resume == ["python", "train.py", *words]
    said = train(tmp_path, *resume[2:]).said
    assert "val/loss" in said
    assert said.splitlines()[-1] == f"next:    python train.py {GRPO_TINY} init_from={tmp_path}/adapter"


@pytest.mark.parametrize("hook", ["training_step", "on_train_end"])
@pytest.mark.parametrize("validates", [["data.val_size=10"], ["data.val_size=10", "trainer.limit_val_batches=0"], []])
def test_a_run_stopped_after_its_last_step_says_so_and_what_comes_next(
    hook: str, validates: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    small = ["data.source.sft=30", "data.batch_size=10", *(validates or ["data.val_size=0"]), "replay.dialogues=0"]
    words = ["+experiment=sft_tiny", *small, "logger=none", "trainer.max_steps=1", "trainer.val_check_interval=1"]
    method = getattr(SFTModule, hook)

    def pressing(module: Any, *given: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return method(module, *given)

    monkeypatch.setattr(SFTModule, hook, pressing)
    assert cli.run("train", [*words, f"hydra.run.dir={tmp_path}"]) == 130
    stopped, *_, following = capsys.readouterr().err.splitlines()[hook == "training_step" :]
    assert stopped == "stopped, step 1, this run's last, is saved"  # its validation, of one batch, has ended
    assert following == f"next:    python train.py {GRPO_TINY} init_from={tmp_path}/adapter"
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    assert result_at_end(tmp_path) is not None


def test_a_sweep_runs_every_combination(tmp_path: Path) -> None:
    words = ["-m", "+experiment=grpo_tiny", "reward.alpha=0,1", *SMALL, *GRPO, "trainer.max_steps=1", "callbacks=none"]
    assert cli.run("train", [*words, "trainer.limit_val_batches=0", f"hydra.sweep.dir={tmp_path}"]) == 0
    alphas = [
        OmegaConf.load(tmp_path / job / "config.yaml").reward.alpha for job in ("0_reward.alpha-0", "1_reward.alpha-1")
    ]
    assert alphas == [0, 1]


def test_a_run_folder_holds_all_records_of_the_run(grpo: Run) -> None:
    names = {path.name for path in grpo.folder.iterdir()}
    assert names >= {"adapter", "checkpoints", "config.yaml", "versions.json", "trajectories.jsonl", "tensorboard"}
    assert "${" not in (grpo.folder / "config.yaml").read_text()
    versions = json.loads((grpo.folder / "versions.json").read_text())
    assert versions.keys() >= {"torch", "lightning", "python"}
    assert versions["finished"]["metric"] == "val/right_share"
    assert versions["prompts"]["tutor_system"] == Prompt.load("tutor_system").digest


def test_the_progress_lines_show_what_the_policy_does(sft: Run, grpo: Run) -> None:
    assert re.search(r"step 2/2 .*loss \d.*tokens/s \d+ .*0:00:00 left", sft.said)
    assert re.search(r"step 2/2 .*score \d.*KL \d.*tokens/s \d+ .*0:00:00 left", grpo.said)


def test_trap_19_grpo_starts_at_the_sft_policy(grpo: Run) -> None:
    first, second = (event.value for event in grpo.events().Scalars("train/kl"))
    assert first == 0.0
    assert second > 0.0


def test_metrics_page_lists_exactly_what_is_logged(sft: Run, grpo: Run, repository: Path) -> None:
    rows = [line for line in (repository / "docs/metrics.md").read_text().splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    scalars = {tag for run in (sft, grpo) for tag in run.events().Tags()["scalars"]}
    logged = {re.sub(r"(turn_variance)/\d+", r"\1/<t>", tag) for tag in scalars}
    # Ratios with nothing to count in these two steps are not in the files: perhaps no harmful turn was reached.
    logged |= {f"{part}/{name}" for part in ("train", "val") for name in rollout_ratios([], [])}
    logged |= {f"train/{name}" for name in ("peak_gb", "rollout_peak_gb", "learn_peak_gb")}  # test_as_on_a_gpu.py
    assert logged == listed


def test_logged_steps_count_from_1(sft: Run, grpo: Run) -> None:
    """Like the terminal and the names of checkpoints: of two steps the last is 2."""
    for run, validated in ((sft, "val/loss"), (grpo, "val/turns")):
        events = run.events()
        assert [event.step for event in events.Scalars("train/learning_rate")] == [1, 2]
        assert [event.step for event in events.Scalars(validated)] == [2]
        texts = next(tag for tag in events.Tags()["tensors"] if tag.startswith("transcripts/"))
        assert events.Tensors(texts)[-1].step == 2


def test_logged_turns_and_transcripts_count_from_1(grpo: Run) -> None:
    tags = grpo.events().Tags()
    turns = {tag.rpartition("/")[2] for tag in tags["scalars"] if "turn_variance" in tag}
    assert "1" in turns
    assert turns <= {"1", "2"}
    assert {tag.split("/")[1] for tag in tags["tensors"]} == {"1", "2", "3", "4"}
    assert all(tag.endswith("/picture1") for tag in tags["images"])


def test_trap_41_the_headline_is_registered_first_and_written_at_the_end(sft: Run) -> None:
    events = sft.events()
    first, last = events.Scalars("hp_metric")[0].value, events.Scalars("hp_metric")[-1].value
    assert math.isnan(first)
    assert last == pytest.approx(events.Scalars("val/loss")[-1].value)
    assert "optim.lr" in (sft.folder / "tensorboard/hparams.yaml").read_text()


def test_the_settings_shown_are_those_that_the_stage_reads(sft: Run, grpo: Run) -> None:
    common = {"name", "ablation", "seed", "model", "quantize", "lora", "data", "optim"}
    for run, own in ((sft, set()), (grpo, {"init_from", "rollout", "objective", "reward", "attacker"})):
        shown = OmegaConf.load(run.folder / "tensorboard/hparams.yaml")
        assert {str(key).partition(".")[0] for key in shown} == common | own


def test_transcripts_show_text_and_pictures(sft: Run, grpo: Run) -> None:
    for run, said in ((sft, b"expected:"), (grpo, b"advantage")):
        tags = run.events().Tags()
        text = run.events().Tensors(tags["tensors"][0])[-1].tensor_proto.string_val[0]
        assert said in text
        assert b"policy" in text
        assert any(tag.startswith("transcripts/") for tag in tags["images"])


def test_a_checkpoint_is_resumed_from_the_command_line(
    sft: Run, grpo: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The starting adapter may have moved, but it must be the same one: another one would become the reference."""
    words = ["+experiment=grpo_tiny", f"ckpt_path={grpo.folder / 'checkpoints/last.ckpt'}", *SMALL, *SHORT, *GRPO]
    for other in (f"'{grpo.folder / 'adapter'}'", "null"):
        assert cli.run("train", [*words, f"init_from={other}", f"hydra.run.dir={tmp_path / 'other'}"]) == 2
        from_sft = f"the checkpoint's run started from another adapter, init_from={sft.folder / 'adapter'} as it was"
        assert capsys.readouterr().err.startswith(f"init_from={other}: {from_sft}")
        assert not (tmp_path / "other/config.yaml").exists()
    shutil.copytree(sft.folder / "adapter", tmp_path / "moved")
    resumed = train(tmp_path / "resumed", *words, f"init_from={tmp_path / 'moved'}", "trainer.max_steps=3")
    steps = [json.loads(line)["step"] for line in (resumed.folder / "trajectories.jsonl").read_text().splitlines()]
    assert set(steps) == {2}


def test_a_resumed_run_is_the_same_without_the_folder_of_its_starting_adapter(
    sft: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = tmp_path / "start"
    shutil.copytree(sft.folder / "adapter", start)
    words = ["+experiment=grpo_tiny", f"init_from={start}", *SMALL, *SHORT, *GRPO]
    begun = train(tmp_path / "begun", *words)
    words += [f"ckpt_path={begun.folder / LAST}", "trainer.max_steps=3"]
    with_it = train(tmp_path / "with", *words)
    shutil.rmtree(start)
    without = train(tmp_path / "without", *words)
    gone = f"init_from={start}: no adapter is there now, and none is needed: {begun.folder / LAST} goes on alone"
    assert gone in without.said.splitlines()
    assert "none is needed" not in with_it.said
    assert [word.partition("=")[0] for word in without.next if "policies" in word] == ["policies.grpo"]
    assert len([word for word in with_it.next if "policies" in word]) == 2
    name = "trajectories.jsonl"
    assert (without.folder / name).read_text() == (with_it.folder / name).read_text()
    saved, same = (read_checkpoint(run.folder / LAST) for run in (without, with_it))
    assert saved[OWN]["init_from"] == str(start)
    for one, other in ((part["state_dict"], part[OWN]["reference"]) for part in (saved, same)):
        assert any(not torch.equal(one[f"policy.{key}"], tensor) for key, tensor in other.items())  # it learned
    for one, other in ((saved["state_dict"], same["state_dict"]), (saved[OWN]["reference"], same[OWN]["reference"])):
        assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())
        assert one.keys() == other.keys()

    start.mkdir()  # an empty folder counts as none
    again = [*words, f"ckpt_path={without.folder / LAST}", "trainer.max_steps=4"]  # and it is not needed later either
    assert "none is needed" in train(tmp_path / "again", *again).said
    capsys.readouterr()
    for other in (f"'{sft.folder / 'adapter'}x'", "null"):
        assert cli.run("train", [*words, f"init_from={other}", f"hydra.run.dir={tmp_path / 'other'}"]) == 2
        shown = capsys.readouterr()
        said = f"init_from={other}: the checkpoint's run started from another adapter, init_from={start} as it was"
        assert shown.err.startswith(said)
        assert "none is needed" not in shown.out
    from_base = train(tmp_path / "base", "+experiment=grpo_tiny", *SMALL, *SHORT, *GRPO)
    words = [f"ckpt_path={from_base.folder / LAST}" if word.startswith("ckpt_path") else word for word in words]
    capsys.readouterr()
    assert cli.run("train", [*words, f"hydra.run.dir={tmp_path / 'other'}"]) == 2
    assert "started from another adapter, init_from=null" in capsys.readouterr().err


def test_other_data_is_refused_before_the_policy_is_loaded(
    grpo: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr("steer_lit.policy.load.load_policy")
    words = ["+experiment=grpo_tiny", f"init_from={grpo.folder / 'adapter'}", *SMALL, *SHORT, *GRPO]
    checkpoint = f"ckpt_path={grpo.folder / 'checkpoints/last.ckpt'}"
    assert cli.run("train", [*words, checkpoint, "data.source.seed=7", f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert "other rows than this run's" in capsys.readouterr().err


def test_the_large_models_number_types_train_and_validate(tmp_path: Path) -> None:
    """The settings of the 7B model: 4-bit weights, everything else in bfloat16 with float32 masters, and activation
    checkpointing.
    """
    numbers = ["model.quantize=nf4", "model.dtype=bfloat16", "model.lora.dtype=bfloat16"]
    words = ["+experiment=grpo_tiny", *numbers, "model.gradient_checkpointing=true", *SMALL, *SHORT, *GRPO]
    run = train(tmp_path / "run", *words, "trainer.max_steps=2")
    gaps = [event.value for event in run.events().Scalars("train/ratio_gap_max")]
    assert len(gaps) == 2
    assert all(0 < gap < 0.2 for gap in gaps)  # both in bfloat16, by the same code
    assert run.events().Scalars("train/kl")[0].value == 0.0
    assert run.events().Scalars("val/turn_score")
    saved = torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True)
    assert {master.dtype for master in saved["optimizer_states"][0]["masters"].values()} == {torch.float32}


def test_the_benchmark_measures_one_adapter_after_another(sft: Run, grpo: Run, tmp_path: Path) -> None:
    """Run the command that GRPO printed. The adapter's rank differs from the default of model=tiny."""
    python, script, *words = grpo.next
    assert (python, script) == ("python", "bench.py")
    words = [f"policies.sft={sft.folder / 'adapter'}", *words]
    words += ["bench.limit=2", "rollout.max_new_tokens=4", "bench.max_turns=2"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.run("bench", [*words, "bench.resamples=100", f"hydra.run.dir={tmp_path}"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary) == ["base", "sft", "grpo", "always-refuse", "always-comply", "gold"]
    rows = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert len({row["fingerprint"] for row in rows if row["policy"] in ("base", "sft", "grpo")}) == 3


def test_trap_22_two_ranks_take_the_same_step_as_one(repository: Path, tmp_path: Path) -> None:
    """This also tests TRAPS 40: Lightning starts the second rank as a process of its own."""
    words = [*SMALL, "data.batch_size=5", "trainer.max_steps=1", "trainer.val_check_interval=9", "logger=csv"]
    words.append("callbacks=none")
    one = train(tmp_path / "1", *words)
    two = tmp_path / "2"
    ranks = ["trainer.devices=2", "trainer.strategy=ddp", f"hydra.run.dir={two}"]
    command = [sys.executable, "train.py", *words, *ranks]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    alone, together = _first_metrics(one.folder), _first_metrics(two)
    assert alone["train/supervised_tokens"] == together["train/supervised_tokens"]
    for name in ("train/loss", "train/grad_norm"):
        assert together[name] == pytest.approx(alone[name], rel=1e-5)


def test_an_error_on_two_ranks_is_one_sentence_per_rank(grpo: Run, repository: Path, tmp_path: Path) -> None:
    """The checkpoint is of other data, which only `fit` detects."""
    words = ["+experiment=grpo_tiny", *SMALL, *SHORT, *GRPO, "logger=none", "data.source.scale=0.03"]
    words += [f"ckpt_path={grpo.folder / 'checkpoints/last.ckpt'}", f"hydra.run.dir={tmp_path / 'run'}"]
    ranks = ["trainer.devices=2", "trainer.strategy=ddp"]
    command = [sys.executable, "train.py", *words, *ranks]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=600)
    assert done.returncode, done.stdout
    assert "Traceback" not in done.stderr
    assert 1 <= done.stderr.count("the checkpoint's training data has rows=") <= 2  # Lightning kills the slower one


def _first_metrics(folder: Path) -> dict[str, float]:
    header, first, *_ = (folder / "csv/metrics.csv").read_text().splitlines()
    return {name: float(value or "nan") for name, value in zip(header.split(","), first.split(","), strict=True)}
