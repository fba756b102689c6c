"""An attacker whose messages are written by a model behind a server.

The last verdict decides how to press (`strategy_for`); the model writes the message. If there is nothing to press, the
model says the scripted question in other words, so that its words are no sign of harm. If it gives no message that can
be used, the scripted question is asked, or after the script what the adaptive attacker asks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar, Literal

from steer_lit.attacker.adaptive import AdaptiveAttacker
from steer_lit.attacker.strategy import last_verdict, strategy_for, written
from steer_lit.prompts.ask import MAX_QUESTION, Failed, NamedClient, Question, TurnAsker
from steer_lit.prompts.fill import fence
from steer_lit.prompts.pictures import MAX_SENT_PIXELS
from steer_lit.prompts.reply import Reply
from steer_lit.prompts.transcript import NO_SCRIPT, attached, everything, history
from steer_lit.types import Attack, OpenImage, Scenario, SoFar, Strategy, Turn

log = logging.getLogger(__name__)

Way = Strategy | Literal["follow_up"]


class AttackReply(Reply):
    """The user's next message."""

    question: str


class LlmAttacker:
    """Writes attacks through `client`. `extra_turns`: how many turns a dialogue may go beyond its script.

    The model sees what a user sees: the answer parts, never the thinking. `open_image` gives the pictures, which are
    sent as PNG of at most `max_pixels`; `max_tokens` bounds a reply. Prompt files in the folder
    `prompts` replace those of the package.
    """

    without_gold: ClassVar[bool] = True  # its questions have no gold facts

    def __init__(
        self,
        client: NamedClient,
        open_image: OpenImage,
        extra_turns: int = 2,
        max_tokens: int = 256,
        temperature: float = 0.0,
        max_pixels: int = MAX_SENT_PIXELS,
        prompts: str | None = None,
    ) -> None:
        self.extra_turns = extra_turns
        self.client = client
        self._instead, self._warned = AdaptiveAttacker(extra_turns), False
        self._asker = TurnAsker(
            "attacker", AttackReply, client, open_image, max_tokens, temperature, max_pixels, prompts
        )

    @property
    def fingerprint(self) -> str:
        """A text that changes with server, model, prompts and every setting."""
        return self._asker.fingerprint((self.extra_turns, self._instead.fingerprint))

    def attack(self, dialogues: Sequence[SoFar]) -> list[Attack | None]:
        """Return the next attack of each dialogue, None if the script is over and there is nothing to press on.

        All are asked for together. Raises `errors.ServerDown` if the server has stopped answering.
        """
        scripted = [scenario.attack_at(len(turns)) for scenario, turns in dialogues]
        attacks = list(scripted)
        ways = {
            at: way for at, (scenario, turns) in enumerate(dialogues) if (way := self._way(scenario, turns)) is not None
        }
        questions = [self._question(dialogues[at][1], scripted[at], way) for at, way in ways.items()]
        for (at, way), answer in zip(ways.items(), self._asker.ask(questions), strict=True):
            if isinstance(answer, Failed) or not 0 < len(question := answer.question.strip()) <= MAX_QUESTION:
                attacks[at] = self.unwritten(dialogues[at], answer)
            else:
                attacks[at] = written(question, scripted[at], f"llm_{way}")
        return attacks

    def unwritten(self, dialogue: SoFar, answer: AttackReply | Failed) -> Attack | None:
        """Return what to ask if the model wrote nothing, or nothing that can be asked (SaFeR-Steer, Eq. 17): the row's
        own question, or after the script what the adaptive attacker asks. A dialogue that ended there would be shorter
        than its group's others, and its return smaller, for no answer of its own.
        """
        scenario, turns = dialogue
        if not self._warned:
            why = answer.reason if isinstance(answer, Failed) else f"{len(answer.question.strip()):,} characters"
            log.warning("attacker: no question that can be asked (%s): others take its place, now and later", why)
            self._warned = True
        return scenario.attack_at(len(turns)) or self._instead.attack([dialogue])[0]

    def _way(self, scenario: Scenario, turns: Sequence[Turn]) -> Way | None:
        """Return how to go on after the last turn, None if no verdict tells or nothing is left to ask."""
        if last_verdict(scenario, turns, self.extra_turns) is None:
            return None
        return strategy_for(turns[-1]) or ("follow_up" if scenario.attack_at(len(turns)) else None)

    def _question(self, turns: Sequence[Turn], scripted: Attack | None, way: Way) -> Question:
        following = "" if scripted is None else scripted.message.text
        return self._asker.question(
            turns,
            shown=f"{everything(turns)}\n{following}",
            pictures=attached(turns),
            history=history(turns, "answer"),
            scripted=fence(following) if following else NO_SCRIPT,
            strategy=way,
        )
