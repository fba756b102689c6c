"""A benchmark run: every policy plays the dialogues, every turn is graded, and the results are written down.

    out_dir/records.jsonl    one graded dialogue per line, appended as the run goes
            played.json      which of them the report shows
            report.html      and the other files of `outputs`

A stopped run resumes: a dialogue already recorded for the same policy, settings and content is not played again.
"""

from __future__ import annotations

from rich.console import Console

from steer_lit.bench import report
from steer_lit.bench.judge_check import CHECKED
from steer_lit.bench.manifest import differing, graded_policies
from steer_lit.bench.outputs import write_outputs
from steer_lit.bench.playing import BenchRun, Tally, play_policy
from steer_lit.bench.records import GradedDialogue, ungraded
from steer_lit.bench.summary import Summary
from steer_lit.errors import TooManyFailures
from steer_lit.files.run_files import RECORDS
from steer_lit.numbers import counted, few
from steer_lit.terminal.bars import count_bar
from steer_lit.terminal.visible import print_lines


def run_bench(run: BenchRun, console: Console | None = None) -> Summary:
    """Play, grade, write everything down and print the table. Return the content of `summary.json`.

    Policies play one after the other, in order. Dialogues are played unless answers of the policy's `fingerprint` are
    recorded; where only this judge's grades are missing, the recorded answers are graded, in a thread of their own.

    The run first prints in what it differs from the folder's report. This, with the config and the manifest that belong
    to it, is replaced when the run ends; the manifest at once if the run adds to what it shows. The report is left if
    the run graded nothing, or nothing of a policy of which it shows grades.

    Raises TooManyFailures, once everything is written, if no dialogue of some policy could be graded.
    """
    console, out_dir = console or Console(), run.out_dir
    earlier = set() if run.shown is None else graded_policies(run.shown.records(run.records))
    changes = _describe_changes(run) if earlier else ""
    if changes:
        print_lines(console, changes)
    else:
        run.show()
    played: dict[str, list[GradedDialogue]] = {}
    many, rows = len(run.policies), len(run.suite.scenarios)
    with count_bar(console, "{task.description:>16}", "{task.fields[told]},") as progress:
        for number, name in enumerate(run.policies, start=1):
            shown = f"{name} ({number} of {many})" if many > 1 else name
            played[name] = play_policy(run, name, Tally(progress, shown, rows))
    failures = ungraded(played)
    without = [name for name in played if name not in graded_policies(played)]
    summary: Summary = {}
    if earlier.intersection(without) or (earlier and len(without) == len(played)):
        print_lines(console, "report:  left as it was, with what was graded earlier")
    else:
        with console.status("intervals and report"):
            manifest = run.show()
            summary = write_outputs(played, run.settings, manifest.judge, out_dir, run.suite.open_image, manifest.facts)
    if summary and len(without) < len(played):
        report.print_results(console, summary, played)
        check = [f"{label}: {value}" for label, value in manifest.facts if label == CHECKED]
        print_lines(console, *check, f"records: {out_dir / RECORDS}", f"report:  {out_dir / 'report.html'}")
    if without:
        raise TooManyFailures(f"no dialogue of {', '.join(without)} could be graded: {failures[without[0]][1]}")
    return summary


def _describe_changes(run: BenchRun) -> str:
    """Say in one line how the folder's report differs from what this run will show; "" if it does not."""
    assert run.shown is not None
    gone = [name for name in run.shown.policies if name not in run.policies]
    said = [f"that differ in {few(changed)}"] if (changed := differing(run.shown, run.manifest)) else []
    said += [f"of {few(gone)}, not in this command"] if gone else []
    dialogues = len(run.shown.dialogues.keys() - run.manifest.dialogues.keys())
    said += [f"of {counted(dialogues, 'dialogue')}, not in this command"] if dialogues else []
    kept = f"they stay in {RECORDS}, and its report does not show them"
    return f"{run.out_dir} holds results {' and '.join(said)}: {kept}" if said else ""
