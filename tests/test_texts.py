"""Texts of other libraries and of servers, made fit to be quoted and written."""

from __future__ import annotations

from steer_lit.texts import encodable, first_lines


def test_an_error_of_another_library_becomes_one_line() -> None:
    assert first_lines(OSError("\n 404 Client Error.\n\n  Not found\nMore")) == "404 Client Error."
    assert first_lines(OSError("\n 404 Client Error.\n\n  Not found\nMore"), 2) == "404 Client Error. Not found"
    assert first_lines(OSError()) == "OSError"


def test_half_a_surrogate_pair_is_replaced() -> None:
    assert encodable("a\ud83db 😀") == "a?b 😀"
