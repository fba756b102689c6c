"""The format of a policy's answers, `<thinking>..</thinking><answer>..</answer>`: written and read only here."""

from __future__ import annotations

import re

_TAGS = ("<thinking>", "</thinking>", "<answer>", "</answer>")
_FORM = re.compile(r"\s*<thinking>.*</thinking>\s*<answer>.*</answer>\s*", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)


def in_form(thinking: str, answer: str) -> str:
    return f"<thinking>{thinking}</thinking><answer>{answer}</answer>"


def format_ok(text: str) -> bool:
    """Return whether the text is one `<thinking>` block and then one `<answer>` block, with only whitespace around."""
    return all(text.count(tag) == 1 for tag in _TAGS) and _FORM.fullmatch(text) is not None


def answer_part(text: str) -> str | None:
    """Return what the user sees: the text of every <answer> block outside the thinking, even a cut one, or None."""
    found = _ANSWER.findall(_without_thinking(text))
    return "\n".join(found) if found else None


def cut_short(text: str) -> bool:
    """Return whether the last <answer> block is not closed, or none is begun: the user then lacks a part."""
    outside = _without_thinking(text)
    return outside.rfind("</answer>") <= outside.rfind("<answer>")


def has_answer(text: str) -> bool:
    """Return whether there is an <answer> part that is not blank."""
    return bool((answer_part(text) or "").strip())


def outside_thinking(text: str) -> str:
    """Return the text without its thinking, closed or not, and without tags."""
    before, unclosed, _ = _without_thinking(text).partition("<thinking>")
    return without_tags(before + " " if unclosed else before)


def without_tags(text: str) -> str:
    """Return the text with a blank in place of every tag."""
    for tag in _TAGS:
        text = text.replace(tag, " ")
    return text


def _without_thinking(text: str) -> str:
    """Return the text with a blank in place of every closed <thinking> block.

    One scan: a lazy regular expression would search to the end of the text from each tag that is never closed.
    """
    opened, closed = _TAGS[:2]
    outside, start = [], 0
    while (begin := text.find(opened, start)) >= 0 and (end := text.find(closed, begin + len(opened))) >= 0:
        outside.append(text[start:begin])
        start = end + len(closed)
    return " ".join([*outside, text[start:]])
