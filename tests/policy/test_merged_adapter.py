"""An adapter merged as docs/servers.md says. The checkpoint answers as base and adapter together."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from steer_lit.policy.model_facts import SHIPPED
from tests.policies import moved, small_policy

LAYER = "model.language_model.layers.1.mlp.up_proj"
PICTURES = {"processor_class": "Qwen2_5_VLProcessor", "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14}


def test_the_documented_merge_rounds_each_weight_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(SHIPPED, "base")
    Path("base/preprocessor_config.json").write_text(json.dumps(PICTURES))
    adapted = moved(small_policy(name="mine", source="base"))
    adapted.save_adapter(Path("adapter"))

    page = Path(__file__).parents[2].joinpath("docs/servers.md").read_text()
    code = re.search(r"```python\n(from peft .+?)```", page, re.DOTALL)
    assert code is not None
    named = {"Qwen/Qwen2.5-VL-7B-Instruct": "base", "outputs/grpo_7b/adapter": "adapter"}
    named["outputs/grpo_7b/merged"] = "out"
    exec(re.sub("|".join(named), lambda name: named[name[0]], code[1]), {})

    layer = adapted.model.base_model.model.get_submodule(LAYER)
    whole = layer.base_layer.weight.data.bfloat16().float() + layer.get_delta_weight("default")
    merged = small_policy(name="mine", source="out")
    assert torch.equal(load_file("out/model.safetensors")[f"{LAYER}.weight"], whole.bfloat16())
    assert torch.equal(merged.base.get_submodule(f"{LAYER}.base_layer").weight, whole.bfloat16().float())
    assert json.loads(Path("out/processor_config.json").read_text())["image_processor"]["patch_size"] == 14
