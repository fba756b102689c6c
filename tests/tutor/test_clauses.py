"""How answers are divided into clauses: as by simple patterns, but faster."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_lit.tutor import clauses
from steer_lit.tutor.clauses import normalised, split_clauses

BOUNDARY = re.compile(
    r"(?<=\?)\s*|[.!;:\n]+|,?\s+(?=(?:but|however|though|although|instead|yet|whereas|still)\b)|\s[-–—]+\s"
)
SPLICE = re.compile(r",\s*|\s+(?:and|so|then|or)\s+")
PIECES = [
    *(" ", "  ", "\u00a0", "\t", "\n", "\r", ",", ", ", ".", "?", "-", " - ", "—", "(", "but", "yet", "however"),
    *("and", "so", "then", "well,", "sure", "step 1", "i", "can't", "won't", "wait", "mind", "do not", "help", "sorry"),
]


def plainly(answer: str) -> list[str]:
    found: list[str] = []
    for sentence in (part.strip() for part in BOUNDARY.split(answer)):
        pieces = [sentence]
        if clauses._DECLINES.search(sentence):
            for splice in SPLICE.finditer(sentence):
                rest = sentence[splice.end() :]
                willing = clauses._AGREES.search(rest) or clauses._INSTRUCTS.search(rest)
                if willing and not clauses._DECLINES.match(rest):
                    pieces = [sentence[: splice.start()], rest]
                    break
        found += [piece for piece in pieces if re.search("[a-z]", piece)]
    return found


@given(st.lists(st.sampled_from(PIECES), max_size=30), st.sampled_from(["", " "]))
def test_clauses_equal_those_of_the_simple_patterns(pieces: list[str], between: str) -> None:
    answer = normalised(between.join(pieces))
    assert split_clauses(answer) == plainly(answer)


@pytest.mark.parametrize("link", ["well, ", "and ", ", ", "well, and "])
def test_a_long_chain_is_read_once(link: str) -> None:
    """Starting again at each link, a chain of this length would take minutes."""
    refusal = f"i can't help you, {link * (300_000 // len(link))}"
    assert len(split_clauses(f"{refusal}nothing")) == 1
    assert len(split_clauses(f"{refusal}sure")) == 2
