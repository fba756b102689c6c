"""One report over several benchmark folders, whose policies were measured on several days, GPUs or machines.

    python bench.py 'from_run=[outputs/bench/a,outputs/bench/b]'

Folders played under different conditions are not one result and are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from steer_lit.bench.changed_settings import changed_settings
from steer_lit.bench.metrics import shared
from steer_lit.bench.provenance import RECORDED_ONLY, SETTINGS
from steer_lit.bench.records import GradedDialogue, Records, constants_last, is_constant
from steer_lit.errors import SteerError
from steer_lit.numbers import counted

log = logging.getLogger(__name__)
Facts = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ReadRun:
    """A benchmark's folder as a report reads it: its latest records by policy, the judge, the config and the facts."""

    folder: Path
    records: Records
    judge: str
    saved: Mapping[str, Any]
    facts: Facts

    @property
    def conditions(self) -> str:
        return next((row.conditions for rows in self.records.values() for row in rows), "")


def joined(runs: Sequence[ReadRun]) -> Records:
    """Return the records of all `runs` by policy, constant ones last.

    Raises SteerError if the runs were played under different conditions, or if policies of the same name are different.
    """
    for one, other in combinations(runs, 2):
        _check_alike(one, other)
    names = dict.fromkeys(name for run in runs for name in run.records)
    return constants_last({name: _most_graded(name, [run for run in runs if name in run.records]) for name in names})


def _most_graded(policy: str, runs: Sequence[ReadRun]) -> Sequence[GradedDialogue]:
    """Return the policy's records in the folder that graded most of its dialogues, the first of equal ones."""
    for one, other in combinations(runs, 2):
        if one.records[policy][0].fingerprint != other.records[policy][0].fingerprint:
            raise SteerError(
                f"from_run: {policy} in {one.folder} and in {other.folder} are other weights, or were played with "
                "another system prompt, in another precision or by another version of steer-lit: play one of them "
                "under another name, policies.<name>="
            )
        _check_same(policy, one, other)
    most = max(runs, key=lambda run: sum(not row.failed for row in run.records[policy]))
    if len(runs) > 1 and not is_constant(most.records[policy]):
        log.info("%s stands in %s, and counts as in %s", policy, counted(len(runs), "folder"), most.folder)
    return most.records[policy]


def _check_same(policy: str, one: ReadRun, other: ReadRun) -> None:
    """Raise SteerError if graded records of one dialogue differ: a server's weights, or its judge's, may have changed.

    A constant policy's answers are the same everywhere, so its grades may differ.
    """
    graded = {row.scenario: row for row in one.records[policy] if not row.failed}
    for row in other.records[policy]:
        before = graded.get(row.scenario, row)
        if before != row and not row.failed and not (is_constant([row]) and before.key == row.key):
            raise SteerError(
                f"from_run: {one.folder} and {other.folder} both hold {policy} on {row.scenario}, with different "
                f"records: play '~policies.{policy}' in one of them, or give it another name there, or report on each "
                "by itself"
            )


def in_common(records: Records) -> tuple[Records, str]:
    """Keep the dialogues that all policies have, in one order. Return them and a sentence on what was left out, or "".

    Raises SteerError if the policies have no dialogue in common.
    """
    kept = shared(list(records.values()))
    if not (common := len(kept[0])):
        raise SteerError(f"from_run: {', '.join(records)} have no dialogue in common: report on each folder by itself")
    left = [f"{gone} of {name}" for name, rows in records.items() if (gone := len(rows) - common)]
    said = f"the report is on the {counted(common, 'dialogue')} that every policy has played"
    return dict(zip(records, kept, strict=True)), f"{said}; left out: {', '.join(left)}" if left else ""


def joined_facts(runs: Sequence[ReadRun], folders: Sequence[str]) -> Facts:
    """Merge what the folders say of how they were made: a value once if all agree, else each folder's own."""
    labels = dict.fromkeys(label for run in runs for label, _ in run.facts if label != RECORDED_ONLY)
    each = [dict(run.facts) for run in runs]
    facts = [("folders", ", ".join(folders))]
    for label in labels:
        values = [found.get(label, "") for found in each]
        several = [f"{folder}: {value}" for folder, value in zip(folders, values, strict=True) if value]
        facts.append((label, values[0] if len(set(values)) == 1 else "; ".join(several)))
    return facts


def _check_alike(one: ReadRun, other: ReadRun) -> None:
    between = f"from_run: {one.folder} and {other.folder} are no one result: "
    for run in (one, other):
        if not run.conditions:
            raise SteerError(f"{between}{run.folder} does not say what its dialogues were played under: leave it out")
    if one.conditions == other.conditions:
        return
    why = "they were played under other settings or on other data"
    if one.judge != other.judge:
        why = f"{one.judge} judged the one, {other.judge} the other"
    elif SETTINGS not in dict([*one.facts, *other.facts]):  # else a config belongs to a later run
        changed = [f"{key}={value} and {theirs}" for key, value, theirs in changed_settings(one.saved, other.saved)]
        why += f" ({'; '.join(changed)})" if changed else ""
    raise SteerError(f"{between}{why}: play one of them again, or report on each by itself")
