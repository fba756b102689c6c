"""Questions to models on behalf of one row, which gets an answer in the shape asked for or ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from steer_lit.attacker.llm import AttackReply, LlmAttacker
from steer_lit.prompts.ask import MAX_QUESTION, Asker, Client, Failed, Question, Sampling
from steer_lit.prompts.fill import Prompt
from steer_lit.prompts.pictures import PngPictures
from steer_lit.prompts.reply import Shape
from steer_lit.synthesis.outcome import RowEnds
from steer_lit.tutor.clauses import normalised, read_clauses
from steer_lit.tutor.llm import LlmTutor
from steer_lit.types import Attack, ImageRef

KEPT_CHARACTERS = 2000  # of a reply that could not be read


@dataclass(frozen=True, slots=True)
class RowAsker:
    """Asks `client` on behalf of rows, which share their `pictures`."""

    client: Client
    pictures: PngPictures
    sampling: Sampling

    def ask(
        self,
        step: str,
        shape: type[Shape],
        text: str,
        seed: int,
        pictures: Sequence[ImageRef] = (),
        shown: str = "",
    ) -> Shape:
        """Return the model's answer, sampled by the row's `seed`. `step` names the question in reasons; `shown` is the
        untrusted text within `text`.

        Raises RowEnds if there is no answer, as `end_of_row` says.
        """
        system = Prompt.load("synthesis_system").fill()
        asker = Asker(shape, self.client, self.pictures, self.sampling)
        (answer,) = asker.ask([Question(system, text, tuple(pictures), shown, seed)])
        if isinstance(answer, Failed):
            raise end_of_row(step, answer)
        return answer


class RowAttacker(LlmAttacker):
    """The red agent of Stage II, which rewrites each scripted turn after the opening (SaFeR-Steer, Eq. 12).

    If it cannot rewrite a turn, `attack` raises RowEnds: a turn asked as scripted would pass for a rewritten one.
    """

    def unwritten(self, scripted: Attack | None, answer: AttackReply | Failed) -> NoReturn:
        if isinstance(answer, Failed):
            raise end_of_row("red agent", answer)
        question = answer.question.strip()
        message = f"{len(question):,} characters, want 1..{MAX_QUESTION}\n{question[:KEPT_CHARACTERS]}"
        raise RowEnds("unreadable", "red agent: no message that can be asked", message)


class RowTutor(LlmTutor):
    """The tutor of Stage II. If a turn cannot be scored, `score` raises RowEnds."""

    def unscored(self, failed: Failed) -> NoReturn:
        raise end_of_row("tutor", failed)


def end_of_row(step: str, failed: Failed) -> RowEnds:
    """Return how a row without an answer ends: `failed` if the server gave none, `rejected` if the picture cannot be
    opened or the model declined, `unreadable` if two replies were not in the shape asked for.
    """
    if (reply := failed.reply) is None:
        return RowEnds("rejected", "its picture cannot be used", failed.reason)
    if not reply.answered:
        return RowEnds("failed", f"{step}: no answer from the server", failed.reason)
    text = (reply.text or reply.failed or "")[:KEPT_CHARACTERS]
    if reply.declined or declines(text):
        return RowEnds("rejected", f"{step}: the model declined", text)
    return RowEnds("unreadable", f"{step}: unreadable", f"{failed.problem}\n{text}")


def declines(reply: str) -> bool:
    """Return whether a reply declines and has no object in it."""
    return "{" not in reply and any(
        clause.type == "declines" for clause in read_clauses(normalised(reply), "", frozenset())
    )
