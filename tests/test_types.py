"""The records cannot be changed once they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from steer_lit import types
from steer_lit.data.formats import read_bench_row, read_sft_row
from steer_lit.data.mini import MiniSplit
from steer_lit.types import Grade, Verdict

RECORDS = [value for value in vars(types).values() if dataclasses.is_dataclass(value)]


def inside(value: Any) -> Iterator[Any]:
    """Yield `value` and everything it contains."""
    yield value
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from inside(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for held in value.values():
            yield from inside(held)
    elif isinstance(value, tuple | list | set):
        for held in value:
            yield from inside(held)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_trap_32_records_are_frozen(record: Any) -> None:
    made = record.__new__(record)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(record)[0].name, None)


def test_trap_32_rows_hold_no_lists() -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows = [
        MiniSplit("rl", seed=0, size=1).scenario(0),
        MiniSplit("sft", seed=0, size=1).dialogue(0),
        read_bench_row({"question_id": 1, "messages_fixed": chat, "category": "x", "risk_trajectory": [0.5]}, "f", 1),
        read_sft_row({"messages": chat}, "f", 1),
        types.Scenario("bare", "benign", types.Attack(types.Message.of("user", "Hi"))),
    ]
    plain = (str, int, float, type(None), tuple, Mapping)  # a mapping is metadata; only its type is read-only
    for row in rows:
        for value in inside(row):
            assert dataclasses.is_dataclass(value) or isinstance(value, plain), repr(value)


def said(*roles: types.Role) -> tuple[types.Message, ...]:
    return tuple(types.Message.of(role, f"{role} {at}") for at, role in enumerate(roles))


@pytest.mark.parametrize("system", [(), ("system",)])
def test_a_dialogue_has_a_system_message_turns_and_answers(system: tuple[types.Role, ...]) -> None:
    messages = said(*system, "user", "assistant", "user", "assistant")
    dialogue = types.Dialogue("d", messages)
    assert dialogue.system == ("system 0" if system else None)
    first, second, third, fourth = messages[len(system) :]
    assert dialogue.turns == ((first, second), (third, fourth))
    assert dialogue.answers == (second.text, fourth.text)


@pytest.mark.parametrize(
    ("roles", "shown"),
    [
        ((), "no message"),
        (("system",), "system"),
        (("user", "system", "assistant"), "user, system, assistant"),
        (("user", "assistant") * 3 + ("user",), "user, assistant, user, assistant, user, assistant, ..."),
    ],
)
def test_turns_that_do_not_alternate_are_refused(roles: tuple[types.Role, ...], shown: str) -> None:
    with pytest.raises(ValueError, match=f"^user and assistant must alternate, the assistant last; got {shown}$"):
        types.Dialogue("d", said(*roles)).turns  # noqa: B018


@pytest.mark.parametrize("scores", [(0, 5, 5), (5, 11, 5), (5, 5, None), (5, 5, 7.5), (True, 5, 5)])
def test_a_verdict_is_three_integers_from_1_to_10(scores: tuple) -> None:
    with pytest.raises(ValueError, match=r"1\.\.10"):
        Verdict(*scores)


def test_a_failed_verdict_or_grade_has_no_scores() -> None:
    assert Verdict(failed="silent").safety is None
    with pytest.raises(ValueError, match="no scores"):
        Verdict(5, 5, 5, failed="silent")
    with pytest.raises(ValueError, match="no scores"):
        Grade(helpfulness=0, failed="silent")


@pytest.mark.parametrize(("ended", "failed"), [("failed", None), ("terminated", "silent"), ("truncated", "silent")])
def test_a_trajectory_has_a_reason_exactly_if_it_failed(ended: types.Ended, failed: str | None) -> None:
    scenario = types.Scenario("bare", "benign", types.Attack(types.Message.of("user", "Hi")))
    assert types.Trajectory(scenario, (), None, 0, "failed", "silent").failed == "silent"
    with pytest.raises(ValueError, match="for a reason or not at all"):
        types.Trajectory(scenario, (), None, 0, ended, failed)


@pytest.mark.parametrize(
    ("helpfulness", "harmlessness"), [(4, 0), (-1, 0), (0, 4), (0, -4), (None, 0), (2.0, 3), (1, True)]
)
def test_a_grade_stays_on_the_judges_scales(helpfulness: int | None, harmlessness: int) -> None:
    with pytest.raises(ValueError, match=r"must be integers in 0\.\.3"):
        Grade(helpfulness, harmlessness)
