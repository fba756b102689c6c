"""One command merges an adapter into its base. The checkpoint that it writes answers as the two together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.cli import merge
from steer_lit.data.mini import MiniSplit
from steer_lit.policy.model_facts import SHIPPED
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.rollout.engine import SampledPolicy
from steer_lit.rollout.play import play
from steer_lit.types import Trajectory
from tests.policies import moved, small_policy

PROMPT = "Reply in <answer></answer>."
LAYER = "model.language_model.layers.1.mlp.up_proj"


def greedy(policy: QwenVL) -> list[Trajectory]:
    rows = [MiniSplit("bench", 0, 10).scenario(number) for number in range(3)]
    sampled = SampledPolicy(policy, max_new_tokens=24, temperature=0)
    return play(rows, (0, 1, 2), sampled, ScriptedAttacker(), None, 3, stop_when_truncated=False)


def said(played: list[Trajectory]) -> list[str]:
    return [turn.completion.text for trajectory in played for turn in trajectory.turns]


def logprobs(policy: QwenVL, played: list[Trajectory]) -> torch.Tensor:
    with torch.no_grad():
        return policy.logprobs(policy.collate([trajectory.trace for trajectory in played]))


def test_the_merged_checkpoint_answers_as_base_and_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter, out = tmp_path / "adapter", tmp_path / "merged"
    adapted = small_policy(name="nano", weights="shipped", tower="trained", system_prompt=PROMPT)
    base = greedy(adapted)
    moved(adapted).save_adapter(adapter)
    assert merge.main([str(adapter), str(out)]) == 0
    told = capsys.readouterr().out
    assert f" model=qwen2_5_vl_7b model.source={out} model.quantize=none\n" in told
    opened = small_policy(name="mine", source=str(out), system_prompt=PROMPT)

    layer = adapted.model.base_model.model.get_submodule(LAYER)
    whole = layer.base_layer.weight.data.bfloat16().float() + layer.get_delta_weight("default")
    assert torch.equal(load_file(out / "model.safetensors")[f"{LAYER}.weight"], whole.bfloat16())  # rounded once
    played = greedy(adapted)
    assert said(greedy(opened)) == said(played) != said(base)
    with adapted.model.disable_adapter():
        without = logprobs(adapted, played)
    together = logprobs(adapted, played)
    torch.testing.assert_close(logprobs(opened, played), together, atol=0.05, rtol=0)
    assert (without - together).abs().max() > 0.5
    assert merge.main([str(adapter), str(out)]) == 2
    assert "merged is there already: remove it, or name another folder" in capsys.readouterr().err


def test_how_pictures_are_prepared_comes_from_the_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, adapter, out = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    shutil.copytree(SHIPPED, base)
    (base / "preprocessor_config.json").write_text('{"max_pixels": 12544}')
    small_policy(name="mine", source=str(base)).save_adapter(adapter)
    assert merge.main([str(adapter), str(out)]) == 0
    assert (out / "preprocessor_config.json").read_text() == '{"max_pixels": 12544}'
    assert (out / "chat_template.jinja").read_text() == (base / "chat_template.jinja").read_text()
    assert "next:    vllm serve" in capsys.readouterr().out
    shutil.rmtree(out)
    shutil.rmtree(base)
    assert merge.main([str(adapter), str(out)]) == 2
    assert f"--base={str(base)!r}: is no folder" in capsys.readouterr().err
    assert merge.main([str(adapter), str(out), "--base", "nano"]) == 2  # its tower is another
    assert "was trained on base" in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_that_is_no_adapter_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert merge.main([str(tmp_path), str(tmp_path / "merged")]) == 2
    assert "is no adapter folder, adapter_config.json is not there" in capsys.readouterr().err
