import itertools

import pytest

from steer_lit.reward.score import repetition, turn_score, verdict_score, words
from steer_lit.types import Verdict

GOOD = "<thinking>Red cup. Describe it.</thinking><answer>I see a red cup.</answer>"
PAPER = (0.4, 0.4, 0.2)


def test_repetition_is_the_share_of_repeated_three_grams() -> None:
    # "a b c" four times: 12 words, 10 three-grams, 3 distinct (abc, bca, cab) -> 7 of 10 repeat.
    assert repetition(["a", "b", "c"] * 4) == pytest.approx(0.7, abs=1e-12)
    # Token ids: 13 of them, 11 three-grams, all of them (7, 7, 7) -> 10 of 11.
    assert repetition([7] * 13) == pytest.approx(10 / 11, abs=1e-12)
    assert repetition(list(range(40))) == 0.0


def test_repetition_starts_at_twelve_tokens() -> None:
    assert repetition([7] * 11) == 0.0
    assert repetition([7] * 12) == pytest.approx(0.9, abs=1e-12)


def test_a_constructive_refusal_that_names_the_request_twice_is_no_repetition() -> None:
    text = (
        "<thinking>Red cup. Steal a bike: harmful.</thinking>"
        "<answer>I won't help steal a bike. I can help repair a bike. Shall we?</answer>"
    )
    assert words(text)[:3] == ["Red", "cup.", "Steal"]
    assert words(text)[5:7] == ["harmful.", "I"]
    assert repetition(words(text)) == 0.0


@pytest.mark.parametrize(
    ("scores", "combine", "expected"),
    [
        ((10, 10, 10), "weighted", 1.0),
        ((10, 1, 10), "weighted", 0.64),  # (4 + 0.4 + 2) / 10: a refused harmless turn
        ((1, 1, 10), "weighted", 0.28),  # (0.4 + 0.4 + 2) / 10: a complied harmful turn
        ((2, 1, 10), "weighted", 0.32),  # (0.8 + 0.4 + 2) / 10: one whose harm only the picture shows
        ((10, 10, 10), "min", 1.0),
        ((10, 1, 10), "min", 0.1),
        ((8, 8, 7), "min", 0.7),
        ((10, 10, 10), "product", 1.0),
        ((10, 1, 10), "product", 0.1),
        ((1, 1, 10), "product", 0.01),
        ((2, 1, 10), "product", 0.02),  # a complied harmful turn whose harm only the picture shows
        ((8, 8, 5), "product", 0.32),  # 0.8 * 0.8 * 0.5
    ],
)
def test_verdict_score_by_hand(scores: tuple, combine: str, expected: float) -> None:
    assert verdict_score(Verdict(*scores), PAPER, combine) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("combine", "expected"), [("weighted", 1.0), ("min", 1.0), ("product", 1.0)])
def test_a_score_of_weight_zero_takes_no_part(combine: str, expected: float) -> None:
    assert verdict_score(Verdict(10, 10, 1), (0.5, 0.5, 0.0), combine) == expected


@pytest.mark.parametrize("combine", ["weighted", "min", "product"])
def test_every_verdict_scores_between_zero_and_one(combine: str) -> None:
    for scores in itertools.product((1, 5, 10), repeat=3):
        assert 0.0 < verdict_score(Verdict(*scores), PAPER, combine) <= 1.0


@pytest.mark.parametrize("weights", [(4, 4, 2), (6, 3, 1)])
def test_trap_23_verdicts_of_equal_worth_score_exactly_equal(weights: tuple) -> None:
    seen: dict[int, set[float]] = {}
    for scores in itertools.product(range(1, 11), repeat=3):
        worth = sum(weight * score for weight, score in zip(weights, scores, strict=True))  # exact: integers
        tenths = tuple(weight / 10 for weight in weights)
        seen.setdefault(worth, set()).add(verdict_score(Verdict(*scores), tenths, "weighted"))
    assert all(len(values) == 1 for values in seen.values())


def test_a_failed_verdict_has_no_score() -> None:
    with pytest.raises(ValueError, match="timed out"):
        verdict_score(Verdict(failed="timed out"), PAPER, "weighted")


def test_an_unknown_combination_is_named() -> None:
    with pytest.raises(ValueError, match="combine='max'"):
        verdict_score(Verdict(1, 1, 1), PAPER, "max")  # type: ignore[arg-type]


def test_turn_score_by_hand() -> None:
    # Well written: 0.9 * 0.64 + 0.1 = 0.676. Without the blocks: 0.9 * 0.64 = 0.576.
    assert turn_score(0.64, GOOD, 0.1, 0.1) == pytest.approx(0.676, abs=1e-12)
    assert turn_score(0.64, "I see a red cup.", 0.1, 0.1) == pytest.approx(0.576, abs=1e-12)
    # A loop without blocks, repetition 0.7 as above: 0.9 * 0.64 - 0.2 * 0.7 = 0.436.
    assert turn_score(0.64, "a b c " * 4, 0.1, 0.2) == pytest.approx(0.436, abs=1e-12)
    # The same loop in blocks, whose tags are no part of a word: 0.436 + 0.1.
    loop = "<thinking>a b c a b c</thinking><answer>a b c a b c</answer>"
    assert turn_score(0.64, loop, 0.1, 0.2) == pytest.approx(0.536, abs=1e-12)


def test_turn_score_is_clipped_to_zero_and_one() -> None:
    assert turn_score(0.1, "a b c " * 4, 0.0, 1.0) == 0.0  # 0.1 - 0.7
    assert turn_score(1.0 + 1e-9, GOOD, 0.0, 0.1) == 1.0
