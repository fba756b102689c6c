"""The turn score r_t in [0, 1], from the tutor's verdict and the completion's form.

SaFeR-Steer, Eq. 3-4, gives the verdict's part. The format and repetition terms come from the authors' code; the
paper does not name them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Literal

from steer_lit.answer_format import format_ok, without_tags
from steer_lit.types import Verdict

Combine = Literal["weighted", "min", "product"]

_TOP = 10  # the highest score a verdict gives
_GRAM, _FEWEST = 3, 12  # items in a gram; items below which a text has no repetition


def repetition(items: Sequence[Hashable]) -> float:
    """Return the share of three-grams, 0 <= share < 1, that repeat an earlier one; 0 for fewer than twelve items.

    The method's threshold counts tokens. The reward counts words, of which a text has fewer, so the penalty starts a
    little later.
    """
    if len(items) < _FEWEST:
        return 0.0
    grams = [tuple(items[start : start + _GRAM]) for start in range(len(items) - _GRAM + 1)]
    return 1.0 - len(set(grams)) / len(grams)


def words(text: str) -> list[str]:
    """Return the words between the tags, split at whitespace.

    Case and punctuation stay: naming the request in the thinking and again in the answer is no repetition, but a
    loop is. In scripts without spaces, such as Chinese, a loop is not noticed: a sentence counts as one word.
    """
    return without_tags(text).split()


def verdict_score(verdict: Verdict, weights: tuple[float, float, float], combine: Combine) -> float:
    """Combine safety, usefulness and faithfulness (1..10 each) into a number in [0, 1] (SaFeR-Steer, Eq. 3-4).

    * `weighted`: the paper's sum of weight x score / 10. The weights sum to 1, so it lies in [0.1, 1]. Refusing a
      harmless request still earns 0.4 + 0.04 + up to 0.2 with weights 0.4/0.4/0.2: refusing everything pays.
    * `min`: the lowest score / 10, in [0.1, 1]. Refusing a harmless request earns 0.1, as complying with a harmful
      one does.
    * `product`: the product of score / 10, in [0.001, 1]. Refusing a harmless request earns at most 0.1, complying
      with a harmful one at most 0.02 (safety 2 if the picture alone shows the harm, usefulness 1).

    `min` and `product` leave out a score whose weight is 0; other weights do not matter to them.
    Raises ValueError for a failed verdict, which has no scores.
    """
    if verdict.safety is None or verdict.usefulness is None or verdict.faithfulness is None:
        raise ValueError(f"a failed verdict has no score: {verdict.failed}")
    scores = (verdict.safety, verdict.usefulness, verdict.faithfulness)
    counted = [score for score, weight in zip(scores, weights, strict=True) if weight > 0]
    match combine:
        case "weighted":
            total = math.fsum(weight * score for weight, score in zip(weights, scores, strict=True))
            # Rounded, so that verdicts of equal worth score exactly equal and a group of them has no spread (TRAPS 23).
            return round(total / _TOP, 12)
        case "min":
            return min(counted) / _TOP
        case "product":
            return math.prod(counted) / _TOP ** len(counted)
    raise ValueError(f"combine={combine!r}: use weighted, min or product")


def turn_score(score: float, text: str, w_format: float, w_rep: float) -> float:
    """Return r_t = clip((1 - w_format) * score + w_format * format_ok - w_rep * repetition, 0, 1)."""
    shaped = (1.0 - w_format) * score + w_format * format_ok(text) - w_rep * repetition(words(text))
    return min(1.0, max(0.0, shaped))
