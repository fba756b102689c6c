"""How a run was made, according to its folder, for the head of a report.

Reports are passed around, so they show only the last two parts of a path from the root or from home, and nothing of a
server's address.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from steer_lit.bench.policies import LocalPolicy, ServedModel, any_local, named, policy_of
from steer_lit.bench.records import BASE
from steer_lit.dotted import ABSENT, at, leaves, within
from steer_lit.errors import SteerError
from steer_lit.files.run_files import (
    ADAPTER,
    BEST_FACTS,
    CONFIG,
    NOT_THERE,
    UNKNOWN,
    earlier_settings,
    saved_facts,
    saved_versions,
)
from steer_lit.numbers import few
from steer_lit.prompts.fill import ASKING

_WORDS = {"ScriptedAttacker": "the script", "AdaptiveAttacker": "the adaptive attacker"}
_SECTIONS = ("policies", "model", "data", "data.source", "bench", "rollout", *ASKING)  # those that are read
# Parts of a config that decide what a training teaches, and the last parts of keys that its seeds need not share.
_TRAINING = (
    "stage", "model", "data", "objective", "optim", "reward", "rollout", "attacker", "tutor", "ablation",
    "trainer.max_steps", "trainer.max_epochs", UNKNOWN,
)  # fmt: skip
_OWN = ("seed", "init_from", "device", "cache_dir")
_ROWS = "data.source.seed"  # makes other rows
_WAY_OUT = "repair it, or move it away to report without it"
_ADDRESS = re.compile(r"https?://[^\s'\",}\]]+", re.IGNORECASE)
# A path to shorten within a word. A `~` that starts a word deletes a key in Hydra's syntax, unless it is `~/`.
_FAR = re.compile(r"(?:(?<=[=\[,:{\"' ])~[\w.-]*/|(?:(?<=[=\[,:{\"' ])|^)(?:~?|\.\.)/)[^,\]}\"':]*")


def provenance(run: Path) -> tuple[tuple[str, str], ...]:
    """Return (label, value) pairs, without those that the folder does not know."""
    saved, found = saved_config(run), saved_versions(run)
    versions = {name: value for name, value in found.items() if isinstance(value, str)}
    date, command = versions.pop("date", ""), versions.pop("command", "")
    facts = [
        ("date", date),
        ("model", ", ".join(_models(saved))),
        ("data", ", ".join(_data(saved))),
        ("asked by", _asked(saved)),
        ("answers", _decoding(saved.get("rollout", {}))),
        ("system prompts", "; ".join(f'{name}: "{text}"' for name, text in _prompts(saved).items())),
        ("prompts of one's own", ", ".join(_own_prompts(saved, found.get("prompts")))),
        ("continued", "; ".join(_continued(run, saved))),
        ("command", redacted(command)),
        ("versions", ", ".join(f"{name} {number}" for name, number in versions.items())),
    ]
    return tuple((label, value) for label, value in facts if value)


def redacted(command: str) -> str:
    """Return the command with addresses removed and paths shortened; "" if no shell could parse it."""
    try:
        typed = shlex.split(command)
    except ValueError:
        return ""
    words = map(_private, typed)
    return " ".join(word if re.fullmatch(r"[\w./=,+@:<>…-]*", word) else shlex.quote(word) for word in words)


def _private(text: str) -> str:
    return _FAR.sub(_end, _ADDRESS.sub("<address>", text))


def _end(path: re.Match[str]) -> str:
    _, *parts = path[0].split("/")  # the first part is "", "~", ".." or a user's home such as "~name"
    return "/".join(["…", *parts[-2:]])


def _models(saved: Mapping[str, Any]) -> Iterator[str]:
    """Yield the base model if one was loaded, and the models behind servers."""
    policies, model = saved.get("policies", {}), saved.get("model", {})
    if model and (any_local(policies) or not policies):
        quantized = model.get("quantize", "none")
        yield str(model.get("name")) + (f" in {quantized}" if quantized != "none" else "")
    each = map(policy_of, named(policies).values())
    yield from dict.fromkeys(policy.model for policy in each if isinstance(policy, ServedModel))


def _prompts(saved: Mapping[str, Any]) -> dict[str, str]:
    """Return the system prompts of policies that bring their own, and that of the others; nothing if none does."""
    each = {name: policy_of(value) for name, value in named(saved.get("policies", {})).items()}
    own = {name: policy.system_prompt for name, policy in each.items() if policy and policy.system_prompt is not None}
    others = {"all others": str(saved.get("system_prompt", ""))} if own.keys() < each.keys() else {}
    return {**others, **own} if own else {}


def _own_prompts(saved: Mapping[str, Any], marks: object) -> Iterator[str]:
    """Yield each prompt, with its digest, of the players that were given a folder of prompts."""
    players = [player for player in ASKING if saved.get(player, {}).get("prompts")]
    if isinstance(marks, dict):
        yield from (f"{name} {mark}" for name, mark in marks.items() if name.partition("_")[0] in players)


def _continued(run: Path, saved: Mapping[str, Any]) -> Iterator[str]:
    """Yield what changed where the training in the folder, or that of a policy's adapter, was continued."""
    adapters = {"": run / ADAPTER}
    for name, value in named(saved.get("policies", {})).items():
        if isinstance(policy := policy_of(value), LocalPolicy) and policy.adapter != BASE:
            adapters[f"{name} "] = Path(policy.adapter)
    for whose, adapter in adapters.items():
        several = {key: values for key, values in training_settings(adapter).items() if len(values) > 1}
        if told := [f"{key} {' -> '.join(map(_private, values))}" for key, values in several.items()]:
            yield f"{whose}from a run with other settings: {few(told, 3)}"


def _data(saved: Mapping[str, Any]) -> Iterator[str]:
    data, split = saved.get("data", {}), saved.get("bench", {}).get("split", "bench")
    source = data.get("source", {})
    if str(source.get("_target_")).endswith(".MiniSource"):
        yield f"STEER-mini, seed {source.get('seed')}"
    elif files := source.get(split):
        yield from (Path(str(file)).name for file in (files if isinstance(files, list) else [files]))
    if split == "rl":
        yield "the scenarios of GRPO"
    if limit := saved.get("bench", {}).get("limit"):
        yield f"at most {limit} dialogues"
    if data.get("blank_images"):
        yield "pictures blanked"


def _decoding(rollout: Mapping[str, Any]) -> str:
    if not {"temperature", "max_new_tokens"} <= rollout.keys():
        return ""
    sampled = f"temperature {rollout['temperature']}" if rollout["temperature"] else "greedy"
    return f"{sampled}, at most {rollout['max_new_tokens']} tokens"


def _asked(saved: Mapping[str, Any]) -> str:
    """Return who asked, its non-default settings and, if a model gave it verdicts or even questions, that model."""
    from steer_lit.attacker.adaptive import AdaptiveAttacker
    from steer_lit.attacker.llm import LlmAttacker

    attacker = saved.get("attacker", {})
    if not (target := str(attacker.get("_target_", ""))):
        return ""
    known = {f"{made.__module__}.{made.__name__}": made for made in (AdaptiveAttacker, LlmAttacker)}
    own = [
        f"{name}={attacker[name]}"
        for name, parameter in (signature(known[target]).parameters if target in known else {}).items()
        if name not in ("client", "prompts") and name in attacker and attacker[name] != parameter.default
    ]
    name, model = target.rsplit(".", 1)[-1], _configured_model(attacker)
    who = f"model {model} behind a server" if model is not None else _WORDS.get(name, name)
    tutor = None if name == "ScriptedAttacker" else _configured_model(saved.get("tutor", {}))
    gave = "questions and verdicts" if name == "AdaptiveAttacker" else "verdicts"
    verdicts = "" if tutor is None else f", by the {gave} of model {tutor}"
    return who + (f" ({', '.join(own)})" if own else "") + verdicts


def _configured_model(player: Mapping[str, Any]) -> str | None:
    """Return the model that the player of a config's section asks; None if it asks none."""
    found = (at(player, key) for key in ("client.model", "client.settings.model"))
    return next((model for model in found if isinstance(model, str)), None)


def training_settings(adapter: Path) -> dict[str, list[str]]:
    """Return the settings that decide what the training of an adapter taught it and that its seeds share, by key.

    A setting that differed before the training was continued has several values: "0.0001 to step 100", "1e-05". Of the
    best adapter, those after its step have none.
    """
    run, best = adapter.parent, saved_facts(adapter / BEST_FACTS).get("step")
    now = {key: str(value) for key, value in leaves(readable_config(run))}
    earlier = earlier_settings(run)
    while earlier and isinstance(best, int) and earlier[-1][0] >= best:
        now |= {key: str(value) for key, value in earlier.pop()[1].items()}
    found: dict[str, list[str]] = {key: [] for key in now}
    for step, settings in earlier:
        for key, value in settings.items():
            found.setdefault(key, []).append(f"{value} to step {step}")
    deciding = [key for key in found if any(within(key, part) for part in _TRAINING)]
    shared = [key for key in deciding if key == _ROWS or key.rpartition(".")[2] not in _OWN]
    return {key: [*found[key], now.get(key, "known" if key == UNKNOWN else NOT_THERE)] for key in shared}


def readable_config(run: Path) -> dict[str, Any]:
    """Return the config that a run saved, {} if there is none or it cannot be read: then nothing is said of it."""
    with suppress(SteerError):
        return saved_config(run)
    return {}


def saved_config(run: Path) -> dict[str, Any]:
    """Return the config that a run saved, unresolved; {} if there is none. Raises SteerError if it cannot be read."""
    path = run / CONFIG
    if not path.is_file():
        return {}
    try:
        saved = OmegaConf.to_container(OmegaConf.create(path.read_text(encoding="utf-8")), resolve=False)
    except Exception as error:  # from YAML, OmegaConf or the disk
        reason = " ".join(str(error).split())
        raise SteerError(f"from_run={run}: {path} cannot be read ({reason}): {_WAY_OUT}") from None
    if not isinstance(saved, dict):
        raise SteerError(f"from_run={run}: {path} holds no config: {_WAY_OUT}")
    config = {str(key): value for key, value in saved.items()}
    for section in _SECTIONS:
        if (value := at(config, section)) is not ABSENT and not isinstance(value, dict):
            raise SteerError(f"from_run={run}: {path} has no keys below {section}: {_WAY_OUT}")
    return config
