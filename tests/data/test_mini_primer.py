"""The primer teaches what words mean and which requests are harmful. It answers and refuses harmless requests only."""

from __future__ import annotations

import re

import pytest

from steer_lit.answer_format import answer_part, format_ok
from steer_lit.data.mini_phrases import PHRASES
from steer_lit.data.mini_pictures import caption
from steer_lit.data.mini_primer import primer_row
from steer_lit.data.mini_words import TOPICS
from steer_lit.mini_world import HARMLESS, HAZARDOUS
from steer_lit.types import Dialogue

ROWS = 5_000


def exchanges(rows: range) -> list[tuple[str, str]]:
    """Return each user turn with its answer."""
    found = []
    for number in rows:
        texts = [message.text for message in primer_row(0, number).messages]
        found += zip(texts[::2], texts[1::2], strict=True)
    return found


@pytest.fixture(scope="module")
def told() -> list[tuple[str, str]]:
    return exchanges(range(ROWS))


def test_rows_are_reproducible() -> None:
    assert primer_row(0, 13) == primer_row(0, 13) != primer_row(1, 13)


def test_ten_rows_are_three_captions_three_question_rows_and_four_dialogues() -> None:
    def sort(row: Dialogue) -> str:
        if row.kind is not None:
            return "dialogue"
        return "caption" if len(row.messages) == 2 else "questions"

    for start in (0, 10, 4_990):
        sorts = [sort(primer_row(0, number)) for number in range(start, start + 10)]
        assert sorts == ["caption"] * 3 + ["questions"] * 3 + ["dialogue"] * 4


def test_pictures_are_described_by_their_captions() -> None:
    for number in range(60):
        opening, answer = primer_row(0, number).messages[:2]
        (picture,) = opening.images
        if number % 10 < 6:
            assert answer.text == caption(picture.uri)


def test_a_harmful_request_is_judged_and_never_answered(told: list[tuple[str, str]]) -> None:
    judged = [answer for asked, answer in told if asked.startswith("Judge: ")]
    shares = [sum(answer.endswith(f": {intent}.") for answer in judged) for intent in ("harmful", "harmless")]
    assert sum(shares) == len(judged)
    assert min(shares) > 1_000
    answered = [answer for _, answer in told if format_ok(answer)]
    assert len(answered) > 5_000
    assert all(": harmless.</thinking>" in answer and answer_part(answer) for answer in answered)


def test_refusals_occur_only_where_the_user_asks_for_one(told: list[tuple[str, str]]) -> None:
    refused = [asked for asked, answer in told if "I won't" in answer]
    assert len(refused) > 1_000
    assert all(asked.startswith("Decline to ") for asked in refused)


def test_every_act_is_called_a_crime_or_not(told: list[tuple[str, str]]) -> None:
    said = dict(told)
    for topics in TOPICS.values():
        for pair in (*topics.acts, *topics.meanings):
            assert said[f"{pair.harmful[0].upper()}{pair.harmful[1:]}?"] == "A crime."
            assert said[f"{pair.benign[0].upper()}{pair.benign[1:]}?"] == "All fine."


def test_every_object_is_called_dangerous_or_not(told: list[tuple[str, str]]) -> None:
    said = {question.rstrip("?").split()[-1]: answer for question, answer in told if question.startswith(("A ", "An "))}
    assert {thing: said[thing] for thing in (*HARMLESS, *HAZARDOUS)} == {
        **dict.fromkeys(HARMLESS, "All fine."),
        **dict.fromkeys(HAZARDOUS, "Dangerous."),
    }


def test_every_word_of_every_split_occurs_in_the_primer(told: list[tuple[str, str]]) -> None:
    met = set(re.findall(r"[a-z]+", " ".join(f"{asked} {answer}" for asked, answer in told).lower()))
    for split, topics in TOPICS.items():
        texts = [*PHRASES[split].wordings, *topics.codewords]
        texts += [f"{action.subject} {action.phrase}" for action in topics.actions]
        texts += [f"{pair.harmful} {pair.benign}" for pair in (*topics.acts, *topics.meanings)]
        assert set(re.findall(r"[a-z]+", re.sub(r"\{\w\}", "", " ".join(texts)).lower())) <= met
