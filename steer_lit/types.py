"""The frozen records that stages hand each other, and the protocols they meet through.

Data flows one way: a `Scenario` is played into a `Trajectory` (policy, attacker and tutor take turns), the K
trajectories of one scenario are its group; a `Dialogue` is a stored multi-turn row that SFT learns from. Nothing here
needs more than the standard library, and nothing here can be changed once made (TRAPS 32).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Role = Literal["system", "user", "assistant"]
Kind = Literal["benign", "obfuscated", "red_team"]
Intent = Literal["harmless", "harmful"]
# What makes a turn harmful: its words, what came before it, or what the picture shows.
Tier = Literal["none", "words", "history", "picture"]
Split = Literal["sft", "rl", "bench"]
Finish = Literal["stop", "length"]
Ended = Literal["terminated", "truncated", "failed"]  # itself or its attacker, a limit, an error
# How an attack answers back (SaFeR-Steer, Eq. 17): insist, accept what was offered and steer back, build on a leak.
Strategy = Literal["persistence", "bait_and_switch", "deepen"]


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A picture by name, not by pixels: the path of a file in the data folder, `mini://<object>?...` for a STEER-mini
    drawing, or either after `blank:`, the white picture of its size. No other name can be opened (`data/images.py`).
    """

    uri: str


Part = str | ImageRef
OpenImage = Callable[[ImageRef], Any]  # to a PIL image


@dataclass(frozen=True, slots=True)
class Message:
    """One message: text and pictures in the order they are read. `Message.of("user", ref, "What is this?")`."""

    role: Role
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, role: Role, *parts: Part) -> Message:
        return cls(role, tuple(parts))

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def images(self) -> tuple[ImageRef, ...]:
        return tuple(part for part in self.parts if isinstance(part, ImageRef))


def system_of(messages: Sequence[Message]) -> str | None:
    """What the system message says that opens them; None where none does."""
    return messages[0].text if messages and messages[0].role == "system" else None


def turns_of(messages: Sequence[Message]) -> tuple[tuple[Message, Message], ...]:
    """(user, assistant) after an optional system message. Raises ValueError unless the two alternate, once at least."""
    said = messages if system_of(messages) is None else messages[1:]
    if not said or [message.role for message in said] != ["user", "assistant"] * (len(said) // 2):
        roles = [message.role for message in messages]
        shown = ", ".join(roles[:6]) + (", ..." if len(roles) > 6 else "")
        raise ValueError(f"user and assistant must alternate, the assistant last; got {shown or 'no message'}")
    return tuple(zip(said[::2], said[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class TurnGold:
    """What is true of one user turn, known because the row was made, not labelled.

    `intent` is what a careful reader of picture, history and words would conclude; `tier` says where the harm sits
    ("none" when harmless). `answer` is the expected completion's answer part (a constructive refusal when harmful),
    `thinking` the look-then-judge reasoning before it. `alternative` is the safe related help a refusal should
    offer, `keywords` the words a grounded helpful answer must contain (lower case, any order), on a harmful turn those
    that name what is asked.
    """

    intent: Intent
    tier: Tier
    answer: str
    thinking: str = ""
    alternative: str = ""
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PictureGold:
    """What the picture shows: the object's name, its colour, and whether handling it carries a hazard."""

    object: str
    colour: str
    hazardous: bool


@dataclass(frozen=True, slots=True)
class Attack:
    """The next user message and, when known, the truth about it.

    `strategy` says how it was written, as the stage that wrote it names that: a strategy (`deepen`), a framing
    (`authority`) or none (`direct`), a move (`describe`), or who wrote it (`scripted`, `tutor`, `llm_follow_up`).
    """

    message: Message
    gold: TurnGold | None = None
    strategy: str = "scripted"


@dataclass(frozen=True, slots=True)
class Scenario:
    """The start of a rollout: an opening attack and the scripted attacks that may follow it."""

    id: str
    kind: Kind
    opening: Attack
    scripted: tuple[Attack, ...] = ()
    system: str | None = None  # None: the run's own system prompt is used
    subset: str = ""
    picture: PictureGold | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """The opening and every scripted attack, in order: the whole user side of the dialogue."""
        return (self.opening, *self.scripted)

    def attack_at(self, turn_idx: int) -> Attack | None:
        """What the script asks at this turn, None where it is over."""
        return self.attacks[turn_idx] if turn_idx <= len(self.scripted) else None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A stored multi-turn row: an SFT target. Roles alternate user, assistant after an optional system message."""

    id: str
    messages: tuple[Message, ...]
    kind: Kind | None = None
    subset: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)

    @property
    def system(self) -> str | None:
        """What its system message says; None where it has none."""
        return system_of(self.messages)

    @property
    def turns(self) -> tuple[tuple[Message, Message], ...]:
        """(user, assistant), in order. Raises what `turns_of` raises."""
        return turns_of(self.messages)

    @property
    def answers(self) -> tuple[str, ...]:
        """What the assistant says, in order."""
        return tuple(message.text for message in self.messages if message.role == "assistant")


MAX_TURNS = 100  # that a run may ask of a dialogue: rows and metrics are laid out by turn


@dataclass(frozen=True, slots=True)
class Verdict:
    """A tutor's parsed answer for one turn: three integers in 1..10, or `failed` with the reason and no numbers.

    `intent` is what the tutor takes the request for, which matters where the row has no gold. `next_question` is the
    next user message where the tutor wrote one, and `strategy` how it wrote it.
    """

    safety: int | None = None
    usefulness: int | None = None
    faithfulness: int | None = None
    rationale: str = ""
    refused: bool | None = None  # whether the completion declined, where the tutor can tell
    next_question: str | None = None
    failed: str | None = None
    intent: Intent | None = None
    strategy: Strategy | None = None

    def __post_init__(self) -> None:
        scores = (self.safety, self.usefulness, self.faithfulness)
        if self.failed is not None:
            if any(score is not None for score in scores):
                raise ValueError("a failed verdict carries no scores")
        elif any(type(score) is not int or not 1 <= score <= 10 for score in scores):
            raise ValueError(f"verdict scores must be integers in 1..10, got {scores}")


@dataclass(frozen=True, slots=True)
class Grade:
    """The benchmark judge's answer for one turn: helpfulness 0..3 and harmlessness -3..3, or `failed`.

    `intent` is what the judge takes the request for, where it says so.
    """

    helpfulness: int | None = None
    harmlessness: int | None = None
    refused: bool | None = None
    rationale: str = ""
    failed: str | None = None
    intent: Intent | None = None

    def __post_init__(self) -> None:
        scores = (self.helpfulness, self.harmlessness)
        if self.failed is not None:
            if scores != (None, None):
                raise ValueError("a failed grade carries no scores")
        elif {*map(type, scores)} != {int} or scores[0] not in range(4) or scores[1] not in range(-3, 4):
            raise ValueError(f"grades must be integers in 0..3 (helpfulness) and -3..3 (harmlessness), got {scores}")


@dataclass(frozen=True, slots=True)
class Completion:
    """The tokens a policy sampled in one turn, as sampled. `text` excludes end tokens.

    `logprobs[i]` is the log-probability of `token_ids[i]` under the sampling temperature, at 1 where it is
    greedy (empty for constant policies). `failed` says why there is no answer, where a server that plays the policy
    gave none: `text` is then empty.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish: Finish = "stop"
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One attack, the completion it met, and the verdict on it."""

    attack: Attack
    completion: Completion
    verdict: Verdict | None = None

    @property
    def intent(self) -> Intent | None:
        """What the request is: by the row's gold facts, else as the tutor took it; None where nobody knows."""
        if self.attack.gold is not None:
            return self.attack.gold.intent
        return None if self.verdict is None else self.verdict.intent


SoFar = tuple[Scenario, Sequence[Turn]]  # a dialogue in progress: how it began, and its turns


@dataclass(frozen=True, slots=True)
class TokenTrace:
    """A dialogue as the policy saw it: one entry per token, image tokens included, end tokens as sampled.

    `turn_ids[i]` is the turn of a token that the policy sampled and -1 elsewhere, `logprobs[i]` the sampling
    log-probability there and 0.0 elsewhere. All three have the dialogue's length. `images` are the pictures in the
    order their tokens appear.
    """

    token_ids: tuple[int, ...]
    turn_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    images: tuple[ImageRef, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.token_ids), len(self.turn_ids), len(self.logprobs)}
        if len(lengths) != 1:
            raise ValueError(f"token trace fields differ in length: {sorted(lengths)}")

    @property
    def sampled_tokens(self) -> int:
        """How many of its tokens the policy sampled."""
        return sum(turn_idx >= 0 for turn_idx in self.turn_ids)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One finished dialogue. `ended` says why it stopped; `failed` is the verdict's reason where that is "failed"."""

    scenario: Scenario
    turns: tuple[Turn, ...]
    trace: TokenTrace | None  # None for policies without tokens
    seed: int
    ended: Ended = "terminated"
    failed: str | None = None

    def __post_init__(self) -> None:
        if (self.ended == "failed") != (self.failed is not None):
            raise ValueError(f"a trajectory failed for a reason or not at all, got {self.ended!r} and {self.failed!r}")


class Session(Protocol):
    """Dialogues in progress, each known by its row: its place among those the session was opened with."""

    def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
        """Append `asked[row]` to each dialogue `row`. Returns the answers that are ready, by row.

        They may be to what was asked in an earlier call; there is one at least while any question is unanswered.
        """

    def end(self, row: int) -> TokenTrace | None:
        """End a dialogue, which is asked no more. Returns its tokens."""


class Policy(Protocol):
    """Answers dialogues. `seeds[i]` fixes everything random about dialogue i, whatever else is in the batch."""

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> Session: ...


class Attacker(Protocol):
    """Writes the next attack of each dialogue, or None where it has nothing left to say."""

    def attack(self, dialogues: Sequence[SoFar]) -> list[Attack | None]: ...


class Tutor(Protocol):
    """Scores the last turn of each dialogue. Never raises for a bad answer: a verdict can be failed."""

    def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]: ...


class Judge(Protocol):
    """Grades the last turn of each dialogue for the benchmark."""

    def grade(self, dialogues: Sequence[SoFar]) -> list[Grade]: ...


@runtime_checkable
class Fingerprinted(Protocol):
    """Says whose answers these are: the text changes with whatever could change one, such as weights or a prompt."""

    @property
    def fingerprint(self) -> str: ...


@runtime_checkable
class AsksServer(Protocol):
    """An attacker, tutor, judge or policy behind a client, which may have `greet()` and `close()`."""

    @property
    def client(self) -> Any: ...
