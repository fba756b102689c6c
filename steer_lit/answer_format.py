"""The form a policy answers in, `<thinking>..</thinking><answer>..</answer>`: written and read here alone."""

from __future__ import annotations

import re

_TAGS = ("<thinking>", "</thinking>", "<answer>", "</answer>")
_FORM = re.compile(r"\s*<thinking>.*</thinking>\s*<answer>.*</answer>\s*", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)


def in_form(thinking: str, answer: str) -> str:
    return f"<thinking>{thinking}</thinking><answer>{answer}</answer>"


def format_ok(text: str) -> bool:
    """Whether the text is one `<thinking>` block, then one `<answer>` block, with only whitespace around them."""
    return all(text.count(tag) == 1 for tag in _TAGS) and _FORM.fullmatch(text) is not None


def answer_part(text: str) -> str | None:
    """What the user sees: the insides of every <answer> block outside the thinking, or None. One cut off counts."""
    found = _ANSWER.findall(_without_thinking(text))
    return "\n".join(found) if found else None


def cut_short(text: str) -> bool:
    """Whether the last <answer> block is not closed, or none is begun: of what stopped there, the user lacks a part."""
    outside = _without_thinking(text)
    return outside.rfind("</answer>") <= outside.rfind("<answer>")


def has_answer(text: str) -> bool:
    """Whether there is an <answer> part with anything in it."""
    return bool((answer_part(text) or "").strip())


def outside_thinking(text: str) -> str:
    """The text without its thinking, that which is not closed included, and without tags."""
    before, unclosed, _ = _without_thinking(text).partition("<thinking>")
    return without_tags(before + " " if unclosed else before)


def without_tags(text: str) -> str:
    """The text with a blank in place of every tag."""
    for tag in _TAGS:
        text = text.replace(tag, " ")
    return text


def _without_thinking(text: str) -> str:
    """The text with a blank in place of every closed <thinking> block.

    Scanned once: a lazy pattern looks to the end of the text from each tag that is never closed.
    """
    opened, closed = _TAGS[:2]
    outside, start = [], 0
    while (begin := text.find(opened, start)) >= 0 and (end := text.find(closed, begin + len(opened))) >= 0:
        outside.append(text[start:begin])
        start = end + len(closed)
    return " ".join([*outside, text[start:]])
