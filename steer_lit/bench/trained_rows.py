"""Finds a benchmark's dialogues among the rows that its adapters were trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from steer_lit.bench.policies import LocalPolicy
from steer_lit.bench.provenance import readable_config
from steer_lit.data.sources import asked_digests
from steer_lit.dotted import at
from steer_lit.files.run_files import TRAINED_ROWS
from steer_lit.numbers import counted, is_whole
from steer_lit.types import MAX_TURNS, Scenario


def told_of_trained(policies: Mapping[str, LocalPolicy], scenarios: Sequence[Scenario]) -> Iterator[str]:
    """Yield a sentence if adapters were trained on rows in which the user says the same as in some of the scenarios.

    The same, that is, in all turns of a scenario, or in the data.max_turns of the training. An adapter whose run has
    left no list of its rows beside it is taken to have seen none of them.
    """
    found = {name: _trained_on(Path(each.adapter), scenarios) for name, each in policies.items()}
    told = [f"policies.{name} on {count:,}" for name, count in found.items() if count]
    if told:
        of = f"some of the {counted(len(scenarios), 'dialogue')} to play were trained on"
        yield f"{of} ({', '.join(told)}): this does not show what they do with new ones"


def _trained_on(adapter: Path, scenarios: Sequence[Scenario]) -> int:
    """Count the scenarios that the adapter's run, or a run that it started from, was trained on."""
    found, runs = set[int](), list[Path]()
    while (run := adapter.parent) not in runs:
        runs.append(run)
        rows, saved = set[str](), readable_config(run)
        with suppress(OSError, ValueError):
            rows = set((run / TRAINED_ROWS).read_text(encoding="utf-8").split())
        turns, start = at(saved, "data.max_turns"), saved.get("init_from")
        turns = turns if is_whole(turns) and turns > 0 else MAX_TURNS
        found |= {place for place, row in enumerate(scenarios) if rows and asked_digests(row)[:turns][-1] in rows}
        adapter = Path(start) if start and isinstance(start, str) else adapter
    return len(found)
