"""Finds every problem of each program's config: its shape, then single values, then how they go together."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from steer_lit.bench.constant import CONSTANTS
from steer_lit.bench.policies import ALLOWED, READ, ServedModel, any_local, named, policy_of
from steer_lit.bench.report_only import report_problems
from steer_lit.bench.seed_groups import baseline_problems
from steer_lit.bench.settings import BenchSettings
from steer_lit.bench.suite import GRADES
from steer_lit.checks.facts import Config, declares, leaf_problems, reacts
from steer_lit.checks.files import adapter_problem, file_problems, folder_problems, prompt_problems, source_problems
from steer_lit.checks.idle import idle_data_problems, idle_problems
from steer_lit.checks.rows import made_row_problems, training_row_problems
from steer_lit.checks.servers import HIDDEN, client_problems, saved_key_problems, server_problems
from steer_lit.checks.targets import target_problems
from steer_lit.checks.trainer import device_problems, part_problems, trainer_problems
from steer_lit.checks.unread import own_config, removed_problems, unread_problems
from steer_lit.dotted import ABSENT, at, leaves
from steer_lit.errors import NOT_GIVEN, Problem, problems_of
from steer_lit.numbers import is_whole
from steer_lit.policy import base_model_files, gpus, preflight
from steer_lit.reward.reward import Reward
from steer_lit.rollout.answer_length import answers_too_long
from steer_lit.stages import STAGES
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.terminal.conf_files import conf_file

# Looks for problems among the values that are valid by themselves, once all sections hold keys. It is told the names of
# sections that hold other values.
Deeper = Callable[[Config, Collection[str]], Iterable[Problem]]
# Sections, which must hold keys of their own.
_MODEL = ("model", "model.lora", "data", "data.source", "server")
_TRAIN = (*_MODEL, "trainer", "optim", "module", "reward", "attacker", "tutor", "hardware", "callbacks", "logger")
_BENCH = (*_MODEL, "bench", "policies", "rollout", "judge", "attacker", "tutor")
_SYNTHESIS = ("generator", "server", "data", "turns", "keep")
_PLAYED = ("attacker", "tutor", "reward")  # made in GRPO alone
_REWARD = "steer_lit.reward.reward.Reward.from_config"
_MISSING = {
    "init_from": "this run starts from an SFT adapter, init_from=<run>/adapter of an sft run; init_from=null starts "
    "from the base policy (paper, Table 5: without synthetic bootstrapping)",
    "sft_adapter": "all rows but no_bootstrapping start from it: sft_adapter=<run>/adapter of an sft run",
}


def train_problems(config: DictConfig) -> list[Problem]:
    """Return every problem of a training config on this machine."""
    facts = STAGES.get(str(config.get("stage")))
    return _problems_in(config, (*_TRAIN, *(facts.sections if facts else ())), _training_problems)


def bench_problems(config: DictConfig) -> list[Problem]:
    """Return every problem of a benchmark config on this machine."""
    return _problems_in(config, _BENCH, _bench_problems)


def synthesis_problems(config: DictConfig) -> list[Problem]:
    """Return every problem of a synthesis config."""
    return _problems_in(config, _SYNTHESIS, _synthesis_problems)


def _training_problems(config: Config, bad: Collection[str]) -> list[Problem]:
    """Return what is wrong with values that are valid by themselves. `bad` are the sections with others."""
    found = [
        *_reward_problems(config),
        *idle_problems(config),
        *trainer_problems(config),
        *part_problems(config),
        *target_problems(config, (*(_PLAYED if config.get("stage") == "grpo" else ()), "callbacks", "logger")),
        *_stage_problems(config),
        *(_length_problems(config, "rollout.max_turns") if config.get("stage") == "grpo" else ()),
        *training_row_problems(config, bad),
        *file_problems(config),
        *server_problems(config),
        *client_problems(config),
        *prompt_problems(config),
        *_machine_problems(config, bad),
    ]
    # Only if all else is well: a user's own module imports torch, and the other problems are told without.
    return found if found or bad else [*target_problems(config, ["module"])]


def _problems_in(config: DictConfig, sections: Sequence[str], deeper: Deeper) -> list[Problem]:
    """Return the problems of a config's shape and of its values."""
    unresolved: Any = OmegaConf.to_container(config, resolve=False)
    missing = sorted(key for key, value in leaves(unresolved) if value == NOT_GIVEN)
    filled = copy.deepcopy(config)
    for key in missing:
        OmegaConf.update(filled, key, None)
    single, together = _single_and_together(filled, unresolved, sections, deeper)
    # A value that is wrong by itself is not also reported for how it goes with others.
    wrong = {*missing, *(_changed_by(unresolved, problem.key) for problem in single)}
    found = [Problem(key, NOT_GIVEN, _MISSING.get(key, "it has no default")) for key in missing]
    found += [problem for problem in single if problem.key not in missing]
    found += [each for each in together if not {each.key, _changed_by(unresolved, each.key)} & wrong]
    found = [replace(problem, key=_changed_by(unresolved, problem.key)) for problem in found]
    # Repeats of a key and value are dropped; the first remedy is kept.
    return list({(problem.key, repr(problem.value)): problem for problem in reversed(found)}.values())[::-1]


def _single_and_together(
    config: DictConfig, unresolved: Config, sections: Sequence[str], deeper: Deeper
) -> tuple[list[Problem], list[Problem]]:
    """Return the problems of single values, and those of how values go together."""
    if without := list(_section_problems(unresolved, sections)):  # what refers to them cannot be resolved
        return [problem for problem in leaf_problems(unresolved) if "${" not in str(problem.value)], without
    plain: Any = OmegaConf.to_container(config, resolve=True)
    if keys := list(saved_key_problems(plain)):  # alone: the other problems might print these API keys
        return keys, []
    values, ours = list(leaf_problems(plain)), own_config(unresolved)
    removed = removed_problems(unresolved, ours)
    single = [*unread_problems(unresolved, ours), *removed, *values]
    if removed:  # the checks below read every key, and the run's folder
        return single, []
    return single, [*folder_problems(plain)] or [*deeper(plain, {value.key.partition(".")[0] for value in values})]


def _changed_by(config: Config, key: str) -> str:
    """Return the key to change: `sft_adapter` for `init_from` in an experiment with `init_from: ${sft_adapter}`."""
    written = at(config, key)
    other = re.fullmatch(r"\$\{\s*(\.*)([\w.-]+)\s*\}", written) if isinstance(written, str) else None
    if other is None:
        return key
    above = key.split(".")[: -len(other[1])] if other[1] else []  # one dot: beside this key
    named = ".".join([*above, other[2]])
    return key if isinstance(at(config, named), Mapping) else _changed_by(config, named)


def _section_problems(config: Any, sections: Sequence[str]) -> Iterator[Problem]:
    for key in sections:
        value, outer = at(config, key), key.rpartition(".")[0]
        if not isinstance(value, Mapping) and (not outer or isinstance(at(config, outer), Mapping)):
            remedy = f"must hold keys of its own, such as {key}.<name>=<value>"
            yield Problem(key, NOT_GIVEN if value is ABSENT else value, remedy)
    for key, value in leaves(config):
        if key.endswith("._target_") and not (isinstance(value, str) and value):
            yield Problem(key, value, "must name a class, <module>.<class>")


def _reward_problems(config: Config) -> Sequence[Problem]:
    if at(config, "reward._target_") not in (ABSENT, _REWARD):  # the user's own has keys of its own
        return ()
    keys = ["return", *(field.name for field in fields(Reward))]  # others are found as keys that nothing reads
    settings = {key: value for key, value in config.get("reward", {}).items() if key in keys}
    return problems_of(lambda: Reward.from_config(**settings))


def _stage_problems(config: Config) -> Iterator[Problem]:
    stage, model = config.get("stage"), at(config, "model.name")
    if model != (tuned_for := config.get("tuned_for", model)):
        own = f"{stage}_{str(model).removeprefix('qwen2_5_vl_')}"
        there = conf_file(f"experiment/{own}.yaml") is not None
        other = f"+experiment={own}, or experiment=null" if there else "experiment=null"
        yield Problem("model", model, f"this experiment's settings are for model.name={tuned_for}: take {other}")
    if stage == "pretrain" and model != "nano":
        yield Problem("model", model, "stage pretrain makes model=nano alone: the others have weights")
    if stage == "pretrain" and at(config, "model.quantize") == "nf4":
        yield Problem("model.quantize", "nf4", "stage pretrain trains the base model's weights: set it to none")
    if facts := STAGES.get(str(stage)):
        split, adapts = facts.learns_from, facts.trains == "adapter"
        rows = at(config, f"data.source.{split}")
        if not adapts and config.get("init_from"):
            remedy = f"stage {stage} trains {facts.export.trained}, no adapter: set it to null"
            yield Problem("init_from", config["init_from"], remedy)
        if not adapts and rows is ABSENT:
            yield Problem("data", "steer", f"has no {split} to learn from: use data=steer_mini")
        if rows is None:
            yield Problem(f"data.source.{split}", None, f"stage {stage} needs a file of rows")
    if at(config, "model.lora.dropout") not in (0, 0.0, ABSENT) and stage == "grpo":
        remedy = "makes scored log-probs differ from sampled ones: set it to 0 for GRPO"
        yield Problem("model.lora.dropout", at(config, "model.lora.dropout"), remedy)
    if stage == "grpo" and declares(config, "attacker", "without_gold") and declares(config, "tutor", "needs_gold"):
        rules = f"without these tutor={_named(config, 'tutor')} cannot score"
        remedy = f"its questions have no gold facts, and {rules}: add tutor=llm, or a class of your own"
        yield Problem("attacker", _named(config, "attacker"), remedy)
    if config.get("ablation") == "no_tcsr" and at(config, "reward.credit") == "score":
        remedy = "TCSR takes no part with reward.credit=score: use an ablation_ experiment, or credit=trajectory"
        yield Problem("ablation", "no_tcsr", remedy)
    if config.get("ablation") == "no_bootstrapping" and (adapter := config.get("init_from")) is not None:
        yield Problem("init_from", adapter, "this row starts from the base: leave it out; others take sft_adapter=")


def _length_problems(config: Config, turns_key: str) -> Sequence[Problem]:
    max_turns, max_new_tokens = at(config, turns_key), at(config, "rollout.max_new_tokens")
    if not is_whole(max_turns) or not is_whole(max_new_tokens):
        return ()
    context_length = base_model_files.context_length(config["model"])
    return () if context_length is None else answers_too_long(max_turns, max_new_tokens, context_length, turns_key)


def _bench_problems(config: Config, bad: Collection[str]) -> Iterator[Problem]:
    yield from report_problems(config)
    yield from _asking_problems(config)
    yield from _policy_problems(config)
    yield from idle_data_problems(config)
    if config["from_run"] is None and config["from_raw_eval"] is None:
        yield from target_problems(config, ("judge", "attacker", "tutor") if reacts(config) else ("judge",))
    yield from server_problems(config)
    yield from client_problems(config)
    yield from prompt_problems(config)
    yield from made_row_problems(config, "rl" if at(config, "bench.split") == "rl" else "bench", bad)
    yield from source_problems(config)
    if config["judge_check"] is not True:
        yield from _machine_problems(config, bad)


def _policy_problems(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with the policies, and with the rules by which they are played and compared."""
    for key in ("init_from", "model.init_from"):  # `base` would be measured with it
        if (adapter := at(config, key)) not in (None, ABSENT):
            remedy = "a benchmark names its adapters in policies.<name>=<adapter folder>: leave it at null"
            yield Problem(key, adapter, remedy)
    rules = {field.name: config["bench"][field.name] for field in fields(BenchSettings)}
    for unruly in problems_of(lambda: BenchSettings(**rules)):
        yield replace(unruly, key=f"bench.{unruly.key}")
    if unnamed := [(name, value) for name, value in config["policies"].items() if not isinstance(name, str)]:
        for name, value in unnamed:
            yield Problem(f"policies.{name}", _shown(value), "YAML does not read its name as text: choose another")
        return  # the checks below compare and join names
    policies = named(config["policies"])
    for name, value in config["policies"].items():
        if name in CONSTANTS:
            yield Problem(f"policies.{name}", value, "is the name of a constant policy: choose another")
        if value == []:
            yield Problem(f"policies.{name}", value, ALLOWED)
    for name, value in policies.items():
        policy = policy_of(value)
        if isinstance(policy, ServedModel):
            yield from policy.problems(f"policies.{name}", config["server"])
        elif policy is None:
            unread = ", ".join(sorted(map(str, value.keys() - READ))) if isinstance(value, Mapping) else ""
            remedy = f"nothing reads its {unread}; {ALLOWED}" if unread else ALLOWED
            yield Problem(f"policies.{name}", _shown(value), remedy)
        elif policy.adapter != "base" and (
            problem := adapter_problem(f"policies.{name}", policy.adapter, config["model"])
        ):
            yield problem
    if not config["policies"] and (not config["bench"]["constants"] or reacts(config)):
        constants = "constant policies answer the script alone" if reacts(config) else "or bench.constants=true"
        yield Problem("policies", {}, f"is empty: add policies.<name>=base or an adapter folder, {constants}")
    read_again = config["from_run"] is not None or config["from_raw_eval"] is not None
    if not read_again:  # otherwise the baseline is checked against what is read
        yield from baseline_problems(config["bench"]["baseline"], policies)
    played = config["judge_check"] is not True and not read_again
    most_turns = [key for key in ("bench.max_turns", "data.max_turns") if is_whole(at(config, key))]
    if played and any_local(config["policies"]) and most_turns and config["bench"]["protocol"] != "single_turn":
        yield from _length_problems(config, min(most_turns, key=lambda key: at(config, key)))


def _shown(policy: object) -> object:
    """Return an entry of `policies` as it may be printed: what is in braces or brackets may hold an API key."""
    return HIDDEN if isinstance(policy, Mapping | list) else policy


def _asking_problems(config: Config) -> Iterator[Problem]:
    """Yield what keeps an attacker that reacts from being played: it needs verdicts, and its questions need grades."""
    if not reacts(config):
        return
    if config["bench"]["protocol"] == "single_turn":
        yield Problem(
            "attacker", _named(config, "attacker"), "a single_turn benchmark asks openings alone: leave it at scripted"
        )
    if config["judge_check"] is True:
        return
    ruled = [section for section in ("tutor", "judge") if declares(config, section, "needs_gold")]
    facts = (("attacker", "without_gold"), ("tutor", "writes_questions"))
    for asker in [section for section, fact in facts if declares(config, section, fact)][:1]:
        for section in ruled:
            none = f"questions of {asker}={_named(config, asker)} have none"
            remedy = f"{GRADES[section]} by gold facts, and {none}: use {section}=llm, or a class of your own"
            yield Problem(section, _named(config, section), remedy)


def _named(config: Config, section: str) -> str:
    """Return what a section names: an option of ours, such as `llm` of `steer_lit.attacker.llm`, or a user's class."""
    module, _, name = str(at(config, f"{section}._target_")).rpartition(".")
    return module.rpartition(".")[2] if module.startswith("steer_lit.") else name


def _synthesis_problems(config: Config, bad: Collection[str]) -> Iterator[Problem]:
    yield from problems_of(lambda: SynthesisSettings.of(config))
    data, stages, offline = config["data"], str(config["stages"]), config["generator"]["name"] == "template"
    yield from target_problems(config, ("generator",))
    yield from server_problems(config)
    for problem in client_problems(config):  # a dry run needs no server
        if not (config["dry_run"] and problem.value is None):
            yield problem
    if offline and data["seeds"]:
        remedy = "generator=template writes for STEER-mini alone: use generator=llm, or leave it null"
        yield Problem("data.seeds", data["seeds"], remedy)
    if data["scripts"] and stages != "2":
        yield Problem("data.scripts", data["scripts"], "is what stages=2 starts from: set it, or leave it null")
    if stages == "2" and not data["scripts"] and not (Path(config["run_dir"]) / "stage1.jsonl").is_file():
        remedy = "stages=2 starts from Stage I rows: name their file, or the folder of their run by hydra.run.dir"
        yield Problem("data.scripts", None, remedy)


def _machine_problems(config: Config, bad: Collection[str]) -> Iterator[Problem]:
    found = [] if "model" in bad else preflight.preflight(config["model"])
    yield from found
    accelerator = at(config, "trainer.accelerator")
    asked_for = any(problem.key == "model.quantize" for problem in found)  # the same GPU
    if accelerator in ("gpu", "cuda") and not asked_for and not gpus.has_gpu():
        remedy = "no NVIDIA GPU is visible: add hardware=cpu, which runs model=nano, model=smol and model=tiny"
        yield Problem("trainer.accelerator", accelerator, remedy)
    if accelerator == "auto" and not gpus.has_gpu():
        yield from device_problems({**config["trainer"], "accelerator": "cpu"})
