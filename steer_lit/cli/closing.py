"""What is said when a training run begins, and when it has ended: its result, and the command that goes on from it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from steer_lit.checks.leaves import makes_rows
from steer_lit.files.run_files import ADAPTER, BASE, BEST, TOWER
from steer_lit.numbers import counted
from steer_lit.policy.model_facts import UNTRAINED, start_is_gone
from steer_lit.terminal.commands import carried, composed, conf_dir, program, shown_path, sweeping, typed

_SAID = {"sft": "SFT", "grpo": "GRPO", "ground": "grounding", "pretrain": "pretraining"}
_DIALOGUES = 300  # of a first benchmark: enough for intervals that tell, minutes on a CPU
# What words say of the model and of this machine, which goes on in the next command.
_MODEL = ("model.*", "system_prompt")
_SERVER = ("server", "server.*")
_FULL = "full"  # the ablation's row that lacks nothing
_OF_A_RUN = ("init_from", "seed", "device")  # of a model's settings


def opening(config: DictConfig, run_dir: Path) -> str:
    """What the run is going to do, and where."""
    trainer, saved = config.trainer, config.ckpt_path
    steps = trainer.max_steps
    length = counted(steps, "step") if steps > 0 else f"epochs: {trainer.max_epochs}"
    base = " from the base policy (no init_from)" if config.stage == "grpo" else ""  # others mostly do
    start = f" from {saved or config.init_from}" if saved or config.init_from else base
    done = f"{_SAID.get(config.stage, config.stage)} of {config.model.name}{start}, {length}, seed {config.seed}"
    return f"{done}, into {shown_path(run_dir)}; libraries load first"


def without_start(config: DictConfig) -> str:
    """Say how a run goes on that is resumed, and whose adapter folder is gone."""
    said = f"init_from={config.init_from}: no adapter is there now, and none is needed"
    return f"{said}: {config.ckpt_path} goes on alone"


def closing(
    config: DictConfig,
    run_dir: Path,
    metric: str,
    value: Any,
    words: Sequence[str] = (),
    best: tuple[int, float] | None = None,
) -> str:
    """Where the result is, and the command that goes on from it: none where `callbacks` left no export.

    Of the run's `words` those that say how the model is made and what this machine has go on in it. What it still
    wants stands on lines of its own: the command stays one that can be pasted. `best` is the step of the best adapter
    and the metric's value there, of a run that did not end with it.
    """
    shown = "" if value is None else f"   {metric} {float(value):.3f}"
    kept = ""
    if best is not None:
        kept = f"\nbest:    {shown_path(run_dir / BEST)}   {metric} {best[1]:.3f} at step {best[0]}"
    exported, label, following = _AFTER.get(config.stage, (ADAPTER, "adapter", _benchmark))
    export = shown_path(run_dir / exported)
    if not export.exists():
        return f"run: {shown_path(run_dir)}, nothing exported{shown}{kept}"
    if sweeping():  # `compared` says what goes on from all of them
        return f"{label + ':':<8} {export}{shown}{kept}"
    return f"{label + ':':<8} {export}{shown}{kept}\n{_following(*following(config, export, words))}"


def _following(command: str, *wanted: str) -> str:
    return "\n".join([f"next:    {command}", *(f"         ({want})" for want in wanted)])


def compared(configs: Sequence[DictConfig], adapters: Mapping[tuple[str, ...], Path], words: Sequence[str]) -> str:
    """The benchmark of a sweep's adapters, each by the overrides of its run, seeds of the same as one policy. GRPO's
    come beside the SFT adapter that all started from.

    `configs` are the runs', `words` those that all of them have. Empty where the runs differ in stage, model or system
    prompt, of which a benchmark has one.
    """
    config = configs[0]
    if config.stage not in ("sft", "grpo") or any(_base(other) != _base(config) for other in configs):
        return ""
    start, *others = {other.get("init_from") for other in configs}
    one = start and not others and not _start_is_gone(config)
    policies = {"sft": [Path(start)]} if one and config.stage == "grpo" else {}
    for run, adapter in adapters.items():
        policies.setdefault(_name(run) or config.stage, []).append(adapter)
    named = []
    for name, seeds in policies.items():
        listed = ",".join(typed("", seed).removeprefix("=") for seed in seeds)
        named.append(f"'policies.{name}=[{listed}]'" if len(seeds) > 1 else typed(f"policies.{name}", seeds[0]))
    if _FULL in policies and len(policies) > 1:  # the rows of an ablation differ from it alone
        named.append(f"bench.baseline={_FULL}")
    noise = [f"model={UNTRAINED} has random weights: the figures show that all works, and mean nothing"]
    return _following(*_bench_command(config, named, words), *(noise if config.model.name == UNTRAINED else ()))


def _base(config: DictConfig) -> list[Any]:
    """What must be one in a benchmark: the model under the adapters, and what it is told."""
    model = {name: value for name, value in config.model.items() if name not in _OF_A_RUN}
    return [config.stage, config.get("system_prompt"), model]


def _name(run: Sequence[str]) -> str:
    """A policy's name after the overrides of its run, `alpha_0_3` of `reward.alpha=0.3` and `seed=1`, `full` of
    `ablation=full`.
    """
    parts = []
    for key, _, value in (word.partition("=") for word in run):
        if key != "seed":
            parts.append(value if value.isidentifier() else f"{key.rpartition('.')[2]}_{value}")
    return re.sub(r"[^\w-]+", "_", "_".join(parts))


def _grounding(config: DictConfig, base: Path, words: Sequence[str]) -> list[str]:
    return [_command("train", f"+experiment=ground_{config.model.name}", typed("model.weights", base))]


def _sft(config: DictConfig, tower: Path, words: Sequence[str]) -> list[str]:
    """Return the command of SFT, with the weights that the tower was trained for."""
    below = map(shlex.quote, carried(words, ["model.weights"]))
    return [_command("train", f"+experiment=sft_{config.model.name}", *below, typed("model.tower", tower))]


def _grpo(config: DictConfig, adapter: Path, words: Sequence[str]) -> list[str]:
    """GRPO by the experiment called like this one's; the benchmark where there is none."""
    name = config.name.replace("sft", "grpo", 1)
    if not (conf_dir() / "experiment" / f"{name}.yaml").is_file():
        return _benchmark(config, adapter, words)
    given = carried(words, ["model", *_MODEL, "hardware", *_SERVER])
    command = _command("train", f"+experiment={name}", typed("init_from", adapter), *map(shlex.quote, given))
    asks = "client" in ((composed("train", [f"experiment={name}"]) or {}).get("tutor") or {})
    return [command, *_wanted(config, "rl", "tutor", given, asks=asks)]


def _start_is_gone(config: DictConfig) -> bool:
    return start_is_gone(config.get("init_from"), resumed=bool(config.get("ckpt_path")))


def _benchmark(config: DictConfig, adapter: Path, words: Sequence[str]) -> list[str]:
    start = None if _start_is_gone(config) else config.get("init_from")
    policies = {"sft": start, config.stage: adapter}  # GRPO beside the SFT it started from
    return _bench_command(
        config, [typed(f"policies.{stage}", Path(folder)) for stage, folder in policies.items() if folder], words
    )


def _bench_command(config: DictConfig, named: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the command that plays the policies in the words `named`, and in further lines what it still wants."""
    given = carried(words, [*_MODEL, *(() if makes_rows(config) else _SERVER)])
    command = _command("bench", f"model={config.model.name}", *named, *_size(config), *map(shlex.quote, given))
    return [command, *_wanted(config, "bench", "judge", given, asks=False)]


def _size(config: DictConfig) -> list[str]:
    """Return words for a first benchmark's size, with answers as long as those that were rewarded, where any were."""
    longest = [f"rollout.max_new_tokens={config.rollout.max_new_tokens}"] if "rollout" in config else []
    return [f"bench.limit={_DIALOGUES}", *longest]


def _wanted(config: DictConfig, part: str, player: str, given: Sequence[str], *, asks: bool) -> Iterator[str]:
    """Yield what the next command lacks: where it was trained on a file, its rows, and who scores such as have no gold
    facts; where the player `asks` a server, that.
    """
    known = any("base_url" in word for word in carried(given, _SERVER))
    server = "" if known else " server.base_url=<address>/v1 server.model=<name>"
    if not makes_rows(config):
        yield f"that is on STEER-mini; on your rows add data=steer data.source.{part}=<file>"
        if not asks:
            yield f"and where they have no gold facts {player}=llm{server}"
    if asks and server:
        yield f"its {player} is a server's: add{server}"


def _command(name: str, *words: str) -> str:
    return " ".join([program(name), *words])


# After each stage: what it exports, what that is called, and what goes on from it, the first of which is the command.
_AFTER: dict[str, tuple[str, str, Callable[[DictConfig, Path, Sequence[str]], list[str]]]] = {
    "pretrain": (BASE, "weights", _grounding),
    "ground": (TOWER, "tower", _sft),
    "sft": (ADAPTER, "adapter", _grpo),
}
