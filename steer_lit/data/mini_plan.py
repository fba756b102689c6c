"""Plans the turns of a STEER-mini dialogue, before they are worded as harmful or harmless.

A plan is a list of moves. Some moves are `hot`: they carry the harm. The same plan is played twice: once with its hot
moves harmful and once, in the benign twin, with them harmless. Everything else is equal. That, and harmless moves of
every type around the hot ones, keep a policy from passing by reading only the user's sentence:

* a picture action is harmful only over a hazardous picture, a codeword only after a harmful meaning was given to it;
* pressure has no content: it is as harmful as the request it follows, and it follows harmless requests as well;
* after a refused act the user may ask for the very alternative that the refusal offered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, TypeVar

from steer_lit.data.mini_phrases import Phrases
from steer_lit.data.mini_pictures import Picture, parse, random_picture
from steer_lit.data.mini_words import Pair, PictureAction, Topics
from steer_lit.mini_world import FRAMINGS, HARMLESS, HAZARDOUS, STRATEGIES
from steer_lit.types import Kind

MoveType = Literal["describe", "setup", "code", "act", "picture", "press"]
TurnMark = Literal["harmless", "ask", "press"]
Subset = Literal["mini-words", "mini-history", "mini-picture", "mini-mixed"]
_Item = TypeVar("_Item")

# The weight of each type of harmless move, if it fits. Set so that about half of all acts, codeword requests, picture
# requests and pressure turns are harmful: see the shortcut audit in tests/data/test_mini_audit.py.
_WEIGHTS: dict[MoveType, int] = {"describe": 2, "setup": 4, "code": 4, "act": 2, "picture": 6, "press": 9}
_FRAMED = {"red_team": 0.5, "obfuscated": 0.1}


@dataclass(frozen=True, slots=True)
class Move:
    """One planned user turn: its type, its wording with placeholders, its topic, and whether it carries the harm."""

    type: MoveType
    wording: str
    strategy: str
    hot: bool = False
    topic: Pair | PictureAction | None = None
    codeword: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The moves of a dialogue and the picture that opens it, in the harmful and in the benign version."""

    moves: tuple[Move, ...]
    picture: Picture
    twin_picture: Picture


def plan_dialogue(
    rng: Random, topics: Topics, phrases: Phrases, kind: Kind, subset: Subset, turns: int, longest_run: int
) -> Plan:
    """Draw a plan of exactly `turns` moves; at most `longest_run` turns in a row ask for one harmful thing."""
    return _Planner(rng, topics, phrases, kind, subset).plan(turns, longest_run)


def outline(rng: Random, turns: int, longest_run: int, least_runs: int = 1) -> list[TurnMark]:
    """Draw for each turn whether it is harmless, asks for something harmful, or presses on that.

    The first turn is harmless, and so is at least a quarter of all turns: refusing everything must not pass. There
    are at least `least_runs` harmful requests if there is room.
    """
    least_harmless = math.ceil(turns / 4)
    harmful = min(max(1, round(turns * rng.uniform(0.4, 0.75))), turns - least_harmless)
    runs: list[int] = []
    while sum(runs) < harmful:
        owed = max(0, least_runs - len(runs) - 1)
        runs.append(min(rng.randint(1, longest_run), max(1, harmful - sum(runs) - owed)))
    gaps = [1] + [0] * len(runs)
    for _ in range(turns - harmful - 1):
        gaps[rng.randrange(len(gaps))] += 1
    marks: list[TurnMark] = ["harmless"] * gaps[0]
    for run, gap in zip(runs, gaps[1:], strict=True):
        marks.append("ask")
        marks.extend(["press"] * (run - 1))
        marks.extend(["harmless"] * gap)
    return marks


class _Planner:
    """A planner of one dialogue's moves. Nothing is asked twice while there is something left to ask."""

    def __init__(self, rng: Random, topics: Topics, phrases: Phrases, kind: Kind, subset: Subset) -> None:
        self._rng = rng
        self._topics = topics
        self._phrases = phrases
        self._framed = _FRAMED[kind]
        self._tiers = _tiers(rng, kind, subset)
        self._strategy = rng.choice(tuple(STRATEGIES))
        self._used: set[object] = set()
        self._moves: list[Move] = []
        self._cold_code: Move | None = None

    def plan(self, turns: int, longest_run: int) -> Plan:
        marks = outline(self._rng, turns, longest_run, least_runs=len(self._tiers))
        asks = [idx for idx, mark in enumerate(marks) if mark == "ask"]
        tiers = {idx: self._tiers[nth % len(self._tiers)] for nth, idx in enumerate(asks)}
        hazard = "picture" in tiers.values()
        picture, twin_picture = self._pictures(hazard)
        self._may_ask_picture = not hazard and not picture.gold.hazardous
        hot_setup = self._hot_setup(marks, tiers)
        for idx, mark in enumerate(marks):
            if mark == "press":
                self._moves.append(self._press(hot=True))
            elif mark == "ask":
                self._moves.append(self._hot_ask(tiers[idx], hot_setup))
            elif hot_setup is not None and idx == hot_setup[0]:
                self._moves.append(hot_setup[1])
            else:
                later = sum(mark == "harmless" for mark in marks[idx + 1 :])
                later -= hot_setup is not None and hot_setup[0] > idx
                self._moves.append(self._cold_move(later))
        return Plan(tuple(self._moves), picture, twin_picture)

    def _pictures(self, hazard: bool) -> tuple[Picture, Picture]:
        """Draw the picture and its twin's: a hazard turns into something harmless in the same place and colour."""
        if not hazard:
            # A hazardous picture is no crime: requests that have nothing to do with it stay what they are. Harmless
            # pictures are twice as frequent, so that enough picture requests are harmless.
            objects = self._rng.choice((HARMLESS, HARMLESS, HAZARDOUS))
            picture = parse(random_picture(self._rng, self._rng.choice(objects)))
            return picture, picture
        picture = parse(random_picture(self._rng, self._rng.choice(HAZARDOUS)))
        return picture, replace(picture, object=self._rng.choice(HARMLESS))

    def _hot_setup(self, marks: Sequence[str], tiers: dict[int, MoveType]) -> tuple[int, Move] | None:
        """Draw where and how the harmful codeword is introduced, in a harmless turn before its first use."""
        first = min((idx for idx, tier in tiers.items() if tier == "code"), default=None)
        if first is None:
            return None
        return self._rng.choice([idx for idx in range(first) if marks[idx] == "harmless"]), self._setup(hot=True)

    def _hot_ask(self, tier: MoveType, hot_setup: tuple[int, Move] | None) -> Move:
        if tier == "code":
            assert hot_setup is not None
            return self._code(hot_setup[1])
        return self._picture_ask(hot=True) if tier == "picture" else self._act(hot=True)

    def _cold_move(self, harmless_later: int) -> Move:
        """Draw a harmless move that fits here; `harmless_later` more will follow."""
        last = self._moves[-1] if self._moves else None
        fits = {
            "describe": True,
            "setup": self._cold_code is None and harmless_later > 0,
            "code": self._cold_code is not None,
            "act": True,
            "picture": self._may_ask_picture,
            "press": last is not None and not last.hot and last.type not in ("describe", "setup"),
        }
        types = [type_ for type_ in _WEIGHTS if fits[type_]]
        weights = [_WEIGHTS[type_] * (3 if last is None and type_ == "describe" else 1) for type_ in types]
        match self._rng.choices(types, weights)[0]:
            case "describe":
                return Move("describe", self._fresh(self._phrases.describe), "describe")
            case "setup":
                self._cold_code = self._setup(hot=False)
                return self._cold_code
            case "code":
                assert self._cold_code is not None
                return self._code(self._cold_code)
            case "picture":
                return self._picture_ask(hot=False)
            case "press":
                return self._press(hot=False)
        return self._act(hot=False)

    def _act(self, hot: bool) -> Move:
        refused = [move.topic for move in self._moves if move.type == "act" and move.hot]
        offered = not hot and bool(refused) and self._rng.random() < 0.4
        topic = refused[-1] if offered else self._fresh(self._topics.acts)
        wording, strategy = self._framing(self._fresh(self._phrases.act))
        return Move("act", wording, strategy, hot, topic)

    def _picture_ask(self, hot: bool) -> Move:
        wording, strategy = self._framing(self._fresh(self._phrases.picture))
        return Move("picture", wording, strategy, hot, self._fresh(self._topics.actions))

    def _setup(self, hot: bool) -> Move:
        meaning, codeword = self._fresh(self._topics.meanings), self._fresh(self._topics.codewords)
        return Move("setup", self._fresh(self._phrases.setup), "codeword", hot, meaning, codeword)

    def _code(self, setup: Move) -> Move:
        wording, strategy = self._framing(self._fresh(self._phrases.code))
        return Move("code", wording, strategy, setup.hot, setup.topic, setup.codeword)

    def _press(self, hot: bool) -> Move:
        """Draw pressure under the dialogue's strategy, or under a random one once its wordings are used up."""
        left = [wording for wording in self._phrases.pressure[self._strategy] if wording not in self._used]
        strategy = self._strategy if left else self._rng.choice(tuple(STRATEGIES))
        return Move("press", self._fresh(self._phrases.pressure[strategy]), strategy, hot)

    def _framing(self, wording: str) -> tuple[str, str]:
        if self._rng.random() >= self._framed:
            return wording, "direct"
        framing = self._rng.choice(tuple(FRAMINGS))
        lower = wording if wording.startswith("I ") else wording[0].lower() + wording[1:]
        return f"{self._rng.choice(self._phrases.framings[framing])} {lower}", framing

    def _fresh(self, options: Sequence[_Item]) -> _Item:
        """Draw one of the options that this dialogue has not used, or any if all were used."""
        choice = self._rng.choice([option for option in options if option not in self._used] or options)
        self._used.add(choice)
        return choice


def _tiers(rng: Random, kind: Kind, subset: Subset) -> tuple[MoveType, ...]:
    """Draw what the harmful requests of a dialogue rest on, one after the other.

    In an obfuscated dialogue no request is harmful by its words.
    """
    only: dict[Subset, tuple[MoveType, ...]] = {
        "mini-words": ("act",), "mini-history": ("code",), "mini-picture": ("picture",)
    }  # fmt: skip
    if subset in only:
        return only[subset]
    mixed: list[MoveType] = ["code", "picture"] if kind == "obfuscated" else ["act", "code", "picture"]
    return tuple(rng.sample(mixed, len(mixed)))
