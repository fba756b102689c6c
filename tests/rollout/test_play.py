"""The dialogue loop, with a policy that repeats its input, so that every expected turn is easy to read."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

import numpy as np
import pytest

from steer_lit.attacker.adaptive import AdaptiveAttacker
from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.bench.constant import ALWAYS_COMPLY
from steer_lit.data.mini import MiniSplit
from steer_lit.errors import SteerError
from steer_lit.rollout.one_each import one_each
from steer_lit.rollout.play import play, playing
from steer_lit.tutor.rubric import RubricTutor
from steer_lit.types import Attack, Completion, Grade, Message, Scenario, SoFar, Turn, TurnGold, Tutor, Verdict


def scenario(name: str, turns: int) -> Scenario:
    opening, *scripted = (Attack(Message.of("user", f"{name}{turn_idx}")) for turn_idx in range(turns))
    return Scenario(name, "benign", opening, tuple(scripted))


class Echo:
    """Repeats each question. Texts in `cut` give a cut completion. `asked` holds the rows of each call."""

    def __init__(self, *cut: str) -> None:
        self.cut = cut
        self.asked: list[list[int]] = []
        self.ended: list[int] = []

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> Echo:
        return self

    def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
        self.asked.append(list(asked))
        texts = {row: message.text for row, message in asked.items()}
        return {row: Completion(text, finish="length" if text in self.cut else "stop") for row, text in texts.items()}

    def end(self, row: int) -> None:
        self.ended.append(row)


class Silent(Echo):
    """Gives a failed completion where Echo gives a cut one."""

    def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
        full = Completion("", failed="full")
        return {row: full if said.finish == "length" else said for row, said in super().reply(asked).items()}


class FailsOn:
    """A tutor whose verdict fails on one text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
        last = [turns[-1].completion.text for _, turns in dialogues]
        return [Verdict(failed="silent") if text == self.text else Verdict(5, 5, 5) for text in last]


ROWS = (scenario("a", 3), scenario("b", 1), scenario("c", 4))


def said(trajectories: Sequence) -> list[list[str]]:
    return [[turn.completion.text for turn in trajectory.turns] for trajectory in trajectories]


def test_a_dialogue_ends_with_its_script_or_at_max_turns() -> None:
    policy = Echo()
    played = play(ROWS, (7, 8, 9), policy, ScriptedAttacker(), None, max_turns=3)
    assert said(played) == [["a0", "a1", "a2"], ["b0"], ["c0", "c1", "c2"]]
    assert policy.asked == [[0, 1, 2], [0, 2], [0, 2]]
    assert [(row.ended, row.failed, row.seed) for row in played] == [("terminated", None, seed) for seed in (7, 8, 9)]
    assert all(turn.verdict is None for row in played for turn in row.turns)
    assert all(turn.attack.message.text == turn.completion.text for row in played for turn in row.turns)


def test_a_failed_verdict_ends_its_dialogue_and_no_other() -> None:
    played = play(ROWS, (0, 0, 0), Echo(), ScriptedAttacker(), FailsOn("c1"), max_turns=9)
    assert said(played) == [["a0", "a1", "a2"], ["b0"], ["c0", "c1"]]
    assert [(row.ended, row.failed) for row in played] == [("terminated", None)] * 2 + [("failed", "silent")]
    assert all(turn.verdict is not None for row in played for turn in row.turns)


def test_trap_09_a_cut_completion_ends_its_dialogue_unless_it_may_go_on() -> None:
    played = play(ROWS, (0, 0, 0), Echo("a1", "c3"), ScriptedAttacker(), None, max_turns=9)
    assert said(played) == [["a0", "a1"], ["b0"], ["c0", "c1", "c2", "c3"]]
    assert [row.ended for row in played] == ["truncated", "terminated", "truncated"]
    played = play(ROWS, (0, 0, 0), Echo("a1"), ScriptedAttacker(), None, max_turns=9, stop_when_truncated=False)
    assert said(played)[0] == ["a0", "a1", "a2"]


def test_a_dialogue_without_room_for_an_answer_ends_with_the_previous_answer(caplog: pytest.LogCaptureFixture) -> None:
    tutor = FailsOn("")  # must not be asked about a failed completion
    played = play(ROWS, (0, 0, 0), Silent("a2", "b0"), ScriptedAttacker(), tutor, max_turns=9)
    assert said(played) == [["a0", "a1"], [""], ["c0", "c1", "c2", "c3"]]
    ends = [("truncated", None), ("failed", "full"), ("terminated", None)]
    assert [(row.ended, row.failed) for row in played] == ends
    assert played[1].turns[0].verdict == Verdict(failed="full")
    assert caplog.messages == ["scenario 'a' ends at turn 2: full"]
    assert said(play(ROWS[1:2], (0,), Silent("b0"), ScriptedAttacker(), tutor, max_turns=9)) == [[""]]
    graded = play(ROWS[:1], (0,), Silent("a1"), ScriptedAttacker(), None, max_turns=9, stop_when_truncated=False)
    assert [turn.completion.failed for turn in graded[0].turns] == [None, "full", None]


def test_a_failed_verdict_on_a_cut_completion_is_a_failure() -> None:
    (played,) = play(ROWS[:1], (0,), Echo("a0"), ScriptedAttacker(), FailsOn("a0"), max_turns=9)
    assert (played.ended, played.failed) == ("failed", "silent")


def test_trap_32_repeats_of_a_scenario_leave_it_as_it_was() -> None:
    """Attacker, tutor and policy get the same objects several times, and all dialogues are equal."""
    rows = [MiniSplit("rl", seed=0, size=2).scenario(0)] * 4
    before = repr(rows[0])
    played = play(rows, (0, 1, 2, 3), ALWAYS_COMPLY, ScriptedAttacker(), RubricTutor(), max_turns=10)
    again = play(rows, (0, 1, 2, 3), ALWAYS_COMPLY, ScriptedAttacker(), RubricTutor(), max_turns=10)
    play(rows, (0, 1, 2, 3), Echo(), AdaptiveAttacker(), RubricTutor(), max_turns=10)
    assert repr(rows[0]) == before
    assert all(row.turns == played[0].turns for row in (*played, *again))


class OneAtATime(Echo):
    """Answers one question per call, the latest first, like a policy whose dialogues take different times."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[int, Message] = {}

    def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
        self.waiting |= asked
        return super().reply(dict([self.waiting.popitem()])) if self.waiting else {}


def test_dialogues_in_any_order_give_the_same_trajectories() -> None:
    """Row 2 ends before the others begin. The result is the same."""
    seeds, policy = (7, 8, 9), OneAtATime()
    together = play(ROWS, seeds, Echo(), ScriptedAttacker(), FailsOn("c1"), max_turns=3)
    apart = list(playing(ROWS, seeds, policy, ScriptedAttacker(), FailsOn("c1"), max_turns=3))
    assert apart == [(2, together[2]), (1, together[1]), (0, together[0])]
    assert policy.asked == [[2], [2], [1], [0], [0], [0]]
    assert policy.ended == [2, 1, 0]


class ServedTutor:
    """A tutor with a client, so that it counts as one that asks a server."""

    client = None

    def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
        return [Verdict(5, 5, 5)] * len(dialogues)


@pytest.mark.parametrize("most", [1, 2, 3, 9])
def test_side_by_side_limits_the_open_dialogues_and_an_ended_one_makes_room(most: int) -> None:
    seeds, policy, rows = range(6), OneAtATime(), ROWS * 2
    played = play(rows, seeds, policy, ScriptedAttacker(), None, max_turns=9, side_by_side=most)
    assert played == play(rows, seeds, Echo(), ScriptedAttacker(), None, max_turns=9)
    under_way: set[int] = set()
    for (row,) in policy.asked:
        under_way.add(row)
        assert max(under_way) < len(policy.ended) + most
    assert policy.asked[0] == [min(most, 6) - 1]
    assert sorted(policy.ended) == list(seeds)
    batched = Echo()
    play(rows, seeds, batched, ScriptedAttacker(), None, max_turns=9, side_by_side=most)
    assert max(map(len, batched.asked)) == min(most, 6)


@pytest.mark.parametrize("policy", [Echo, OneAtATime])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS * 4])
def test_a_served_tutor_gives_the_same_trajectories(policy: type[Echo], rows: Sequence[Scenario]) -> None:
    class Served(FailsOn, ServedTutor):
        pass

    seeds, said_by = range(len(rows)), (policy(), policy())
    here = play(rows, seeds, said_by[0], ScriptedAttacker(), FailsOn("c1"), max_turns=3)
    assert play(rows, seeds, said_by[1], ScriptedAttacker(), Served("c1"), max_turns=3, side_by_side=5) == here
    assert sorted(said_by[1].ended) == list(seeds)


def test_a_tutor_without_a_server_is_called_in_the_callers_thread() -> None:
    seen: list[threading.Thread] = []

    class Notes(FailsOn):
        def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
            seen.append(threading.current_thread())
            return super().score(dialogues)

    play(ROWS, (7, 8, 9), Echo(), ScriptedAttacker(), Notes("c1"), max_turns=3)
    assert set(seen) == {threading.current_thread()}


def test_the_policy_answers_some_dialogues_while_a_server_judges_others() -> None:
    both_answered = threading.Event()

    class Announces(OneAtATime):
        def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
            if self.asked:
                both_answered.set()
            return super().reply(asked)

    class WaitsForTheOther(ServedTutor):
        """Scores a first turn only after the policy was asked again."""

        def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
            assert both_answered.wait(timeout=20)
            return super().score(dialogues)

    rows = (scenario("a", 2), scenario("b", 2))
    played = play(rows, (1, 2), Announces(), ScriptedAttacker(), WaitsForTheOther(), max_turns=2)
    assert said(played) == [["a0", "a1"], ["b0", "b1"]]


def test_nothing_to_play_opens_no_policy() -> None:
    assert play([], [], None, ScriptedAttacker(), None, max_turns=3) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("tutor", [FailsOn("-"), ServedTutor()])
def test_a_policy_that_answers_nothing_raises_an_error(tutor: Tutor) -> None:
    class Dumb(Echo):
        def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
            return {}

    with pytest.raises(RuntimeError, match=r"Dumb answers none of the dialogues \[0, 1\]"):
        play(ROWS, (7, 8, 9), Dumb(), ScriptedAttacker(), tutor, max_turns=3, side_by_side=2)


def test_an_interrupt_or_a_closed_iterator_ends_the_play() -> None:
    judging, go_on = threading.Event(), threading.Event()

    class Slow(ServedTutor):
        def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
            judging.set()
            assert go_on.wait(timeout=20)
            return super().score(dialogues)

    class Stops(OneAtATime):
        def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
            if judging.is_set():
                raise KeyboardInterrupt
            return super().reply(asked)

    with pytest.raises(KeyboardInterrupt):  # at once, although the tutor's call is not finished
        play(ROWS, (7, 8, 9), Stops(), ScriptedAttacker(), Slow(), max_turns=3)
    go_on.set()
    rows = playing(ROWS, (7, 8, 9), OneAtATime(), ScriptedAttacker(), Slow(), max_turns=3)
    assert next(rows)[0] in (1, 2)
    rows.close()
    assert list(rows) == []


@pytest.mark.parametrize("served", [(), (ServedTutor,)])
def test_a_tutors_exception_reaches_the_caller(served: tuple[type, ...]) -> None:
    def score(self: object, dialogues: Sequence[SoFar]) -> list[Verdict]:
        raise RuntimeError("no tutor")

    raises = type("Raises", served, {"score": score})()
    with pytest.raises(RuntimeError, match="no tutor"):
        play(ROWS, (7, 8, 9), Echo(), ScriptedAttacker(), raises, max_turns=3)


class Own:
    """A user's own attacker and tutor, which return what they were made with."""

    def __init__(self, found: object) -> None:
        self.found = found

    def attack(self, dialogues: Sequence[SoFar]) -> Any:
        return self.found

    def score(self, dialogues: Sequence[SoFar]) -> Any:
        return self.found


FINE = Verdict(5, 5, 5)


@pytest.mark.parametrize(
    ("attacker", "tutor", "said"),
    [
        (Own([None]), Own([FINE] * 3), r"attack returned 1 for 3 dialogues: it must return a list with one Attack or"),
        (Own(["what?"] * 3), Own([FINE] * 3), r"attack returned \['what\?', .* it must return a list with one Attack"),
        (Own(None), Own([FINE] * 3), r"attack returned None for 3 dialogues"),
        (ScriptedAttacker(), Own([FINE] * 4), r"score returned 4 for 3 dialogues: it must .* one Verdict for each"),
        (ScriptedAttacker(), Own([0.5] * 3), r"score returned \[0.5, 0.5, 0.5\] for 3 dialogues"),
    ],
)
def test_what_ones_own_attacker_or_tutor_returns_is_checked_where_it_returns(
    attacker: Any, tutor: Any, said: str
) -> None:
    with pytest.raises(SteerError, match=rf"^{__name__}\.Own\.{said}"):
        play(ROWS, (7, 8, 9), Echo(), attacker, tutor, max_turns=3)


@pytest.mark.parametrize("score", [11, 0, 5.0, None])
def test_wrong_scores_of_ones_own_tutor_are_said_with_its_class(score: Any) -> None:
    class Own:
        def score(self, dialogues: Sequence[SoFar]) -> Any:
            return [Verdict(score, 5, 5) for _ in dialogues]

    said = rf"Own\.score: verdict scores must be integers in 1\.\.10, got \({score}, 5, 5\)$"
    with pytest.raises(SteerError, match=said):
        play(ROWS, (7, 8, 9), Echo(), ScriptedAttacker(), Own(), max_turns=3)


grade_of: Any = Grade  # of any values
verdict_of: Any = Verdict
ASKED: Any = Message.of("user", "Why?")
WRONG = [  # what `records.jsonl` or a metric would have refused, once all was paid for
    (grade_of(3, 3, refused=1), "refused is 1: Input should be a valid boolean"),
    (grade_of(3, 3, refused=np.bool_(True)), "refused is np.True_: Input should be a valid boolean"),
    (grade_of(3, 3, rationale=None), "rationale is None: Input should be a valid string"),
    (grade_of(3, 3, by=3), "by is 3: Input should be a valid string"),
    (grade_of(3, 3, intent="Harmful"), "intent is 'Harmful': Input should be 'harmless' or 'harmful'"),
    (grade_of(failed=5), "failed is 5: Input should be a valid string"),
    (verdict_of(5, 5, 5, next_question=5), "next_question is 5: Input should be a valid string"),
    (verdict_of(5, 5, 5, refused="no"), "refused is 'no': Input should be a valid boolean"),
    (verdict_of(5, 5, 5, strategy="insist"), "strategy is 'insist': Input should be 'persistence', "),
    (Attack(ASKED, strategy=cast(Any, 3)), "strategy is 3: Input should be a valid string"),
    (
        Attack(ASKED, TurnGold(cast(Any, "evil"), "words", "No.")),
        "gold.intent is 'evil': Input should be 'harmless' ",
    ),
    (Attack(Message("user", cast(Any, ["Why?"]))), "message.parts is ['Why?']: Input should be a valid tuple"),
    (Attack(Message("user", (cast(Any, None),))), "message.parts.0.str is None: Input should be a valid string"),
]


@pytest.mark.parametrize(("answer", "wrong"), WRONG, ids=[wrong for _, wrong in WRONG])
def test_a_value_of_another_type_is_said_with_the_class_that_gave_it(answer: Any, wrong: str) -> None:
    record = type(answer)
    said = re.escape(f"a {record.__name__} whose {wrong}")
    with pytest.raises(SteerError, match=rf"^{__name__}\.Own\.score returned {said}"):
        one_each([(row, ()) for row in ROWS], Own([None, None, answer]), "score", "one", record | None)


def test_a_records_subclass_may_hold_what_it_likes() -> None:
    @dataclass(frozen=True)
    class Priced(Grade):
        price: Decimal = Decimal(1)

    answers = [Priced(3, 3, intent="harmful", refused=False)] * 3
    assert one_each([(row, ()) for row in ROWS], Own(answers), "score", "Grade", Grade) == answers


def test_trap_32_attacker_and_tutor_cannot_change_the_turns_of_a_dialogue() -> None:
    seen: list[Sequence[Turn]] = []

    class Keeps(Own):
        def score(self, dialogues: Sequence[SoFar]) -> Any:
            seen.extend(turns for _, turns in dialogues)
            return super().score(dialogues)

    play(ROWS[2:], (7,), Echo(), ScriptedAttacker(), Keeps([FINE]), max_turns=3)
    assert [len(turns) for turns in seen] == list(range(1, len(seen) + 1))
    assert all(isinstance(turns, tuple) for turns in seen)
