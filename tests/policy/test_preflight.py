"""The config check of the model section: every problem at once, in seconds, without loading anything heavy."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from steer_lit.policy import preflight

QWEN = {"name": "qwen2_5_vl_3b", "quantize": "nf4", "dtype": "bfloat16", "source": "Qwen/Qwen2.5-VL-3B-Instruct"}


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


def test_a_model_that_is_not_built_here_needs_a_source():
    assert keys(preflight.value_problems({"name": "llava"})) == ["model.source"]


def test_4_bits_of_a_large_model_need_a_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(preflight, "uncached", lambda _: [])
    (problem,) = preflight.resource_problems(QWEN)
    assert "no NVIDIA GPU" in problem.remedy
    assert "model=smol" in problem.remedy
    assert preflight.resource_problems({**QWEN, "quantize": "none"}) == []
    assert preflight.resource_problems({"name": "tiny", "quantize": "nf4"}) == []


@pytest.mark.parametrize(
    ("status", "count", "visible", "found"),
    [
        (0, 1, "0", True),
        (0, 0, "0", False),
        (9, 1, "0", False),  # 9: the driver is not loaded
        (0, 1, "", False),
        (0, 1, "-1", False),
    ],
)
def test_a_gpu_is_one_the_driver_counts_and_the_run_may_see(monkeypatch, status, count, visible, found):
    a_driver(monkeypatch, count, status)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert preflight.has_gpu() is found


def a_driver(monkeypatch: pytest.MonkeyPatch, count: int, status: int = 0) -> None:
    """A machine of `count` GPUs, whose driver answers with `status`. Which of them are visible stays as it is."""

    class Driver:
        def nvmlInit_v2(self) -> int:
            return status

        def nvmlDeviceGetCount_v2(self, out: Any) -> int:
            out._obj.value = count
            return 0

        def nvmlShutdown(self) -> int:
            return 0

    monkeypatch.setattr(preflight.ctypes, "CDLL", lambda _: Driver())


def test_no_test_sees_a_gpu_whatever_the_machine_has(monkeypatch):
    a_driver(monkeypatch, 2)
    assert preflight.visible_gpus() == 0
    assert {os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")} == {""}  # torch's ways to ask


@pytest.mark.parametrize(
    ("visible", "device", "said"),
    [
        (None, None, None),
        (None, "cpu", None),
        (None, "cuda", None),
        (None, "cuda:1", None),
        (None, "cuda:9", "the last NVIDIA GPU visible here is cuda:1"),
        ("1", "cuda:0", None),
        ("1", "cuda:1", "the last NVIDIA GPU visible here is cuda:0"),
        ("0,-1,1", "cuda:1", "the last NVIDIA GPU visible here is cuda:0"),  # as CUDA reads it
        ("7,0", "cuda", "no NVIDIA GPU is visible"),
        ("GPU-1a,MIG-2b", "cuda:1", None),
        ("", "cuda", "no NVIDIA GPU is visible"),
        ("", "cpu", None),
        (None, "gpu", "must be null, cpu, cuda or cuda:<number>"),
        (None, "cuda:x", "must be null, cpu, cuda or cuda:<number>"),
        (None, 0, "must be null, cpu, cuda or cuda:<number>"),
    ],
)
def test_a_device_is_one_that_is_there(monkeypatch, visible, device, said):
    a_driver(monkeypatch, 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    problems = preflight.preflight({"name": "tiny", "device": device})
    assert keys(problems) == (["model.device"] if said else [])
    assert all(said in problem.remedy for problem in problems)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    (problem,) = preflight.resource_problems({"name": "tiny", "quantize": "nf4"})
    assert "pip install bitsandbytes" in problem.remedy


def test_weights_neither_cached_nor_reachable_are_a_problem_within_seconds(monkeypatch):
    monkeypatch.setattr(preflight, "has_gpu", lambda: True)
    start = time.perf_counter()
    (offline,) = preflight.resource_problems(QWEN)  # the tests set HF_HUB_OFFLINE
    assert "HF_HUB_OFFLINE" in offline.remedy
    monkeypatch.setattr(preflight, "is_offline", lambda: False)
    (unreachable,) = preflight.resource_problems(QWEN)  # and refuse connections
    assert "does not answer" in unreachable.remedy
    assert time.perf_counter() - start < 3


def test_a_hub_that_hangs_is_given_up_in_time(monkeypatch):
    class Hanging:
        def head(self, *_: object, **__: object) -> None:
            time.sleep(5)

    monkeypatch.setattr("huggingface_hub.get_session", Hanging)
    monkeypatch.setattr(preflight, "_HUB_PATIENCE_S", 0.2)
    start = time.perf_counter()
    assert not preflight.hub_answers()
    assert time.perf_counter() - start < 2


@pytest.fixture
def cached(tmp_path, monkeypatch) -> Path:
    """The folder in the hub's cache with all that is read of a model in two shards."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--Qwen--Qwen2.5-VL-3B-Instruct"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    index = {"weight_map": {"a.weight": "model-1.safetensors", "b.weight": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("model-1.safetensors", "model-2.safetensors", "tokenizer_config.json", "tokenizer.json"):
        (snapshot / name).touch()
    (snapshot / "generation_config.json").touch()
    return snapshot


@pytest.mark.parametrize("name", ["config.json", "model-2.safetensors", "tokenizer_config.json", "tokenizer.json"])
def test_a_cached_model_has_every_shard_and_its_tokenizer(cached, monkeypatch, name):
    monkeypatch.setattr(preflight, "has_gpu", lambda: True)
    assert preflight.is_cached(QWEN["source"])
    assert preflight.resource_problems(QWEN) == []
    (cached / name).unlink()
    assert not preflight.is_cached(QWEN["source"])
    (problem,) = preflight.resource_problems(QWEN)
    assert problem.remedy == f"its {name} is not in the Hugging Face cache, and HF_HUB_OFFLINE is set"
    assert not preflight.is_cached("./no/such/folder")


def test_a_tokenizer_may_come_in_two_files(cached):
    (cached / "tokenizer.json").unlink()
    (cached / "vocab.json").touch()
    assert not preflight.is_cached(QWEN["source"])
    (cached / "merges.txt").touch()
    assert preflight.is_cached(QWEN["source"])


def test_a_file_that_a_model_may_lack_is_asked_for_once(cached, monkeypatch):
    monkeypatch.setattr(preflight, "has_gpu", lambda: True)
    (cached / "generation_config.json").unlink()
    assert not preflight.is_cached(QWEN["source"])
    assert preflight.resource_problems(QWEN) == []  # without a network it loads as it is
    none = cached.parents[1] / ".no_exist" / "abc"
    none.mkdir(parents=True)
    (none / "generation_config.json").touch()  # as the hub's client remembers an answer
    assert preflight.is_cached(QWEN["source"])


def test_files_and_folders_that_are_not_there_are_named(tmp_path):
    model = {"name": "tiny", "tower": str(tmp_path / "tower"), "init_from": str(tmp_path)}
    assert keys(preflight.resource_problems(model)) == ["model.tower", "init_from"]
    (tmp_path / "adapter_config.json").touch()
    (tmp_path / "adapter_model.safetensors").touch()
    (tmp_path / "tower").touch()
    assert preflight.resource_problems(model) == []


SIZES = (preflight.SHIPPED / "config.json").read_text()


def test_nano_takes_its_own_weights_a_checkpoint_folder_or_none(tmp_path):
    for weights in ("shipped", None):
        assert preflight.preflight({"name": "nano", "weights": weights}) == []
    model = {"name": "nano", "weights": str(tmp_path)}
    assert keys(preflight.resource_problems(model)) == ["model.weights"]
    (tmp_path / "model.safetensors").touch()
    for config in ("", "{}", '{"text_config": [], "vision_config": []}', SIZES.replace("256", "2048", 1), SIZES):
        (tmp_path / "config.json").write_text(config)
        assert keys(preflight.resource_problems(model)) == ([] if config == SIZES else ["model.weights"])


def test_nanos_tower_goes_with_the_weights_it_was_trained_for(tmp_path):
    shipped = {"name": "nano", "weights": "shipped", "tower": "trained"}
    assert preflight.value_problems(shipped) == []
    for weights in (None, str(tmp_path)):
        assert keys(preflight.value_problems({**shipped, "weights": weights})) == ["model.tower"]
        for tower in (None, str(tmp_path / "tower")):
            assert preflight.value_problems({"name": "nano", "weights": weights, "tower": tower}) == []


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
