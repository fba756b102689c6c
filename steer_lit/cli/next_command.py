"""The command that comes next, after a run or a whole sweep: it can be pasted, and says on lines of its own what it
lacks. It repeats those of the run's words that describe the model, the rows and the server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from steer_lit.chat.settings import missing_words
from steer_lit.checks.facts import makes_rows
from steer_lit.data.sources import files_named
from steer_lit.numbers import counted
from steer_lit.policy.base_model_files import context_length
from steer_lit.policy.model_facts import UNTRAINED, no_adapter
from steer_lit.rollout.answer_length import answers_too_long
from steer_lit.stages import STAGES
from steer_lit.terminal.commands import command, next_step, path_word
from steer_lit.terminal.conf_files import composed, conf_file
from steer_lit.terminal.words import words_setting

_DIALOGUES = 300  # of a first benchmark: enough for meaningful intervals, minutes on a CPU
_RANDOM = 20  # of random weights, which only show that it runs
_MODEL = ("model.*", "system_prompt")
_FILL_IN = "<your rows to play>"
_FULL = "full"  # the ablation's row that leaves nothing out
_OF_A_RUN = ("init_from", "seed", "device")  # under `model`; may differ between runs of one model


def following(config: DictConfig, export: Path, words: Sequence[str]) -> str:
    """Return the command that comes after a run of this stage, of these `words`, which left `export`."""
    name, rehearsal = config.model.name, _rehearsal(words)
    if config.stage == "pretrain":
        lines = [command("train", f"+experiment=ground_{name}", path_word("model.weights", export))]
    elif config.stage == "ground":  # SFT needs the weights that the tower was trained for
        below = words_setting(words, ["model.weights"])
        lines = [command("train", f"+experiment=sft_{name}", *below, path_word("model.tower", export))]
    else:
        lines = (_grpo if config.stage == "sft" else _benchmark)(config, export, words)
    notes = ["these were two small steps: no adapter to train from or to measure"] if rehearsal else []
    return next_step(*lines, *notes)


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
    return next_step(*_bench_command(config, named, words, _files(config, "bench") if shared else []), *notes)


def _base(config: DictConfig) -> list[Any]:
    """Return what a benchmark's adapters must share: the stage, the system prompt and the model under them."""
    model = {name: value for name, value in config.model.items() if name not in _OF_A_RUN}
    return [config.stage, config.get("system_prompt"), model]


def _name(run: Sequence[str]) -> str:
    """Name a policy after its run's overrides, without the seed.

    `reward.alpha=0.3 seed=1` gives `alpha_0_3`, `ablation=full` gives `full`.
    """
    parts = []
    for key, _, value in (word.partition("=") for word in run):
        if key != "seed":
            parts.append(value if value.isidentifier() else f"{key.rpartition('.')[2]}_{value}")
    return re.sub(r"[^\w-]+", "_", "_".join(parts))


def _rehearsal(words: Sequence[str]) -> list[str]:
    """Return the word that makes a rehearsal of the next run too, if this one was one."""
    return ["+debug=step"] if any(word.endswith("=step") for word in words_setting(words, ["debug"])) else []


def _grpo(config: DictConfig, adapter: Path, words: Sequence[str]) -> list[str]:
    """Return the command of the GRPO experiment that matches this SFT run's name, or of the benchmark if none does."""
    name = config.name.replace("sft", "grpo", 1)
    if conf_file(f"experiment/{name}.yaml") is None:
        return _benchmark(config, adapter, words)
    asks = "client" in ((composed("train", [f"experiment={name}"]) or {}).get("tutor") or {})
    rows, (served, lacking) = _own_rows(config, "rl", words, _files(config, "rl")), _server("train", "tutor", words)
    notes = [_no_gold(served, lacking)] if rows and not asks else []
    notes += [f"its tutor is a server's: add {' '.join(lacking)}"] if asks and lacking else []
    given = [*words_setting(words, ["model", *_MODEL, "hardware"]), *(served[1:] if asks else ())]
    start = [f"+experiment={name}", *_rehearsal(words), path_word("init_from", adapter)]
    return [command("train", *start, *rows, *given), *notes]


def _start(config: DictConfig) -> str | None:
    """Return the folder of the adapter that the run began with, unless it is gone."""
    start: str | None = config.get("init_from")
    return start if start and no_adapter(Path(start)) is None else None


def _benchmark(config: DictConfig, adapter: Path, words: Sequence[str]) -> list[str]:
    policies = {"sft": _start(config), config.stage: adapter}  # a GRPO adapter, and the SFT adapter it started from
    named = [path_word(f"policies.{stage}", Path(folder)) for stage, folder in policies.items() if folder]
    return _bench_command(config, named, words, _files(config, "bench"))


def _bench_command(config: DictConfig, named: Sequence[str], words: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return the command that plays the policies in the words `named`, then lines on what it plays: of one's own rows
    those in `files`.
    """
    rows, (served, lacking) = _own_rows(config, "bench", words, files), _server("bench", "judge", words)
    judge = served if rows and "client" in (config.get("tutor") or {}) else []
    limit, notes = _DIALOGUES, [f"its judge is a server's: add {' '.join(lacking)}"] if judge and lacking else []
    if rows and files and config.stage == "grpo" and not config.data.source.get("bench"):
        notes.append("those are the rows it was trained on: to see what it does on others, name their file there")
    elif rows and not judge:
        notes.append(_no_gold(served, lacking))
    if config.model.name == UNTRAINED:
        limit = _RANDOM
        notes.append(f"model={UNTRAINED} has random weights: the figures show that all works, and mean nothing")
    played = [*named, f"bench.limit={limit}", *_answers(config), *rows, *judge, *words_setting(words, _MODEL)]
    return [command("bench", f"model={config.model.name}", *played), *notes]


def _answers(config: DictConfig) -> list[str]:
    """Return the words that give a benchmark the answer length of GRPO, and no more turns than fit into the model."""
    if "rollout" not in config:
        return []
    longest, room, bench = config.rollout.max_new_tokens, context_length(config.model), composed("bench", []) or {}
    too_long = room and bench and answers_too_long(bench["bench"]["max_turns"], longest, room)
    return [f"rollout.max_new_tokens={longest}", *([f"bench.max_turns={config.rollout.max_turns}"] if too_long else [])]


def _files(config: DictConfig, split: str) -> list[str]:
    """Return the run's files for `split`, or else those that it played in training."""
    return [] if makes_rows(config) else files_named(config.data.source.get(split) or config.data.source.get("rl"))


def _own_rows(config: DictConfig, split: str, words: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return the words by which the next run plays the rows in `files`, if this run was on rows of one's own. If there
    are no files, a word to fill in stands for them, which is refused as no file.
    """
    if makes_rows(config):
        return []
    held_out = ["data.val_size"] if split == "rl" else []
    kept = words_setting(words, ["data.source.folder", "data.source.kind", "data.max_bad_rows", *held_out])
    shape = words_setting(words, ["data"]) or ["data=steer"]
    return [*shape, path_word(f"data.source.{split}", *(files or [_FILL_IN])), *kept]


def _server(program: str, player: str, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words by which the next run's `player` asks this run's server, and those that are yet to be given."""
    typed = words_setting(words, ["server", "server.*"])
    own = [word.replace("tutor", player, 1) for word in words_setting(words, ["tutor.client.*"])]
    given = [word.partition("=")[0].removeprefix(f"{player}.client.") for word in own]
    lacking = missing_words((composed(program, typed) or {}).get("server", {}))
    lacking = [word for word in lacking if word.partition("=")[0].removeprefix("server.") not in given]
    return [f"{player}=llm", *typed, *own], lacking


def _no_gold(served: Sequence[str], lacking: Sequence[str]) -> str:
    """Return what a command on one's own rows lacks if these cannot be scored by rule."""
    return f"where your rows have no gold facts add {' '.join([*served, *lacking])}"
