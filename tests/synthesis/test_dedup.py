"""Which rows count as duplicates: by hand, and compared with checking every pair."""

from __future__ import annotations

import random
import unicodedata

import pytest

from steer_lit.synthesis import dedup
from steer_lit.synthesis.dedup import Duplicate, duplicates, jaccard, shingles

PICTURE = "a.png"


def found(*texts: str, threshold: float = 0.8) -> dict[int, Duplicate]:
    return duplicates({place: (text, PICTURE) for place, text in enumerate(texts)}, threshold)


def test_case_spaces_and_punctuation_do_not_make_a_new_row() -> None:
    assert found("Help me, please.\nNow!", "another thing", "help  ME please now") == {2: Duplicate(0, True, 1.0)}


def test_vowel_signs_distinguish_words() -> None:
    assert found("मेरी की", "मेरा के") == {}
    assert found("ที่นี่", "ทูนา") == {}


def test_two_encodings_of_one_letter_are_equal() -> None:
    assert found("caf\u00e9 au lait", "cafe\u0301 au lait", "ｃａｆé au lait") == {
        1: Duplicate(0, True, 1.0),
        2: Duplicate(0, True, 1.0),
    }


def test_marks_without_end_are_normalised_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their order takes the square of their number in a row: hours for an answer of a size that a server may send."""
    normalize, lengths = unicodedata.normalize, []
    monkeypatch.setattr(unicodedata, "normalize", lambda form, text: lengths.append(len(text)) or normalize(form, text))
    marked = "a" + "\U0001d16d\u302e" * 1000
    assert found(f"cafe\u0301 {marked}", f"caf\u00e9  {marked}") == {1: Duplicate(0, True, 1.0)}
    assert max(lengths) <= 200


def test_without_blanks_between_words_letters_are_compared() -> None:
    """40 letters with one changed, like 40 words."""
    for first in "กကកぁ一\U00020000":  # Thai, Myanmar, Khmer, kana, Chinese
        letters = [chr(ord(first) + number) for number in range(40)]
        text, near = "".join(letters), "".join([*letters[:10], "龍", *letters[11:]])
        assert found(text, near) == {1: Duplicate(0, False, 35 / 41)}


def test_the_threshold_by_hand() -> None:
    """40 words are 38 shingles. One changed word inside changes 3: 35 shared of 41. Two changed words: 32 of 44."""
    words = [f"w{number}" for number in range(40)]
    one, two = list(words), list(words)
    one[10] = two[10] = two[20] = "x"
    text, near, far = (" ".join(each) for each in (words, one, two))
    assert found(text, near) == {1: Duplicate(0, False, 35 / 41)}
    assert found(text, far) == {}
    assert found(text, far, threshold=32 / 44) == {1: Duplicate(0, False, 32 / 44)}
    assert found(text, far, threshold=32 / 44 + 1e-6) == {}
    assert found(" ".join(words[:36]), " ".join(one[:36]), threshold=31 / 37)  # times 34 shingles rounds up


def test_the_same_words_over_another_picture_are_another_row() -> None:
    text = "May a toddler play with this?"
    assert duplicates({0: (text, "a.png"), 1: (text, "b.png")}, 0.8) == {}
    assert duplicates({2: (text, ""), 5: (text, "")}, 0.8) == {5: Duplicate(2, True, 1.0)}


def test_rows_are_compared_with_kept_rows_only() -> None:
    """b repeats a, and c repeats b, but c differs enough from a to stay. The order decides, not chains of
    similar rows.
    """
    words = [f"w{number}" for number in range(40)]
    b, c = list(words), list(words)
    b[10] = "x"
    c[10], c[30] = "x", "y"
    texts = [" ".join(each) for each in (words, b, c)]
    assert set(found(*texts)) == {1}
    assert jaccard(shingles(b), shingles(c)) >= 0.8 > jaccard(shingles(words), shingles(c))


def test_texts_without_words_are_compared_by_their_signs() -> None:
    assert found("🔪 👶", "🍎", "🔪  👶\n", "?!", "") == {2: Duplicate(0, True, 1.0)}


def test_short_texts_are_compared_as_a_whole() -> None:
    assert found("yes", "no", "Yes.", "yes no") == {2: Duplicate(0, True, 1.0)}


def test_the_index_finds_what_comparing_every_pair_finds() -> None:
    rng = random.Random(0)
    for threshold in (0.3, 0.5, 0.7, 0.8, 1.0):
        texts = [[rng.choice("abcd") for _ in range(rng.randint(1, 14))] for _ in range(120)]
        expected: dict[int, int] = {}
        for row, words in enumerate(texts):
            kept = [other for other in range(row) if other not in expected]
            if near := [other for other in kept if jaccard(shingles(words), shingles(texts[other])) >= threshold]:
                expected[row] = near[0]
        every = found(*map(" ".join, texts), threshold=threshold)
        assert {row: duplicate.of for row, duplicate in every.items()} == expected
        assert expected


def test_rows_of_one_template_are_not_compared_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 words with two of them filled in: similar, but not enough. 4,000 such rows took a minute and a half."""
    compared: list[int] = []
    monkeypatch.setattr(dedup, "jaccard", lambda a, b: compared.append(1) or jaccard(a, b))
    words = [f"w{number}" for number in range(40)]
    texts = [" ".join([*words[:10], f"x{row}", *words[11:30], f"y{row}", *words[31:]]) for row in range(100)]
    assert found(*texts) == {}
    assert not compared
    assert found(*texts, texts[7].replace("x7", "x")) == {100: Duplicate(7, False, 35 / 41)}


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1])
def test_an_impossible_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        found("a", threshold=threshold)
