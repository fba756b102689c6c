"""Every experiment and every option of the config composes, passes the config check and can be built."""

from __future__ import annotations

import inspect
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from lightning.pytorch.strategies import ddp
from omegaconf import DictConfig, OmegaConf

from steer_lit.checks.programs import bench_problems, train_problems
from steer_lit.cli import train_run
from steer_lit.cli.players import build_player
from steer_lit.errors import NOT_GIVEN, Problem
from steer_lit.policy import gpus, preflight
from steer_lit.terminal.conf_files import conf_dir

CONF = conf_dir()
FILES = sorted((CONF / "experiment").rglob("*.yaml"))
EXPERIMENTS = [path.relative_to(CONF / "experiment").with_suffix("") for path in FILES]
GROUPS = (
    "model", "data", "stage", "attacker", "tutor", "reward", "hardware", "callbacks", "logger", "ablation", "debug"
)  # fmt: skip
ABLATIONS = [path.stem for path in sorted((CONF / "ablation").glob("*.yaml"))]
SERVER = ("server.base_url=http://localhost:8000/v1", "server.model=any")
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
MAX_EXPERIMENT_LINES = 40
LENGTH = {"max_position_embeddings": 2000}


def compose(*overrides: str, name: str = "train", run_dir: str = "unused", hydra_too: bool = False) -> DictConfig:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(name, [f"run_dir={run_dir}", *overrides], return_hydra_config=hydra_too)


def resolved(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain


def value_problems(config: dict[str, Any]) -> list[Problem]:
    """Return what is wrong with the given values of a training config, on a machine that lacks nothing."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preflight, "resource_problems", lambda model: [])
        patched.setattr(gpus, "has_gpu", lambda: True)
        return [problem for problem in train_problems(OmegaConf.create(config)) if problem.value != NOT_GIVEN]


def empty_adapter(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def test_all_experiments_exist() -> None:
    assert {str(name) for name in EXPERIMENTS} >= {
        "pretrain_nano", "ground_nano", "ground_smol", "sft_tiny", "grpo_tiny", "sft_nano", "grpo_nano",
        "sft_smol", "grpo_smol", "sft_3b", "grpo_3b", "sft_7b", "grpo_7b",
        "ablation_nano", "ablation_smol", "ablation_7b"
    }  # fmt: skip


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=str)
def test_experiments_compose_check_and_build(experiment: Path, tmp_path: Path) -> None:
    """Everything but the weights is built, so an unknown or misspelt option fails here."""
    from hydra.utils import get_class, get_method, instantiate

    config = compose(f"experiment={experiment}", "init_from=null", *SERVER, run_dir=str(tmp_path))
    assert value_problems(resolved(config)) == []
    for node in ("optim", "rollout", "objective", "reward", "data"):
        if node in config:
            instantiate(config[node])
    for player in {"attacker", "tutor"} & set(config.module):
        build_player(config[player], lambda ref: ref, player)
    instantiate(config.trainer, accelerator="cpu", devices=1, strategy="auto", num_nodes=1)
    for node in (*config.callbacks.values(), *config.logger.values()):
        instantiate(node)
    for node, target, extra in (("module", get_class, ["policy"]), ("model", get_method, ["open_image"])):
        names = [str(key) for key in config[node] if not str(key).startswith("_")]
        inspect.signature(target(config[node]._target_)).bind(**dict.fromkeys([*names, *extra]))


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=str)
def test_experiments_are_short_and_name_their_sources(experiment: Path) -> None:
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert len(lines) <= MAX_EXPERIMENT_LINES
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith("# python train.py")
    assert f"+experiment={experiment}" in lines[1]
    for line in lines:
        key, _, value = line.partition(": ")
        own = key.strip() in {"name", "max_epochs"} or value.startswith("${")
        if value and not own and not line.lstrip().startswith(("#", "- ")):
            assert any(source in value for source in ("# paper", "# ours", "# authors")), line


def test_python_train_alone_is_sft_tiny() -> None:
    assert compose() == compose("experiment=sft_tiny")
    assert compose().name == "sft_tiny"


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_every_group_composes(group: str, option: str) -> None:
    stage = [] if group == "stage" else ["stage=grpo"]
    files = ["data.source.rl=conf/train.yaml", "data.source.sft=conf/train.yaml"] if option == "steer" else []
    resolved(compose(*stage, f"{group}={option}", "init_from=null", *files))


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["stage=grpo", "rollout.group_size=1"], ["rollout.group_size"]),
        (["stage=grpo", "rollout.temperature=0"], ["rollout.temperature"]),
        (["stage=grpo", "objective.kl_estimator=k1"], ["objective.kl_estimator"]),
        (["stage=grpo", "model.lora.dropout=0.1"], ["model.lora.dropout"]),
        (["reward.w_safe=0.9"], ["reward.w_safe"]),
        (["init_from=nowhere"], ["init_from"]),
        (["ckpt_path=nowhere.ckpt"], ["ckpt_path"]),
        (["model.quantize=nf4", "trainer.strategy=fsdp"], ["trainer.strategy"]),
        (["trainer.strategy=deepspeed"], ["trainer.strategy"]),
        (["trainer.max_steps=-1"], ["trainer.max_epochs"]),
        (["+trainer.accumulate_grad_batches=4"], ["trainer.accumulate_grad_batches"]),
        (["+trainer.accumulate_grad_batches=1", "+trainer.gradient_clip_val=null"], []),  # as without them
        (["+trainer.gradient_clip_val=1"], ["trainer.gradient_clip_val"]),
        (["data=steer"], ["data.source.sft"]),
        (["data=steer", "data.source.sft=hf://owner"], ["data.source.sft"]),
        (["data=steer", "data.source.kind=good"], ["data.source.kind", "data.source.sft"]),
        (["stage=ground", "data=steer"], ["data"]),
        (["model=smol"], ["model"]),  # sft_tiny's learning rate is for a random base
        (["data.val_size=few", "data.max_turns=0"], ["data.val_size", "data.max_turns"]),
        (["stage=grpo", "rollout.temperature=hot"], ["rollout.temperature"]),
        (["trainer.max_steps=-1", "trainer.max_epochs=two"], ["trainer.max_epochs"]),
        (["data.val_size=15"], ["data.val_size"]),
        (["data.val_size=20", "data.source.sft=20"], ["data.val_size"]),
        (["data.val_size=0", "data.source.sft=3", "trainer.devices=4"], ["data.val_size"]),
        (["data.source.mean_turns=9"], ["data.source.mean_turns"]),  # sft_tiny has at most 6
        (["data.source.mean_turns=long"], ["data.source.mean_turns"]),
        (["data.source.seed=one"], ["data.source.seed"]),
        (["data.max_turns=1"], ["data.max_turns"]),
        (["data.batch_size=3", "trainer.devices=2", "+trainer.num_nodes=2"], ["data.batch_size"]),
        (["data.batch_size=2", "trainer.accelerator=gpu", "trainer.devices=[0,1]"], []),
        (["data.batch_size=1", "trainer.devices=auto"], []),
        (["stage=grpo", "rollout.max_new_tokens=1024"], ["rollout.max_new_tokens"]),
        (["stage=grpo", "rollout.max_turns=1", "rollout.max_new_tokens=1024"], []),
        (["stage=grpo", "attacker.quote_words=7"], ["attacker.quote_words"]),
        (["stage=grpo", "attacker.lead_share=1.1"], ["attacker.lead_share"]),
        (["stage=grpo", "attacker.wordings=new"], ["attacker.wordings"]),
        (["data.stage=rl", "data.batch_size=0"], ["data.batch_size", "data.stage"]),
        (["module.trains=bass"], ["module.trains"]),
        (["hardware.rank_timeout_minutes=0"], ["hardware.rank_timeout_minutes"]),
        (["hardware.rank_timeout_minutes=10081"], ["hardware.rank_timeout_minutes"]),
        (["callbacks.checkpoint.every_n_steps=0"], ["callbacks.checkpoint.every_n_steps"]),
        (["callbacks.transcripts.every_n_batches=0"], ["callbacks.transcripts.every_n_batches"]),
        (
            ["optim.lr=fast", "model.seed=-1", "hardware.micro_tokens=0"],
            ["model.seed", "optim.lr", "hardware.micro_tokens"],
        ),
    ],
)
def test_values_that_cannot_work_are_all_named(overrides: list[str], keys: list[str]) -> None:
    grpo = ["init_from=null", "rollout.max_new_tokens=32"] if "stage=grpo" in overrides else []
    config = compose(*grpo, *overrides)
    assert [problem.key for problem in value_problems(resolved(config))] == keys


def test_a_reward_of_ones_own_has_its_own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_reward.py").write_text("class MyReward:\n    def __init__(self, floor, alpha, **others): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = ["reward._target_=own_reward.MyReward", "+reward.floor=0.1", "reward.alpha=7"]
    words = ("experiment=grpo_tiny", "init_from=null")
    assert value_problems(resolved(compose(*words, *own))) == []
    (problem,) = value_problems(resolved(compose(*words, *own[1:])))
    assert problem.key == "reward.alpha"


@pytest.mark.parametrize("config", [LENGTH, {"text_config": LENGTH}], ids=["flat", "nested"])
def test_the_context_length_is_read_from_flat_and_nested_model_configs(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    words = ("experiment=grpo_7b", "init_from=null", *SERVER, f"model.source={tmp_path}")
    (problem,) = value_problems(resolved(compose(*words)))
    assert "rollout.max_turns=10 is more than the 2,000 tokens the model reads" in problem.remedy
    (tmp_path / "config.json").write_text("no JSON")
    assert value_problems(resolved(compose(*words))) == []


@pytest.mark.parametrize(
    ("words", "turns"),
    [
        (["rollout.max_new_tokens=410"], "bench.max_turns=10"),
        (["rollout.max_new_tokens=1025", "data.max_turns=4", "data.source.mean_turns=3"], "data.max_turns=4"),
        (["rollout.max_new_tokens=1025", "bench.max_turns=4"], "bench.max_turns=4"),
        (["rollout.max_new_tokens=409"], None),
        (["rollout.max_new_tokens=1025", "bench.protocol=single_turn"], None),
        (["rollout.max_new_tokens=1025", "~policies.base", "+policies.other=server:m", *SERVER], None),
        (["rollout.max_new_tokens=1025", "judge_check=true"], None),
    ],
)
def test_benchmark_answers_that_alone_may_be_too_long_are_refused(words: list[str], turns: str | None) -> None:
    """The message has the same form as GRPO's. The context length of a server's model is not known here."""
    problems = [str(problem) for problem in bench_problems(compose(*words, name="bench"))]
    said = f"over {turns} is more than the 4,096 tokens the model reads: lower either"
    assert problems == ([f"{words[0]}: {said}"] if turns else [])


def test_a_benchmarks_data_keys_are_checked() -> None:
    (problem,) = bench_problems(compose("data.source.mean_turns=11", name="bench"))
    assert (problem.key, problem.value) == ("data.source.mean_turns", 11)
    assert "stage" not in compose(name="bench").data  # nor any other key that only concerns training


def test_a_baseline_is_a_policy_of_the_run() -> None:
    words = ["~policies.base", "+policies.a=base", "+policies.b=base"]
    assert bench_problems(compose(*words, "bench.baseline=b", name="bench")) == []
    for name in ("sft", "gold"):
        (problem,) = bench_problems(compose(*words, f"bench.baseline={name}", name="bench"))
        assert str(problem).startswith(f"bench.baseline='{name}': is no policy of this run")
        assert problem.remedy.endswith("must be one of a, b, null")
    lists = ["+policies.full=[base,base]", "+policies.row=[base]"]
    assert bench_problems(compose(*words, *lists, "bench.baseline=full", name="bench")) == []
    (problem,) = bench_problems(compose(*words, *lists, "bench.baseline=full@1", name="bench"))
    assert problem.remedy.endswith("must be one of a, b, full, row@1, null")
    # `from_run` names the policies, so that here the baseline is not checked.
    read = bench_problems(compose("from_run=none", "bench.baseline=sft", name="bench"))
    assert [problem.key for problem in read] == ["from_run"]


@pytest.mark.parametrize("key", ["init_from", "model.init_from"])
def test_a_benchmarks_base_has_no_adapter_under_it(tmp_path: Path, key: str) -> None:
    empty_adapter(tmp_path)
    (problem,) = bench_problems(compose(f"{key}={tmp_path}", name="bench"))
    assert (problem.key, problem.value) == (key, str(tmp_path))
    assert "policies.<name>=<adapter folder>" in problem.remedy


def test_a_benchmark_refuses_a_gpu_that_is_not_there() -> None:
    (problem,) = bench_problems(compose("model.device=cuda:9", name="bench"))
    assert str(problem).startswith("model.device='cuda:9': no NVIDIA GPU is visible")


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cpu", "hardware=cpu"),
        ("cuda", "trainer.accelerator=gpu trainer.devices=1"),
        ("cuda:1", "trainer.accelerator=gpu trainer.devices=[1]"),
    ],
)
def test_training_names_the_trainers_key_for_the_device(
    device: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "visible_gpus", lambda: 2)
    (problem,) = train_problems(compose(f"model.device={device}"))
    assert (problem.key, problem.value) == ("model.device", device)
    assert problem.remedy == f"a training run uses its trainer's device: set {words} instead"
    assert train_problems(compose(*words.split())) == []  # the advice works as it stands


@pytest.mark.parametrize("strategy", ["ddp", "auto"])
@pytest.mark.parametrize(("words", "minutes"), [((), 240), (("hardware.rank_timeout_minutes=15",), 15)])
def test_the_rank_timeout_reaches_the_process_group(
    strategy: str, words: tuple[str, ...], minutes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    joined: list[timedelta] = []
    monkeypatch.setattr(ddp, "_init_dist_connection", lambda *_, timeout, **__: joined.append(timeout))
    monkeypatch.setattr(ddp, "reset_seed", lambda: None)
    config = compose("trainer.devices=2", f"trainer.strategy={strategy}", *words, run_dir=str(tmp_path))
    trainer = train_run._trainer(config, None)
    trainer.strategy.setup_distributed()  # what `fit` does at its start, in each process
    assert joined == [timedelta(minutes=minutes)]


def test_invalid_entries_of_a_list_of_policies_are_named(tmp_path: Path) -> None:
    empty_adapter(tmp_path / "adapter")
    full = f"+policies.full=[{tmp_path}/adapter,{tmp_path}/none,[base],'']"
    config = compose(full, "+policies.row=[]", "+policies.gold=[base]", name="bench")
    assert [(problem.key, problem.value) for problem in bench_problems(config)] == [
        ("policies.row", []),
        ("policies.gold", ["base"]),
        ("policies.full@2", f"{tmp_path}/none"),
        ("policies.full@3", "***"),
        ("policies.full@4", ""),
    ]


@pytest.mark.parametrize("experiment", ["grpo_3b", "grpo_7b"])
def test_the_papers_runs_ask_for_the_server_of_their_llm_tutor(experiment: str) -> None:
    config = compose(f"experiment={experiment}", "init_from=null")
    assert config.tutor._target_.endswith("LlmTutor")
    assert config.tutor.client.settings.concurrency == 64  # a step asks for thousands of verdicts
    assert config.module.attacker._target_.endswith("AdaptiveAttacker")
    problems = {problem.key: problem.remedy for problem in value_problems(resolved(config))}
    assert set(problems) == {"server.base_url", "server.model"}
    assert "server.base_url=http://localhost:8000/v1" in problems["server.base_url"]
    assert problems["server.base_url"].endswith(", or tutor=rubric, which asks none")
    assert value_problems(resolved(compose(f"experiment={experiment}", "init_from=null", *SERVER))) == []


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["attacker=llm"], ["attacker"]),  # tutor=rubric cannot score what the LLM attacker writes
        (["attacker=llm", "tutor=llm"], []),
        (["attacker=llm", "tutor=llm", "attacker.client.model=''"], ["attacker.client.model"]),
        (["attacker=llm", "tutor=llm", "attacker.client.base_url=nowhere"], ["attacker.client.base_url"]),
        (["tutor=llm", "tutor.sees=everything"], ["tutor.sees"]),
        (["tutor=llm", "tutor.max_tokens=0", "tutor.max_pixels=783"], ["tutor.max_tokens", "tutor.max_pixels"]),
        (["tutor=llm", "tutor.temperature=-1"], ["tutor.temperature"]),
        (["attacker.extra_turns=-1"], ["attacker.extra_turns"]),
        (["tutor=llm", "server.model=null"], ["server.model"]),
    ],
)
def test_invalid_attacker_and_tutor_settings_are_named(overrides: list[str], keys: list[str]) -> None:
    config = compose("stage=grpo", "init_from=null", "rollout.max_new_tokens=32", *SERVER, *overrides)
    assert [problem.key for problem in value_problems(resolved(config))] == keys


def test_the_judge_is_checked_and_its_check_needs_no_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer_lit.policy.gpus.has_gpu", lambda: False)
    config = compose("judge=llm", "judge.sees=all", "model=qwen2_5_vl_7b", "judge_check=true", name="bench")
    sees, url, model = bench_problems(config)
    assert [problem.key for problem in (sees, url, model)] == ["judge.sees", "server.base_url", "server.model"]
    assert url.remedy.endswith("/v1, or judge=rubric, which asks none")
    own = compose("judge=llm", "data=steer", "data.source.bench=rows", "model=qwen2_5_vl_7b", name="bench")
    assert not any("rubric" in problem.remedy for problem in bench_problems(own) if problem.key == "server.base_url")
    assert bench_problems(compose("judge=llm", "judge_check=true", "model=qwen2_5_vl_7b", *SERVER, name="bench")) == []


# ---- ablations


def differences(one: Any, other: Any, prefix: str = "") -> set[str]:
    """Return the dotted keys at which two plain configs differ."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return set() if one == other else {prefix.rstrip(".")}
    found = (differences(one.get(key), other.get(key), f"{prefix}{key}.") for key in one.keys() | other.keys())
    return set().union(*found)


def top(keys: set[str]) -> set[str]:
    """Leave out the sections that repeat values set elsewhere."""
    return {key for key in keys if not key.startswith(("module.", "callbacks.", "model."))}


@pytest.mark.parametrize("base", ["nano", "smol", "7b"])
def test_each_ablation_row_changes_only_its_own_keys(base: str) -> None:
    def row(name: str) -> dict[str, Any]:
        return resolved(compose(f"experiment=ablation_{base}", f"ablation={name}", "sft_adapter=here", *SERVER))

    full = row("full")
    assert full["init_from"] == "here"
    experiment = resolved(compose(f"experiment=grpo_{base}", "init_from=here", *SERVER))
    own = {"optim.lr", "trainer.max_steps"} if base == "nano" else set()
    credit = {"reward.credit"} if base != "7b" else set()
    assert top(differences(full, experiment)) == {"name", "sft_adapter", "objective.scale"} | own | credit
    attacker = {f"attacker.{key}" for key in ("_target_", "extra_turns", "lead_share", "quote_words", "wordings")}
    expected = {
        "no_tcsr": {"reward.alpha", "reward.return"},
        "scripted": attacker,
        "no_bootstrapping": {"init_from"},
        "single_turn": {"rollout.max_turns"},
    }
    assert set(expected) == set(ABLATIONS) - {"full"}
    for name, keys in expected.items():
        assert top(differences(full, row(name))) - {"ablation"} == keys, name


@pytest.mark.parametrize("base", ["nano", "smol", "7b"])
def test_the_ablation_sweeps_over_all_rows_in_separate_folders(base: str) -> None:
    hydra_config = compose(f"experiment=ablation_{base}", "sft_adapter=here", "seed=3", hydra_too=True)
    assert sorted(hydra_config.hydra.sweeper.params.ablation.split(",")) == ABLATIONS
    assert hydra_config.hydra.sweep.subdir == "full_3/run_dir=unused"
    others = ("trainer.max_steps=8", "optim.lr=1e-4", "seed=3", "sft_adapter=../here", "ablation=no_tcsr")
    subdir = compose(f"experiment=ablation_{base}", *others, hydra_too=True).hydra.sweep.subdir
    assert subdir == "no_tcsr_3/optim.lr=1e-4,run_dir=unused,trainer.max_steps=8"


def test_the_row_without_tcsr_needs_a_credit_in_which_tcsr_takes_part() -> None:
    """Else it would be `full` trained once more, or differ from that in its credit as well."""
    words = ["experiment=grpo_nano", "ablation=no_tcsr", "init_from=null"]
    (problem,) = value_problems(resolved(compose(*words)))
    assert (problem.key, problem.value) == ("ablation", "no_tcsr")
    assert value_problems(resolved(compose(*words, "reward.credit=trajectory"))) == []


def test_the_row_without_bootstrapping_refuses_an_adapter(tmp_path: Path) -> None:
    empty_adapter(tmp_path)
    config = compose("experiment=ablation_smol", "ablation=no_bootstrapping", f"init_from={tmp_path}")
    (problem,) = value_problems(resolved(config))
    assert (problem.key, problem.value) == ("init_from", str(tmp_path))


@pytest.mark.parametrize(
    ("words", "key"),
    [(["model=smol", "tuned_for=smol"], "model"), (["model.quantize=nf4"], "model.quantize")],
)
def test_pretraining_is_for_nano_in_full_precision_only(words: list[str], key: str) -> None:
    assert value_problems(resolved(compose("experiment=pretrain_nano"))) == []
    assert [problem.key for problem in value_problems(resolved(compose("experiment=pretrain_nano", *words)))] == [key]


def test_a_hub_dataset_is_named_on_the_command_line() -> None:
    config = compose("data=steer", "data.source.sft=hf://owner/name/en:train@v1.0")
    assert value_problems(resolved(config)) == []


def test_grpo_must_be_told_where_to_start() -> None:
    (problem,) = train_problems(compose("~experiment", "stage=grpo", "rollout.max_new_tokens=32"))
    assert problem.key == "init_from"
    assert "init_from=null" in problem.remedy
    assert train_problems(compose("~experiment", "stage=grpo", "rollout.max_new_tokens=32", "init_from=null")) == []


def test_a_run_folder_in_place_of_its_adapter_is_refused(tmp_path: Path) -> None:
    empty_adapter(tmp_path / "adapter")
    (problem,) = train_problems(compose(f"init_from={tmp_path}"))
    assert problem.remedy.startswith("is no adapter folder")
    assert train_problems(compose(f"init_from={tmp_path / 'adapter'}")) == []
    (problem,) = train_problems(compose(f"init_from={tmp_path / 'adapter' / 'adapter_config.json'}"))
    assert problem.remedy.startswith("is a file: name the adapter/ folder")


def test_a_resumed_run_needs_no_folder_for_the_adapter_it_started_from(tmp_path: Path) -> None:
    """The checkpoint holds that adapter. If the adapter exists, it is checked. A missing checkpoint is reported."""
    checkpoint = tmp_path / "last.ckpt"
    torch.save({}, checkpoint)
    words = [f"init_from={tmp_path / 'adapter'}", f"ckpt_path={checkpoint}"]
    for stage in (["experiment=sft_tiny"], ["experiment=grpo_tiny"]):
        assert train_problems(compose(*stage, *words)) == []
        assert [problem.key for problem in train_problems(compose(*stage, words[0]))] == ["init_from"]
    (tmp_path / "adapter").mkdir()
    assert train_problems(compose(*words)) == []
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "adapter" / name).touch()
    assert [problem.key for problem in train_problems(compose(*words))] == ["init_from"]
    shutil.rmtree(tmp_path / "adapter")
    checkpoint.unlink()
    assert [problem.key for problem in train_problems(compose(*words))] == ["ckpt_path"]


def test_nf4_is_named_as_the_reason_only_where_it_is_the_reason() -> None:
    problems = value_problems(resolved(compose("model.quantize=nf4", "trainer.strategy=fsdp")))
    assert "NF4" in problems[0].remedy
    assert "NF4" not in value_problems(resolved(compose("trainer.strategy=fsdp")))[0].remedy


def test_trap_39_nothing_of_omegaconf_reaches_what_is_saved(tmp_path: Path) -> None:
    from hydra.utils import instantiate

    config = compose(run_dir=str(tmp_path))
    assert type(instantiate(config.model.lora).targets) is tuple
    settings = instantiate(config.callbacks.settings).settings
    assert {type(value) for value in settings.values()} <= {bool, int, float, str}
    assert settings["optim.lr"] == config.optim.lr
