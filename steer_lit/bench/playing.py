"""Playing and grading of a run's dialogues by one policy, except those that are recorded already."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

from rich.progress import Progress

from steer_lit.bench.judge_check import told_of_check
from steer_lit.bench.manifest import JUDGE, Manifest, player_digest, read_manifest
from steer_lit.bench.provenance import provenance
from steer_lit.bench.records import GradedDialogue, RecordFile, as_played, graded, known_grades, regraded, with_facts_of
from steer_lit.bench.settings import BenchSettings
from steer_lit.bench.suite import BenchPolicy, Suite
from steer_lit.errors import ServerDown, TooManyFailures
from steer_lit.files.run_files import RECORDS
from steer_lit.numbers import counted
from steer_lit.rollout.one_each import one_each
from steer_lit.rollout.play import playing
from steer_lit.rollout.seeds import stable_hash
from steer_lit.rollout.server_policy import ServerPolicy
from steer_lit.rollout.threads import in_background
from steer_lit.terminal.bars import BarOrLines
from steer_lit.types import AsksServer, Grade, Judge, Scenario, SoFar, Trajectory

log = logging.getLogger(__name__)
_DOWN = "the judge's server went down"
TELLING = 8  # a judge that grades no turn of so many dialogues cannot grade


@dataclass(frozen=True, slots=True)
class Left:
    """What is left to do of a policy's dialogues, by scenario: recorded ones that lack nothing but this judge's grades,
    `ungraded`, and `unplayed` ones. `done` are the others.
    """

    done: dict[str, GradedDialogue]
    ungraded: dict[str, GradedDialogue]
    unplayed: list[Scenario]


@dataclass(slots=True)
class BenchRun:
    """A benchmark run: what is played, who judges, the settings, and the folder of its records.

    `played_on` holds what else decides all answers, by the key of the config. `config` is the resolved config that made
    the run; `freeze` writes it into the folder. `shown` is what the folder's report shows so far. `policies` may be
    replaced before they play, as when a model has loaded.

    Raises RowError if a record in the folder cannot be read.
    """

    policies: Mapping[str, BenchPolicy]
    suite: Suite
    judge: Judge
    settings: BenchSettings
    out_dir: Path
    played_on: Mapping[str, object] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    freeze: Callable[[], object] = lambda: None
    records: RecordFile = field(init=False)
    shown: Manifest | None = field(init=False)
    _without_policies: Manifest = field(init=False)

    def __post_init__(self) -> None:
        asking = {JUDGE: self.judge, "attacker": self.suite.attacker, "tutor": self.suite.tutor}
        who = {section: player_digest(player, self.config.get(section, {})) for section, player in asking.items()}
        rules = {"bench.max_turns": self.settings.turns_played, "bench.seed": self.settings.seed}
        client = getattr(getattr(self.judge, "client", None), "settings", None)  # names the model that judges
        self._without_policies = Manifest(
            conditions={**rules, **self.played_on, **who},
            policies={},
            dialogues={row.id: self.suite.digest(row) for row in self.suite.scenarios},
            judge=str(getattr(client, "model", type(self.judge).__name__)),
            data=self.config.get("data", {}),
            pictures=self.suite.picture_digests,
        )
        self.records = RecordFile(self.out_dir / RECORDS)
        self.shown = read_manifest(self.out_dir)

    @property
    def manifest(self) -> Manifest:
        """What this run's report will show, without facts."""
        marks = {name: policy.fingerprint for name, policy in self.policies.items()}
        return replace(self._without_policies, policies=marks)

    def show(self) -> Manifest:
        """Make the folder's reports be on this run. Return its manifest."""
        self.freeze()
        asks = isinstance(self.judge, AsksServer)
        check = told_of_check([self.out_dir], self.manifest.judged, self.settings, asks_server=asks)
        self.shown = replace(self.manifest, facts=(*provenance(self.out_dir), *check))
        self.shown.write(self.out_dir)
        return self.shown

    def left(self, name: str, fingerprint: str) -> Left:
        """Return what is left to do of the policy's dialogues.

        Recorded answers are graded only if the row's own questions were asked. Of others a record names neither the
        gold facts nor the order of text and pictures.
        """
        manifest, scripted = self.manifest, getattr(self.suite.attacker, "keeps_to_script", False)
        keys, left = manifest.keys(fingerprint), Left({}, {}, [])
        for row in self.suite.scenarios:
            held = self.records.answered(name, keys[row.id], manifest.judged)
            if held is not None and held.judged == manifest.judged and not held.failed:
                left.done[row.id] = held
            elif held is not None and scripted:
                left.ungraded[row.id] = held
            else:
                left.unplayed.append(row)
        return left

    def busy(self, unloaded: Iterable[str] = ()) -> list[object]:
        """Return who has something left to do: whoever plays dialogues, and the judge if any grade is missing.

        `unloaded` names further policies, whose models have not loaded: their weights count as those that the folder's
        report shows.
        """
        known = {} if self.shown is None else self.shown.policies
        left = {name: self.left(name, known.get(name, "")) for name in unloaded}
        left |= {name: self.left(name, policy.fingerprint) for name, policy in self.policies.items()}
        players = [policy for name, policy in self.policies.items() if left[name].unplayed]
        unplayed = any(one.unplayed for one in left.values())
        asking = [self.suite.attacker, self.suite.tutor] if unplayed else []
        grading = [self.judge] if unplayed or any(one.ungraded for one in left.values()) else []
        return [*grading, *asking, *players]

    def play(
        self, scenarios: Sequence[Scenario], policy: BenchPolicy, one_ended: Callable[[], object]
    ) -> Iterator[list[Trajectory]]:
        """Yield trajectories, half a chunk at a time, in the order in which they end: a slow one holds up no other.

        `one_ended` is called as each one ends. After an error, the trajectories that have ended are yielded before it
        is raised. A dialogue continues after a cut completion, so that a policy gains nothing by running on.
        """
        chunk, turns = self.settings.chunk, self.settings.turns_played
        seeds = [stable_hash(self.settings.seed, scenario.id) for scenario in scenarios]
        players = (policy, self.suite.attacker, self.suite.tutor)
        ended: list[Trajectory] = []
        try:
            for _, trajectory in playing(
                scenarios, seeds, *players, turns, side_by_side=chunk, stop_when_truncated=False
            ):
                one_ended()
                ended.append(trajectory)
                if 2 * len(ended) >= chunk:
                    yield ended
                    ended = []
        except Exception:
            if ended:
                yield ended
            raise
        if ended:
            yield ended


class Tally:
    """Counts a policy's dialogues, played and graded in a thread each, and shows how many of `total` are recorded."""

    def __init__(self, progress: Progress, name: str, total: int) -> None:
        self._bar, self._name, self._total = BarOrLines(progress, name, total, "graded"), name, total
        self._counting = Lock()
        self._recorded = self._failed = self._answered = 0

    def add(self, *, recorded: int = 0, failed: int = 0, answered: int = 0) -> None:
        with self._counting:
            self._recorded += recorded
            self._failed += failed
            self._answered += answered
            told = f"done, {self._failed} not graded" if self._failed else "graded"
            more = f", {self._answered} answered" if self._answered > self._recorded else ""
            line = f"{self._name}: {self._recorded} of {self._total} dialogues {told}{more}"
            self._bar.show(self._recorded, line, told + more)


def play_policy(run: BenchRun, name: str, tally: Tally) -> list[GradedDialogue]:
    """Play the dialogues of a policy that are not recorded yet, grading and recording some while others are played.
    Return the records of all the run's scenarios, in the scenarios' order.

    Where only grades are missing, the recorded answers are graded. A stopped run loses at most a chunk of dialogues
    that have ended, and those that were being played.
    """
    policy, records, manifest = run.policies[name], run.records, run.manifest
    keys, left = manifest.keys(policy.fingerprint), run.left(name, policy.fingerprint)
    regrading = [as_played(left.ungraded[row.id], row) for row in run.suite.scenarios if row.id in left.ungraded]
    done = {row.id: with_facts_of(left.done[row.id], row) for row in run.suite.scenarios if row.id in left.done}
    if changed := [row for id, row in done.items() if row != left.done[id]]:
        records.append(changed)
    kept = len(done) + len(regrading)
    if kept and isinstance(policy, ServerPolicy):  # its weights cannot be seen
        said = "%s: %s in %s, not asked again: name another folder if the model behind it has changed"
        log.info(said, name, counted(kept, "dialogue"), records.path)
    tally.add(recorded=len(left.done), answered=kept)
    made_by = {"fingerprint": policy.fingerprint, "judge": manifest.judge, "judged": manifest.judged}
    known = {id: known_grades(row, manifest.judged) for id, row in left.ungraded.items()}
    down: list[ServerDown] = []  # the judge's server

    def judged(dialogues: Sequence[SoFar]) -> Sequence[Grade]:
        if not down:
            try:
                return one_each(dialogues, run.judge, "grade", "Grade", Grade)
            except ServerDown as error:  # the answers are recorded, to be graded when the server is back
                down.append(error)
        return [Grade(failed=_DOWN)] * len(dialogues)  # the error that ends the run says why; reports show no address

    def grade(trajectories: Sequence[Trajectory]) -> list[GradedDialogue]:
        each = zip(trajectories, _grade_turns(trajectories, judged, known), strict=True)
        new = [graded(one, grades, policy=name, key=keys[one.scenario.id], **made_by) for one, grades in each]
        return [regraded(left.ungraded[row.scenario], row) if row.scenario in left.ungraded else row for row in new]

    def record(rows: Sequence[GradedDialogue]) -> None:
        records.append(rows)
        tally.add(recorded=len(rows), failed=sum(row.failed for row in rows))
        if not down:
            _check_judge([row for row in records.rows if row.judged == manifest.judged])

    with in_background(grade, record) as hand_over:
        half = -(-run.settings.chunk // 2)
        regraded_at_once = (regrading[start : start + half] for start in range(0, len(regrading), half))
        for ended in chain(regraded_at_once, run.play(left.unplayed, policy, lambda: tally.add(answered=1))):
            hand_over(ended)
            if down:
                break
    if down:
        raise down[0]
    return [row for key in keys.values() if (row := records.of(name, key, manifest.judged)) is not None]


def _check_judge(judged: Sequence[GradedDialogue]) -> None:
    """Raise TooManyFailures if no turn of at least `TELLING` dialogues has a grade: playing more would be wasted."""
    # A silent policy is not the judge's fault, and what an earlier server's death left ungraded waits for its turn.
    shown = [row for row in judged if row.answered and any(turn.failed != _DOWN for turn in row.turns)]
    reasons = [turn.failed for row in shown for turn in row.turns]
    if len(shown) < TELLING or None in reasons:
        return
    said = f"the judge could grade no turn of {len(shown)} dialogues, the first for this reason: {reasons[0]}"
    raise TooManyFailures(f"{said}; judge_check=true tests a judge")


def _grade_turns(
    trajectories: Sequence[Trajectory],
    judged: Callable[[Sequence[SoFar]], Sequence[Grade]],
    known: Mapping[str, Sequence[Grade | None]],
) -> list[list[Grade]]:
    """Return one grade for every turn of every trajectory. `judged` sees each turn with the dialogue up to it.

    If the policy gave no answer, or the attacker's tutor no verdict, the dialogue counts nowhere: `judged` does not
    see it, and all its grades are failed. Nor does it see turns whose grades are `known`, by scenario.
    """
    given = [_given(trajectory, known) for trajectory in trajectories]
    prefixes = [
        (trajectory.scenario, trajectory.turns[: turn_idx + 1])
        for trajectory, grades in zip(trajectories, given, strict=True)
        for turn_idx, grade in enumerate(grades)
        if grade is None
    ]
    each = iter(judged(prefixes) if prefixes else [])
    return [[next(each) if grade is None else grade for grade in turns] for turns in given]


def _given(trajectory: Trajectory, known: Mapping[str, Sequence[Grade | None]]) -> Sequence[Grade | None]:
    """Return each turn's grade, None where the judge has to give it."""
    unanswered = (turn.completion.failed for turn in trajectory.turns if turn.completion.failed is not None)
    if reason := next(unanswered, trajectory.failed):
        return [Grade(failed=reason)] * len(trajectory.turns)
    return known.get(trajectory.scenario.id, [None] * len(trajectory.turns))
