"""What is played in a benchmark run: the dialogues, the policies, and whether that is worth its time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.data.images import open_image, picture_digest
from steer_lit.data.sources import pictures_of
from steer_lit.errors import ConfigError, Problem, SteerError
from steer_lit.files.run_files import RECORDS
from steer_lit.numbers import counted
from steer_lit.policy.model_facts import UNTRAINED
from steer_lit.tutor.rubric import RubricJudge, RubricTutor
from steer_lit.types import Attacker, Fingerprinted, ImageRef, OpenImage, Policy, Scenario, Tutor

log = logging.getLogger(__name__)
QUICK = 120  # dialogues of STEER-mini, a few minutes of a small model
_MANY = 1000  # hours of it


@dataclass(frozen=True, slots=True)
class Suite:
    """The dialogues that every policy of a run plays, their pictures, and who asks: by default STEER-mini's, which are
    drawn, and the rows' own questions.

    `open_image` gives a picture, `picture_digest` says what its name does not. `tutor` gives the verdicts by which an
    `attacker` goes on that reacts to answers.
    """

    scenarios: Sequence[Scenario]
    open_image: OpenImage = open_image
    picture_digest: Callable[[ImageRef], str] = picture_digest
    attacker: Attacker = field(default_factory=ScriptedAttacker)
    tutor: Tutor | None = None

    def digests(self, scenario: Scenario) -> tuple[str, ...]:
        """Return its pictures' digests, in the order they are shown."""
        return tuple(map(self.picture_digest, pictures_of(scenario)))


class BenchPolicy(Policy, Fingerprinted, Protocol):
    """A policy that says who it is: `fingerprint` changes with its weights, adapter and decoding settings.

    Recorded dialogues are reused only for the same fingerprint. All policies of a run are there from its start and play
    one after the other: where several would not fit in memory, one takes its place when it opens dialogues.
    """


def choose(scenarios: Iterable[Scenario], limit: int | None = None) -> list[Scenario]:
    """The first `limit` scenarios (all for None), in their order. Ids must differ: records are kept by id."""
    chosen = list(islice(scenarios, limit))
    repeated = sorted(id for id, count in Counter(scenario.id for scenario in chosen).items() if count > 1)
    if repeated:
        said = f"{len(repeated)} ids of bench scenarios occur more than once, such as {repeated[0]!r}"
        raise SteerError(f"{said}: records are kept by id, so give the rows of data.source.bench ids of their own")
    if not chosen:
        raise SteerError("there are no bench scenarios to play: data.source.bench names the rows, bench.limit how many")
    return chosen


def planned(dialogues: int, policies: Collection[str], *, recorded: bool, hint: bool) -> str:
    """What a run is about to play, in one line. `recorded`: some of it may have been played in its folder before;
    `hint`: say what would do for a first look.
    """
    first, *others = policies
    by = f"each by {len(policies)} policies, {', '.join(policies)}" if others else f"by {first}"
    line = f"to play: {counted(dialogues, 'dialogue')}, {by}"
    line += f"; those that {RECORDS} holds are not played again" if recorded else ""
    return line + (f"; bench.limit={QUICK} is a quick look" if hint and dialogues > QUICK else "")


def check_worth(model: str, policies: Mapping[str, object], dialogues: int) -> None:
    """Raises ConfigError where hours would go into random weights alone, as `python bench.py` and no more asks for."""
    if model == UNTRAINED and dialogues > _MANY and all(value == "base" for value in policies.values()) and policies:
        remedy = (
            f"plays {dialogues:,} dialogues, and model={model} is random weights: name what to measure, model=nano "
            "policies.<name>=<run>/adapter, or say bench.limit=20 to see that it runs"
        )
        raise ConfigError([Problem("bench.limit", None, remedy)])


def check_gold(section: str, player: object, scenarios: Sequence[Scenario], turns_played: int) -> None:
    """Warn of dialogues that a judge or tutor, of the config's `section`, cannot grade where it goes by gold facts.
    Raises ConfigError where it can grade none.
    """
    if not getattr(player, "needs_gold", False):
        return
    lacking = sum(any(attack.gold is None for attack in row.attacks[:turns_played]) for row in scenarios)
    name = "rubric" if type(player) in (RubricJudge, RubricTutor) else type(player).__name__  # as it would be typed
    if lacking == len(scenarios):
        remedy = (
            f"goes by gold facts, and of {counted(lacking, 'dialogue')} none has them for every turn: use "
            f"{section}=llm server.base_url=http://localhost:8000/v1 server.model=<name>"
        )
        raise ConfigError([Problem(section, name, remedy)])
    if lacking:
        said = "%s=%s goes by gold facts: %d of %d dialogues lack some and will count nowhere, use %s=llm"
        log.warning(said, section, name, lacking, len(scenarios), section)
