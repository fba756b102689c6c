"""Runs of the benchmark, and what plays in them: rows of one question, a judge and a policy."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from steer_lit.bench.joined import recorded
from steer_lit.bench.manifest import Facts, Manifest
from steer_lit.bench.playing import BenchRun
from steer_lit.bench.records import GradedDialogue, RecordFile
from steer_lit.bench.report_only import report_on
from steer_lit.bench.run import run_bench
from steer_lit.bench.suite import BenchPolicy, Suite
from steer_lit.errors import ServerDown
from steer_lit.rollout.known_answers import KnownAnswers
from steer_lit.types import Attack, Completion, Grade, Message, Scenario, SoFar
from tests.settings import bench_settings


def benched(
    folder: Path,
    policies: Mapping[str, BenchPolicy],
    rows: Sequence[Scenario] | Suite,
    judge: Any,
    *,
    run: Mapping[str, Any] | None = None,
    **settings: Any,
) -> tuple[dict[str, Any], str]:
    """Run the benchmark in the folder. Return its summary and what it prints. `run` are more arguments of the run."""
    console = Console(file=io.StringIO(), width=200)
    suite, rules = rows if isinstance(rows, Suite) else Suite(rows), bench_settings(**{"resamples": 100, **settings})
    summary = run_bench(BenchRun(policies, suite, judge, rules, folder, **(run or {})), console)
    return dict(summary), console.file.getvalue()  # type: ignore[attr-defined]


def reported(out: Path, **given: Any) -> tuple[dict[str, Any], str]:
    """Make a report from `from_run` or `from_raw_eval`. Return its summary, and what it prints with its summary.md."""
    console = Console(file=io.StringIO(), width=200)
    config = {"from_run": None, "from_raw_eval": None, "data": {"source": {}}, **given}
    report_on(config, bench_settings(resamples=100), out, console)
    said = console.file.getvalue() + (out / "summary.md").read_text()  # type: ignore[attr-defined]
    return json.loads((out / "summary.json").read_text()), said


def folder_of(path: Path, rows: Sequence[GradedDialogue], *, facts: Facts = (), **conditions: Any) -> Path:
    """Make the folder of a benchmark whose report shows these records, of scenarios that are their ids."""
    policies, dialogues = {row.policy: row.fingerprint for row in rows}, {row.scenario: row.scenario for row in rows}
    shared = {"bench.max_turns": 10, "judge": "J", **conditions}
    manifest = Manifest(shared, policies, dialogues, str(shared["judge"]), {"source": {}}, facts)
    path.mkdir()
    manifest.write(path)
    keys = {mark: manifest.keys(mark) for mark in policies.values()}
    RecordFile(path / "records.jsonl").append(
        replace(row, key=keys[row.fingerprint][row.scenario], judged=manifest.judged) for row in rows
    )
    return path


def rows_of(folder: Path) -> list[GradedDialogue]:
    return RecordFile(folder / "records.jsonl").rows


def shown_in(folder: Path) -> list[GradedDialogue]:
    """Return the records that the folder's report shows, in its order."""
    return [row for rows in recorded([folder])[1].values() for row in rows]


def questions(count: int) -> list[Scenario]:
    """Return rows of one question each, `row-0` and on."""
    return [Scenario(f"row-{at}", "benign", Attack(Message.of("user", "What is it?"))) for at in range(count)]


class Judge:
    """Grades all but the scenarios or answers in `failing`. After `lasts` calls its server is down."""

    def __init__(self, name: str = "J", failing: Sequence[str] = (), lasts: int = 99) -> None:
        self.fingerprint, self.failing, self.lasts, self.calls, self.asked = name, failing, lasts, 0, 0
        self.client = SimpleNamespace(settings=SimpleNamespace(model=name))

    def grade(self, dialogues: Sequence[SoFar]) -> list[Grade]:
        self.calls += 1
        if self.calls > self.lasts:
            time.sleep(0.2)  # meanwhile more is played and handed over
            raise ServerDown("8 of 10 requests failed")
        self.asked += len(dialogues)
        named = [{row.id, turns[-1].completion.text} for row, turns in dialogues]
        return [Grade(failed="no JSON") if names & {*self.failing} else Grade(3, 3, False) for names in named]


class Policy:
    """Counts the dialogues it plays. Without a `server` it answers nothing."""

    def __init__(self, fingerprint: str, server: bool = True) -> None:
        self.fingerprint, self.server, self.played = fingerprint, server, 0

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> KnownAnswers:
        self.played += len(scenarios)
        if self.server:
            return KnownAnswers(scenarios, ([f"by {self.fingerprint}"] for _ in scenarios))
        return _Silent(scenarios, ([""] for _ in scenarios))


class _Silent(KnownAnswers):
    def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
        return dict.fromkeys(asked, Completion("", failed="policy: time-out"))
