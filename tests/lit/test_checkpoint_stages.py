"""A checkpoint of another stage is refused, and the message says what the stage starts from in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steer_lit.cli import main as cli
from steer_lit.errors import SteerError
from steer_lit.files.run_files import LAST
from steer_lit.lit.sft_module import SFTModule
from steer_lit.lit.training_checkpoint import OWN, check_stage
from steer_lit.terminal.stdout import REFUSED
from tests.lit.test_checkpoints import OPTIM, grpo_module

SMALL = ["data.source.scale=0.02", "data.batch_size=2", "data.val_size=0", "trainer.max_steps=1"]


def module_of(stage: str, policy: Any) -> Any:
    if stage == "grpo":
        policy.freeze_reference()
        return grpo_module(policy)
    trains = {"sft": "adapter", "ground": "tower", "pretrain": "base"}[stage]
    return SFTModule(policy, OPTIM, micro_tokens=2048, trains=trains)  # type: ignore[arg-type]


def test_grpo_from_an_sft_checkpoint_names_the_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("train", [*SMALL, f"hydra.run.dir={tmp_path / 'sft'}"]) == 0
    capsys.readouterr()
    saved = tmp_path / "sft" / LAST
    words = ["+experiment=grpo_tiny", f"ckpt_path={saved}", f"hydra.run.dir={tmp_path / 'grpo'}"]
    assert cli.run("train", words) == REFUSED
    remedy = f"which starts from its adapter: init_from={tmp_path}/sft/adapter in place of ckpt_path"
    said = f"ckpt_path='{saved}': is a checkpoint of stage sft, this run is of stage grpo, {remedy}\n"
    assert capsys.readouterr().err == said
    assert not (tmp_path / "grpo").exists()


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        ("grpo", "sft", "which starts from its adapter: init_from=<run>/adapter in place of ckpt_path"),
        ("ground", "sft", "which starts from its tower: model.tower=<run>/tower.safetensors in place of ckpt_path"),
        ("pretrain", "ground", "which starts from its weights: model.weights=<run>/base in place of ckpt_path"),
        ("sft", "ground", "this run is of stage ground: resume with the experiment that wrote it"),
    ],
)
def test_each_stage_is_told_by_what_its_checkpoint_holds(there: str, here: str, said: str, tiny_policy: Any) -> None:
    module = module_of(there, tiny_policy())
    module._trainer = type("Alone", (), {"world_size": 1})()
    saved: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(saved)
    path = Path("run/checkpoints/last.ckpt")
    check_stage(saved, there, path)
    with pytest.raises(SteerError, match=f"is a checkpoint of stage {there}, this run is of stage {here}") as refused:
        check_stage(saved, here, path)
    assert str(refused.value).endswith(said)


def test_a_checkpoint_without_tensors_is_left_to_the_other_checks() -> None:
    check_stage({"state_dict": {}, OWN: {}}, "grpo", Path("last.ckpt"))
