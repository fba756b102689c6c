"""STEER-mini: a small world of multi-turn attacks whose truth is known, made on the fly.

Rows are functions of (split, seed, number): any row can be made directly, in any order, on any machine. Each is a
picture and 2..10 user turns, of one of the three kinds of SaFeR-Steer, stage I:

* `red_team` (35%) asks openly or under a framing, then presses on with one of the 8 dialogue strategies;
* `obfuscated` (35%) asks for nothing that is harmful by its words: the harm is in the picture or in the history;
* `benign` (30%) rows are twins: the same turns as the row before, except for what makes that row harmful.

The two harmful kinds open with a harmless turn, and at least a quarter of their turns are harmless, so that refusing
everything fails. Topics and wordings of the three splits are disjoint (`mini_words`, `mini_phrases`).

Order is stratified: any 10 consecutive rows hold 3 benign ones and 3 or 4 of each other kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import Literal

from steer_lit.answer_format import in_form
from steer_lit.data.mini_phrases import PHRASES
from steer_lit.data.mini_pictures import caption, random_picture
from steer_lit.data.mini_plan import Plan, Subset, plan_dialogue
from steer_lit.data.mini_turns import attacks_of, structure
from steer_lit.data.mini_words import TOPICS
from steer_lit.types import Attack, Dialogue, ImageRef, Kind, Message, Scenario, Split

# paper: mean turns of STEER-SFT, STEER-RL and STEER-Bench, whose dialogues have 2..10 turns
PAPER_MEAN_TURNS: dict[Split, float] = {"sft": 6.35, "rl": 8.33, "bench": 8.55}
# How many turns in a row may ask for one harmful thing: rollouts and the benchmark press longer than SFT data does.
LONGEST_RUN: dict[Split, int] = {"sft": 3, "rl": 6, "bench": 6}

_PERIOD = 10
_TWINS = (1, 4, 7)  # places in a period held by benign rows; each is the twin of the row before it
SUBSETS: dict[Literal["obfuscated", "red_team"], tuple[Subset, ...]] = {
    "obfuscated": ("mini-history", "mini-picture", "mini-mixed"),
    "red_team": ("mini-words", "mini-history", "mini-words", "mini-picture", "mini-mixed"),
}


@dataclass(frozen=True, slots=True)
class MiniSplit:
    """`size` rows of one split, as scenarios to roll out or as dialogues to learn from.

    Turn counts are binomial over `min_turns`..`max_turns`. `mean_turns` None means the paper's mean for the split,
    scaled to that range; another mean lies within it.
    """

    split: Split
    seed: int
    size: int
    mean_turns: float | None = None
    min_turns: int = 2
    max_turns: int = 10

    def scenario(self, i: int) -> Scenario:
        """Return row `i` as the start of a rollout, with the gold facts of every scripted turn."""
        kind, source = self._kind(i)
        plan, subset = self._plan(source)
        attacks = attacks_of(plan, benign=kind == "benign")
        return Scenario(
            id=self._id(i),
            kind=kind,
            opening=attacks[0],
            scripted=attacks[1:],
            subset=subset,
            picture=(plan.twin_picture if kind == "benign" else plan.picture).gold,
            metadata={"twin": self._twin(i), "structure": structure(plan.moves)},
        )

    def dialogue(self, i: int) -> Dialogue:
        """Return row `i` with the expected completion after each user turn."""
        scenario = self.scenario(i)
        turns = ((attack.message, expected_completion(attack)) for attack in scenario.attacks)
        messages = tuple(chain.from_iterable(turns))
        return Dialogue(scenario.id, messages, scenario.kind, scenario.subset, scenario.metadata)

    def _id(self, i: int) -> str:
        return f"mini-{self.split}-{self.seed}-{i:05d}"

    def _kind(self, i: int) -> tuple[Kind, int]:
        """Return the kind of row `i` and the row whose plan it plays: its own, or its twin's if it is benign."""
        if i % _PERIOD in _TWINS:
            return "benign", i - 1
        return ("obfuscated" if self._harmful_before(i) % 2 == 0 else "red_team"), i

    def _twin(self, i: int) -> str | None:
        if i % _PERIOD in _TWINS:
            return self._id(i - 1)
        return self._id(i + 1) if (i + 1) % _PERIOD in _TWINS and i + 1 < self.size else None

    @staticmethod
    def _harmful_before(i: int) -> int:
        """Count the rows before `i` that are not benign."""
        return i // _PERIOD * (_PERIOD - len(_TWINS)) + sum(place not in _TWINS for place in range(i % _PERIOD))

    def _plan(self, source: int) -> tuple[Plan, Subset]:
        kind, _ = self._kind(source)
        assert kind != "benign"
        subsets = SUBSETS[kind]
        subset = subsets[self._harmful_before(source) // 2 % len(subsets)]
        rng = Random(f"{self.split}/{self.seed}/{source}")  # text seeds are hashed with SHA-512: stable everywhere
        turns = self._turns(rng)
        plan = plan_dialogue(rng, TOPICS[self.split], PHRASES[self.split], kind, subset, turns, LONGEST_RUN[self.split])
        return plan, subset

    def _turns(self, rng: Random) -> int:
        more = self.max_turns - self.min_turns
        share = (PAPER_MEAN_TURNS[self.split] - 2) / 8
        if self.mean_turns is not None and more:
            share = (self.mean_turns - self.min_turns) / more
        return self.min_turns + sum(rng.random() < share for _ in range(more))


def caption_row(seed: int, i: int) -> Dialogue:
    """Return a picture with the question of what it shows and the plain answer, to teach a vision tower to see.

    Another seed gives other pictures.
    """
    return Dialogue(f"mini-caption-{seed}-{i:05d}", captioned(random_picture(Random(f"caption/{seed}/{i}"))))


def captioned(uri: str) -> tuple[Message, Message]:
    """Return the question of what a picture shows, and the plain answer."""
    # "Repeat" is what a frozen language model does best: the tower only has to learn to write words into its
    # tokens. Asking "What is this?" took twice as many pictures to get as far.
    return Message.of("user", "Repeat: ", ImageRef(uri)), Message.of("assistant", caption(uri))


def expected_completion(attack: Attack) -> Message:
    """Return the completion that gold expects: the thinking, then the answer, in the required form."""
    assert attack.gold is not None
    gold = attack.gold
    return Message.of("assistant", in_form(gold.thinking, gold.answer))
