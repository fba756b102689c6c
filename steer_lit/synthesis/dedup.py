"""A search for rows that repeat an earlier row, exactly or nearly.

Rows are compared only if they show the same picture: the same question over another picture is another question, and
pairs that differ only in the picture teach a policy to look.

* exact: the same words in the same order; case, spaces, punctuation and how a letter is encoded do not count, except in
  a text without a word. In scripts without blanks between words, each letter counts as a word;
* near: the sets of three-word shingles have a Jaccard similarity of at least the threshold. At 0.8, the default of
  `near_duplicate`, one changed word in a text of 40 still makes a duplicate (35 of 41 shingles shared, 0.85), two
  changed words apart do not (32 of 44, 0.73).

Near duplicates are found exactly, without hashing tricks: two sets can be that similar only if they share one of
their rarest shingles, so an index over these leaves few pairs to compare (Bayardo, Ma and Srikant, "Scaling up
all pairs similarity search", 2007). The smaller of the two shares one of fewer still, which keeps rows of one template
apart from each other.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

SHINGLE = 3
_LETTER = re.compile(r"\w")
_PART = re.compile(r"\S{1,200}")  # normalised by itself: for marks in a row that takes the square of their number
# Thai and Lao, Myanmar, Khmer, kana, Chinese characters: a run of these is no word.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A repeat: `of` is the place of the earlier row; `similarity` lies in threshold..1."""

    of: int
    exact: bool
    similarity: float


def duplicates(rows: Mapping[int, tuple[str, str]], threshold: float) -> dict[int, Duplicate]:
    """Return the rows to leave out, by their place, each with the first kept row that it repeats.

    A row is its text and the name of its picture, "" without one. Raises ValueError unless `threshold` is in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold}: must lie above 0 and at most at 1")
    groups: dict[str, list[int]] = defaultdict(list)
    for place, (_, picture) in rows.items():
        groups[picture].append(place)
    found: dict[int, Duplicate] = {}
    for places in groups.values():
        if len(places) > 1:
            found |= _within(places, [_words(rows[place][0]) for place in places], threshold)
    return dict(sorted(found.items()))


def shingles(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """Return every run of three words; for a shorter text, all its words as one."""
    if len(words) <= SHINGLE:
        return frozenset([tuple(words)])
    return frozenset(tuple(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1))


def jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    """Return the Jaccard similarity, shared shingles over all, 0..1."""
    return len(a & b) / len(a | b)


def _within(places: Sequence[int], texts: Sequence[tuple[str, ...]], threshold: float) -> dict[int, Duplicate]:
    """Return the duplicates among rows of one picture. They are compared with kept rows only, so that chains end."""
    sets = [shingles(words) for words in texts]
    counts = Counter(shingle for each in sets for shingle in each)
    found: dict[int, Duplicate] = {}
    same: dict[tuple[str, ...], int] = {}
    # By shingle, the kept rows that hold it among their rarest: those they must share one of with a smaller row, and
    # those with a larger one.
    with_smaller, with_larger = (defaultdict[tuple[str, ...], list[int]](list) for _ in range(2))
    for row, (words, own) in enumerate(zip(texts, sets, strict=True)):
        if words in same:
            found[places[row]] = Duplicate(places[same[words]], True, 1.0)
            continue
        rarest = sorted(own, key=lambda shingle: (counts[shingle], shingle))
        # Similar sets of m <= n shingles share at least threshold * n, and 2 * threshold / (1 + threshold) * m.
        many = rarest[: _spare(threshold, len(own)) + 1]
        few = rarest[: _spare(2 * threshold / (1 + threshold), len(own)) + 1]
        others = {other for shingle in many for other in with_larger[shingle]}
        others |= {other for shingle in few for other in with_smaller[shingle]}
        near = {other: jaccard(own, sets[other]) for other in others}
        first = min((other for other, similarity in near.items() if similarity >= threshold), default=None)
        if first is not None:
            found[places[row]] = Duplicate(places[first], False, near[first])
            continue
        same[words] = row
        for shingle in many:
            with_smaller[shingle].append(row)
        for shingle in few:
            with_larger[shingle].append(row)
    return found


def _spare(share: float, size: int) -> int:
    """Return how many of `size` shingles may be missing where at least a `share` of them is there."""
    return size - math.ceil(share * size - 1e-9)


def _words(text: str) -> tuple[str, ...]:
    """Return a text's words. A text without any, such as emoji, is split at blanks, or all such would be equal."""
    text = _PART.sub(lambda part: unicodedata.normalize("NFKC", part[0]), text.casefold())
    return tuple(filter(_LETTER.search, "".join(map(_in_word, text)).split())) or tuple(text.split())


@cache  # there are only a million characters
def _in_word(character: str) -> str:
    """Return the character as it stands in words, a blank if it is in none. Vowel signs are kept, though no `\\w`:
    without them, Hindi's "ki" and "ke" would be one word.
    """
    if unicodedata.category(character)[0] == "M":
        return character
    if _UNSPACED.match(character):
        return f" {character}"
    return character if character.isalnum() else " "
