"""The command that comes next, after a run or a whole sweep: it can be pasted. It repeats those of the run's words that
describe the model, the rows and the server, and what a config file of the user's own makes of the model; whether these
are enough is said by its own config check.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from steer_lit.checks.facts import declares, makes_rows
from steer_lit.data.sources import files_named
from steer_lit.dotted import ABSENT, at
from steer_lit.numbers import counted
from steer_lit.policy.model_facts import UNTRAINED, no_adapter
from steer_lit.stages import STAGES
from steer_lit.terminal.commands import command, next_step, path_word
from steer_lit.terminal.conf_files import composed, conf_file
from steer_lit.terminal.words import words_setting

_DIALOGUES = 300  # of a first benchmark: enough for meaningful intervals, minutes on a CPU
_RANDOM = 20  # of random weights, which only show that it runs
_KEPT = ("system_prompt", "server", "server.*")
_BASE = ("source", "weights", "tower", "quantize", "min_pixels", "max_pixels")  # of `model`: what an adapter belongs to
_SHAPE = ("lora.r", "lora.alpha", "lora.targets")  # its own, which a training that goes on with it must have
_FILL_IN = "<your rows to play>"  # refused as no file
_FULL = "full"  # the ablation's row that leaves nothing out
_SCORER = (
    "rows without gold facts need a model as {0}: {0}=llm server.base_url=<address> server.model=<name>, "
    "or a class of your own"
)
_OF_A_RUN = ("init_from", "seed", "device")  # under `model`; may differ between runs of one model


def following(config: DictConfig, export: Path, words: Sequence[str]) -> str:
    """Return the command that comes after a run of this stage, of these `words`, which left `export`."""
    name, grpo = config.model.name, config.name.replace("sft", "grpo", 1)
    if config.stage == "pretrain":
        return next_step(command("train", f"+experiment=ground_{name}", path_word("model.weights", export)))
    if config.stage == "ground":  # SFT needs the weights that the tower was trained for
        below = words_setting(words, ["model.weights"])
        return next_step(command("train", f"+experiment=sft_{name}", *below, path_word("model.tower", export)))
    if config.stage == "sft" and conf_file(f"experiment/{grpo}.yaml") is not None:
        rows = _own_rows(config, "rl", words, _files(config, "rl") or _scripts(config))
        kept = [*_same_model(config, words, f"experiment={grpo}"), *words_setting(words, ["debug", "hardware", *_KEPT])]
        notes = [_SCORER.format("tutor")] if rows else []
        return next_step(command("train", f"+experiment={grpo}", path_word("init_from", export), *rows, *kept), *notes)
    policies = {"sft": _start(config), config.stage: export}  # a GRPO adapter, and the SFT adapter it started from
    named = [path_word(f"policies.{stage}", Path(folder)) for stage, folder in policies.items() if folder]
    return _benchmark([config], named, words, _files(config, "bench"))


def compared(
    configs: Sequence[DictConfig], adapters: Mapping[tuple[str, ...], Path], words: Sequence[str], unfinished: int = 0
) -> str:
    """Return the command of a benchmark of a sweep's adapters.

    Each policy is named after its run's overrides; runs that differ only in seed are one policy. The SFT adapter is
    added if all GRPO runs started from it. `configs` are the runs', `words` the overrides that all share; `unfinished`
    further runs have no adapter yet. Return "" if the runs differ in stage, model or system prompt: a benchmark has
    one of each.
    """
    config = configs[0]
    if STAGES[config.stage].trains != "adapter" or any(_base(other) != _base(config) for other in configs):
        return ""
    start, *others = {_start(other) for other in configs}
    policies = {"sft": [Path(start)]} if start and not others and config.stage == "grpo" else {}
    for run, adapter in adapters.items():
        policies.setdefault(_name(run) or config.stage, []).append(adapter)
    named = [path_word(f"policies.{name}", *seeds) for name, seeds in policies.items()]
    if _FULL in policies and len(policies) > 1:  # an ablation compares each of its rows with this one
        named.append(f"bench.baseline={_FULL}")
    notes = [f"without {counted(unfinished, 'run')} of this sweep that did not finish"] if unfinished else []
    shared = all(other.data.source == config.data.source for other in configs)
    return _benchmark(configs, named, words, _files(config, "bench") if shared else [], *notes)


def _base(config: DictConfig) -> list[Any]:
    """Return what a benchmark's adapters must share: the stage, the system prompt and the model under them."""
    model = {name: value for name, value in config.model.items() if name not in _OF_A_RUN}
    return [config.stage, config.get("system_prompt"), model]


def _name(run: Sequence[str]) -> str:
    """Name a policy after its run's overrides but the seed: alpha_0_3 for reward.alpha=0.3, full for ablation=full."""
    parts = []
    for key, _, value in (word.partition("=") for word in run):
        if key != "seed":
            parts.append(value if value.isidentifier() else f"{key.rpartition('.')[2]}_{value}")
    return re.sub(r"[^\w-]+", "_", "_".join(parts))


def _start(config: DictConfig) -> str | None:
    """Return the folder of the adapter that the run began with, unless it is gone."""
    start: str | None = config.get("init_from")
    return start if start and no_adapter(Path(start)) is None else None


def _same_model(config: DictConfig, words: Sequence[str], *experiment: str) -> list[str]:
    """Return the words that give the next run this run's model, whose option and keys files of one's own may have set.

    That run is a training by this `experiment`, of which the words only say what differs, else a benchmark.
    """
    program, keys = ("train", (*_BASE, *_SHAPE)) if experiment else ("bench", _BASE)
    option = HydraConfig.get().runtime.choices.get("model") if HydraConfig.initialized() else None
    chosen, typed = [path_word("model", option or config.model.name)], words_setting(words, ["model.*"])
    made = composed(program, [*experiment, *chosen, *typed]) or {}
    if experiment and made == composed(program, [*experiment, *typed]):
        chosen = []
    given = {key: at(config.model, key) for key in keys if at(made, f"model.{key}") is not ABSENT}
    differ = {key: value for key, value in given.items() if value not in (ABSENT, at(made, f"model.{key}"))}
    return [*chosen, *typed, *(_word(f"model.{key}", value) for key, value in differ.items())]


def _word(key: str, value: Any) -> str:
    if isinstance(value, ListConfig):
        return f"{key}=[{','.join(map(str, value))}]"
    return path_word(key, value) if isinstance(value, str) else f"{key}={'null' if value is None else value}"


def _benchmark(
    configs: Sequence[DictConfig], named: Sequence[str], words: Sequence[str], files: Sequence[str], *notes: str
) -> str:
    """Return the command that plays the policies in the words `named`, of rows of one's own those in `files`.

    `configs` are those of the policies' runs. Answers may be as long as in any of them.
    """
    config, max_new_tokens = configs[0], max(OmegaConf.select(one, "rollout.max_new_tokens") or 0 for one in configs)
    rows, judge = _own_rows(config, "bench", words, files), list[str]()
    if rows and "client" in (config.get("tutor") or {}):  # the rows may be beyond a rubric
        own = words_setting(words, ["tutor.client.*"])
        judge = ["judge=llm", *(word.replace("tutor", "judge", 1) for word in own)]
    elif rows and not (config.stage == "grpo" and declares(config, "tutor", "needs_gold")):
        notes = (*notes, _SCORER.format("judge"))
    if rows and files and config.stage == "grpo" and not config.data.source.get("bench"):
        notes = (*notes, "those are the rows it was trained on: to see what it does on others, name their file there")
    played = [*named, f"bench.limit={_RANDOM if config.model.name == UNTRAINED else _DIALOGUES}"]
    played += [f"rollout.max_new_tokens={max_new_tokens}"] if max_new_tokens else []
    (model, *changed), kept = _same_model(config, words), words_setting(words, _KEPT)
    return next_step(command("bench", model, *played, *rows, *judge, *changed, *kept), *notes)


def _files(config: DictConfig, split: str) -> list[str]:
    """Return the run's files for `split`, or else those that it played in training."""
    return [] if makes_rows(config) else files_named(config.data.source.get(split) or config.data.source.get("rl"))


def _scripts(config: DictConfig) -> list[str]:
    """Return the files with the scripts of the run's dialogues: a synthesis writes both into one folder."""
    from steer_lit.synthesis.stage1 import SCENARIOS

    dialogues = [] if makes_rows(config) else files_named(config.data.source.get("sft"))
    beside = dict.fromkeys(Path(file).with_name(SCENARIOS) for file in dialogues)
    return [str(path) for path in beside if path.is_file()]


def _own_rows(config: DictConfig, split: str, words: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return the words by which the next run plays the rows in `files`, if this run was on rows of one's own."""
    if makes_rows(config):
        return []
    held_out = ["data.val_size"] if split == "rl" else []
    kept = words_setting(words, ["data.source.folder", "data.source.kind", "data.max_bad_rows", *held_out])
    shape = words_setting(words, ["data"]) or ["data=steer"]
    return [*shape, path_word(f"data.source.{split}", *(files or [_FILL_IN])), *kept]
