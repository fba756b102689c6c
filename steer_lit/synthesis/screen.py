"""What a synthesis run shows: its cost beforehand, a bar, what became of the rows, and how to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from steer_lit.chat.wire import brief
from steer_lit.numbers import counted
from steer_lit.synthesis.estimate import StepCost, estimate, total
from steer_lit.synthesis.manifest import StageResult
from steer_lit.synthesis.outcome import Outcome
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.synthesis.stage1 import SCENARIOS, SCRIPTS
from steer_lit.synthesis.stage2 import DIALOGUES
from steer_lit.synthesis.starts import Starts
from steer_lit.terminal.bars import BarOrLines, count_bar
from steer_lit.terminal.commands import command, next_step, path_word, resume_command
from steer_lit.terminal.visible import print_lines
from steer_lit.terminal.words import words_besides, words_setting
from steer_lit.types import Scenario

_OF_STAGE_1 = ("stages", "data.seeds", "data.scripts", "data.folder")  # Stage II is given others


def tell_plan(settings: SynthesisSettings, generator: str, console: Console, starts: Starts | None) -> None:
    """Print what the run will make and ask of the server, at most. `starts` are the rows of a file it starts from."""
    rows = settings.rows if starts is None else len(starts)
    print_lines(console, *_plan(settings, generator, rows))
    if generator == "template":
        console.print("generator=template asks no server: this run costs nothing but time", highlight=False)
    else:
        low, high = settings.stage1.turns
        written = range(low, high + 1)
        scripts = [len(start.attacks) for start in starts or () if isinstance(start, Scenario)]
        played = scripts or [min(turns, settings.stage2.max_turns) for turns in written]
        console.print(_cost_table(estimate(settings.stage1.kind, rows, written, played, settings.stages)))


def _plan(settings: SynthesisSettings, generator: str, rows: int) -> Iterator[str]:
    scripts, dialogues = settings.stage1, settings.stage2
    if "stage1" in settings.stage_names:
        low, high = scripts.turns
        start = settings.seeds or ("STEER-mini's dialogues" if generator == "template" else "questions of STEER-mini")
        success = f"; kept with an attack score of at least {scripts.success}" if scripts.kind == "red_team" else ""
        made = counted(rows, f"{scripts.kind} script")
        yield f"stage 1: up to {made} of {low} to {high} turns from {start}{success}"
    if "stage2" in settings.stage_names:
        start = settings.scripts or ("those scripts" if settings.stages == "both" else SCRIPTS)
        safe, useful = f"{dialogues.min_safety:g}", f"{dialogues.min_usefulness:g}"
        kept = f"kept with safety of at least {safe} in every turn and usefulness of {useful} on average"
        made = counted(rows, "dialogue")
        yield f"stage 2: up to {made} of at most {dialogues.max_turns} turns from {start}; {kept}"
    if rows < settings.rows:
        of_scripts = settings.scripts or SCRIPTS, "script", "dialogue"
        file, sort, made = of_scripts if settings.stages == "2" else (settings.seeds, "question", "script")
        yield f"rows={settings.rows}, but {file} has {counted(rows, f'usable {sort}')}, each gives at most one {made}"


def next_steps(manifest: Mapping[str, Any], settings: SynthesisSettings, run: Path, words: Sequence[str]) -> str:
    """Return where the rows of a run made with `words` are, and the command that uses them next. If rows had no answer,
    put first the command that makes only these again.
    """
    failed = sum(manifest["stages"][name]["failed"] for name in settings.stage_names)
    again = resume_command("synthesize", words, run)
    them = "it" if failed == 1 else "them"
    retry = f"{counted(failed, 'row')} had no answer, and this makes only {them} again: {again}\n" if failed else ""
    if settings.stages == "1":
        given = [*words_besides(words, _OF_STAGE_1), "stages=2", path_word("data.scripts", run / SCRIPTS)]
        given += [path_word("data.folder", settings.folder)] if settings.folder else []
        said = f"{retry}scripts: {run / SCRIPTS}, for GRPO {run / SCENARIOS}"
        return f"{said}\n{next_step(command('synthesize', *given))}"
    made = manifest["stages"]["stage2"]
    # nano knows only STEER-mini's words, and trains on them in minutes.
    name, rows = "nano" if made["generator"].get("generator") == "template" else "smol", made["written"]
    given = [f"+experiment=sft_{name}", "data=steer", path_word("data.source.sft", run / DIALOGUES)]
    given += [path_word("data.source.folder", settings.folder)] if settings.folder else []
    given += [f"data.max_turns={settings.stage2.max_turns}"]  # the experiments cut dialogues sooner
    given += [f"data.val_size={min(64, max(1, rows // 5), rows - 1)}"]
    given += words_setting(words, ["system_prompt"])  # the one that the dialogues were answered under
    scripts = f", their scripts for GRPO: {run / SCENARIOS}" if settings.stages == "both" else ""
    return f"{retry}dialogues: {run / DIALOGUES}{scripts}\n{next_step(command('train', *given))}"


def _cost_table(steps: Sequence[StepCost]) -> Table:
    """Tabulate the calls and rough tokens of every step, and of all together."""
    shown = Table(title="At most, without repairs: calls, and rough tokens in and out", title_justify="left")
    for heading in ("stage", "step", "calls", "tokens in", "tokens out"):
        shown.add_column(heading, justify="left" if heading in ("stage", "step") else "right")
    for step in [*steps, total(steps)]:
        numbers = (step.calls, step.prompt_tokens, step.completion_tokens)
        shown.add_row(step.stage, step.step, *(f"{number:,}" for number in numbers))
    return shown


def table(stages: Mapping[str, Mapping[str, Any]]) -> Table:
    """Tabulate what became of the rows, stage by stage."""
    shown = Table()
    columns = ("begun", "written", "duplicates", "rejected", "unreadable", "failed")
    for heading in ("stage", *columns):
        shown.add_column(heading, justify="left" if heading == "stage" else "right")
    for name, counts in stages.items():
        repeated = sum(counts["duplicates"].values())
        numbers = [repeated if column == "duplicates" else counts[column] for column in columns]
        shown.add_row(name[-1], *(f"{number:,}" for number in numbers))
    return shown


@contextmanager
def row_bar(name: str, rows: int, console: Console) -> Iterator[Callable[[Outcome], None]]:
    """Show a bar, or lines, that count rows as they end."""
    done = kept = 0
    with count_bar(console, "stage {task.description}", "rows  {task.fields[told]}") as progress:
        bar = BarOrLines(progress, name[-1], rows)

        def show(outcome: Outcome) -> None:
            nonlocal done, kept
            done, kept = done + 1, kept + (outcome.status == "kept")
            told = f"{kept:,} kept, {done - kept:,} put aside"
            bar.show(done, f"stage {name[-1]}: {done:,} of {rows:,} rows, {told}", told)

        yield show


def notes(stages: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield for each stage, by its manifest entry, why rows were put aside and the first row without an answer."""
    for name, counts in stages.items():
        for reason, number in counts["reasons"].items():
            yield f"stage {name[-1]}: {number:,} x {reason}"
        if first := counts["first_failure"]:
            yield f"stage {name[-1]}: the first that the server did not answer: {first}"


def nothing_written(result: StageResult, run_dir: Path) -> str:
    """Return the message of the error that ends a run whose stage put every row aside."""
    read = [row.detail for row in result.outcomes if row.detail and row.status != "failed"]  # `notes` quotes those
    first = [f"the first: {brief(detail)}" for detail in read[:1]]
    told = "; ".join([*notes({result.name: result.counts()}), *first])
    where = f"{run_dir}/quarantine.{result.name}.jsonl"
    return f"no row of {len(result.outcomes)} was written: {told}. See {where}"
