"""Every experiment and every option composes, passes the config check and can be built; and says where it came from."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf

from steer_lit.checks import train_problems, value_problems
from steer_lit.cli import conf_dir

CONF = conf_dir()
FILES = sorted((CONF / "experiment").rglob("*.yaml"))
EXPERIMENTS = [path.relative_to(CONF / "experiment").with_suffix("") for path in FILES]
GROUPS = ("model", "data", "stage", "attacker", "tutor", "reward", "hardware", "callbacks", "logger", "debug")
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
MAX_EXPERIMENT_LINES = 40


def compose(*overrides: str, name: str = "train", run_dir: str = "unused") -> DictConfig:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(name, [f"run_dir={run_dir}", *overrides])


def resolved(config: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain


def test_the_issue_names_these_experiments() -> None:
    assert {str(name) for name in EXPERIMENTS} >= {
        "ground_smol", "sft_tiny", "grpo_tiny", "sft_smol", "grpo_smol", "sft_3b", "grpo_3b", "sft_7b", "grpo_7b"
    }  # fmt: skip


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=str)
def test_experiments_compose_check_and_build(experiment: Path, tmp_path: Path) -> None:
    """Everything but the weights is made: an option nobody takes, or a misspelt one, shows here."""
    from hydra.utils import get_class, get_method, instantiate

    config = compose(f"experiment={experiment}", "init_from=null", run_dir=str(tmp_path))
    assert value_problems(resolved(config)) == []
    for node in ("optim", "rollout", "objective", "reward", "attacker", "tutor", "data"):
        if node in config:
            instantiate(config[node])
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
        (["data=steer"], ["data.source.sft"]),
        (["stage=ground", "data=steer"], ["data"]),
        (["model=smol"], ["model"]),  # on top of sft_tiny, whose learning rate is for a random base
        (["optim.lr=fast", "seed=-1", "hardware.micro_tokens=0"], ["seed", "optim.lr", "hardware.micro_tokens"]),
    ],
)
def test_values_that_cannot_work_are_all_named(overrides: list[str], keys: list[str]) -> None:
    config = compose(*overrides, *(["init_from=null"] if "stage=grpo" in overrides else []))
    assert [problem.key for problem in value_problems(resolved(config))] == keys


def test_grpo_must_be_told_where_to_start() -> None:
    (problem,) = train_problems(compose("~experiment", "stage=grpo"))
    assert problem.key == "init_from"
    assert "init_from=null" in problem.remedy
    assert train_problems(compose("~experiment", "stage=grpo", "init_from=null")) == []


def test_a_run_folder_in_place_of_its_adapter_is_recognised(tmp_path: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "adapter").mkdir(exist_ok=True)
        (tmp_path / "adapter" / name).touch()
    (problem,) = train_problems(compose(f"init_from={tmp_path}"))
    assert f"did you mean {tmp_path / 'adapter'}?" in problem.remedy
    assert train_problems(compose(f"init_from={tmp_path / 'adapter'}")) == []


def test_nf4_is_said_to_be_the_reason_where_it_is_one() -> None:
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
