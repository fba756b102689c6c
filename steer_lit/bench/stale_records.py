"""A warning about a folder's earlier records: which ones a run will replace, and which it will not show."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from steer_lit.bench.provenance import played_under_config, saved_config
from steer_lit.bench.records import GradedDialogue
from steer_lit.bench.seed_groups import SEED_MARK
from steer_lit.dotted import leaves, within
from steer_lit.errors import SteerError
from steer_lit.numbers import and_more, counted

if TYPE_CHECKING:
    from steer_lit.bench.playing import BenchRun

# Sections and keys of a config that decide how a dialogue is played and graded.
_DECIDING = (
    "rollout", "data.source", "data.max_turns", "data.blank_images", "attacker", "tutor", "judge", "model",
    "bench.max_turns", "bench.protocol", "bench.seed", "bench.split", "system_prompt",
)  # fmt: skip
# When one of these changes, so does most of its section.
_CHOICES = ("model.name", "data.source._target_", "attacker._target_", "tutor._target_", "judge._target_")
_NAMED = 4  # the most changed keys that are named


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
    """Name the deciding keys whose values differ from the config that the rows were played under, if that is known."""
    saved: Mapping[str, Any] = {}
    with suppress(SteerError):  # an unreadable config is about to be replaced
        saved = saved_config(run.out_dir)
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
            yield key, _typed(before.get(key, "not there")), _typed(now.get(key, "not there"))


def _decides(key: str, policies: Collection[str]) -> bool:
    if key == "model.device" or (".settings." in key and not key.endswith(".model")):  # a server's address, time-outs
        return False
    return any(within(key, part) for part in (*_DECIDING, *(f"policies.{name}" for name in policies)))


def _typed(value: object) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
