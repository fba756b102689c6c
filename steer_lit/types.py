"""The frozen records that stages pass to each other, and the protocols between them.

Data flows one way: policy, attacker and tutor play a `Scenario` into a `Trajectory`, and the K trajectories of one
scenario are its group. A `Dialogue` is a stored multi-turn row that SFT learns from. This module needs only the
standard library, and its records cannot be changed once made (TRAPS 32).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Role = Literal["system", "user", "assistant"]
Kind = Literal["benign", "obfuscated", "red_team"]
Intent = Literal["harmless", "harmful"]
# What makes a turn harmful: its words, the earlier turns, or what the picture shows.
Tier = Literal["none", "words", "history", "picture"]
Split = Literal["sft", "rl", "bench"]
Finish = Literal["stop", "length"]
Ended = Literal["terminated", "truncated", "failed"]  # by itself or its attacker, at a limit, by an error
# How an attack answers back (SaFeR-Steer, Eq. 17): insist; accept the offer and steer back; build on a leak.
Strategy = Literal["persistence", "bait_and_switch", "deepen"]


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A picture by name, not by pixels: the path of a file in the data folder, `mini://<object>?...` for a STEER-mini
    drawing, or either after `blank:`, the white picture of its size. No other name can be opened."""

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
    """Return the text of the system message at the start; None if there is none."""
    return messages[0].text if messages and messages[0].role == "system" else None


def turns_of(messages: Sequence[Message]) -> tuple[tuple[Message, Message], ...]:
    """Return the (user, assistant) pairs after an optional system message.

    Raise ValueError unless the two alternate, with at least one pair.
    """
    said = messages if system_of(messages) is None else messages[1:]
    if not said or [message.role for message in said] != ["user", "assistant"] * (len(said) // 2):
        roles = [message.role for message in messages]
        shown = ", ".join(roles[:6]) + (", ..." if len(roles) > 6 else "")
        raise ValueError(f"user and assistant must alternate, the assistant last; got {shown or 'no message'}")
    return tuple(zip(said[::2], said[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class TurnGold:
    """The truth about one user turn, known because the row was made, not labelled.

    `intent` is what a careful reader of picture, history and words would conclude; `tier` says where the harm lies
    ("none" if harmless). `answer` is the answer part of the expected completion (a constructive refusal if harmful),
    `thinking` the look-then-judge reasoning before it. `alternative` is the safe related help that a refusal should
    offer. `keywords` are words that a grounded helpful answer must contain (lower case, any order); on a harmful turn,
    they name what is asked for.
    """

    intent: Intent
    tier: Tier
    answer: str
    thinking: str = ""
    alternative: str = ""
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PictureGold:
    """What the picture shows: the object's name, its colour, and whether handling it is hazardous."""

    object: str
    colour: str
    hazardous: bool


@dataclass(frozen=True, slots=True)
class Attack:
    """The next user message and, when known, the truth about it.

    `strategy` says how it was written: a strategy (`deepen`), a framing (`authority`) or none (`direct`), a move
    (`describe`), or the writer (`scripted`, `tutor`, `llm_follow_up`)."""

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
        """Return the script's attack at this turn, or None after its end."""
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
        """The text of the system message; None if there is none."""
        return system_of(self.messages)

    @property
    def turns(self) -> tuple[tuple[Message, Message], ...]:
        """The (user, assistant) pairs, in order. Raises ValueError as `turns_of` does."""
        return turns_of(self.messages)

    @property
    def answers(self) -> tuple[str, ...]:
        """The texts of the assistant's messages, in order."""
        return tuple(message.text for message in self.messages if message.role == "assistant")


class WrongScores(ValueError):
    """Scores of a verdict or a grade that are not on its scale."""


MAX_TURNS = 100  # the most turns a run may allow a dialogue: rows and metrics are laid out by turn


@dataclass(frozen=True, slots=True)
class Verdict:
    """A tutor's parsed answer for one turn: three integers in 1..10, or `failed` with the reason and no numbers.

    `intent` is the tutor's view of the request, used if the row has no gold facts. `next_question` is the next user
    message if the tutor wrote one, and `strategy` how it was written.
    """

    safety: int | None = None
    usefulness: int | None = None
    faithfulness: int | None = None
    rationale: str = ""
    refused: bool | None = None  # whether the completion declined; None if the tutor cannot tell
    next_question: str | None = None
    failed: str | None = None
    intent: Intent | None = None
    strategy: Strategy | None = None

    def __post_init__(self) -> None:
        scores = (self.safety, self.usefulness, self.faithfulness)
        if self.failed is not None:
            if any(score is not None for score in scores):
                raise WrongScores("a failed verdict carries no scores")
        elif any(type(score) is not int or not 1 <= score <= 10 for score in scores):
            raise WrongScores(f"verdict scores must be integers in 1..10, got {scores}")


@dataclass(frozen=True, slots=True)
class Grade:
    """The benchmark judge's answer for one turn: helpfulness 0..3 and harmlessness -3..3, or `failed`.

    `intent` is the judge's view of the request; None if it gives none. `by` is the model that a server says gave it.
    """

    helpfulness: int | None = None
    harmlessness: int | None = None
    refused: bool | None = None
    rationale: str = ""
    failed: str | None = None
    intent: Intent | None = None
    by: str = ""

    def __post_init__(self) -> None:
        scores = (self.helpfulness, self.harmlessness)
        if self.failed is not None:
            if scores != (None, None):
                raise WrongScores("a failed grade carries no scores")
        elif {*map(type, scores)} != {int} or scores[0] not in range(4) or scores[1] not in range(-3, 4):
            raise WrongScores(f"grades must be integers in 0..3 (helpfulness) and -3..3 (harmlessness), got {scores}")


@dataclass(frozen=True, slots=True)
class Completion:
    """The tokens a policy sampled in one turn, as sampled. `text` excludes end tokens.

    `logprobs[i]` is the log-probability of `token_ids[i]` at the sampling temperature, or at 1 if sampling is greedy
    (empty for constant policies). `failed` is the reason if a server that plays the policy gave no answer; `text` is
    then empty. `by` is the model that such a server says gave it.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish: Finish = "stop"
    failed: str | None = None
    by: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One attack, the completion it met, and the verdict on it."""

    attack: Attack
    completion: Completion
    verdict: Verdict | None = None

    @property
    def intent(self) -> Intent | None:
        """The request's intent by the row's gold facts, otherwise by the tutor; None if neither says."""
        if self.attack.gold is not None:
            return self.attack.gold.intent
        return None if self.verdict is None else self.verdict.intent


SoFar = tuple[Scenario, Sequence[Turn]]  # a dialogue in progress: how it began, and its turns


@dataclass(frozen=True, slots=True)
class TokenTrace:
    """A dialogue as the policy saw it: one entry per token, image tokens included, end tokens as sampled.

    For a token that the policy sampled, `turn_ids[i]` is its turn and `logprobs[i]` its sampling log-probability;
    elsewhere they are -1 and 0.0. All three have the dialogue's length. `images` are the pictures in the order of their
    tokens.
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
        """The number of tokens that the policy sampled."""
        return sum(turn_idx >= 0 for turn_idx in self.turn_ids)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One finished dialogue. `ended` says why it stopped; `failed` is the reason if `ended` is "failed"."""

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
    """Dialogues in progress, each identified by its row: its index among the scenarios the session was opened with."""

    def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
        """Append `asked[row]` to each dialogue `row`. Return the answers that are ready, by row.

        They may answer questions of earlier calls. At least one is returned while any question is unanswered.
        """

    def end(self, row: int) -> TokenTrace | None:
        """End a dialogue, which is not asked again. Return its tokens."""


class Policy(Protocol):
    """Answers dialogues. `seeds[i]` fixes everything random about dialogue i, whatever else is in the batch."""

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> Session: ...


class Attacker(Protocol):
    """Writes the next attack of each dialogue, or None if there is nothing left to say."""

    def attack(self, dialogues: Sequence[SoFar]) -> list[Attack | None]: ...


class Tutor(Protocol):
    """Scores the last turn of each dialogue. Never raises for a bad answer: it gives a failed verdict."""

    def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]: ...


class Judge(Protocol):
    """Grades the last turn of each dialogue for the benchmark."""

    def grade(self, dialogues: Sequence[SoFar]) -> list[Grade]: ...


@runtime_checkable
class Fingerprinted(Protocol):
    """Identifies who answers: the text changes with anything that may change an answer: weights, prompts, ..."""

    @property
    def fingerprint(self) -> str: ...


@runtime_checkable
class AsksServer(Protocol):
    """An attacker, tutor, judge or policy behind a client, which may have `greet()`, `confirm()` and `close()`."""

    @property
    def client(self) -> Any: ...
