"""Adapters that are given as seeds of one training, and whose runs differ in more, or in nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from steer_lit.bench.policies import LocalPolicy, policy_of
from steer_lit.bench.provenance import training_settings
from steer_lit.bench.records import BASE
from steer_lit.files.run_files import ADAPTER, BEST, NOT_THERE
from steer_lit.numbers import few


def unlike_seeds(policies: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each list of `policies` whose adapters' runs saved configs that differ beyond the seed, and
    for each in which adapters are of one run. An adapter whose run has no config beside it is left out of the first.
    """
    for name, members in policies.items():
        if isinstance(members, str) or not isinstance(members, Sequence):
            continue
        local = [policy for member in members if isinstance(policy := policy_of(member), LocalPolicy)]
        adapters = [Path(policy.adapter) for policy in local if policy.adapter != BASE]
        trainings = [found for adapter in adapters if (found := training_settings(adapter))]
        keys = dict.fromkeys(key for one in trainings for key in one)
        values = {key: dict.fromkeys(" -> ".join(one.get(key, [NOT_THERE])) for one in trainings) for key in keys}
        said = f"policies.{name} counts as seeds of one training, but"
        if differing := [f"{key} ({', '.join(found)})" for key, found in values.items() if len(found) > 1]:
            yield f"{said} they differ in {few(differing, 3)}"
        runs = Counter(map(_run, adapters))
        yield from (f"{said} {count} of them are of one run, {run}" for run, count in runs.items() if count > 1)


def _run(adapter: Path) -> Path:
    """Return the folder of the run that wrote the adapter, or the adapter's own if it was moved."""
    folder = adapter.resolve()
    return folder.parent if folder.name in (ADAPTER, BEST) else folder
