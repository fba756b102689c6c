"""A benchmark run: every policy plays the dialogues, every turn is graded, and the results are written down.

    out_dir/records.jsonl    one graded dialogue per line, appended as the run goes
            report.html      and the other files of `outputs`

A stopped run resumes: a dialogue already recorded for the same policy, settings and content is not played again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from steer_lit.bench import report
from steer_lit.bench.names import judge_name, several_repliers
from steer_lit.bench.outputs import write_outputs
from steer_lit.bench.playing import BenchRun, play_policy
from steer_lit.bench.provenance import provenance
from steer_lit.bench.records import GradedDialogue, Records
from steer_lit.bench.stale_records import describe_stale
from steer_lit.bench.summary import Summary
from steer_lit.errors import TooManyFailures
from steer_lit.files.run_files import RECORDS
from steer_lit.terminal.bars import BarOrLines, count_bar
from steer_lit.terminal.visible import print_lines


def run_bench(run: BenchRun, console: Console | None = None) -> Summary:
    """Play, grade, write everything down and print the table. Return the content of `summary.json`.

    Policies play one after the other, in order. Recorded dialogues are played again if the policy's `fingerprint` has
    changed or a grade failed. Records of policies that are not in this run stay in the file; a report made from it
    shows them if they have this run's `conditions`. The run first prints which records it will replace, which settings
    have changed, and which records it does not show. The judge is called from a thread of its own, one call at a time.

    Raises TooManyFailures, once everything is written, if no dialogue of some policy could be graded.
    """
    console, out_dir = console or Console(), run.out_dir
    if not run.records.rows:
        run.begin()
    elif stale := describe_stale(run):
        print_lines(console, stale)
    played: dict[str, list[GradedDialogue]] = {}
    with count_bar(console, "{task.description:>16}", "{task.fields[told]},") as progress:
        for name in run.policies:
            played[name] = play_policy(run, name, _teller(progress, name, len(run.suite.scenarios)))
    with console.status("intervals and report"):
        judge, facts = judge_name(run.judge), provenance(out_dir)
        summary = write_outputs(played, run.settings, judge, out_dir, run.suite.open_image, facts)
    failures = _failures(played)
    ungraded = [name for name, (failed, _) in failures.items() if failed == len(played[name])]
    if len(ungraded) < len(played):
        _print_results(console, summary, played, failures, out_dir)
    if ungraded:
        raise TooManyFailures(f"no dialogue of {', '.join(ungraded)} could be graded: {failures[ungraded[0]][1]}")
    return summary


def _teller(progress: Progress, name: str, total: int) -> Callable[[int, int], None]:
    """Return a function that shows how many of a policy's dialogues are recorded and played."""
    bar = BarOrLines(progress, name, total, "graded")

    def tell(done: int, played: int) -> None:
        told = f"graded, {played} played" if played > done else "graded"
        bar.show(done, f"{name}: {done} of {total} dialogues {told}", told)

    return tell


def _print_results(
    console: Console, summary: Summary, played: Records, failures: Mapping[str, tuple[int, str]], out_dir: Path
) -> None:
    """Print the table, and in words what it leaves out."""
    lost = [
        f"{name}: {failed} of {len(played[name])} dialogues could not be graded and count nowhere: {reason}"
        for name, (failed, reason) in failures.items()
    ]
    where = [f"records: {out_dir / RECORDS}", f"report:  {out_dir / 'report.html'}"]
    report.print_table(console, summary)
    print_lines(console, *report.notes(summary), *several_repliers(played), *lost, *where)


def _failures(played: Records) -> dict[str, tuple[int, str]]:
    """Return, by policy with a failed grade, its number of failed dialogues and the first reason."""
    failures = {}
    for name, rows in played.items():
        reasons = [turn.failed for row in rows for turn in row.turns if turn.failed is not None]
        if reasons:
            failures[name] = (sum(row.failed for row in rows), reasons[0])
    return failures
