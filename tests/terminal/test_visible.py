"""Texts of rows, servers and files are shown without effect on the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from steer_lit.terminal.visible import markdown_line, print_lines, visible, visible_line


@pytest.mark.parametrize(
    "obeyed", ["\x1b", "\x00", "\x07", "\x08", "\r", "\x7f", "\x9b", "\u202e", "\u2066", "\u200f", "\u061c", "\ud800"]
)
def test_control_characters_are_replaced(obeyed: str) -> None:
    assert visible(f"a{obeyed}[31mb") == "a\N{REPLACEMENT CHARACTER}[31mb"


def test_other_text_is_unchanged() -> None:
    text = "Größe 5 µm → 日本語 😀\n\tzwei"
    assert visible(text) == text
    assert visible("a\r\nb") == "a\nb"
    assert visible_line("a\nb") == "a b"


def test_a_line_is_printed_without_markup() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=10)
    print_lines(console, "[/x] [red]7 of /tmp/file:100:", "a\nb\x1b")
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert printed == "[/x] [red]7 of /tmp/file:100:\na b\N{REPLACEMENT CHARACTER}\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("![x](http://x)", "![x]\\(http://x)"),
        ("![x\\](http://x)", "![x\\\\]\\(http://x)"),  # the text's own backslash
        ("<img src=x>&lt;", "&lt;img src=x>&amp;lt;"),
        ("1 < 2 >= 2, &lt; <", "1 < 2 >= 2, &amp;lt; &lt;"),
        ("a|b\nc\x1b", "a\\|b c\N{REPLACEMENT CHARACTER}"),
        ("**a** *", "\\*\\*a\\*\\* *"),
        ("+4.2 [0.8, 7.9] *", "+4.2 [0.8, 7.9] *"),
    ],
)
def test_markdown_is_escaped(text: str, shown: str) -> None:
    assert markdown_line(text) == shown
