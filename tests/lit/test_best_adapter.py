"""The adapter of the best validation is kept. A resumed run keeps the same one as a run that was never stopped."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from steer_lit.cli import main as cli
from steer_lit.cli.closing import Result, closing
from steer_lit.lit.best_adapter import BestAdapter
from steer_lit.lit.last_checkpoint import LastCheckpoint
from steer_lit.lit.sft_module import SFTModule
from tests.settings import optim_settings

EVERY = {"check_val_every_n_epoch": None, "val_check_interval": 1}


def scripted(policy: Any, losses: Sequence[float], trains: Any = "adapter") -> SFTModule:
    """Return a module whose validation after step n logs `losses[n - 1]`."""
    module = SFTModule(policy, optim_settings(lr=1e-2, schedule="constant", warmup=0.0), 2048, trains)
    module.on_validation_epoch_end = lambda: module.log("val/loss", losses[max(0, module.global_step - 1)])  # type: ignore[method-assign]
    return module


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(other[name], tensor) for name, tensor in one.items())


@pytest.fixture
def fit(make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path) -> Any:
    """Return a function that trains one step per loss. It returns the callback, and the adapter's tensors by step."""
    from lightning import Callback

    def run(losses: Sequence[float], folder: str = "run", resume: Path | None = None, **settings: Any) -> Any:
        after: dict[int, Any] = {}

        class Steps(Callback):
            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                after[trainer.global_step] = module.policy.adapter_state()

        best = BestAdapter()
        callbacks = [Steps(), best, *settings.pop("callbacks", [])]
        places = {"default_root_dir": tmp_path / folder, "callbacks": callbacks}
        trainer = make_trainer(len(losses), **{**EVERY, **places, **settings})
        module = scripted(tiny_policy(adapted=True), losses)
        trainer.fit(module, small_world("sft", val_size=10), ckpt_path=resume, weights_only=True)
        return best, after

    return run


@pytest.mark.parametrize(
    ("losses", "step"),
    [([0.5, 0.3, 0.4], 2), ([0.5, 0.3, 0.3], 2), ([math.nan, 0.6, 0.7], 2), ([0.5, math.nan, 0.4], 3)],
)
def test_the_best_validations_adapter_is_kept(losses: list[float], step: int, fit: Any, tmp_path: Path) -> None:
    """On a tie the earlier one is kept. NaN means that nothing was counted, and does not count as a value."""
    best, after = fit(losses)
    folder = tmp_path / "run" / "best_adapter"
    assert json.loads((folder / "best.json").read_text()) == {
        "step": step,
        "metric": "val/loss",
        "value": pytest.approx(losses[step - 1]),
    }
    saved = weights(folder)
    assert {name.replace(".weight", ".default.weight") for name in saved} == {
        name.removeprefix("model.") for name in after[step]
    }
    for name, tensor in after[step].items():
        assert torch.equal(saved[name.removeprefix("model.").replace(".default.weight", ".weight")], tensor), name
    assert (best.before(4).step, best.before(step)) == (step, None)


def test_a_validation_before_training_does_not_count(fit: Any, tmp_path: Path) -> None:
    losses = [0.1, 0.2]
    seen: list[Any] = []
    from lightning import Callback

    class Sane(Callback):
        def on_sanity_check_end(self, trainer: Any, module: Any) -> None:
            seen.extend(callback.best for callback in trainer.callbacks if isinstance(callback, BestAdapter))

    fit(losses, callbacks=[Sane()], num_sanity_val_steps=1)
    assert seen == [None]
    assert json.loads((tmp_path / "run/best_adapter/best.json").read_text())["step"] == 1


def test_a_run_that_trains_no_adapter_keeps_no_best_adapter(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    trainer = make_trainer(1, **EVERY, callbacks=[best := BestAdapter()])
    trainer.fit(scripted(tiny_policy(), [0.5], "base"), small_world("pretrain", val_size=10))
    assert best.best is None
    assert not (tmp_path / "best_adapter").exists()


@pytest.mark.parametrize("rank_zero", [True, False])
def test_the_first_rank_writes_and_all_ranks_know_the_best(rank_zero: bool, tiny_policy: Any, tmp_path: Path) -> None:
    from types import SimpleNamespace

    module, best = scripted(tiny_policy(), []), BestAdapter()
    trainer: Any = SimpleNamespace(
        callback_metrics={"val/loss": torch.tensor(0.5)},
        default_root_dir=str(tmp_path),
        global_step=3,
        is_global_zero=rank_zero,
        sanity_checking=False,
    )
    best.on_validation_end(trainer, module)
    assert best.state_dict()["step"] == 3
    assert (tmp_path / "best_adapter").is_dir() is rank_zero


LOSSES = (0.5, 0.4, 0.6, 0.45, 0.7)


@pytest.fixture(scope="module")
def never_stopped() -> dict[str, Any]:
    """The reference run that every resumed run is compared with. The first test that needs it fills it in."""
    return {}


@pytest.fixture
def straight(never_stopped: dict[str, Any], fit: Any, tmp_path: Path, tmp_path_factory: Any) -> dict[str, Any]:
    """Return what the uninterrupted run kept.

    `tmp_path` then holds what it left: a checkpoint of every step and, in the run's folder, a best adapter of later
    steps that a resumed run takes again.
    """
    from lightning import Callback

    class Copies(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")

    if never_stopped:
        shutil.copytree(never_stopped["left"], tmp_path, dirs_exist_ok=True)
        return never_stopped
    best, _ = fit(LOSSES, callbacks=[Copies()])
    kept = weights(tmp_path / "run" / "best_adapter")
    fit([0.9, 0.8, 0.7, 0.6, 0.1], callbacks=[])
    assert not same(weights(tmp_path / "run" / "best_adapter"), kept)
    left = shutil.copytree(tmp_path, tmp_path_factory.mktemp("straight"), dirs_exist_ok=True)
    never_stopped.update(best=best.best, kept=kept, left=left)
    return never_stopped


@pytest.mark.parametrize("folder", ["run", "elsewhere"])
@pytest.mark.parametrize("stopped_at", [1, 2, 3, 4])
def test_a_resumed_run_keeps_the_same_best_adapter(
    stopped_at: int, folder: str, straight: dict[str, Any], fit: Any, tmp_path: Path
) -> None:
    """The checkpoint was saved between a step and its validation. The run resumes in its own folder, or in another."""
    resumed, _ = fit(LOSSES, folder, tmp_path / f"{stopped_at}.ckpt", callbacks=[])
    best, kept = straight["best"], straight["kept"]
    assert (resumed.best.step, resumed.best.value) == (best.step, best.value) == (2, pytest.approx(0.4))
    assert same(resumed.best.weights, best.weights)
    assert same(weights(tmp_path / folder / "best_adapter"), kept)
    assert json.loads((tmp_path / folder / "best_adapter/best.json").read_text())["step"] == 2


def test_an_extended_run_knows_the_best_validation_of_its_first_end(fit: Any, tmp_path: Path) -> None:
    """This includes a checkpoint due at the last step, which is saved before the validation."""
    rare = {"val_check_interval": 9, "enable_checkpointing": True}
    fit([0.5, 0.1], callbacks=[LastCheckpoint(2)], **rare)
    longer, _ = fit([0.5, 0.1, 0.3], "longer", tmp_path / "run/checkpoints/last.ckpt", callbacks=[], **rare)
    assert (longer.best.step, longer.best.value) == (2, pytest.approx(0.1))


def test_a_best_adapter_is_not_compared_over_other_validations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dialogues of one turn are easier to get right than those of two: no later adapter could win."""
    words = ["+experiment=grpo_tiny", "data.val_size=10", "data.batch_size=2", "rollout.group_size=2"]
    words += ["rollout.max_new_tokens=4", "trainer.val_check_interval=1", "~logger.tensorboard"]

    def trained(folder: str, turns: int, steps: int, *more: str) -> tuple[int, str]:
        at = [f"hydra.run.dir={tmp_path / folder}", f"rollout.max_turns={turns}", f"trainer.max_steps={steps}"]
        assert cli.run("train", [*words, *at, *more]) == 0
        return json.loads((tmp_path / folder / "best_adapter/best.json").read_text())["step"], capsys.readouterr().out

    saved = f"ckpt_path={tmp_path}/first/checkpoints/last.ckpt"
    assert trained("first", 1, 1)[0] == 1
    step, said = trained("longer", 1, 2, saved)  # no better, as no random policy is right
    assert (step, "chosen anew" in said) == (1, False)
    step, said = trained("other", 2, 2, saved)
    assert (step, f"best_adapter/ is chosen anew: {saved} validated otherwise" in said) == (2, True)


def test_a_run_resumed_from_before_any_validation_has_no_best_yet(fit: Any, tmp_path: Path) -> None:
    from lightning import Callback

    left: list[bool] = []

    class Look(Callback):
        def on_train_start(self, *_: Any) -> None:
            left.append((tmp_path / "run/best_adapter").exists())

    fit([0.5, 0.4], callbacks=[LastCheckpoint(100), Look()], enable_checkpointing=True)
    fit([0.5, 0.4, 0.3], resume=tmp_path / "run/checkpoints/last.ckpt", callbacks=[Look()])
    assert left == [False, True]
    path = tmp_path / "early.ckpt"
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    del saved["callbacks"]["BestAdapter"]
    torch.save(saved, path)
    fit([0.5, 0.4, 0.3], resume=path, callbacks=[Look()])
    assert left == [False, True, False]


def test_a_validation_interrupted_by_a_checkpoint_is_repeated_in_full(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """A server may die in the second batch of a validation. Lightning counts the first batch as done and skips the
    last.
    """
    path, validated = tmp_path / "stopped.ckpt", []
    module = scripted(tiny_policy(), [0.5, 0.5])
    trainer = make_trainer(2, **EVERY)

    def save(batch: Any, batch_idx: int) -> None:
        if batch_idx == 1 and trainer.global_step == 1:
            trainer.save_checkpoint(path)

    module.validation_step = save  # type: ignore[method-assign]
    trainer.fit(module, small_world("sft", val_size=10))
    again = scripted(tiny_policy(), [0.5, 0.5])
    again.validation_step = lambda batch, batch_idx: validated.append((again.global_step, len(batch)))  # type: ignore[method-assign]
    make_trainer(2, **EVERY).fit(again, small_world("sft", val_size=10), ckpt_path=path, weights_only=True)
    assert [rows for step, rows in validated if step == 1] == [rows for step, rows in validated if step == 2]
    assert sum(rows for step, rows in validated if step == 1) == 10


def test_a_run_that_got_worse_names_its_best_adapter(tmp_path: Path) -> None:
    (tmp_path / "adapter").touch()
    data = {"source": {"_target_": "steer_lit.data.sources.MiniSource"}}
    config = OmegaConf.create({"stage": "grpo", "name": "grpo_tiny", "model": {"name": "tiny"}, "data": data})
    _, best, following = closing(config, tmp_path, Result("val/right_share", 0.5, best=(40, 0.7125))).splitlines()
    assert best == f"best:    {tmp_path}/best_adapter   val/right_share 0.713 at step 40"
    assert following.startswith("next: ")


def test_the_best_adapter_can_start_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run learns nothing. Of equal validations the first is kept, but is not better than the last adapter."""
    small = ["data.source.scale=0.02", "data.batch_size=2", "data.val_size=10", "logger=none"]
    words = [*small, "trainer.val_check_interval=1", "replay.dialogues=0", "optim.lr=1e-20"]
    assert cli.run("train", [*words, "trainer.max_steps=3", f"hydra.run.dir={tmp_path / 'sft'}"]) == 0
    said = capsys.readouterr().out
    best = tmp_path / "sft" / "best_adapter"
    assert json.loads((best / "best.json").read_text())["step"] == 1
    assert "adapter:" in said
    assert "best:" not in said
    short = ["trainer.max_steps=1", "trainer.limit_val_batches=0", "rollout.max_turns=2", "rollout.max_new_tokens=6"]
    short += ["rollout.group_size=2", *small, f"init_from={best}", f"hydra.run.dir={tmp_path / 'grpo'}"]
    assert cli.run("train", ["+experiment=grpo_tiny", *short]) == 0
    assert not (tmp_path / "grpo" / "best_adapter").exists()  # nothing was validated
