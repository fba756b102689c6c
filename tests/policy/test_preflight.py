"""The config check of the model section: all problems at once, in seconds, without heavy imports."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from steer_lit.policy import preflight

QWEN = {"name": "qwen2_5_vl_3b", "quantize": "nf4", "dtype": "bfloat16", "source": "Qwen/Qwen2.5-VL-3B-Instruct"}

SIZES = (preflight.SHIPPED / "config.json").read_text()
LAYERS = SIZES.replace('"num_hidden_layers": 4', '"num_hidden_layers": 6')  # two of them would be random weights


def keys(problems: list) -> list[str]:
    return [problem.key for problem in problems]


def test_every_bad_value_is_named_at_once():
    problems = preflight.value_problems(
        {
            "name": "tiny",
            "quantize": "int8",
            "dtype": "float16",
            "min_pixels": 900,
            "max_pixels": 800,
            "source": "somewhere",
            "tower": "tower.safetensors",
            "weights": "shipped",
            "lora": {"r": 0, "alpha": -1, "dropout": 1.0, "dtype": "half", "targets": ["qkv"]},
        }
    )
    assert sorted(keys(problems)) == [
        "model.dtype",
        "model.lora.alpha",
        "model.lora.dropout",
        "model.lora.dtype",
        "model.lora.r",
        "model.lora.targets",
        "model.max_pixels",
        "model.quantize",
        "model.source",
        "model.tower",
        "model.weights",
    ]
    assert "nf4, none" in str(problems[0])


@pytest.mark.parametrize("key", ["min_pixels", "max_pixels"])
@pytest.mark.parametrize("pixels", [math.inf, math.nan, 800.5, True, "many", None])
def test_pixels_are_a_whole_number(key, pixels):
    assert keys(preflight.value_problems({"name": "tiny", key: pixels})) == [f"model.{key}"]


@pytest.mark.parametrize("r", [1.5, "many", None, math.inf, True])
def test_a_rank_is_a_whole_number(r):
    assert keys(preflight.value_problems({"name": "tiny", "lora": {"r": r}})) == ["model.lora.r"]


def test_a_model_that_is_not_built_in_needs_a_source():
    (problem,) = preflight.value_problems({"name": "llava"})
    assert problem.key == "model.source"
    assert problem.remedy.endswith("only with model.name=tiny, nano or smol is it built here")


def test_nanos_tower_goes_with_the_weights_it_was_trained_for(tmp_path):
    shipped = {"name": "nano", "weights": "shipped", "tower": "trained"}
    assert preflight.value_problems(shipped) == []
    for weights in (None, str(tmp_path)):
        assert keys(preflight.value_problems({**shipped, "weights": weights})) == ["model.tower"]
        for tower in (None, str(tmp_path / "tower")):
            assert preflight.value_problems({"name": "nano", "weights": weights, "tower": tower}) == []


def test_4_bits_of_a_large_model_need_a_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (problem,) = preflight.resource_problems(QWEN)
    assert "no NVIDIA GPU" in problem.remedy
    assert "model=smol" in problem.remedy
    assert preflight.resource_problems({**QWEN, "quantize": "none"}) == []
    assert preflight.resource_problems({"name": "tiny", "quantize": "nf4"}) == []


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    (problem,) = preflight.resource_problems({"name": "tiny", "quantize": "nf4"})
    assert "pip install bitsandbytes" in problem.remedy


def test_a_source_is_a_checkpoint_folder_or_a_hub_id(tmp_path):
    """Whether the hub has it is told once it is loaded: the check asks no network."""
    model = {**QWEN, "quantize": "none"}
    assert preflight.resource_problems(model) == []
    for wrong, said in (("./no/such/folder", "is neither a folder nor"), (str(tmp_path), "is not a checkpoint fol")):
        (problem,) = preflight.resource_problems({**model, "source": wrong})
        assert (problem.key, problem.value) == ("model.source", wrong)
        assert problem.remedy.startswith(said)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    assert preflight.resource_problems({**model, "source": str(tmp_path)}) == []


def test_a_checkpoint_of_another_architecture_is_refused_before_it_loads(tmp_path):
    model = {"name": "mine", "quantize": "none", "source": str(tmp_path)}
    (tmp_path / "model.safetensors").touch()
    for config in (SIZES, "{}", "no JSON", "[]"):  # loading reports what cannot be read
        (tmp_path / "config.json").write_text(config)
        assert preflight.resource_problems(model) == []
    (tmp_path / "config.json").write_text(SIZES.replace('"model_type": "qwen2_5_vl"', '"model_type": "qwen3_vl"'))
    (problem,) = preflight.resource_problems(model)
    assert problem.key == "model.source"
    assert "model_type='qwen3_vl', only qwen2_5_vl" in problem.remedy


def test_a_missing_tower_is_named(tmp_path):
    model = {"name": "tiny", "tower": str(tmp_path / "tower")}
    assert keys(preflight.resource_problems(model)) == ["model.tower"]
    (tmp_path / "tower").touch()
    assert preflight.resource_problems(model) == []


def test_nano_accepts_shipped_weights_a_checkpoint_folder_or_none(tmp_path):
    for weights in ("shipped", None):
        assert preflight.preflight({"name": "nano", "weights": weights}) == []
    model = {"name": "nano", "weights": str(tmp_path)}
    assert keys(preflight.resource_problems(model)) == ["model.weights"]
    (tmp_path / "model.safetensors").touch()
    for config in (
        "",
        "{}",
        '{"text_config": [], "vision_config": []}',
        SIZES.replace("256", "2048", 1),
        LAYERS,
        SIZES,
    ):
        (tmp_path / "config.json").write_text(config)
        assert keys(preflight.resource_problems(model)) == ([] if config == SIZES else ["model.weights"])


def test_the_check_loads_nothing_heavy():
    code = (
        "import sys; from steer_lit.policy.preflight import preflight; "
        f"preflight({QWEN!r}); preflight({{'name': 'smol', 'quantize': 'nf4', 'dtype': 'bfloat16'}}); "
        "print(sorted({'torch', 'transformers', 'peft', 'bitsandbytes', 'numpy'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=root, check=True
    )
    assert done.stdout.strip() == "[]"
