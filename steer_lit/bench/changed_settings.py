"""Settings that differ where a user may not expect it: between a command and the earlier records of its folder, between
folders of one report, and between trainings that are compared as seeds of one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steer_lit.bench.policies import LocalPolicy, policy_of
from steer_lit.bench.provenance import played_under_config, saved_config
from steer_lit.bench.records import GradedDialogue
from steer_lit.bench.seed_groups import SEED_MARK
from steer_lit.dotted import leaves, within
from steer_lit.errors import SteerError
from steer_lit.numbers import and_more, counted, few

if TYPE_CHECKING:
    from steer_lit.bench.playing import BenchRun

# Sections and keys of a config that decide how a dialogue is played and graded.
_PLAYING = (
    "rollout", "data.source", "data.max_turns", "data.blank_images", "attacker", "tutor", "judge", "model",
    "bench.max_turns", "bench.protocol", "bench.seed", "bench.split", "system_prompt",
)  # fmt: skip
# When one of these changes, so does most of its section.
_CHOICES = ("model.name", "data.source._target_", "attacker._target_", "tutor._target_", "judge._target_")
# Those that decide what a training teaches, and the last parts of keys that its seeds need not share.
_TRAINING = (
    "stage", "model", "data", "objective", "optim", "reward", "rollout", "attacker", "tutor", "ablation",
    "trainer.max_steps", "trainer.max_epochs",
)  # fmt: skip
_OWN = ("seed", "init_from", "device", "cache_dir")
_ABSENT = "not there"
_NAMED = 4  # the most changed settings that are named


def describe_stale(run: BenchRun) -> str:
    """Say in one line which of its folder's records a run replaces, and which it keeps but does not show; "" for none.

    Changed settings are named if the records were played under the folder's config.
    """
    keys = {name: run.keys(policy.fingerprint) for name, policy in run.policies.items()}
    played = [(row, keys.get(row.policy, {}).get(row.scenario)) for row in run.records.rows if not row.failed]
    stale = [row for row, key in played if key not in (None, row.key)]
    aside = [row for row, key in played if key is None]
    said = []
    if stale:
        why = "settings" if all(row.conditions != run.conditions for row in stale) else "settings or weights"
        under = f"under other {why}{_changed(stale, run)}"
        said.append(f"{_counted(stale)} {under}: each is replaced once it has been graded anew")
    if aside:
        said.append(f"{_counted(aside)} that this command does not play: they are kept and not shown")
    return f"{run.out_dir} holds {'; and '.join(said)}" if said else ""


def _counted(rows: Sequence[GradedDialogue]) -> str:
    (first, count), *others = Counter(row.policy for row in rows).items()
    more = "".join(f", {count} of {name}" for name, count in others)
    return f"{counted(count, 'graded dialogue')} of {first}{more}"


def _changed(rows: Sequence[GradedDialogue], run: BenchRun) -> str:
    """Name the settings whose values differ from the config that the rows were played under, if that is known."""
    saved = readable_config(run.out_dir)
    if not saved or not run.config or not played_under_config(run.out_dir, rows):
        return ""
    policies = {row.policy.partition(SEED_MARK)[0] for row in rows}
    each = changed_settings(saved, run.config, policies)
    changed = [f"{key}={before}, now {now}" for key, before, now in each]
    return f" ({'; '.join(changed[:_NAMED])}{and_more(len(changed) - _NAMED)})" if changed else ""


def changed_settings(
    saved: Mapping[str, Any], config: Mapping[str, Any], policies: Collection[str] = ()
) -> Iterator[tuple[str, str, str]]:
    """Yield (key, saved value, value in `config`) for each changed setting that decides how dialogues are played.

    The settings of `policies` are included. Values are written as they would be typed.
    """
    before, now = dict(leaves(saved)), dict(leaves(config))
    changed = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
    others = [key.rpartition(".")[0] for key in changed if key in _CHOICES]
    for key in changed:
        follows = key not in _CHOICES and any(key.startswith(f"{section}.") for section in others)
        if _decides(key, policies) and not follows:
            yield key, _typed(before.get(key, _ABSENT)), _typed(now.get(key, _ABSENT))


def _decides(key: str, policies: Collection[str]) -> bool:
    if key == "model.device" or (".settings." in key and not key.endswith(".model")):  # a server's address, time-outs
        return False
    return any(within(key, part) for part in (*_PLAYING, *(f"policies.{name}" for name in policies)))


def _typed(value: object) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def unlike_seeds(policies: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each list of `policies` whose adapters' runs saved configs that differ beyond the seed.

    An adapter whose run has no config beside it is left out.
    """
    for name, members in policies.items():
        if isinstance(members, str) or not isinstance(members, Sequence):
            continue
        trainings = [found for member in members if (found := _training(member))]
        keys = dict.fromkeys(key for one in trainings for key in one)
        values = {key: dict.fromkeys(str(one.get(key, _ABSENT)) for one in trainings) for key in keys}
        if differing := [f"{key} ({', '.join(found)})" for key, found in values.items() if len(found) > 1]:
            said = f"policies.{name} counts as seeds of one training, but they differ in"
            yield f"{said} {few(differing, 3)}"


def _training(member: object) -> dict[str, object]:
    """Return the deciding settings of the run that wrote the adapter, {} if they are not known."""
    policy = policy_of(member)
    saved = readable_config(Path(policy.adapter).parent) if isinstance(policy, LocalPolicy) else {}
    deciding = {key: value for key, value in leaves(saved) if any(within(key, part) for part in _TRAINING)}
    return {key: value for key, value in deciding.items() if key.rpartition(".")[2] not in _OWN}


def readable_config(run: Path) -> Mapping[str, Any]:
    """Return the config that a run saved, {} if there is none or it cannot be read: then nothing is said of it."""
    with suppress(SteerError):
        return saved_config(run)
    return {}
