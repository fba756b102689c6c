"""Single values of a config: which must be numbers in a range, which one of a few choices, which text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from steer_lit.attacker.adaptive import MOST_QUOTED
from steer_lit.errors import Problem
from steer_lit.lit.optim import Schedule
from steer_lit.numbers import is_number, is_whole
from steer_lit.prompts.transcript import Sees
from steer_lit.types import MAX_TURNS, Kind, Split

Config = Mapping[str, Any]
Fits = Callable[[Any], bool]


def _whole(least: int, most: int | None = None) -> tuple[Fits, str]:
    """Whether a number is whole and lies in `least`..`most`, and how that is said."""
    allowed = f"must be a whole number from {least} {'up' if most is None else f'to {most}'}"
    return lambda v: is_whole(v) and v >= least and (most is None or v <= most), allowed


# Key, whether it fits, and what is allowed. A key that a stage does not have is not checked.
_NUMBERS: tuple[tuple[str, Fits, str], ...] = (
    ("seed", *_whole(0, 2**32 - 1)),
    ("optim.lr", lambda v: v > 0, "must be above 0"),
    ("optim.weight_decay", lambda v: v >= 0, "must be at least 0"),
    ("optim.warmup", lambda v: 0 <= v < 1, "is the share of all steps, from 0 to below 1"),
    ("optim.max_grad_norm", lambda v: v > 0, "must be above 0"),
    ("data.val_size", *_whole(0)),
    (
        "data.max_turns",
        lambda v: is_whole(v) and 2 <= v <= MAX_TURNS,
        f"must be a whole number from 2 to {MAX_TURNS}; GRPO on openings alone is rollout.max_turns=1 with this at 2",
    ),
    ("data.max_bad_rows", *_whole(0)),
    ("data.batch_size", *_whole(1)),
    ("data.source.scale", lambda v: v > 0, "must be above 0"),
    ("data.source.seed", is_whole, "must be a whole number"),
    ("hardware.micro_tokens", *_whole(1)),
    ("hardware.side_by_side", *_whole(1)),
    ("generator.patience", *_whole(0)),
    ("generator.quote_words", *_whole(0, MOST_QUOTED)),
    ("replay.dialogues", *_whole(0)),
    ("replay.max_new_tokens", *_whole(1)),
    ("rollout.group_size", lambda v: is_whole(v) and v >= 2, "a group of one has nothing to compare with: at least 2"),
    ("rollout.max_turns", *_whole(1, MAX_TURNS)),
    ("rollout.max_new_tokens", *_whole(1)),
    ("rollout.temperature", lambda v: v >= 0, "must be at least 0; 0 is greedy"),
    ("rollout.waves", *_whole(1)),
    ("rollout.max_failed_share", lambda v: 0 <= v <= 1, "is a share, from 0 to 1"),
    ("objective.kl_coef", lambda v: v >= 0, "must be at least 0"),
    ("objective.clip_low", lambda v: 0 < v < 1, "must lie between 0 and 1"),
    ("objective.clip_high", lambda v: v > 0, "must be above 0"),
    ("objective.epochs", *_whole(1)),
    ("attacker.quote_words", *_whole(0, MOST_QUOTED)),
    ("attacker.lead_share", lambda v: 0 <= v <= 1, "is a share, from 0 to 1"),
    ("callbacks.checkpoint.every_n_steps", *_whole(1)),
    ("callbacks.transcripts.every_n_steps", *_whole(1)),
    ("callbacks.transcripts.dialogues", *_whole(0)),
    ("callbacks.progress.line_every_s", lambda v: v >= 0, "must be at least 0"),
    ("server.connect_timeout", lambda v: v >= 30, "at least 30 s: a busy server lets a wave of requests wait so long"),
)
_NUMBERS += tuple(
    (f"{asker}.{key}", fits, allowed)
    for asker in ("tutor", "attacker", "judge", "generator")
    for key, fits, allowed in (
        ("max_tokens", *_whole(1)),
        ("temperature", lambda v: v >= 0, "must be at least 0"),
        ("max_pixels", lambda v: is_whole(v) and v >= 28 * 28, "must be at least 784, one token of a picture"),
        ("extra_turns", *_whole(0)),
    )
)
# Written out where the owner is slow to import: a test holds these to what it takes.
_CHOICES: Mapping[str, tuple[object, ...]] = {
    "stage": ("sft", "grpo", "ground", "pretrain"),
    "module.trains": ("adapter", "tower", "base"),
    "data.source.kind": get_args(Kind),
    "generator.split": get_args(Split),
    "optim.schedule": get_args(Schedule),
    "objective.scale": ("none", "group"),
    "objective.normaliser": ("dialogue_sum", "dialogue", "token", "constant"),
    "objective.kl_estimator": ("k3", "k2", "k1_reward"),
    "tutor.sees": get_args(Sees),
    "judge.sees": get_args(Sees),
    "judge_check": (False, True),
    "dry_run": (False, True),
}
_TEXTS = ("name", "system_prompt")
_TEXTS_OR_NULL = (
    "init_from", "ckpt_path", "sft_adapter", "from_run", "from_raw_eval", "model.source", "model.tower",
    "model.weights",
)  # fmt: skip
_PARTS = ("sft", "rl", "bench")

ABSENT = object()


def at(config: Config, key: str) -> Any:
    """The value at a dotted key, or ABSENT."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ABSENT
        value = value[part]
    return value


def makes_rows(config: Config) -> bool:
    """Whether rows are made on the fly (data=steer_mini), not read."""
    return str(at(config, "data.source._target_")).endswith(".MiniSource")


def leaf_problems(config: Config) -> Iterator[Problem]:
    """What is wrong with single values, wherever they are. Sections that hold no keys are passed over."""
    yield from _number_problems(config)
    yield from _choice_problems(config)
    yield from _text_problems(config)
    yield from _list_problems(config)


def _number_problems(config: Config) -> Iterator[Problem]:
    for key, fits, allowed in _NUMBERS:
        value = at(config, key)
        if value is ABSENT or (is_number(value) and fits(value)):
            continue
        if not is_number(value):
            allowed = f"{'is not finite' if isinstance(value, float) else 'is no number'}; {allowed}"
        yield Problem(key, value, allowed)
    if at(config, "rollout.temperature") == 0 and "objective" in config:
        yield Problem("rollout.temperature", 0, "must be above 0: a group of greedy dialogues is all alike")


def _choice_problems(config: Config) -> Iterator[Problem]:
    for key, allowed in _CHOICES.items():
        value = at(config, key)
        if value is not ABSENT and value not in allowed:
            typed = (str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in allowed)
            yield Problem(key, value, f"must be one of {', '.join(typed)}")


def _text_problems(config: Config) -> Iterator[Problem]:
    for key in _TEXTS:
        if not isinstance(value := at(config, key), str) and value is not ABSENT:
            yield Problem(key, value, "must be text")
    made = makes_rows(config)
    files = [] if made else [f"data.source.{part}" for part in (*_PARTS, "folder")]
    for key in (*_TEXTS_OR_NULL, *files):
        if not isinstance(value := at(config, key), str | None) and value is not ABSENT:
            yield Problem(key, value, "must be text, such as a path, or null")
    for key in [f"data.source.{part}" for part in (*_PARTS, "captions", "primer")] if made else []:
        if (value := at(config, key)) is not ABSENT and not (is_whole(value) and value >= 1):
            yield Problem(key, value, "is a number of rows, at least 1; files of rows are named with data=steer")
    mean = at(config, "data.source.mean_turns")
    if mean is not ABSENT and mean is not None and not is_number(mean):
        yield Problem("data.source.mean_turns", mean, "must be a number of turns, or null for the paper's means")


def _list_problems(config: Config) -> Iterator[Problem]:
    betas = at(config, "optim.betas")
    pair = isinstance(betas, list) and len(betas) == 2 and all(is_number(beta) and 0 <= beta < 1 for beta in betas)
    if betas is not ABSENT and not pair:
        yield Problem("optim.betas", betas, "must be two numbers from 0 to below 1, such as [0.9,0.999]")
    targets = at(config, "model.lora.targets")
    if targets is not ABSENT and not (isinstance(targets, list) and all(isinstance(name, str) for name in targets)):
        yield Problem("model.lora.targets", targets, "must be a list of layers, such as [q_proj,v_proj]")
