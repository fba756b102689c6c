"""Which of a checkpoint's files are on this machine, and whether the hub answers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from steer_lit.errors import MissingResource
from steer_lit.policy import base_model_files, gpus
from steer_lit.policy.preflight import resource_problems

SOURCE = "Qwen/Qwen2.5-VL-3B-Instruct"
QWEN = {"name": "qwen2_5_vl_3b", "quantize": "nf4", "dtype": "bfloat16", "source": SOURCE}


def test_a_hub_that_hangs_counts_as_not_answering(monkeypatch):
    class Hanging:
        def head(self, *_: object, **__: object) -> None:
            time.sleep(5)

    monkeypatch.setattr("huggingface_hub.get_session", Hanging)
    monkeypatch.setattr(base_model_files, "_HUB_PATIENCE_S", 0.2)
    start = time.perf_counter()
    assert not base_model_files.hub_answers()
    assert time.perf_counter() - start < 2


@pytest.fixture
def cached(tmp_path, monkeypatch) -> Path:
    """Return a folder in the hub's cache with all files that are read of a model in two shards."""
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
    monkeypatch.setattr(gpus, "has_gpu", lambda: True)
    assert base_model_files.is_cached(SOURCE)
    assert resource_problems(QWEN) == []
    (cached / name).unlink()
    assert not base_model_files.is_cached(SOURCE)
    (problem,) = resource_problems(QWEN)
    assert problem.remedy == f"is no folder, and its {name} is not in the Hugging Face cache, and HF_HUB_OFFLINE is set"
    assert not base_model_files.is_cached("./no/such/folder")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"weight_map": [1]}'])
def test_a_damaged_index_is_reported(cached, monkeypatch, text):
    monkeypatch.setattr(gpus, "has_gpu", lambda: True)
    (cached / "model.safetensors.index.json").write_text(text)
    with pytest.raises(MissingResource, match=r"index\.json: is no list of a model's files: remove it"):
        resource_problems(QWEN)


def test_a_tokenizer_may_come_in_two_files(cached):
    (cached / "tokenizer.json").unlink()
    (cached / "vocab.json").touch()
    assert not base_model_files.is_cached(SOURCE)
    (cached / "merges.txt").touch()
    assert base_model_files.is_cached(SOURCE)


def test_the_hub_is_asked_once_for_an_optional_file(cached, monkeypatch):
    monkeypatch.setattr(gpus, "has_gpu", lambda: True)
    (cached / "generation_config.json").unlink()
    assert not base_model_files.is_cached(SOURCE)
    assert resource_problems(QWEN) == []  # without a network it loads without this file
    none = cached.parents[1] / ".no_exist" / "abc"
    none.mkdir(parents=True)
    (none / "generation_config.json").touch()  # the mark of the hub's client for a file that does not exist
    assert base_model_files.is_cached(SOURCE)
