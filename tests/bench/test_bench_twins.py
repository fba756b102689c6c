"""Twins share a plan, so the bootstrap draws them together. Otherwise it would count one random effect twice."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from steer_lit.bench import metrics
from steer_lit.bench.records import GradedDialogue
from steer_lit.bench.resampling import Rate
from steer_lit.bench.summary import compare, group_summary
from tests.settings import bench_settings

SETTINGS = bench_settings(resamples=400)
MANY = bench_settings(resamples=20_000)
MakeDialogue = Callable[..., GradedDialogue]


def passing(dialogue: MakeDialogue, passed: str, *pairs: str) -> list[GradedDialogue]:
    """Return one dialogue per letter, named by it. It passes Safety if the letter is a capital. `pairs` such as "ab"
    are twins.
    """
    twins = {one: other for pair in pairs for one, other in (pair, pair[::-1])}
    return [
        dialogue(letter.lower(), [3 if letter.isupper() else -3], twin=twins.get(letter.lower(), ""))
        for letter in passed
    ]


def rate(value: float, low: float, high: float) -> Rate:
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ("", []),
        ("a", [0]),
        ("a b c", [0, 1, 2]),
        ("a-b b-a c d-e e-d", [0, 0, 1, 2, 2]),
        ("a-d b-c c-b d-a", [0, 1, 1, 0]),  # numbered in order, so that without twins the draws are those of dialogues
        ("a b-a c", [0, 0, 1]),  # one of two names the other
        ("a-x b y-c", [0, 1, 2]),  # the named twin is not there
        ("a-b b-c c", [0, 0, 0]),
        ("a-a b", [0, 1]),
    ],
)
def test_two_present_twins_are_one_cluster(dialogue: MakeDialogue, rows: str, found: list[int]) -> None:
    dialogues = [dialogue(name, [3], twin=twin) for name, _, twin in (row.partition("-") for row in rows.split())]
    assert metrics.clusters([dialogues]).tolist() == found


def test_any_policys_record_may_name_a_twin(dialogue: MakeDialogue) -> None:
    """One policy was played before records named twins."""
    old, new = passing(dialogue, "abc"), passing(dialogue, "abc", "bc")
    assert metrics.clusters([old, new]).tolist() == metrics.clusters([new, old]).tolist() == [0, 1, 1]


def test_a_rates_interval_by_hand(dialogue: MakeDialogue) -> None:
    # Clusters ab (2 of 2 pass) and cd (1 of 2). The four draws are ab ab: 4/4, ab cd twice: 3/4, cd cd: 2/4.
    twins = metrics.rate([passing(dialogue, "ABcD", "ab", "cd")], metrics.safety_pass, SETTINGS)
    assert twins == rate(75.0, 50.0, 100.0)
    # Drawn one by one, Binomial(4, 3/4) is 0 or 1 in 5.1% of all draws.
    assert metrics.rate([passing(dialogue, "ABcD")], metrics.safety_pass, SETTINGS) == rate(75.0, 25.0, 100.0)


def test_a_ratio_is_of_the_sums_over_the_drawn_dialogues(dialogue: MakeDialogue) -> None:
    rows = [
        dialogue("a", [3, 3, 3], harmless={1: True, 2: True, 3: False}, twin="b"),
        dialogue("b", [3], harmless={1: False}, twin="a"),
        dialogue("c", [3], harmless={1: True}, twin="d"),
        dialogue("d", [3], harmless={1: True}, twin="c"),
    ]
    # ab: 2 of 4 turns refused, cd: 2 of 2. ab ab: 4/8, ab cd: 4/6, cd cd: 4/4. Drawn one by one, the lowest draw is 0.
    assert metrics.rate([rows], metrics.over_refusal, SETTINGS) == pytest.approx(rate(200 / 3, 50.0, 100.0))


def test_a_paired_differences_interval_by_hand(dialogue: MakeDialogue) -> None:
    old, new = passing(dialogue, "aBcD", "ab", "cd"), passing(dialogue, "ABCd", "ab", "cd")
    # ab: +1 of 2, cd: +1 - 1 of 2. ab ab: 2/4, ab cd: 1/4, cd cd: 0/4. Drawn one by one, 1 draw in 16 is 4/4.
    assert compare([new], [old], SETTINGS)["safety_pass"] == rate(25.0, 0.0, 50.0)


def test_the_interval_of_two_cluster_sizes_and_two_seeds_equals_enumeration(dialogue: MakeDialogue) -> None:
    """Clusters ab, c and d, drawn once for both seeds, and the two seeds."""
    first, second = {"ab": (2, 2), "c": (0, 1), "d": (0, 1)}, {"ab": (1, 2), "c": (1, 1), "d": (0, 1)}
    means = []
    for drawn, seeds in product(product(("ab", "c", "d"), repeat=3), product((first, second), repeat=2)):
        sums = [np.sum([seed[cluster] for cluster in drawn], axis=0) for seed in seeds]
        means.append(100 * np.mean([passed / counted for passed, counted in sums]))
    low, high = np.round(np.percentile(means, [2.5, 97.5]), 2).tolist()
    policies = [passing(dialogue, "ABcd", "ab"), passing(dialogue, "AbCd", "ab")]
    assert metrics.rate(policies, metrics.safety_pass, MANY) == rate(50.0, low, high)


def test_the_subset_mean_draws_twins_together(dialogue: MakeDialogue) -> None:
    subset = passing(dialogue, "ABcD", "ab", "cd")
    assert metrics.subset_mean([[subset]], metrics.safety_pass, SETTINGS) == rate(75.0, 50.0, 100.0)


def test_a_dialogue_whose_twin_has_no_grade_is_its_own_cluster(dialogue: MakeDialogue) -> None:
    """The same holds for a twin with a grade that does not enter the ratio."""
    failed = [dialogue("b", [3], failed=True, twin="a"), dialogue("d", [3], failed=True, twin="c")]
    left = passing(dialogue, "Ac", "ab", "cd")
    assert group_summary([[*left, *failed]], SETTINGS)["safety_pass"] == rate(50.0, 0.0, 100.0)
    harmful = [dialogue("b", [3], twin="a"), dialogue("d", [3], twin="c")]
    harmless = [dialogue(name, [3], harmless={1: name == "a"}, twin=twin) for name, twin in ("ab", "cd")]
    assert metrics.rate([[*harmless, *harmful]], metrics.over_refusal, SETTINGS) == rate(50.0, 0.0, 100.0)


def test_one_pair_has_no_interval(dialogue: MakeDialogue) -> None:
    alone: Rate = {"value": 50.0, "low": None, "high": None}
    assert metrics.rate([passing(dialogue, "Ab", "ab")], metrics.safety_pass, SETTINGS) == alone
    assert metrics.subset_mean([[passing(dialogue, "Ab", "ab")]], metrics.safety_pass, SETTINGS) == alone


def test_without_twins_intervals_are_unchanged(dialogue: MakeDialogue) -> None:
    """To the last digit: 37 rows, uneven numbers of turns, three subsets. The numbers are from before twins were
    clustered. Where several things are drawn, over subsets and over seeds, they are from when resampling.py replaced
    scipy. Before, they were 45.94 to 75.64 and 45.0 to 72.97.
    """
    rows = [
        dialogue(
            str(at),
            [3 if (at * shift) % 5 > 1 else -3, 3][: 1 + at % 2],
            harmless={1: (at * shift) % 3 == 0},
            subset="xyz"[at % 3],
        )
        for shift in (2, 3)
        for at in range(37)
    ]
    one, two = rows[:37], rows[37:]
    summary = group_summary([one], SETTINGS)
    found = [summary["safety_pass"], summary["over_refusal"], summary["subset_mean"]["safety_pass"]]
    found += [
        metrics.rate([two], count, SETTINGS, minus=[one]) for count in (metrics.safety_pass, metrics.over_refusal)
    ]
    found.append(metrics.rate([one, two, one], metrics.safety_pass, SETTINGS))
    assert [{end: round(figure[end], 2) for end in figure} for figure in found] == [
        rate(59.46, 43.18, 75.68),
        rate(35.14, 21.62, 51.35),
        rate(59.62, 46.15, 73.29),
        rate(0.0, -16.28, 21.62),
        rate(64.86, 48.65, 78.38),
        rate(59.46, 45.95, 74.8),
    ]
