"""The form of an answer: what is written in it is read back, and what counts as being in it."""

import pytest

from steer_lit.answer_format import answer_part, format_ok, in_form, without_tags

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
