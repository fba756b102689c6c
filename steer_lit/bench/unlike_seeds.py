"""Adapters that are given as seeds of one training, and whose runs differ in more, or in nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from steer_lit.bench.policies import LocalPolicy, policy_of
from steer_lit.bench.provenance import readable_config
from steer_lit.dotted import leaves, within
from steer_lit.files.run_files import ADAPTER, BEST
from steer_lit.numbers import few

# Parts of a config that decide what a training teaches, and the last parts of keys that its seeds need not share.
_TRAINING = (
    "stage", "model", "data", "objective", "optim", "reward", "rollout", "attacker", "tutor", "ablation",
    "trainer.max_steps", "trainer.max_epochs",
)  # fmt: skip
_OWN = ("seed", "init_from", "device", "cache_dir")
_ROWS = "data.source.seed"  # makes other rows
_ABSENT = "not there"


def unlike_seeds(policies: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each list of `policies` whose adapters' runs saved configs that differ beyond the seed, and
    for each in which adapters are of one run. An adapter whose run has no config beside it is left out of the first.
    """
    for name, members in policies.items():
        if isinstance(members, str) or not isinstance(members, Sequence):
            continue
        trainings = [found for member in members if (found := _training(member))]
        keys = dict.fromkeys(key for one in trainings for key in one)
        values = {key: dict.fromkeys(str(one.get(key, _ABSENT)) for one in trainings) for key in keys}
        said = f"policies.{name} counts as seeds of one training, but"
        if differing := [f"{key} ({', '.join(found)})" for key, found in values.items() if len(found) > 1]:
            yield f"{said} they differ in {few(differing, 3)}"
        runs = Counter(run for member in members if (run := _run(member)) is not None)
        yield from (f"{said} {count} of them are of one run, {run}" for run, count in runs.items() if count > 1)


def _run(member: object) -> Path | None:
    """Return the folder of the run that wrote the adapter, or the adapter's own if it was moved; None if it is none."""
    policy = policy_of(member)
    if not isinstance(policy, LocalPolicy) or policy.adapter == "base":
        return None
    folder = Path(policy.adapter).resolve()
    return folder.parent if folder.name in (ADAPTER, BEST) else folder


def _training(member: object) -> dict[str, object]:
    """Return the deciding settings of the run that wrote the adapter, {} if they are not known."""
    policy = policy_of(member)
    saved = readable_config(Path(policy.adapter).parent) if isinstance(policy, LocalPolicy) else {}
    deciding = {key: value for key, value in leaves(saved) if any(within(key, part) for part in _TRAINING)}
    return {key: value for key, value in deciding.items() if key == _ROWS or key.rpartition(".")[2] not in _OWN}
