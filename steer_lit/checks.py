"""The whole config, checked before anything heavy loads: every problem at once, each with its key and the way out.

Values are checked here where no module that owns them can be asked cheaply; `reward`, `model` and the benchmark's
rules check their own. Nothing here imports torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf

from steer_lit.errors import ConfigError, Problem
from steer_lit.types import Kind

Config = Mapping[str, Any]

# Key, whether it fits, and what is allowed. A key that a stage does not have is not checked.
_NUMBERS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("seed", lambda v: _whole(v) and v >= 0, "must be a whole number from 0 up"),
    ("optim.lr", lambda v: v > 0, "must be above 0"),
    ("optim.weight_decay", lambda v: v >= 0, "must be at least 0"),
    ("optim.warmup", lambda v: 0 <= v < 1, "is the share of all steps, from 0 to below 1"),
    ("optim.max_grad_norm", lambda v: v > 0, "must be above 0"),
    ("data.val_size", lambda v: _whole(v) and v >= 0, "must be at least 0"),
    ("data.max_turns", lambda v: _whole(v) and v >= 1, "must be at least 1"),
    ("data.max_bad_rows", lambda v: _whole(v) and v >= 0, "must be at least 0"),
    ("data.batch_size", lambda v: _whole(v) and v >= 1, "must be at least 1"),
    ("hardware.micro_tokens", lambda v: _whole(v) and v >= 1, "must be at least 1"),
    ("hardware.side_by_side", lambda v: _whole(v) and v >= 1, "must be at least 1"),
    ("generator.patience", lambda v: _whole(v) and v >= 0, "must be at least 0"),
    ("generator.quote_words", lambda v: _whole(v) and 0 <= v <= 6, "must be a whole number from 0 to 6"),
    ("generator.temperature", lambda v: v >= 0, "must be at least 0"),
    ("generator.max_tokens", lambda v: _whole(v) and v >= 1, "must be at least 1"),
    ("generator.max_pixels", lambda v: _whole(v) and v >= 28 * 28, "must be at least 784, one token of a picture"),
    ("replay.dialogues", lambda v: _whole(v) and v >= 0, "must be at least 0"),
    ("replay.max_new_tokens", lambda v: _whole(v) and v >= 1, "must be at least 1"),
    ("rollout.group_size", lambda v: _whole(v) and v >= 2, "a group of one has nothing to compare with: at least 2"),
    ("rollout.max_turns", lambda v: _whole(v) and v >= 1, "must be at least 1"),
    ("rollout.max_new_tokens", lambda v: _whole(v) and v >= 1, "must be at least 1"),
    ("rollout.temperature", lambda v: v >= 0, "must be at least 0; 0 is greedy"),
    ("rollout.waves", lambda v: _whole(v) and v >= 1, "must be at least 1"),
    ("rollout.max_failed_share", lambda v: 0 <= v <= 1, "is a share, from 0 to 1"),
    ("objective.kl_coef", lambda v: v >= 0, "must be at least 0"),
    ("objective.clip_low", lambda v: 0 < v < 1, "must lie between 0 and 1"),
    ("objective.clip_high", lambda v: v > 0, "must be above 0"),
    ("objective.epochs", lambda v: _whole(v) and v >= 1, "must be at least 1"),
    ("server.connect_timeout", lambda v: v >= 30, "at least 30 s: a busy server lets a wave of requests wait so long"),
)
_NUMBERS += tuple(
    (f"{asker}.{key}", fits, allowed)
    for asker in ("tutor", "attacker", "judge")
    for key, fits, allowed in (
        ("max_tokens", lambda v: _whole(v) and v >= 1, "must be at least 1"),
        ("temperature", lambda v: v >= 0, "must be at least 0"),
        ("max_pixels", lambda v: _whole(v) and v >= 1, "must be at least 1"),
        ("extra_turns", lambda v: _whole(v) and v >= 0, "must be at least 0"),
    )
)
_CHOICES: Mapping[str, tuple[object, ...]] = {
    "stage": ("sft", "grpo", "ground"),
    "data.source.kind": get_args(Kind),
    "optim.schedule": ("cosine", "constant"),
    "objective.scale": ("none", "group"),
    "objective.normaliser": ("dialogue_sum", "dialogue", "token", "constant"),
    "objective.kl_estimator": ("k3", "k2", "k1_reward"),
    "tutor.sees": ("answer", "completion"),
    "judge.sees": ("answer", "completion"),
    "judge_check": (False, True),
}
_STRATEGIES = ("auto", "ddp")
_MISSING = {
    "init_from": "this run starts from an SFT adapter: init_from=<run>/adapter of an sft run. init_from=null starts "
    "from the base policy (paper, Table 5: without synthetic bootstrapping)",
}


def train_problems(config: DictConfig) -> list[Problem]:
    """Every problem of a training config on this machine."""
    plain, problems = _plain(config)
    found = [*problems, *value_problems(plain)]
    return _once([*found, *_machine_problems(plain)])


def bench_problems(config: DictConfig) -> list[Problem]:
    """Every problem of a benchmark config on this machine."""
    plain, problems = _plain(config)
    sections = ("bench", "policies", "server", "data")
    if flat := [key for key in sections if not isinstance(plain.get(key), Mapping)]:
        return [
            Problem(key, plain.get(key), f"must hold keys of its own, such as {key}.<name>=<value>") for key in flat
        ]
    found = [*problems, *_number_problems(plain), *_choice_problems(plain), *_bench_problems(plain)]
    found += [*client_problems(plain), *_source_problems(plain)]
    return _once(found if plain["judge_check"] is True else [*found, *_machine_problems(plain)])


def synthesis_problems(config: DictConfig) -> list[Problem]:
    """Every problem of a synthesis config."""
    plain, problems = _plain(config)
    return _once([*problems, *_number_problems(plain), *_synthesis_problems(plain)])


def value_problems(config: Config) -> list[Problem]:
    """What is wrong with a resolved training config on any machine."""
    return [
        *_number_problems(config),
        *_choice_problems(config),
        *_reward_problems(config),
        *_trainer_problems(config),
        *_stage_problems(config),
        *_player_problems(config),
        *_file_problems(config),
        *client_problems(config),
    ]


def _plain(config: DictConfig) -> tuple[dict[str, Any], list[Problem]]:
    """The resolved config as plain containers, required values that nobody gave as None, and those as problems."""
    missing = sorted(_missing_keys(OmegaConf.to_container(config, resolve=False)))
    filled = copy.deepcopy(config)
    for key in missing:
        OmegaConf.update(filled, key, None)
    plain: Any = OmegaConf.to_container(filled, resolve=True)
    return plain, [Problem(key, None, _MISSING.get(key, "has no default: give it a value")) for key in missing]


def _number_problems(config: Config) -> Iterator[Problem]:
    for key, fits, allowed in _NUMBERS:
        value = _at(config, key)
        if value is not _ABSENT and not (_number(value) and fits(value)):
            yield Problem(key, value, allowed if _number(value) else f"is no number; {allowed}")
    if _at(config, "rollout.temperature") == 0 and "objective" in config:
        yield Problem("rollout.temperature", 0, "must be above 0: a group of greedy dialogues is all alike")


def _choice_problems(config: Config) -> Iterator[Problem]:
    for key, allowed in _CHOICES.items():
        value = _at(config, key)
        if value is not _ABSENT and value not in allowed:
            yield Problem(key, value, f"must be one of {', '.join(map(str, allowed))}")


def _reward_problems(config: Config) -> Sequence[Problem]:
    from steer_lit.reward.reward import Reward

    settings = {key: value for key, value in config.get("reward", {}).items() if not key.startswith("_")}
    try:
        Reward.from_config(**settings)
    except ConfigError as error:
        return error.problems
    return ()


def _trainer_problems(config: Config) -> Iterator[Problem]:
    trainer = config.get("trainer", {})
    steps, epochs = trainer.get("max_steps", -1), trainer.get("max_epochs")
    if not _whole(steps) or steps == 0 or steps < -1:
        yield Problem("trainer.max_steps", steps, "must be at least 1, or -1 to go by trainer.max_epochs")
    elif steps == -1 and not (_whole(epochs) and epochs >= 1):
        yield Problem("trainer.max_epochs", epochs, "the run would never end: set trainer.max_steps or max_epochs")
    strategy = trainer.get("strategy", "auto")
    if strategy not in _STRATEGIES:
        nf4 = "NF4 weights cannot be sharded, and " if _at(config, "model.quantize") == "nf4" else ""
        remedy = f"{nf4}every rank must hold the whole policy to sample with it: use {' or '.join(_STRATEGIES)}"
        yield Problem("trainer.strategy", strategy, remedy)
    if trainer.get("accumulate_grad_batches", 1) != 1:
        remedy = "hardware.micro_tokens cuts a step into micro-batches already: leave it at 1, raise data.batch_size"
        yield Problem("trainer.accumulate_grad_batches", trainer["accumulate_grad_batches"], remedy)
    if trainer.get("gradient_clip_val") is not None:
        yield Problem("trainer.gradient_clip_val", trainer["gradient_clip_val"], "use optim.max_grad_norm")


def _stage_problems(config: Config) -> Iterator[Problem]:
    stage, model = config.get("stage"), _at(config, "model.name")
    if model != (tuned_for := config.get("tuned_for", model)):
        remedy = f"this experiment's settings are for {tuned_for}: take +experiment={stage}_{model}, or experiment=null"
        yield Problem("model", model, remedy)
    if stage == "ground" and config.get("init_from"):
        yield Problem("init_from", config["init_from"], "grounding trains the vision tower, no adapter: set it to null")
    if stage == "ground" and _at(config, "data.source.captions") is _ABSENT:
        yield Problem("data", "steer", "has no captions to learn to see from: use data=steer_mini")
    part = "rl" if stage == "grpo" else "sft"
    if stage != "ground" and _at(config, f"data.source.{part}") is None:
        yield Problem(f"data.source.{part}", None, f"stage {stage} needs a file of rows")
    if _at(config, "model.lora.dropout") not in (0, 0.0, _ABSENT) and stage == "grpo":
        remedy = "makes scored log-probs differ from sampled ones: set it to 0 for GRPO"
        yield Problem("model.lora.dropout", _at(config, "model.lora.dropout"), remedy)


def _player_problems(config: Config) -> Iterator[Problem]:
    attacker, tutor = (str(_at(config, f"{player}._target_")) for player in ("attacker", "tutor"))
    if config.get("stage") == "grpo" and attacker.endswith(".LlmAttacker") and tutor.endswith(".RubricTutor"):
        remedy = "its questions have no gold facts, and without these tutor=rubric cannot score: add tutor=llm"
        yield Problem("attacker", "llm", remedy)
    if config.get("ablation") == "no_bootstrapping" and (adapter := config.get("init_from")) is not None:
        yield Problem("init_from", adapter, "this row starts from the base: leave it out; others take sft_adapter=")


def _file_problems(config: Config) -> Iterator[Problem]:
    if (path := config.get("ckpt_path")) and not Path(path).is_file():
        yield Problem("ckpt_path", path, "no such file: name a .ckpt under <run>/checkpoints")
    if (adapter := config.get("init_from")) and (problem := adapter_problem("init_from", adapter)):
        yield problem
    yield from _source_problems(config)


def _source_problems(config: Config) -> Iterator[Problem]:
    from steer_lit.data.rows import source_problem

    for part in ("sft", "rl", "bench"):
        source = _at(config, f"data.source.{part}")
        if isinstance(source, str) and (problem := source_problem(source)):
            yield Problem(f"data.source.{part}", source, problem)


def adapter_problem(key: str, folder: str) -> Problem | None:
    """What keeps `folder` from being an adapter, if anything."""
    path = Path(folder)
    if not path.is_dir():
        return Problem(key, folder, "no such folder: name the adapter/ folder that a training run wrote")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (path / name).is_file():
            inner = f"; did you mean {path / 'adapter'}?" if (path / "adapter" / name).is_file() else ""
            return Problem(key, folder, f"is no adapter folder, {name} is not there{inner}")
    return None


def client_problems(node: Config, prefix: str = "", server: Config | None = None) -> Iterator[Problem]:
    """What keeps the chat clients anywhere in a config from being made. A value that `server` gave is named there."""
    from steer_lit.chat.settings import ChatSettings

    server = node.get("server", {}) if server is None else server
    for key, value in node.items():
        if not isinstance(value, Mapping) or key == "module":  # which repeats what is named elsewhere
            continue
        if value.get("_target_") != "steer_lit.chat.ChatClient":
            yield from client_problems(value, f"{prefix}{key}.", server)
            continue
        known = {field.name for field in fields(ChatSettings)}
        settings = {"base_url": None, "model": None, **value.get("settings", {})}
        for name in settings.keys() - known:
            yield Problem(f"{prefix}{key}.settings.{name}", settings[name], f"is none of {', '.join(sorted(known))}")
        try:
            ChatSettings(**{name: settings[name] for name in settings.keys() & known})
        except ConfigError as error:
            for problem in error.problems:
                shared = settings.get(problem.key) == server.get(problem.key, _ABSENT)
                where = "server" if shared else f"{prefix}{key}.settings"
                yield replace(problem, key=f"{where}.{problem.key}")


def _bench_problems(config: Config) -> Iterator[Problem]:
    from steer_lit.bench.policies import ALLOWED, served
    from steer_lit.bench.reread import reread_problems
    from steer_lit.bench.suite import CONSTANTS, BenchSettings

    yield from reread_problems(config)
    rules = {field.name: config["bench"][field.name] for field in fields(BenchSettings)}
    try:
        BenchSettings(**rules)
    except ConfigError as error:
        yield from (replace(problem, key=f"bench.{problem.key}") for problem in error.problems)
    for name, folder in config["policies"].items():
        if name in CONSTANTS:
            yield Problem(f"policies.{name}", folder, "is the name of a constant policy: choose another")
        if (model := served(folder)) is not None:
            yield from model.problems(f"policies.{name}", config["server"])
        elif not isinstance(folder, str) or not folder:
            yield Problem(f"policies.{name}", folder, ALLOWED)
        elif folder != "base" and (problem := adapter_problem(f"policies.{name}", folder)):
            yield problem
    limit = config["bench"]["limit"]
    if limit is not None and not (_whole(limit) and limit >= 1):
        yield Problem("bench.limit", limit, "must be at least 1, or null for every dialogue")
    if not config["policies"] and not config["bench"]["constants"]:
        yield Problem(
            "policies", {}, "is empty: add policies.<name>=base or an adapter folder, or bench.constants=true"
        )


def _synthesis_problems(config: Config) -> Iterator[Problem]:
    from steer_lit.synthesis.settings import SynthesisSettings

    try:
        SynthesisSettings.of(config)
    except ConfigError as error:
        yield from error.problems
    data, stage, offline = config["data"], str(config["stages"]), config["generator"]["name"] == "template"
    if not offline and not config["dry_run"]:
        yield from client_problems(config)
    if offline and data["seeds"]:
        remedy = "generator=template writes for STEER-mini alone: use generator=llm, or leave it null"
        yield Problem("data.seeds", data["seeds"], remedy)
    if data["scripts"] and stage != "2":
        yield Problem("data.scripts", data["scripts"], "is what stage=2 starts from: set stage=2, or leave it null")
    if stage == "2" and not data["scripts"] and not (Path(config["run_dir"]) / "stage1.jsonl").is_file():
        remedy = "stage=2 starts from Stage I rows: name their file, or the folder of their run by hydra.run.dir"
        yield Problem("data.scripts", None, remedy)


def _machine_problems(config: Config) -> Iterator[Problem]:
    from steer_lit.policy.preflight import has_gpu, preflight

    found = preflight({**config["model"], "init_from": None})  # the adapter has been looked at already
    yield from found
    accelerator = _at(config, "trainer.accelerator")
    told = any(problem.key == "model.quantize" for problem in found)  # which asks for the same GPU
    if accelerator in ("gpu", "cuda") and not told and not has_gpu():
        remedy = "no NVIDIA GPU is visible: add hardware=cpu, which runs model=smol and model=tiny"
        yield Problem("trainer.accelerator", accelerator, remedy)


def _missing_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Keys that hold `???`. OmegaConf's own search stumbles over interpolations that point at one."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _missing_keys(value, f"{prefix}{key}.")
        elif value == "???":
            yield f"{prefix}{key}"


_ABSENT = object()


def _at(config: Config, key: str) -> Any:
    """The value at a dotted key, or _ABSENT."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _once(problems: Sequence[Problem]) -> list[Problem]:
    """Without repeats of a key and value, the first remedy kept."""
    return list({(problem.key, repr(problem.value)): problem for problem in reversed(problems)}.values())[::-1]
