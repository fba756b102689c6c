"""Plays every policy over the benchmark's dialogues, grades every turn, and writes down what came out.

    out_dir/records.jsonl    one graded dialogue a line, appended as the run goes
            report.html      and what else `outputs` makes of them

A stopped run goes on where it was: a dialogue already recorded for the same policy, settings and content is not
played again.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from steer_lit.bench import report
from steer_lit.bench.origin import told
from steer_lit.bench.outputs import write_outputs
from steer_lit.bench.records import GradedDialogue, RecordFile, dialogue_key, graded, settings_digest
from steer_lit.bench.suite import BenchPolicy, BenchSettings, MakePolicy, Suite
from steer_lit.errors import TooManyFailures
from steer_lit.files.run_files import RECORDS
from steer_lit.rollout.play import play
from steer_lit.rollout.seeds import stable_hash
from steer_lit.rollout.server_policy import ServerPolicy
from steer_lit.terminal.bars import count_bar
from steer_lit.terminal.visible import visible_line
from steer_lit.types import Fingerprinted, Grade, Judge, Trajectory

log = logging.getLogger(__name__)


def run_bench(
    policies: Mapping[str, MakePolicy],
    suite: Suite,
    judge: Judge,
    settings: BenchSettings,
    out_dir: Path,
    console: Console | None = None,
    played_on: Sequence[object] = (),
) -> dict[str, dict[str, Any]]:
    """Play, grade, write everything down, print the table. Returns what `summary.json` holds.

    Policies are made one at a time, in order, and let go before the next: only one has to fit in memory. A policy's
    `fingerprint` decides whether its recorded dialogues still hold; those of an older fingerprint, and those with a
    failed grade, are removed and played again. Rows of policies that are not in this run stay in the file: a report
    read from it holds them beside this run's where settings, judge and `played_on` (data and decoding) are the same.
    Raises TooManyFailures, after all of that, where no dialogue of some policy could be graded.
    """
    console = console or Console()
    out_dir.mkdir(parents=True, exist_ok=True)
    records = RecordFile(out_dir / RECORDS)
    procedure = _procedure(settings, judge, suite)
    conditions = settings_digest(procedure, *played_on)
    order = {scenario.id: number for number, scenario in enumerate(suite.scenarios)}
    played: dict[str, list[GradedDialogue]] = {}
    with count_bar(console, "{task.description:>16}", "dialogues") as progress:
        for name, make in policies.items():
            task = progress.add_task(name, total=len(order))
            policy = make()
            with closing(policy) if isinstance(policy, ServerPolicy) else nullcontext():
                for done in _play_policy(name, policy, suite, judge, settings, records, procedure, conditions):
                    progress.update(task, completed=done)
                    if not console.is_terminal:
                        console.print(f"{name}: {done} of {len(order)} dialogues", highlight=False)
            del policy
            gc.collect()  # a model is full of cycles
            rows = [row for row in records.of(name) if row.scenario in order]
            played[name] = sorted(rows, key=lambda row: order[row.scenario])

    with console.status("intervals and report"):
        summary = write_outputs(played, settings, judge_name(judge), out_dir, suite.open_image, told(out_dir))
    failures = dict(_failures(played))
    where = f"Every dialogue is in {out_dir / 'report.html'} to read and in {records.path}."
    ungraded = [name for name, (failed, _) in failures.items() if failed == len(played[name])]
    if len(ungraded) < len(played):
        console.print(report.table(summary))
        lost = [
            f"{name}: {failed} of {len(played[name])} dialogues could not be graded and count nowhere: {reason}"
            for name, (failed, reason) in failures.items()
        ]
        for line in [*report.notes(summary), *lost, where]:
            console.print(visible_line(line), markup=False, highlight=False, soft_wrap=True)
    if ungraded:
        raise TooManyFailures(f"no dialogue of {', '.join(ungraded)} could be graded: {failures[ungraded[0]][1]}")
    return summary


def _play_policy(
    name: str,
    policy: BenchPolicy,
    suite: Suite,
    judge: Judge,
    settings: BenchSettings,
    records: RecordFile,
    procedure: str,
    conditions: str,
) -> Iterator[int]:
    """Play what is not recorded yet, chunk by chunk, yielding how many of the scenarios are done."""
    fingerprint = policy.fingerprint
    keys = {row.id: dialogue_key(row, suite.digests(row), fingerprint, procedure) for row in suite.scenarios}
    made_by = {"policy": name, "fingerprint": fingerprint, "judge": judge_name(judge), "conditions": conditions}

    def stale(row: GradedDialogue) -> bool:
        other = row.fingerprint != fingerprint or row.key != keys.get(row.scenario, row.key)
        return row.policy == name and (other or row.failed)

    records.drop(stale)
    records.claim(name, set(keys.values()), conditions)
    recorded = {row.key for row in records.of(name)}
    left = [scenario for scenario in suite.scenarios if keys[scenario.id] not in recorded]
    if (done := len(keys) - len(left)) and isinstance(policy, ServerPolicy):  # whose weights nobody sees
        said = "%s: %d dialogues are in %s and not asked again: name another folder if the model behind it has changed"
        log.info(said, name, done, records.path)
    yield done
    for start in range(0, len(left), settings.chunk):
        chunk = left[start : start + settings.chunk]
        seeds = [stable_hash(settings.seed, scenario.id) for scenario in chunk]
        # The judge sees every turn, those after a cut completion too: a policy gains nothing by running on.
        trajectories = play(
            chunk, seeds, policy, suite.attacker, suite.tutor, settings.turns_played, stop_when_truncated=False
        )
        records.append(
            graded(trajectory, grades, key=keys[trajectory.scenario.id], **made_by)
            for trajectory, grades in zip(trajectories, grade_turns(trajectories, judge), strict=True)
        )
        done += len(chunk)
        yield done


def grade_turns(trajectories: Sequence[Trajectory], judge: Judge) -> list[list[Grade]]:
    """One grade for every turn of every trajectory; the judge sees each turn with the dialogue up to it.

    A dialogue in which the policy gave no answer, or its attacker's tutor no verdict, counts nowhere, so no turn of it
    is shown: all its grades have failed.
    """
    silent = [_unanswered(trajectory) or trajectory.failed for trajectory in trajectories]
    prefixes = [
        (trajectory.scenario, trajectory.turns[: turn_idx + 1])
        for trajectory, reason in zip(trajectories, silent, strict=True)
        for turn_idx in range(len(trajectory.turns))
        if reason is None
    ]
    grades = judge.grade(prefixes) if prefixes else []
    if len(grades) != len(prefixes):
        raise ValueError(f"the judge was shown {len(prefixes)} turns and gave {len(grades)} grades")
    each = iter(grades)
    return [
        [next(each) if reason is None else Grade(failed=reason) for _ in trajectory.turns]
        for trajectory, reason in zip(trajectories, silent, strict=True)
    ]


def _unanswered(trajectory: Trajectory) -> str | None:
    """Why the policy gave no answer, at the first turn where it gave none."""
    return next((turn.completion.failed for turn in trajectory.turns if turn.completion.failed is not None), None)


def _procedure(settings: BenchSettings, judge: Judge, suite: Suite) -> str:
    """What of the settings, the judge and whoever asks decides how any one dialogue is played and graded."""
    asking = (judge, suite.attacker, suite.tutor)
    who = (player.fingerprint if isinstance(player, Fingerprinted) else type(player).__name__ for player in asking)
    return settings_digest(settings.turns_played, settings.seed, *who)


def judge_name(judge: Judge) -> str:
    """Who grades, as reports tell it: the model behind a client, else the judge's class."""
    settings = getattr(getattr(judge, "client", None), "settings", None)
    return str(getattr(settings, "model", type(judge).__name__))


def _failures(played: Mapping[str, Sequence[GradedDialogue]]) -> Iterator[tuple[str, tuple[int, str]]]:
    """Of each policy with dialogues that could not be graded, how many, and why the first could not."""
    for name, rows in played.items():
        reasons = [turn.failed for row in rows for turn in row.turns if turn.failed is not None]
        if reasons:
            yield name, (sum(row.failed for row in rows), reasons[0])
