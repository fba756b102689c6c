"""Reports on recorded dialogues: nothing is played or graded.

    python bench.py from_run=outputs/bench/<time>           a benchmark run, under other rules if you like
    python bench.py 'from_run=[<folder>,<folder>]'          several benchmark runs of the same dialogues (joined.py)
    python bench.py from_run=outputs/grpo_smol/<time>       a training run: its rollouts to read
    python bench.py from_raw_eval=<folder or raw_eval.json> files of the authors' evaluator

The report goes into a folder of its own; the files it reads stay as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from steer_lit.bench.provenance import provenance, saved_config
from steer_lit.bench.seed_groups import baseline_problems
from steer_lit.bench.settings import BenchSettings
from steer_lit.errors import ConfigError, Problem, SteerError
from steer_lit.files.run_files import RAW_EVALS, RECORDS, ROLLOUTS
from steer_lit.numbers import counted, few
from steer_lit.terminal.visible import print_lines

if TYPE_CHECKING:
    from steer_lit.bench.records import GradedDialogue, Records

_STOPPED = "recorded only"  # a report's label
log = logging.getLogger(__name__)
_RUN = (
    f"name the folder of a benchmark run ({RECORDS}) or of a GRPO run ({ROLLOUTS}; SFT writes none), or a list of "
    "benchmark runs, each once"
)


def report_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what keeps `from_run` or `from_raw_eval` from being read."""
    run, files = config["from_run"], config["from_raw_eval"]
    if run is not None and files is not None:
        yield Problem("from_run", run, "and from_raw_eval both name something to report on: leave one of them out")
    if run is not None or files is not None:
        if (limit := config["bench"]["limit"]) is not None:
            yield Problem("bench.limit", limit, "limits what is played, and a report is on all that was: leave it out")
        if config["judge_check"]:
            remedy = "grades the calibration set, and a report grades nothing: leave one of them out"
            yield Problem("judge_check", True, remedy)
    if Path(config["run_dir"]).resolve() in {folder.resolve() for folder in _folders_of(run)}:
        yield Problem("hydra.run.dir", run, "is the run that is read: leave it out, or name a folder for the report")
    yield from _run_problems(run)
    source, written = Path(str(files)).resolve(), (Path(config["run_dir"]) / RAW_EVALS).resolve()
    if files is not None and written.exists() and (source.is_relative_to(written) or written.is_relative_to(source)):
        remedy = f"{RAW_EVALS}/ there is being read and would be replaced: name another folder"
        yield Problem("hydra.run.dir", config["run_dir"], remedy)


def _folders_of(run: object) -> list[Path]:
    """Return the folders that `from_run` names: None, one folder, or a list."""
    return [] if run is None else [Path(str(folder)) for folder in (run if isinstance(run, list) else [run])]


def _run_problems(run: object) -> Iterator[Problem]:
    folders = _folders_of(run)
    if isinstance(run, list) and len({folder.resolve() for folder in folders}) < max(len(folders), 1):
        yield Problem("from_run", run, _RUN)
    for folder in folders:
        if not (_holds_records(folder) or (len(folders) == 1 and _rollouts(folder))):
            yield Problem("from_run", str(folder), _RUN if folder.is_dir() else f"is not a folder: {_RUN}")


def report_on(
    config: Mapping[str, Any], settings: BenchSettings, out_dir: Path, console: Console | None = None
) -> None:
    """Write the report on what `config` names into `out_dir`, and print its table."""
    from steer_lit.bench import report
    from steer_lit.bench.joined import in_common, recorded
    from steer_lit.bench.judge_check import CHECKED, told_of_check
    from steer_lit.bench.manifest import read_manifest
    from steer_lit.bench.outputs import write_outputs
    from steer_lit.bench.pictures import NOT_SHOWN, judged_pictures, picture_opener
    from steer_lit.bench.raw_eval import read_raw_evals
    from steer_lit.bench.records import is_constant

    console = console or Console()
    ran: list[tuple[str, str]] = []
    folders = _folders_of(config["from_run"])
    if config["from_raw_eval"] is not None:
        records, judge = read_raw_evals(Path(config["from_raw_eval"]))
        open_image = picture_opener(config["data"])
    elif _holds_records(folders[0]):
        manifest, records = recorded(folders)
        if manifest.conditions["bench.max_turns"] == 1 < settings.turns_played:
            remedy = "the run asked openings alone: report on it with bench.protocol=single_turn"
            raise ConfigError([Problem("bench.protocol", settings.protocol, remedy)])
        judge, ran = manifest.judge, [fact for fact in manifest.facts if fact[0] != CHECKED]
        asks = len(ran) < len(manifest.facts)
        ran += told_of_check(folders, manifest.judged, settings, asks_server=asks)  # it may be newer than the records
        open_image, others = judged_pictures([run for folder in folders if (run := read_manifest(folder))])
        if others:
            log.warning("not shown: %s", few(others, 3))
            ran.append(NOT_SHOWN)
        if lacking := [
            f"{len(rows)} of {len(manifest.dialogues)} by {name}"
            for name in manifest.policies
            if len(rows := records.get(name, ())) < len(manifest.dialogues)
        ]:
            ran.append((_STOPPED, ", ".join(lacking)))
        if len(folders) > 1:
            records, left_out = in_common(records)
            if left_out:
                print_lines(console, left_out)
    else:
        _report_rollouts(folders[0], out_dir, console)
        return
    trained = (name for name, rows in records.items() if not is_constant(rows))
    if problems := list(baseline_problems(settings.baseline, trained)):
        raise ConfigError(problems)
    if cut := _describe_cuts(records, settings):
        print_lines(console, cut)
    records = {name: [_first_turns(row, settings.turns_played) for row in rows] for name, rows in records.items()}
    with console.status("intervals and report"):
        summary = write_outputs(records, settings, judge, out_dir, open_image, ran)
    report.print_results(console, summary, records)
    told = [f"{label}: {value}" for label, value in ran if label in (_STOPPED, CHECKED)]
    print_lines(console, f"judge:   {judge}", *told, f"report:  {out_dir / 'report.html'}")


def _describe_cuts(records: Records, settings: BenchSettings) -> str:
    """Say which later turns the report leaves out, because these settings would not have played them; "" for none."""
    most = settings.turns_played
    cut = {name: sum(len(row.turns) > most for row in rows) for name, rows in records.items()}
    if not any(cut.values()):
        return ""
    key = "bench.protocol=single_turn" if settings.protocol == "single_turn" else f"bench.max_turns={most}"
    kept = f"turns 1 to {most}" if most > 1 else "turn 1"
    which = ", ".join(f"{long} of {counted(len(records[name]), 'dialogue')} of {name}" for name, long in cut.items())
    said = f"{key}: the report covers only {kept}; dialogues broken off later count as failed"
    return f"{said}; later turns left out: {which}"


def _first_turns(row: GradedDialogue, count: int) -> GradedDialogue:
    """Return the record without its turns after the first `count`."""
    if len(row.turns) <= count:
        return row
    kept = row.turns[:count]
    return replace(row, image=next((uri for turn in kept for uri in turn.images), None), turns=kept)


def _report_rollouts(run: Path, out_dir: Path, console: Console) -> None:
    from steer_lit.bench import html, page_dialogues
    from steer_lit.bench.pictures import NOT_SHOWN, trained_pictures

    dialogues = [dialogue for path in _rollouts(run) for dialogue in page_dialogues.read_rollouts(path)]
    if not dialogues:
        raise SteerError(f"from_run={run}: there is no readable rollout")
    saved = saved_config(run)
    facts = [("run", str(saved.get("name", run.name))), ("rollouts", str(len(dialogues))), *provenance(run)]
    shown = (uri for dialogue in dialogues for turn in dialogue.turns for uri in turn.pictures)
    open_image, others = trained_pictures(run, shown)
    if others:
        log.warning("not shown: %s", few(others, 3))
        facts.append(NOT_SHOWN)
    with console.status("report"):
        html.write_page(out_dir / "report.html", "Training rollouts", facts, dialogues, open_image)
    print_lines(console, counted(len(dialogues), "rollout"), f"report:  {out_dir / 'report.html'}")


def _holds_records(run: Path) -> bool:
    return (run / RECORDS).is_file()


def _rollouts(run: Path) -> list[Path]:
    return sorted(run.glob(ROLLOUTS))
