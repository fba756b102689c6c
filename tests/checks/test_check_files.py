"""Broken checkpoints and adapters are refused before the libraries that read them are loaded."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from steer_lit.checks.files import adapter_problem, file_problems, prompt_problems, source_problems
from tests.settings import Refused

EMPTY_WEIGHTS = (2).to_bytes(8, "little") + b"{}"


def adapter(folder: Path, config: bytes = b"{}", weights: bytes = EMPTY_WEIGHTS, facts: object = None) -> str:
    """Write an adapter of these files; return its folder."""
    (folder / "adapter_config.json").write_bytes(config)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    if facts is not None:
        (folder / "steer_lit.json").write_text(json.dumps(facts))
    return str(folder)


def whole(path: Path) -> None:
    torch.save({"steer_lit": {}, "state_dict": {"policy.a": torch.ones(3)}}, path)


def cut(path: Path) -> None:
    whole(path)
    path.write_bytes(path.read_bytes()[:-40])


BROKEN: dict[str, Callable[[Path], object]] = {
    "cut off": cut,
    "garbage": lambda path: path.write_bytes(b"\x00\xffgarbage" * 50),
    "empty": lambda path: path.write_bytes(b""),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"steer_lit": {}})),
}


@pytest.mark.parametrize("sort", BROKEN)
def test_a_broken_checkpoint_is_refused_by_name(tmp_path: Path, sort: str) -> None:
    path = tmp_path / "last.ckpt"
    BROKEN[sort](path)
    (problem,) = file_problems({"ckpt_path": str(path)})
    assert (problem.key, problem.value) == ("ckpt_path", str(path))
    assert "is not a checkpoint, or was cut off" in problem.remedy


def test_an_intact_checkpoint_is_accepted(tmp_path: Path) -> None:
    whole(tmp_path / "last.ckpt")
    assert list(file_problems({"ckpt_path": str(tmp_path / "last.ckpt")})) == []


def test_missing_files_are_told_with_their_keys(tmp_path: Path) -> None:
    (saved,) = file_problems({"ckpt_path": str(tmp_path / "last.ckpt")})
    assert str(saved) == f"ckpt_path='{tmp_path}/last.ckpt': no such file: name a whole .ckpt under <run>/checkpoints"
    said = f"init_from='{tmp_path}/no': no such folder: name the adapter/ folder that a training run wrote"
    assert str(adapter_problem("init_from", str(tmp_path / "no"), {"name": "tiny"})) == said


def test_an_adapter_whose_facts_are_broken_is_refused_by_name(tmp_path: Path) -> None:
    problem = adapter_problem("init_from", adapter(tmp_path, facts=[1]), {})
    assert problem is not None
    assert "steer_lit.json holds no JSON object" in problem.remedy


HUB = "Qwen/Qwen2.5-VL-7B-Instruct"


@pytest.mark.parametrize(
    ("base", "model", "said"),
    [
        ("tiny", {"name": "tiny", "source": None}, None),
        (HUB, {"name": "qwen2_5_vl_7b", "source": HUB}, None),
        (HUB, {"name": "mine", "source": "/data/the_same_weights"}, None),  # loading will tell
        (None, {"name": "tiny", "source": None}, None),
        (["tiny"], {"name": "smol", "source": None}, None),
        ("tiny", {"name": "smol", "source": None}, "base 'tiny', this run's is model=smol: use model=tiny"),
        ("smol", {"name": "qwen2_5_vl_7b", "source": HUB}, "this run's is model=qwen2_5_vl_7b: use model=smol, or"),
        (HUB, {"name": "smol", "source": None}, "use the model it was trained on, or name an adapter of model=smol"),
    ],
)
def test_an_adapter_of_another_base_is_refused_by_name(tmp_path: Path, base: object, model: dict, said: str) -> None:
    problem = adapter_problem("policies.a", adapter(tmp_path, facts={"base": base}), model)
    assert (said in str(problem)) if said else problem is None
    found = list(file_problems({"model": {**model, "init_from": str(tmp_path)}}))
    assert [one.key for one in found] == (["init_from"] if said else [])


@pytest.mark.parametrize(
    ("config", "weights", "said"),
    [
        (b"{not json", EMPTY_WEIGHTS, "adapter_config.json is not JSON"),
        (b"\xff\xfe", EMPTY_WEIGHTS, "adapter_config.json is not JSON"),
        (b"[" * 100_000, EMPTY_WEIGHTS, "adapter_config.json is not JSON"),
        (b"[1]", EMPTY_WEIGHTS, "adapter_config.json holds no JSON object"),
        (b"{}", b"", "adapter_model.safetensors cannot be read"),
        (b"{}", EMPTY_WEIGHTS[:-1], "adapter_model.safetensors cannot be read"),
        (b"{}", EMPTY_WEIGHTS, None),
        (b'{"r": 2}', save({"x.lora_A.weight": np.zeros((2, 3))}), None),
        (b'{"r": 9999999}', save({"x.lora_A.weight": np.zeros((2, 3))}), "has r=9999999, adapter_model.s"),
        (b'{"use_dora": false, "init_lora_weights": "gaussian", "rank_pattern": {}}', EMPTY_WEIGHTS, None),
        (b'{"use_dora": true}', EMPTY_WEIGHTS, "adapter_config.json has use_dora=true, and plain LoRA alone is read"),
    ],
)
def test_a_broken_adapter_is_refused_by_name(tmp_path: Path, config: bytes, weights: bytes, said: str | None) -> None:
    problem = adapter_problem("policies.mine", adapter(tmp_path, config, weights), {})
    if said is None:
        assert problem is None
    else:
        assert problem is not None
        assert (problem.key, problem.value) == ("policies.mine", str(tmp_path))
        assert said in problem.remedy


@pytest.mark.parametrize(
    ("saved", "layers", "said"),
    [
        ({"r": 4, "lora_alpha": 8}, [], {}),
        ({"r": 16, "lora_alpha": 8}, [], {"r": (4, "was trained with another: set model.lora.r=16")}),
        ({"r": 4, "lora_alpha": 32}, [], {"alpha": (8, "was trained with another: set model.lora.alpha=32")}),
        ({"r": 4, "lora_alpha": 8}, ["q_proj"], {}),
        (
            {"r": 4, "lora_alpha": 8},
            ["v_proj", "q_proj"],
            {"targets": (["q_proj"], "has others: set model.lora.targets=[q_proj,v_proj]")},
        ),
    ],
)
def test_training_goes_on_with_the_adapters_rank_alpha_and_layers(
    tmp_path: Path, saved: dict[str, int], layers: list[str], said: dict[str, tuple[object, str]]
) -> None:
    """Loading would refuse it too, but minutes later for a large model."""
    name = "base_model.model.model.language_model.layers.0.self_attn.{}.lora_A.weight"
    weights = save({name.format(layer): np.zeros((4, 3)) for layer in layers}) if layers else EMPTY_WEIGHTS
    folder = adapter(tmp_path, json.dumps(saved).encode(), weights)
    model = {"name": "tiny", "lora": {"r": 4, "alpha": 8, "targets": ["q_proj"]}, "init_from": folder}
    found = {each.key: (each.value, each.remedy) for each in file_problems({"model": model})}
    assert found == {f"model.lora.{key}": (value, f"init_from={folder} {why}") for key, (value, why) in said.items()}


def test_row_files_of_a_list_are_looked_at_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("rows/sft.jsonl", "rows/more.jsonl", "syn/sft.jsonl"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).touch()

    def said(*files: str, **others: str) -> list[str]:
        return list(map(str, source_problems({"data": {"source": {"sft": list(files), **others}}})))

    assert said("rows/sft.jsonl", "rows/more.jsonl", "hf://owner/name") == []
    assert said("rows/sft.jsonl", "syn/sft.jsonl", folder="rows") == []
    (apart,) = said("rows/sft.jsonl", "syn/sft.jsonl")
    assert apart.startswith("data.source.folder=null: name the folder of the pictures: ")
    assert apart.endswith("lie in different folders (rows, syn)")
    (gone,) = said("rows/sft.jsonl", "syn/sft.jsnl")
    assert gone == "data.source.sft='syn/sft.jsnl': is no such file. Did you mean syn/sft.jsonl?"
    Path("rows/link.jsonl").symlink_to("sft.jsonl")
    for other in ("./rows/sft.jsonl", "rows/link.jsonl"):
        (twice,) = said("rows/sft.jsonl", other)
        assert "names a file twice" in twice


def test_prompts_are_checked_unless_a_users_own_class_takes_them(tmp_path: Path) -> None:
    given = {"prompts": str(tmp_path)}
    config = {
        "judge": {"_target_": "steer_lit.tutor.judge.LlmJudge", **given},
        "tutor": {"_target_": "mine.T", **given},
    }
    (problem,) = prompt_problems(config)
    assert str(problem).startswith(
        f"judge.prompts={str(tmp_path)!r}: holds neither judge_system.txt nor judge_user.txt"
    )
    (tmp_path / "judge_system.txt").write_text("Grade.")
    assert not list(prompt_problems(config))


@pytest.mark.parametrize(
    ("program", "words"), [("train", ["+experiment=grpo_tiny", "tutor=llm"]), ("bench", ["judge=llm"])]
)
def test_a_command_refuses_a_folder_without_prompts(
    refused: Refused, tmp_path: Path, program: str, words: list[str]
) -> None:
    server = ["server.base_url=http://localhost:1/v1", "server.model=m", f"hydra.run.dir={tmp_path / 'run'}"]
    own = f"{words[-1].partition('=')[0]}.prompts"
    assert f"{own}='none': no such folder" in refused(*words, f"{own}=none", *server, program=program)
