"""A benchmark run: every policy plays the dialogues, every turn is graded, and the results are written down.

    out_dir/records.jsonl    one graded dialogue per line, appended as the run goes
            report.html      and the other files of `outputs`

A stopped run resumes: a dialogue already recorded for the same policy, settings and content is not played again.
"""

from __future__ import annotations

from rich.console import Console

from steer_lit.bench import report
from steer_lit.bench.changed_settings import describe_stale
from steer_lit.bench.constant import ConstantPolicy
from steer_lit.bench.outputs import write_outputs
from steer_lit.bench.playing import BenchRun, Tally, judge_name, play_policy
from steer_lit.bench.provenance import provenance
from steer_lit.bench.records import GradedDialogue, ungraded
from steer_lit.bench.summary import Summary
from steer_lit.errors import TooManyFailures
from steer_lit.files.run_files import RECORDS
from steer_lit.terminal.bars import count_bar
from steer_lit.terminal.visible import print_lines
from steer_lit.types import AsksServer


def run_bench(run: BenchRun, console: Console | None = None) -> Summary:
    """Play, grade, write everything down and print the table. Return the content of `summary.json`.

    Policies play one after the other, in order. Recorded dialogues are played again if the policy's `fingerprint` has
    changed or it gave no answer; where only grades are missing, the recorded answers are graded again. Records of
    policies that are not in this run stay in the file; a report made from it shows them if they have this run's
    `conditions`. The run first prints which records it will replace, which settings have changed, and which records it
    does not show. The judge is called from a thread of its own, one call at a time.

    Constant policies play only if something of another policy was graded. A report of an earlier run in the folder is
    left if this run graded nothing, or nothing of a policy of which something was graded earlier.

    Raises TooManyFailures, once everything is written, if no dialogue of some policy could be graded.
    """
    console, out_dir = console or Console(), run.out_dir
    if all(row.failed for row in run.records.rows):
        run.begin()
    if stale := describe_stale(run):
        print_lines(console, stale)
    played: dict[str, list[GradedDialogue]] = {}
    many, rows = len(run.policies), len(run.suite.scenarios)
    later = {  # a constant policy takes time only where a server grades it
        name: rows - len(run.left(name, policy.fingerprint).done)
        for name, policy in run.policies.items()
        if isinstance(run.judge, AsksServer) or not isinstance(policy, ConstantPolicy)
    }
    with count_bar(console, "{task.description:>16}", "{task.fields[told]},") as progress:
        for number, (name, policy) in enumerate(run.policies.items(), start=1):
            later.pop(name, None)
            nothing = played and all(row.failed for rows in played.values() for row in rows)
            if nothing and isinstance(policy, ConstantPolicy):
                continue  # by itself it says nothing, and a report made again would show it as the latest result
            shown = f"{name} ({number} of {many})" if many > 1 else name
            played[name] = play_policy(run, name, Tally(progress, shown, rows, sum(later.values())))
    failures = ungraded(played)
    without = [name for name, (failed, _) in failures.items() if failed == len(played[name])]
    earlier = {row.policy for row in run.records.rows if not row.failed}.difference(played.keys() - without)
    summary: Summary = {}
    if earlier.intersection(without) or (earlier and len(without) == len(played)):
        print_lines(console, "report:  left as it was, with what was graded earlier")
    else:
        with console.status("intervals and report"):
            judge, facts = judge_name(run.judge), provenance(out_dir, [row for rows in played.values() for row in rows])
            summary = write_outputs(played, run.settings, judge, out_dir, run.suite.open_image, facts)
    if summary and len(without) < len(played):
        report.print_results(console, summary, played)
        print_lines(console, f"records: {out_dir / RECORDS}", f"report:  {out_dir / 'report.html'}")
    if without:
        raise TooManyFailures(f"no dialogue of {', '.join(without)} could be graded: {failures[without[0]][1]}")
    return summary
