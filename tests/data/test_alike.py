"""What counts as the same problem."""

from __future__ import annotations

import pytest

from steer_lit.data.alike import alike, few_rows


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("messages[2]: is empty", "messages[14]: is empty", True),
        ("picture 'a.png': is no file", 'picture "b\'s.png": is no file', True),
        ("picture 'a.png': is no file", "picture 'a.png': cannot be decoded", False),
        ("it has 'a', 'b', 'c', ..., and none of", "it has 'a', and none of", True),
        ("it has 'a', and none of", "it has no keys, and none of", False),
        (r"is 'it\'s', must", "is '', must", True),
        ("a user's text, a row's end", "a user's word, a row's end", False),  # apostrophes do not quote
    ],
)
def test_other_numbers_and_quoted_texts_are_no_other_problem(one: str, other: str, same: bool) -> None:
    groups = alike([(1, one), (2, other)], lambda problem: problem[1], lambda problem: problem[0])
    assert len(groups) == (1 if same else 2)


def test_the_problem_of_most_rows_comes_first() -> None:
    problems = [(1, "a"), (1, "a"), (1, "a"), (2, "b"), (3, "b"), (4, "c"), (5, "c")]
    groups = alike(problems, lambda problem: problem[1], lambda problem: problem[0])
    assert [group[0][1] for group in groups] == ["b", "c", "a"]
    assert few_rows(number for number, _ in groups[2]) == "1 row (1)"
    assert few_rows(range(3, 46)) == "43 rows (3, 4, 5, 6, 7 and 38 more)"
