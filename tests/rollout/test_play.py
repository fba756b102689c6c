"""The dialogue loop with a policy that counts, so that every expected turn can be read off."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from steer_lit.attacker.adaptive import AdaptiveAttacker
from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.bench.constant import AlwaysComply
from steer_lit.data.mini import MiniSplit
from steer_lit.rollout.play import play
from steer_lit.tutor.rubric import RubricTutor
from steer_lit.types import Attack, Completion, Message, Scenario, SoFar, Verdict


def scenario(name: str, turns: int) -> Scenario:
    opening, *scripted = (Attack(Message.of("user", f"{name}{turn_idx}")) for turn_idx in range(turns))
    return Scenario(name, "benign", opening, tuple(scripted))


class Echo:
    """Repeats what it was asked; `cut` are the texts it is cut off at. Notes which rows were asked in each turn."""

    def __init__(self, *cut: str) -> None:
        self.cut = cut
        self.asked: list[list[int]] = []

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> Echo:
        return self

    def reply(self, rows: Sequence[int], messages: Sequence[Message]) -> list[Completion]:
        self.asked.append(list(rows))
        return [Completion(m.text, finish="length" if m.text in self.cut else "stop") for m in messages]

    def trace(self, row: int) -> None: ...


class Silent(Echo):
    """Gives no answer where Echo would be cut off."""

    def reply(self, rows: Sequence[int], messages: Sequence[Message]) -> list[Completion]:
        echoed = super().reply(rows, messages)
        return [Completion("", finish="length", failed="full") if c.finish == "length" else c for c in echoed]


class FailsOn:
    """A tutor that has nothing to say about one text."""

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


def test_a_dialogue_without_room_for_an_answer_ends_with_the_answer_before(caplog: pytest.LogCaptureFixture) -> None:
    tutor = FailsOn("")  # which must not be asked about an answer that is not there
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
    """Attacker, tutor and policy all see the same objects K times; the last dialogue is the first."""
    rows = [MiniSplit("rl", seed=0, size=2).scenario(0)] * 4
    before = repr(rows[0])
    played = play(rows, (0, 1, 2, 3), AlwaysComply(), ScriptedAttacker(), RubricTutor(), max_turns=10)
    again = play(rows, (0, 1, 2, 3), AlwaysComply(), ScriptedAttacker(), RubricTutor(), max_turns=10)
    play(rows, (0, 1, 2, 3), Echo(), AdaptiveAttacker(), RubricTutor(), max_turns=10)
    assert repr(rows[0]) == before
    assert all(row.turns == played[0].turns for row in (*played, *again))


def test_waves_change_nothing_but_who_waits_for_whom() -> None:
    seeds = (7, 8, 9)
    together = play(ROWS, seeds, Echo(), ScriptedAttacker(), FailsOn("c1"), max_turns=3)
    for waves in (2, 3, 5):
        assert play(ROWS, seeds, Echo(), ScriptedAttacker(), FailsOn("c1"), max_turns=3, waves=waves) == together


def test_one_wave_stays_in_the_callers_thread() -> None:
    seen: list[threading.Thread] = []

    class Notes(FailsOn):
        def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
            seen.append(threading.current_thread())
            return super().score(dialogues)

    play(ROWS, (7, 8, 9), Echo(), ScriptedAttacker(), Notes("c1"), max_turns=3)
    assert set(seen) == {threading.current_thread()}


def test_the_policy_answers_one_wave_while_the_tutor_judges_another() -> None:
    both_answered = threading.Event()

    class Announces(Echo):
        def reply(self, rows: Sequence[int], messages: Sequence[Message]) -> list[Completion]:
            if self.asked:
                both_answered.set()
            return super().reply(rows, messages)

    class WaitsForTheOther:
        """Scores a first turn only after the policy has gone on to the other wave."""

        def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
            assert both_answered.wait(timeout=20)
            return [Verdict(5, 5, 5)] * len(dialogues)

    rows = (scenario("a", 2), scenario("b", 2))
    played = play(rows, (1, 2), Announces(), ScriptedAttacker(), WaitsForTheOther(), max_turns=2, waves=2)
    assert said(played) == [["a0", "a1"], ["b0", "b1"]]


def test_what_a_tutor_raises_reaches_the_caller() -> None:
    class Raises:
        def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
            raise RuntimeError("no tutor")

    with pytest.raises(RuntimeError, match="no tutor"):
        play(ROWS, (7, 8, 9), Echo(), ScriptedAttacker(), Raises(), max_turns=3, waves=2)
