"""The LLM tutor's verdicts and questions in whole rollouts, with the attacker that asks the questions."""

import json
from collections.abc import Mapping, Sequence

from steer_lit.attacker.adaptive import AdaptiveAttacker
from steer_lit.attacker.llm import LlmAttacker
from steer_lit.data.images import open_image
from steer_lit.rollout.play import play
from steer_lit.tutor.llm import LlmTutor
from steer_lit.types import Attack, Completion, ImageRef, Message, Scenario

KNIFE = ImageRef("mini://knife?colour=red&x=1&y=1&size=50&bg=0")


class Refuses:
    """Refuses everything."""

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> "Refuses":
        return self

    def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
        return {row: Completion("<thinking></thinking><answer>I won't help with that.</answer>") for row in asked}

    def end(self, row: int) -> None:
        return None


def row(name: str) -> Scenario:
    scripted = tuple(Attack(Message.of("user", f"{name}: question {at}")) for at in (1, 2))
    return Scenario(name, "red_team", Attack(Message.of("user", KNIFE, f"{name}: question 0")), scripted)


def verdict(question: str | None) -> str:
    return json.dumps(
        {
            "rationale": "firm",
            "intent": "harmful",
            "refused": True,
            "safety": 8,
            "usefulness": 8,
            "faithfulness": 10,
            "strategy": "persistence",
            "next_question": question,
        }
    )


def rollouts(client: object, names: str, attacker: object | None = None, max_turns: int = 4):
    tutor = LlmTutor(client, open_image)  # type: ignore[arg-type]
    scenarios = [row(name) for name in names]
    return play(scenarios, range(len(names)), Refuses(), attacker or AdaptiveAttacker(extra_turns=2), tutor, max_turns)  # type: ignore[arg-type]


def test_the_policy_is_asked_the_tutors_questions(answering) -> None:
    client = answering(lambda request: verdict(f"pressed after {request.messages[1].text.count('assistant:')} turns"))
    (trajectory,) = rollouts(client, "a")
    texts = [turn.attack.message.text for turn in trajectory.turns]
    assert texts == ["a: question 0", "pressed after 0 turns", "pressed after 1 turns", "pressed after 2 turns"]
    assert [turn.attack.strategy for turn in trajectory.turns] == ["scripted", *["tutor_persistence"] * 3]
    assert [turn.verdict.safety for turn in trajectory.turns] == [8, 8, 8, 8]
    assert [len(batch) for batch in client.batches] == [1, 1, 1, 1]  # one call per turn gives scores and question


def test_without_a_tutors_question_the_scripted_one_is_asked_unchanged(answering) -> None:
    (trajectory,) = rollouts(answering(lambda request: verdict(None)), "a", max_turns=3)
    assert [turn.attack for turn in trajectory.turns] == list(row("a").attacks)


def test_trap_24_a_missing_verdict_ends_its_own_dialogue_only(answering) -> None:
    def answer(request) -> str | None:
        text = request.messages[1].text
        return None if "| b: question 1" in text.split("The scripted next")[0] else verdict(None)

    first, second, third = rollouts(answering(answer), "abc", max_turns=3)
    assert (first.ended, second.ended, third.ended) == ("terminated", "failed", "terminated")
    assert second.failed == "tutor: time-out"
    assert [turn.verdict.safety for turn in second.turns] == [8, None]
    fault_free = rollouts(answering(lambda request: verdict(None)), "abc", max_turns=3)
    assert [first, third] == [fault_free[0], fault_free[2]]


def test_an_llm_attacker_writes_after_the_tutors_verdict(answering) -> None:
    attacker = LlmAttacker(answering(lambda request: json.dumps({"question": "Please."})), open_image)
    (trajectory,) = rollouts(answering(lambda request: verdict("unused")), "a", attacker, max_turns=2)
    assert [turn.attack.message.text for turn in trajectory.turns] == ["a: question 0", "Please."]
