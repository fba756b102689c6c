"""What is known of a config: what single values may be, and what follows from them, such as who makes the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeGuard, get_args

from steer_lit.attacker.wordings import Wording
from steer_lit.data.sources import BenchSplit
from steer_lit.dotted import ABSENT, at
from steer_lit.errors import Problem
from steer_lit.lit.optim import Schedule
from steer_lit.numbers import ABOVE_0, FROM_0, MANY, SHARE, Bound, bound_problems, is_number, whole
from steer_lit.objective.choices import KlEstimator, Normaliser, Scale
from steer_lit.prompts.transcript import Sees
from steer_lit.stages import Stage, Trains
from steer_lit.types import MAX_TURNS, Kind, Split

Config = Mapping[str, Any]
_QUOTED = whole(0, 6)  # words of an answer
# Keys that a stage does not have are not checked.
_NUMBERS: Mapping[str, Bound] = {
    "seed": whole(0, 2**32 - 1),
    "optim.lr": Bound(0, 10, above=True),
    "optim.weight_decay": Bound(0, 1),
    "optim.warmup": Bound(0, 1, below=True, said="is the share of all steps, from 0 to below 1"),
    "optim.max_grad_norm": ABOVE_0,
    "data.val_size": whole(0),
    "data.max_turns": whole(
        2,
        MAX_TURNS,
        f"must be a whole number from 2 to {MAX_TURNS} in data.max_turns; GRPO on openings alone is "
        "rollout.max_turns=1 with data.max_turns=2",
    ),
    "data.max_bad_rows": whole(0),
    "data.batch_size": whole(1),
    "data.source.scale": Bound(0, 1000, above=True),
    "data.source.seed": Bound(whole=True),
    "hardware.micro_tokens": whole(1),
    "hardware.side_by_side": whole(1),
    "hardware.rank_timeout_minutes": whole(1, 7 * 24 * 60),
    "generator.patience": whole(0),
    "generator.quote_words": _QUOTED,
    "replay.dialogues": whole(0),
    "replay.max_new_tokens": whole(1),
    "rollout.group_size": whole(2, said="a group of one has nothing to compare with: at least 2"),
    "rollout.max_turns": whole(1, MAX_TURNS),
    "rollout.max_new_tokens": whole(1),
    "rollout.temperature": Bound(0, said="must be at least 0; 0 is greedy"),
    "rollout.max_failed_share": SHARE,
    "objective.kl_coef": FROM_0,
    "objective.clip_low": Bound(0, 1, above=True, below=True),
    "objective.clip_high": ABOVE_0,
    "objective.epochs": whole(1),
    "attacker.quote_words": _QUOTED,
    "attacker.extra_turns": whole(0),
    "attacker.lead_share": SHARE,
    "callbacks.checkpoint.every_n_steps": whole(1),
    "callbacks.transcripts.every_n_batches": whole(1),
    "callbacks.transcripts.dialogues": whole(0),
    "callbacks.progress.line_every_s": FROM_0,
} | {
    f"{asker}.{key}": bound
    for asker in ("tutor", "attacker", "judge", "generator")
    for key, bound in {
        "max_tokens": whole(1),
        "temperature": FROM_0,
        "max_pixels": whole(28 * 28, said="must be at least 784, one token of a picture"),
    }.items()
}
_ROWS = whole(1, MANY, said="is a number of rows, from 1 to a billion; files of rows are named with data=steer")
_DIALOGUES = whole(1, MANY)
_BETA = Bound(0, 1, below=True)
_SWITCHES = (
    "dry_run", "judge_check", "bench.constants", "data.blank_images", "model.gradient_checkpointing",
    "trainer.enable_checkpointing", "trainer.enable_model_summary", "trainer.enable_progress_bar",
    "trainer.detect_anomaly", "logger.tensorboard.default_hp_metric", "logger.wandb.offline",
)  # fmt: skip
_TEXTS = ("system_prompt", "logger.wandb.project", "logger.wandb.name")
_TEXTS_OR_NULL = (
    "init_from", "ckpt_path", "sft_adapter", "from_raw_eval", "model.source", "model.tower",
    "model.weights", "logger.wandb.entity", "attacker.prompts", "judge.prompts", "tutor.prompts",
)  # fmt: skip
LOGGERS = ("lightning.pytorch.loggers.TensorBoardLogger", "lightning.pytorch.loggers.WandbLogger")
_OURS = ("steer_lit.", "lightning.Trainer", *LOGGERS)
_LONGEST_NAME = 100  # file systems take 255 bytes


def declares(config: Config, section: str, fact: str) -> bool:
    """Return whether the class that a section names has a true `fact`. A class not found is refused elsewhere."""
    module, _, name = str(at(config, f"{section}._target_")).rpartition(".")
    with suppress(Exception):  # the user's own module may raise anything
        return bool(getattr(getattr(import_module(module), name), fact, False))
    return False


def reacts(config: Config) -> bool:
    """Return whether the attacker reacts to the answers, beyond its script, and so needs a tutor's verdicts."""
    return not declares(config, "attacker", "keeps_to_script")


def makes_rows(config: Config) -> bool:
    """Return whether rows are made on the fly (data=steer_mini), not read."""
    return declares(config, "data.source", "makes_rows")


def is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_paths(value: object) -> bool:
    return isinstance(value, str | None) or (is_texts(value) and len(value) > 0)


def _is_limit(value: object) -> bool:
    return value is None or _DIALOGUES.fits(value)


def _is_betas(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_BETA.fits, value))


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a value that is no number may be, as a function and in words."""

    fits: Callable[[object], bool]
    allowed: str


def _one_of(choices: object) -> _Rule:
    allowed = get_args(choices)
    return _Rule(lambda value: value in allowed, f"must be one of {', '.join(allowed)}")


_PATH = _Rule(lambda value: isinstance(value, str | None), "must be text, such as a path, or null")
_RULES: Mapping[str, _Rule] = {
    "stage": _one_of(Stage),
    "data.stage": _one_of(Stage),
    "module.trains": _one_of(Trains),
    "data.source.kind": _one_of(Kind),
    "generator.split": _one_of(Split),
    "bench.split": _one_of(BenchSplit),
    "optim.schedule": _one_of(Schedule),
    "objective.scale": _one_of(Scale),
    "objective.normaliser": _one_of(Normaliser),
    "objective.kl_estimator": _one_of(KlEstimator),
    "attacker.wordings": _one_of(Wording),
    "tutor.sees": _one_of(Sees),
    "judge.sees": _one_of(Sees),
    # Hydra reads `no` and `off` as text, and so as true.
    **dict.fromkeys(_SWITCHES, _Rule(lambda value: type(value) is bool, "must be true or false")),
    **dict.fromkeys(_TEXTS, _Rule(lambda value: isinstance(value, str), "must be text")),
    **dict.fromkeys(_TEXTS_OR_NULL, _PATH),
    "bench.limit": _Rule(_is_limit, f"{_DIALOGUES.allowed}, or null for every dialogue"),
    "from_run": _Rule(_is_paths, "must be a run's folder, a list of such, or null"),
    "optim.betas": _Rule(_is_betas, "must be two numbers from 0 to below 1, such as [0.9,0.999]"),
    "model.lora.targets": _Rule(is_texts, "must be a list of layers, such as [q_proj,v_proj]"),
}
# Of `data.source`: each split is a number of rows if they are made, else files.
_OF_MADE: Mapping[str, _Rule | Bound] = {
    **dict.fromkeys((*get_args(Split), "captions", "primer"), _ROWS),
    "mean_turns": _Rule(
        lambda value: value is None or is_number(value), "must be a number of turns, or null for the paper's means"
    ),
}
_OF_FILES: Mapping[str, _Rule] = {
    **dict.fromkeys(get_args(Split), _Rule(_is_paths, "must be a row file, a list of such, or null")),
    "folder": _PATH,
}


def leaf_problems(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with single values, wherever they are. Sections that hold no keys are skipped."""
    numbers = {key: value for key in _NUMBERS if (value := at_ours(config, key)) is not ABSENT}
    yield from bound_problems(numbers, _NUMBERS)
    if at(config, "rollout.temperature") == 0 and "objective" in config:
        yield Problem("rollout.temperature", 0, "must be above 0: a group of greedy dialogues is all alike")
    if (name := at(config, "name")) is not ABSENT and (problem := name_problem(name)):
        yield problem
    of_source = {f"data.source.{key}": rule for key, rule in (_OF_MADE if makes_rows(config) else _OF_FILES).items()}
    for key, rule in {**_RULES, **of_source}.items():
        if (value := at_ours(config, key)) is not ABSENT and not rule.fits(value):
            yield Problem(key, value, rule.allowed)


def at_ours(config: Config, key: str) -> Any:
    """Return the key's value, ABSENT too if a user's own class takes it: what fits that class we cannot know."""
    target = at(config, f"{key.rpartition('.')[0]}._target_")
    return at(config, key) if target is ABSENT or str(target).startswith(_OURS) else ABSENT


def name_problem(name: object) -> Problem | None:
    """Return what is wrong with a run's name, or None. The name is also that of the log in the run's folder."""
    plain = isinstance(name, str) and name not in ("", ".", "..") and "/" not in name and len(name) <= _LONGEST_NAME
    text = "" if isinstance(name, str) else "must be text, and "
    remedy = f"{text}names the run's log and a folder: 1 to {_LONGEST_NAME} letters without a /"
    return None if plain else Problem("name", name, remedy)
