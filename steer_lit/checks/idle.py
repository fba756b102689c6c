"""Finds settings that take no part in a run: a sweep over them would train the same policy again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from hydra.core.hydra_config import HydraConfig

from steer_lit.checks.facts import at_ours
from steer_lit.data.bench_rows import READ
from steer_lit.dotted import ABSENT, at, leaves, within
from steer_lit.errors import Problem
from steer_lit.terminal.commands import given_words, sweeping
from steer_lit.terminal.words import key_of, words_setting

Get = Callable[[str], Any]
_RETURN, _WEIGHTS = "reward.alpha reward.return", "reward.w_safe reward.w_use reward.w_faith"
# Settings, with what they take part, and whether a config, read with `get`, says for certain that it is otherwise.
_PARTS: Sequence[tuple[str, str, Callable[[Get], bool]]] = (
    ("reward.* attacker.* tutor.*", "stage=grpo", lambda get: get("stage") in ("pretrain", "ground", "sft")),
    ("model.lora.*", "stage=sft or grpo", lambda get: get("stage") in ("pretrain", "ground")),
    (_RETURN, "a reward.credit other than score", lambda get: get("reward.credit") == "score"),
    (f"{_RETURN} attacker.*", "rollout.max_turns above 1", lambda get: get("rollout.max_turns") == 1),
    (
        _WEIGHTS,
        "reward.combine=weighted, or if one of them is 0",
        lambda get: get("reward.combine") in ("min", "product") and all(map(get, _WEIGHTS.split())),
    ),
    ("objective.clip_low objective.clip_high", "objective.epochs above 1", lambda get: get("objective.epochs") == 1),
    ("objective.kl_estimator", "objective.kl_coef above 0", lambda get: get("objective.kl_coef") == 0),
    (
        "attacker.quote_words attacker.wordings",
        "attacker.lead_share or attacker.extra_turns above 0",
        lambda get: get("attacker.lead_share") == get("attacker.extra_turns") == 0,
    ),
    ("replay.max_new_tokens", "replay.dialogues above 0", lambda get: get("replay.dialogues") == 0),
)


def _idle(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys that take no part in a training, but for those of a user's own class, and what to do about it."""
    settings = dict(leaves(config))
    rules = [(names.split(), with_what) for names, with_what, idle in _PARTS if idle(settings.get)]
    return {
        key: f"changes nothing that this run learns: it takes part only with {with_what}"
        for names, with_what in reversed(rules)  # of several rules, the first is told
        for key in settings
        if any(fnmatchcase(key, name) for name in names) and at_ours(config, key) is not ABSENT
    }


def idle_problems(config: Mapping[str, Any]) -> list[Problem]:
    """Return the settings that words of the command line set and that take no part in this training.

    Not in a run of a sweep: what is idle in one of its runs may count in another. Nor those of a client, which must be
    valid although nothing calls it.
    """
    if sweeping():
        return []
    idle = {key: remedy for key, remedy in _idle(config).items() if ".client." not in key}
    return [Problem(key, at(config, key), idle[key]) for key in _typed(list(idle))]


def idle_in_sweep(runs: Sequence[Mapping[str, Any]], common: Sequence[str]) -> Iterator[tuple[int, Problem]]:
    """Yield the settings that make no run of a sweep of trainings another one, each with a run's number.

    These are those in which a run differs from an earlier one that learns the same, and those that words `common` to
    all runs set and that take part in none.
    """
    idle = [_idle(run) for run in runs]
    never = [key for key in idle[0] if ".client." not in key and all(key in other for other in idle)]
    typed, alike = [key_of(word) for word in words_setting(common, never)], dict[frozenset[tuple[str, str]], int]()
    for number, run in enumerate(runs):
        live = frozenset((key, repr(value)) for key, value in leaves(run) if key not in idle[number])
        twin = runs[alike.setdefault(live, number)]
        changed = [key for key in idle[number] if key in typed or at(twin, key) != at(run, key)]
        classes = [key.removesuffix("._target_") for key in changed if key.endswith("._target_")]
        for key in changed:  # of another class, its name stands for all that comes with it
            if not any(within(key, section) and key != f"{section}._target_" for section in classes):
                yield number, Problem(key, at(run, key), idle[number][key])


def idle_data_problems(config: Mapping[str, Any]) -> list[Problem]:
    """Return the keys of conf/data/ that words of the command line set and a benchmark does not read."""
    remedy = f"nothing of a benchmark reads it; of data it reads {', '.join(READ)}"
    idle = [f"data.{name}" for name in config["data"] if name not in READ]
    return [Problem(key, at(config, key), remedy) for key in _typed(idle)]


def _typed(keys: Sequence[str]) -> list[str]:
    return [key_of(word) for word in words_setting(given_words("task"), keys)] if HydraConfig.initialized() else []
