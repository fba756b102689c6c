"""The format of an answer: what is written can be read back, and what counts as well formed."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_lit.answer_format import (
    answer_part,
    cut_short,
    format_ok,
    has_answer,
    in_form,
    outside_thinking,
    without_tags,
)

GOOD = "<thinking>Red cup. Describe it.</thinking><answer>I see a red cup.</answer>"


def test_what_is_written_is_read_back() -> None:
    text = in_form("Red cup. Describe it.", "I see a red cup.")
    assert text == GOOD
    assert format_ok(text)
    assert answer_part(text) == "I see a red cup."
    assert without_tags(text) == " Red cup. Describe it.  I see a red cup. "


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        (GOOD, True),
        ("\n <thinking>a\nb</thinking> \n\n<answer>c\nd</answer>\n", True),
        ("", False),
        ("I see a red cup.", False),
        ("<answer>c</answer>", False),
        ("<thinking>a</thinking>", False),
        ("<answer>c</answer><thinking>a</thinking>", False),  # the wrong order
        ("Well. " + GOOD, False),  # text before
        (GOOD + " Bye.", False),  # text after
        ("<thinking>a</thinking> so <answer>c</answer>", False),  # text between
        (GOOD + GOOD, False),  # each twice
        ("<thinking>a</thinking><answer>c</answer><answer>d</answer>", False),
        ("<thinking>a<answer>c</answer></thinking>", False),  # one inside the other
        ("<thinking>a</thinking><answer>c", False),  # cut off
        ("<thinking>a</thinking></answer>c<answer>", False),
        ("<Thinking>a</Thinking><answer>c</answer>", False),
    ],
)
def test_format_is_one_thinking_block_then_one_answer_block(text: str, ok: bool) -> None:
    assert format_ok(text) is ok


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("<thinking>a</thinking><answer>b</answer>", False),
        ("<thinking>a</thinking><answer>b</answer> And one more", False),
        ("<thinking>a</thinking><answer>b", True),
        ("<thinking>a</thinking><answer>b</answer><answer>c", True),
        ("<thinking>a", True),
        ("<thinking><answer>a</answer></thinking>", True),  # the answer is inside the thinking
        ("", True),
    ],
)
def test_a_cut_answer_is_read_without_its_closing_tag(text: str, cut: bool) -> None:
    assert cut_short(text) is cut


@given(
    st.lists(st.sampled_from(["<thinking>", "</thinking>", "<answer>", "</answer>", "<thin", "king>", "a", " ", "\n"]))
)
def test_thinking_is_removed_as_by_a_lazy_pattern(parts: list[str]) -> None:
    """A lazy pattern states the expected result. Its time grows with the square of the number of unclosed tags."""
    text = "".join(parts)
    rest = re.sub(r"<thinking>.*?</thinking>", " ", text, flags=re.DOTALL)
    found = re.findall(r"<answer>(.*?)(?:</answer>|\Z)", rest, re.DOTALL)
    assert answer_part(text) == ("\n".join(found) if found else None)
    assert outside_thinking(text) == without_tags(re.sub(r"<thinking>.*", " ", rest, flags=re.DOTALL))


def test_unclosed_tags_take_linear_time() -> None:
    text = "<thinking>" * 100_000
    start = time.perf_counter()
    assert not has_answer(text)
    assert outside_thinking(text) == " "
    assert time.perf_counter() - start < 1
