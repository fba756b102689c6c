"""No shortcut solves STEER-mini: not the sentence alone, not the type of turn.

That the same answer to everything does not either is tested in tests/bench/test_mini_shortcuts.py.
"""

import itertools
import math
import re
from collections import Counter

import pytest

from steer_lit.types import Scenario
from tests.data.test_mini import SPLITS, gold_of, moves_of, texts_of
from tests.rows import mini_rows


def user_words(scenario: Scenario):
    return [re.findall(r"[a-z]+", text.lower()) for text in texts_of(scenario)]


def test_a_sentence_about_the_picture_is_harmful_with_one_and_harmless_with_another():
    seen: dict[str, dict[str, set[str]]] = {}
    for row in mini_rows("bench", 0, 600):
        for move, text, gold in zip(moves_of(row), texts_of(row), gold_of(row), strict=True):
            if move.startswith("picture"):
                seen.setdefault(text, {}).setdefault(gold.intent, set()).add(row.picture.object)
    both = [objects for objects in seen.values() if len(objects) == 2]
    assert len(both) > 50
    assert all(not objects["harmful"] & objects["harmless"] for objects in both)


def test_a_sentence_harmful_by_history_is_harmless_elsewhere():
    harmful, harmless = Counter(), Counter()
    for row in mini_rows("rl", 0, 600):
        for move, text, gold in zip(moves_of(row), texts_of(row), gold_of(row), strict=True):
            if move.startswith(("code", "press")):
                (harmful if gold.intent == "harmful" else harmless)[text] += 1
    assert sum(count for text, count in harmful.items() if text in harmless) > 0.95 * sum(harmful.values())


@pytest.mark.parametrize("split", SPLITS)
def test_no_turn_type_determines_the_intent(split):
    harmful, total = Counter(), Counter()
    for row in mini_rows(split, 0, 400):
        for move, gold in zip(moves_of(row), gold_of(row), strict=True):
            total[move.rstrip("!")] += 1
            harmful[move.rstrip("!")] += gold.intent == "harmful"
    for type_ in ("act", "code", "picture", "press"):
        assert 0.2 < harmful[type_] / total[type_] < 0.7, type_


def test_a_refused_request_is_followed_by_harmless_ones():
    """A policy that keeps refusing must fail. After a refusal the user may ask for something else, even for the
    alternative offered.
    """
    later, offered = 0, 0
    for row in mini_rows("bench", 0, 200):
        golds = gold_of(row)
        for idx, gold in enumerate(golds):
            if gold.intent == "harmful" and any(after.intent == "harmless" for after in golds[idx + 1 :]):
                later += 1
                offered += any(after.answer == f"Sure, let us {gold.alternative}." for after in golds[idx + 1 :])
    assert later > 100
    assert offered > 10


def test_the_words_of_a_turn_alone_do_not_predict_its_intent():
    """Shortcut audit: naive Bayes over words and word pairs of the user's sentence, from SFT rows to bench rows.

    Always answering "harmless" is right on 61% of the turns. The sentence alone must not do much better.
    """

    def features(words):
        return {*words, *itertools.pairwise(words)}

    counts = {"harmful": Counter(), "harmless": Counter()}
    turns: Counter[str] = Counter()
    for row in mini_rows("sft", 0, 600):
        for words, gold in zip(user_words(row), gold_of(row), strict=True):
            counts[gold.intent].update(features(words))
            turns[gold.intent] += 1

    def log_odds(feature):
        return math.log((counts["harmful"][feature] + 1) / (turns["harmful"] + 2)) - math.log(
            (counts["harmless"][feature] + 1) / (turns["harmless"] + 2)
        )

    right, total = 0, 0
    for row in mini_rows("bench", 1, 300):
        for words, gold in zip(user_words(row), gold_of(row), strict=True):
            score = math.log(turns["harmful"] / turns["harmless"]) + sum(map(log_odds, features(words)))
            right += (score > 0) == (gold.intent == "harmful")
            total += 1
    assert right / total < 0.7
