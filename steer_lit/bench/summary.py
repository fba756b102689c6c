"""The summary of a benchmark run: `summary.json` as a dict.

    {policy: {n, failed, <rates>, harmless_mean, helpful_mean, answer_harmless_mean, answer_helpful_mean,
              median_failure_turn, survival, failure_turns, by_turn, by_tier, by_kind, by_subset, subset_mean, vs}}

The rates are those of `metrics.COUNTS`, each `{"value", "low", "high"}` in percent; means are on the judge's scales.
`vs` compares with the baseline, or without one with the policy listed before, paired, in percentage points, this policy
minus the other: `{other: {"n", "failed", <rates>, "over_refusal_n", "by_tier"}}`; `over_refusal_n` dialogues have a
harmless turn in every policy, `by_tier` is the difference in harmful turns kept safe.
A group of seeds precedes its members, under their common name, with `"seeds": [names]` and the same figures: rates,
means and the survival curve, which has the median, are means over the seeds, turns are counted over all of them;
`unshared` is the number of dialogues that only some of the seeds have played. The group is compared instead of its
members.
docs/metrics.md says what each figure means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from steer_lit.bench import metrics, survival
from steer_lit.bench.metrics import GradedRuns
from steer_lit.bench.records import GradedDialogue, Records, is_constant
from steer_lit.bench.resampling import DIGITS
from steer_lit.bench.seed_groups import group_seeds
from steer_lit.bench.settings import BenchSettings

Summary = Mapping[str, Mapping[str, Any]]


def summarise(records: Records, settings: BenchSettings) -> Summary:
    """Return every policy's figures in order, seeds of one training together. Constant policies are not compared."""
    summary: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[Sequence[GradedDialogue]]] = {}
    for name, members in group_seeds(records).items():
        groups[name] = [records[member] for member in members]
        if len(members) > 1:
            played = {dialogue.scenario for dialogues in groups[name] for dialogue in dialogues}
            unshared = len(played) - len(metrics.shared(groups[name])[0])
            summary[name] = {"seeds": members, **group_summary(groups[name], settings), "unshared": unshared}
        summary |= {member: group_summary([records[member]], settings) for member in members}
    earlier: str | None = None
    for name in (name for name, seeds in groups.items() if not any(map(is_constant, seeds))):
        other = earlier if settings.baseline is None else settings.baseline
        if other is not None and other != name:
            summary[name]["vs"] = {other: compare(groups[name], groups[other], settings)}
        earlier = name
    return summary


def group_summary(played: GradedRuns, settings: BenchSettings) -> dict[str, Any]:
    """Return the figures of a training's seeds, or of one policy, over the `n` dialogues that were graded for all.

    `failed` counts the other dialogues that all seeds have played.
    """
    seeds = metrics.shared(list(map(_valid, played)))
    failed = len(metrics.shared(played)[0]) - len(seeds[0])
    pooled = [dialogue for seed in seeds for dialogue in seed]
    subsets = _split(seeds, lambda dialogue: dialogue.subset)
    by_turn = metrics.safe_turns(pooled, lambda number, _: str(number), settings)
    by_tier = metrics.safe_turns(pooled, lambda _, turn: metrics.tier_of(turn), settings)
    return {
        **_block(seeds, settings),
        "failed": failed,
        "survival": survival.by_turn(seeds, settings),
        "failure_turns": survival.failure_turns(pooled, settings),
        "by_turn": dict(sorted(by_turn.items(), key=lambda item: int(item[0]))),
        "by_tier": dict(sorted(by_tier.items())),
        "by_kind": {kind: _block(rows, settings) for kind, rows in _split(seeds, lambda d: d.kind).items()},
        "by_subset": {subset: _block(rows, settings) for subset, rows in subsets.items()},
        "subset_mean": {
            name: metrics.subset_mean(list(subsets.values()), passes, settings)
            for name, passes in metrics.PASSES.items()
        },
    }


def compare(later: GradedRuns, earlier: GradedRuns, settings: BenchSettings) -> dict[str, Any]:
    """Return `later` minus `earlier` over the `n` dialogues that are fully graded for all seeds of both.

    `failed` counts the other dialogues that all of them have played.
    """
    new, old = list(map(_valid, later)), list(map(_valid, earlier))
    both, played = metrics.shared([*new, *old]), metrics.shared([*later, *earlier])
    n = len(both[0])
    differences = {name: metrics.rate(new, count, settings, minus=old) for name, count in metrics.COUNTS.items()}
    pooled = [dialogue for seed in new for dialogue in seed]
    tiers = sorted(metrics.safe_turns(pooled, lambda _, turn: metrics.tier_of(turn), settings))
    by_tier = {tier: metrics.rate(new, metrics.kept_safe(tier), settings, minus=old) for tier in tiers}
    harmless = sum(all(metrics.over_refusal(row, settings)[1] for row in rows) for rows in zip(*both, strict=True))
    return {"n": n, "failed": len(played[0]) - n, **differences, "over_refusal_n": harmless, "by_tier": by_tier}


def _block(seeds: GradedRuns, settings: BenchSettings) -> dict[str, Any]:
    """Return the figures common to all dialogues and to each part. All `seeds` hold the same dialogues."""
    dialogues = [dialogue for seed in seeds for dialogue in seed]
    return {
        "n": len(seeds[0]),
        **{name: metrics.rate(seeds, count, settings) for name, count in metrics.COUNTS.items()},
        "harmless_mean": _mean(fmean(metrics.harmlessness(dialogue)) for dialogue in dialogues),
        "helpful_mean": _mean(fmean(metrics.helpfulness(dialogue)) for dialogue in dialogues),
        "answer_harmless_mean": _mean(metrics.harmlessness(dialogue)[-1] for dialogue in dialogues),
        "answer_helpful_mean": _mean(metrics.helpfulness(dialogue)[-1] for dialogue in dialogues),
        "median_failure_turn": survival.median_failure_turn(seeds, settings),
    }


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return round(fmean(known), DIGITS) if known else None


def _valid(dialogues: Sequence[GradedDialogue]) -> list[GradedDialogue]:
    return [dialogue for dialogue in dialogues if not dialogue.failed]


def _split(seeds: GradedRuns, by: Callable[[GradedDialogue], str]) -> dict[str, list[list[GradedDialogue]]]:
    """Split the dialogues by the first seed's `by(dialogue)`. Each part holds the same dialogues of every seed."""
    names = [by(dialogue) for dialogue in seeds[0]]
    return {
        part: [[row for row, name in zip(seed, names, strict=True) if name == part] for seed in seeds]
        for part in sorted(set(names))
    }
