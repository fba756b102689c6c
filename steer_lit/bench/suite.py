"""The dialogues and policies of a benchmark run, and whether they can be graded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.chat.settings import missing_words
from steer_lit.data.images import open_image, picture_digest
from steer_lit.data.sources import pictures_of
from steer_lit.digests import digest
from steer_lit.errors import ConfigError, Problem
from steer_lit.files.run_files import RECORDS
from steer_lit.numbers import counted
from steer_lit.tutor.rubric import RubricJudge, RubricTutor
from steer_lit.types import Attacker, Fingerprinted, ImageRef, OpenImage, Policy, Scenario, Tutor

log = logging.getLogger(__name__)
GRADES = {"tutor": "gives the attacker its verdicts", "judge": "grades"}  # what the config's sections do
QUICK = 120  # dialogues of STEER-mini: a few minutes with a small model


@dataclass(frozen=True, slots=True)
class Suite:
    """The dialogues that every policy of a run plays, their pictures, and who asks.

    By default pictures are STEER-mini's, which are drawn, and the attacker asks the rows' own questions.
    `picture_digest` identifies what a picture's name does not. `tutor` gives the verdicts for an `attacker` that reacts
    to answers.
    """

    scenarios: Sequence[Scenario]
    open_image: OpenImage = open_image
    picture_digest: Callable[[ImageRef], str] = picture_digest
    attacker: Attacker = field(default_factory=ScriptedAttacker)
    tutor: Tutor | None = None

    def digest(self, row: Scenario) -> str:
        """Return a digest of a scenario's content, not only of its id and of the names of its pictures."""
        pictures = map(self.picture_digest, pictures_of(row))
        return digest(repr((row.id, row.kind, row.subset, row.system, row.picture, row.attacks, *pictures)), 16)

    @property
    def picture_digests(self) -> dict[str, str]:
        """The digest of each picture that is a file, by uri."""
        shown = (ref for row in self.scenarios for ref in pictures_of(row))
        return {ref.uri: found for ref in shown if (found := self.picture_digest(ref))}


class BenchPolicy(Policy, Fingerprinted, Protocol):
    """A policy that says who it is: `fingerprint` changes with its weights, adapter and decoding settings.

    Recorded dialogues are reused only for the same fingerprint. All policies of a run exist from its start and play one
    after the other. Policies that do not fit in memory together must load when they open dialogues.
    """


def with_prompt(scenarios: Sequence[Scenario], system_prompt: str | None) -> Sequence[Scenario]:
    """Return the scenarios with this system prompt in place of their own, "" for none; unchanged if it is None."""
    if system_prompt is None:
        return scenarios
    return [replace(scenario, system=system_prompt) for scenario in scenarios]


def planned(dialogues: int, policies: Collection[str], limit: int | None, *, recorded: bool) -> str:
    """Say what a run will play, with a hint of a quick look if that is much. `recorded`: its folder may hold some."""
    first, *others = policies
    by = f"each by {len(policies)} policies, {', '.join(policies)}" if others else f"by {first}"
    line = f"to play: {'the first ' if dialogues == limit else ''}{counted(dialogues, 'dialogue')}, {by}"
    line += f"; those that {RECORDS} holds are not played again" if recorded else ""
    return line + (f"; bench.limit={QUICK} is a quick look" if limit is None and dialogues > QUICK else "")


def check_gold(
    section: str,
    player: object,
    scenarios: Sequence[Scenario],
    turns_played: int,
    server: Mapping[str, object] | None = None,
) -> None:
    """Warn of dialogues that a judge or tutor, from the config's `section`, cannot grade for lack of gold facts.

    `server` is the config's section, whose settings need not be given again. Raises ConfigError if it can grade none.
    """
    if not getattr(player, "needs_gold", False):
        return
    lacking = sum(any(attack.gold is None for attack in row.attacks[:turns_played]) for row in scenarios)
    name = "rubric" if type(player) in (RubricJudge, RubricTutor) else type(player).__name__  # as it would be typed
    does = GRADES[section]
    if lacking == len(scenarios):
        remedy = (
            f"{does} by gold facts, and of {counted(lacking, 'dialogue')} none has them for every turn: use "
            f"{' '.join([f'{section}=llm', *missing_words(server or {})])}"
        )
        raise ConfigError([Problem(section, name, remedy)])
    if lacking:
        said = "%s=%s %s by gold facts: %d of %d dialogues lack some and will be left out; use %s=llm"
        log.warning(said, section, name, does, lacking, len(scenarios), section)
