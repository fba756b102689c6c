"""The results of one or several benchmark folders, whose policies were measured on several days, GPUs or machines.

    python bench.py 'from_run=[outputs/bench/a,outputs/bench/b]'

Folders that were played or graded under different conditions are not one result and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from steer_lit.bench.manifest import Facts, Manifest, differing, read_manifest
from steer_lit.bench.metrics import shared
from steer_lit.bench.provenance import redacted
from steer_lit.bench.records import BASE, GradedDialogue, RecordFile, Records, constants_last, is_constant
from steer_lit.errors import SteerError
from steer_lit.files.run_files import PLAYED, RECORDS
from steer_lit.numbers import counted


def recorded(folders: Sequence[Path]) -> tuple[Manifest, Records]:
    """Return what the folders' reports show, as one, the base policy first and constant ones last.

    A dialogue that stands in several folders counts where it was graded. Raises SteerError if a folder has no manifest
    or no records, or if the folders contradict each other.
    """
    runs: dict[Path, Manifest] = {}
    for folder in folders:
        if (own := read_manifest(folder)) is None:
            raise SteerError(
                f"from_run={folder}: holds no readable {PLAYED}: give the benchmark's command again with "
                f"hydra.run.dir={folder}; nothing that is recorded is played again"
            )
        runs[folder] = own
    for (one, ours), (other, theirs) in combinations(runs.items(), 2):
        if keys := differing(ours, theirs):
            raise SteerError(
                f"from_run: {one} and {other} cannot be joined, they differ in {', '.join(keys)}: play one of them "
                "again, give a policy that differs another name (policies.<name>=), or report on each separately"
            )
    found: dict[str, dict[str, GradedDialogue]] = {}
    for folder, manifest in runs.items():
        for name, rows in manifest.records(RecordFile(folder / RECORDS)).items():
            _add(found.setdefault(name, {}), rows, folder)
    if not found:
        raise SteerError(f"from_run={', '.join(map(str, folders))}: there is no readable dialogue")
    first, *_ = runs.values()
    facts = first.facts if len(runs) == 1 else _joined_facts({str(run): made.facts for run, made in runs.items()})
    base_first = sorted(found.items(), key=lambda item: item[0] != BASE)
    every = replace(
        first,
        policies={name: mark for run in runs.values() for name, mark in run.policies.items()},
        dialogues={id: content for run in runs.values() for id, content in run.dialogues.items()},
        facts=facts,
    )
    return every, constants_last({name: list(rows.values()) for name, rows in base_first})


def _add(found: dict[str, GradedDialogue], rows: Sequence[GradedDialogue], folder: Path) -> None:
    """Add a folder's records of a policy. Raise SteerError if a graded record differs from the one that is there: a
    server's weights, or its judge's, may have changed.

    A constant policy's answers are the same everywhere, so its grades may differ.
    """
    for row in rows:
        known = found.get(row.scenario)
        if known is None or known.failed:
            found[row.scenario] = row
        elif not row.failed and row != known and not is_constant([row]):
            raise SteerError(
                f"from_run: {folder} and another folder both hold {row.policy} on {row.scenario}, with different "
                f"records: play '~policies.{row.policy}' in one of them, or give it another name there, or report on "
                "each separately"
            )


def in_common(records: Records) -> tuple[Records, str]:
    """Return the dialogues that all policies have, in one order, and what was left out. Raises SteerError for none."""
    kept = shared(list(records.values()))
    if not (common := len(kept[0])):
        raise SteerError(f"from_run: {', '.join(records)} have no dialogue in common: report on each folder separately")
    left = [f"{gone} of {name}" for name, rows in records.items() if (gone := len(rows) - common)]
    said = f"the report is on the {counted(common, 'dialogue')} that every policy has played"
    return dict(zip(records, kept, strict=True)), f"{said}; left out: {', '.join(left)}" if left else ""


def _joined_facts(runs: Mapping[str, Facts]) -> Facts:
    """Merge what the folders say of how they were made: a value once if all agree, else each folder's own."""
    each = {redacted(folder): dict(facts) for folder, facts in runs.items()}
    facts = {"folders": ", ".join(each)}
    for label in dict.fromkeys(label for found in each.values() for label in found):
        values = {folder: found.get(label, "") for folder, found in each.items()}
        several = [f"{folder}: {value}" for folder, value in values.items() if value]
        facts[label] = next(iter(values.values())) if len({*values.values()}) == 1 else "; ".join(several)
    return tuple(facts.items())
