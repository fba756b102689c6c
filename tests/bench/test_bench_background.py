"""Finished dialogues are graded while others are played: no grade is lost, and errors on either side stop the run. The
tests use events. Each side waits for the other, so a run in which they alternate would fail.
"""

import io
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from steer_lit.bench.constant import ALWAYS_REFUSE
from steer_lit.bench.playing import Tally
from steer_lit.bench.records import GradedDialogue, RecordFile
from steer_lit.errors import ServerDown, TooManyFailures
from steer_lit.rollout import threads
from steer_lit.rollout.known_answers import KnownAnswers
from steer_lit.terminal import bars
from steer_lit.terminal.bars import BarOrLines, count_bar
from steer_lit.types import Completion, Grade, Message, Scenario, SoFar
from tests.bench.players import Judge, Policy, benched, questions, shown_in

pytestmark = pytest.mark.usefixtures("no_charts")
SCENARIOS = questions(3)
SOON = 10.0  # seconds until a test fails
Hook = Callable[[int], None]


def nothing(row: int) -> None: ...


@dataclass
class Watched:
    """A policy and a judge for one dialogue at a time. A hook is called with the row's number before each piece of
    work.
    """

    before_play: Hook = nothing
    before_grade: Hook = nothing
    seen: list[str] = field(default_factory=list)
    fingerprint: str = "watched"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> KnownAnswers:
        watch, answers = self, ALWAYS_REFUSE.open(scenarios, seeds)

        class Session(KnownAnswers):
            def __init__(self) -> None: ...

            def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
                (row,) = (row_of(scenarios[at]) for at in asked)
                watch.seen.append(f"play {row}")
                watch.before_play(row)
                return answers.reply(asked)

        return Session()

    def grade(self, dialogues: Sequence[SoFar]) -> list[Grade]:
        ((scenario, _),) = dialogues
        self.seen.append(f"grade {row_of(scenario)}")
        self.before_grade(row_of(scenario))
        return [Grade(3, 3, True)]

    def bench(self, folder: Path) -> tuple[dict[str, Any], str]:
        return benched(folder, {"one": self}, SCENARIOS, self, chunk=1)


def row_of(scenario: Scenario) -> int:
    return int(scenario.id.removeprefix("row-"))


def recorded(folder: Path) -> list[str]:
    return [row.scenario for row in shown_in(folder)]


def ids(count: int) -> list[str]:
    return [scenario.id for scenario in questions(count)]


def test_a_dialogue_is_graded_while_the_next_is_played(tmp_path: Path) -> None:
    playing, grading = [threading.Event() for _ in range(3)], [threading.Event() for _ in range(3)]

    def play(row: int) -> None:
        playing[row].set()
        assert row == 0 or grading[row - 1].wait(SOON), "the one before is not graded meanwhile"

    def grade(row: int) -> None:
        grading[row].set()
        assert row == 2 or playing[row + 1].wait(SOON), "the next is not played meanwhile"

    summary, printed = Watched(play, grade).bench(tmp_path)
    assert summary["one"]["n"] == 3
    assert recorded(tmp_path) == ids(3)
    told = [line.split(",")[0] for line in printed.splitlines()[:2]]
    assert told == [f"one: {done} of 3 dialogues graded" for done in (0, 3)]  # not one line per dialogue


def test_the_number_answered_is_shown_only_if_it_exceeds_the_number_recorded() -> None:
    with count_bar(Console(file=io.StringIO(), force_terminal=True), "", "{task.fields[told]},") as progress:
        tally = Tally(progress, "one", 3)
        for more, told in (
            ({}, "graded"),
            ({"answered": 2}, "graded, 2 answered"),
            ({"recorded": 1, "failed": 1}, "done, 1 not graded, 2 answered"),
            ({"recorded": 2, "answered": 1, "failed": 2}, "done, 3 not graded"),
        ):
            tally.add(**more)
            assert progress.tasks[0].fields["told"] == told


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_tells_the_time_left_by_the_pace_so_far(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """20 of 100 were recorded by an earlier run and tell no pace. Ten in 20 s are 0.5 a second."""
    seconds = 0.0
    monkeypatch.setattr(bars.time, "perf_counter", lambda: seconds)
    console = Console(file=io.StringIO(), width=140, force_terminal=terminal)
    with count_bar(console, "{task.description}", "{task.fields[told]},") as progress:
        tally = Tally(progress, "sft (2 of 3)", 100)
        tally.add(recorded=20, answered=20)
        for _ in range(2):
            seconds += 20
            tally.add(recorded=10, answered=11)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    if terminal:
        said = "sft (2 of 3) 40/100 graded, 42 answered, left 0:02:00"
        assert said in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[━╸╺]", "", shown).replace("  ", " ").replace("  ", " ")
        return
    first, second, third = shown.splitlines()
    assert first == "sft (2 of 3): 20 of 100 dialogues graded"
    assert second == "sft (2 of 3): 30 of 100 dialogues graded, 31 answered, 0:02:20 left"
    assert third == "sft (2 of 3): 40 of 100 dialogues graded, 42 answered, 0:02:00 left"


def test_progress_tells_which_policy_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(BarOrLines, "show", lambda _, done, line, words: told.append(line.partition(":")[0]))
    benched(tmp_path, {"one": Policy("a"), "two": ALWAYS_REFUSE}, SCENARIOS, Judge())
    assert list(dict.fromkeys(told)) == ["one (1 of 2)", "two (2 of 2)"]


def test_a_graded_dialogue_is_recorded_at_once_and_play_is_at_most_two_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, first = RecordFile.append, threading.Event()

    def watched(self: RecordFile, rows: Sequence[GradedDialogue]) -> None:
        append(self, rows)
        watch.seen.append(f"record {rows[0].scenario}")
        first.set()

    monkeypatch.setattr(RecordFile, "append", watched)

    def play(row: int) -> None:
        """Killed here, the run keeps the first dialogue, although the second has not been played."""
        if row == 1:
            assert first.wait(SOON)
            assert recorded(tmp_path) == ids(1)

    watch = Watched(play)
    watch.bench(tmp_path)
    assert watch.seen.index("record row-0") < watch.seen.index("play 2")


@dataclass
class FirstIsSlow:
    """Answers row-0 after all others have ended. With `down` its server is then gone."""

    down: bool = False
    fingerprint: str = "slow"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> KnownAnswers:
        policy, answers, held = self, ALWAYS_REFUSE.open(scenarios, seeds), dict[int, Message]()

        class Session(KnownAnswers):
            def __init__(self) -> None: ...

            def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
                held.update({row: message for row, message in asked.items() if scenarios[row].id == "row-0"})
                ready = {row: message for row, message in asked.items() if row not in held}
                if policy.down and not ready:
                    raise ServerDown("it is gone")
                return answers.reply(ready or held)

        return Session()


TEN = questions(10)


def test_a_slow_dialogue_delays_no_other_and_records_end_in_row_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, appended = RecordFile.append, list[str]()

    def watched(self: RecordFile, rows: Sequence[GradedDialogue]) -> None:
        append(self, rows)
        appended.extend(row.scenario for row in rows)

    monkeypatch.setattr(RecordFile, "append", watched)
    benched(tmp_path, {"one": FirstIsSlow()}, TEN, Judge(), chunk=4)
    assert appended[-1] == "row-0"
    assert recorded(tmp_path) == [row.id for row in TEN]


def test_dialogues_that_ended_before_a_server_died_are_recorded_and_kept(tmp_path: Path) -> None:
    with pytest.raises(ServerDown, match="it is gone"):
        benched(tmp_path, {"one": FirstIsSlow(down=True)}, TEN, Judge(), chunk=4)
    assert recorded(tmp_path) == [row.id for row in TEN[1:]]  # nine, although the last is not half a chunk
    benched(tmp_path, {"one": FirstIsSlow()}, TEN, Judge(), chunk=4)
    assert recorded(tmp_path) == [row.id for row in TEN]


def test_a_judge_that_grades_nothing_ends_the_run_early(tmp_path: Path) -> None:
    judge = Judge(failing=ids(60))
    with pytest.raises(TooManyFailures, match=r"no turn of 8 dialogues.*no JSON; judge_check=true"):
        benched(tmp_path, {"one": ALWAYS_REFUSE}, questions(60), judge, chunk=16)
    assert judge.asked <= 16  # half a chunk, and at most the half that was handed over meanwhile
    assert recorded(tmp_path) == ids(8)  # the same command grades them again


def test_a_few_ungraded_dialogues_do_not_end_a_run_that_graded_others(tmp_path: Path) -> None:
    """In the second run these dialogues are all there is to grade."""
    for _ in range(2):
        judge = Judge(failing=ids(40)[20:])
        summary, _ = benched(tmp_path, {"one": ALWAYS_REFUSE}, questions(40), judge, chunk=20)
        assert (summary["one"]["n"], summary["one"]["failed"]) == (20, 20)


@pytest.mark.parametrize("old_fails", [True, False])
def test_rows_of_a_judge_that_was_replaced_do_not_speak_for_the_new_one(tmp_path: Path, old_fails: bool) -> None:
    """They neither end its run, nor hide that it can grade nothing."""

    def graded(judge: Judge) -> int:
        return int(benched(tmp_path, {"one": ALWAYS_REFUSE}, questions(40), judge, chunk=16)[0]["one"]["n"])

    if old_fails:
        with pytest.raises(TooManyFailures, match="no turn of 8 dialogues"):
            graded(Judge("old", ids(40)))
        assert graded(Judge("new", ids(7))) == 33
    else:
        assert graded(Judge("old")) == 40
        broken = Judge("new", ids(40))
        with pytest.raises(TooManyFailures, match="no turn of 8 dialogues"):
            graded(broken)
        assert broken.asked <= 16


def test_played_dialogues_are_reported_before_they_are_graded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the progress bar would not move during the first dialogues."""
    told: list[str] = []
    monkeypatch.setattr(BarOrLines, "show", lambda _, done, line, words: told.append(f"{done} {words}"))
    release = threading.Event()

    def grade(row: int) -> None:
        assert release.wait(SOON)

    def play(row: int) -> None:
        if row == 1:  # while the first is being graded
            assert told == ["0 graded", "0 graded, 1 answered"]
            release.set()

    Watched(play, grade).bench(tmp_path)
    assert told[-1] == "3 graded"


@pytest.mark.parametrize("at", [1, 2])  # during play, and after the last dialogue was played
@pytest.mark.parametrize("error", [TooManyFailures("all of them"), KeyboardInterrupt(), SystemExit(141)])
def test_an_error_in_grading_stops_the_run_and_loses_no_grade(tmp_path: Path, error: BaseException, at: int) -> None:
    def broken(row: int) -> None:
        if row == at:
            raise error

    with pytest.raises(type(error)) as stopped:
        Watched(before_grade=broken).bench(tmp_path)
    assert stopped.value is error  # the same object
    assert recorded(tmp_path) == ids(at)
    again = Watched()
    assert again.bench(tmp_path)[0]["one"]["n"] == 3
    assert sorted(again.seen) == [f"{work} {row}" for work in ("grade", "play") for row in range(at, 3)]
    assert recorded(tmp_path) == ids(3)


def test_a_failing_policy_waits_for_the_grades_of_its_dialogues(tmp_path: Path) -> None:
    failing = threading.Event()

    def play(row: int) -> None:
        if row == 1:
            failing.set()
            raise ServerDown("the policy's")

    with pytest.raises(ServerDown, match="the policy's"):
        Watched(play, lambda row: assert_set(failing)).bench(tmp_path)
    assert recorded(tmp_path) == ids(1)


def assert_set(event: threading.Event) -> None:
    assert event.wait(SOON)


def test_ctrl_c_waits_for_no_server_and_nothing_is_written_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 0.01)
    asked, answers = threading.Event(), threading.Event()

    def play(row: int) -> None:
        if row == 1:
            assert_set(asked)
            raise KeyboardInterrupt

    def grade(row: int) -> None:
        asked.set()
        assert_set(answers)

    with pytest.raises(KeyboardInterrupt):
        Watched(play, grade).bench(tmp_path)
    (late,) = [thread for thread in threading.enumerate() if thread.name == "steer-lit-background"]
    assert late.daemon  # the program can end without it
    answers.set()
    late.join(SOON)
    assert not late.is_alive()
    assert not (tmp_path / "records.jsonl").exists()


def test_ctrl_c_keeps_a_grade_that_comes_soon(tmp_path: Path) -> None:
    stopping = threading.Event()

    def play(row: int) -> None:
        if row == 1:
            stopping.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Watched(play, lambda row: assert_set(stopping)).bench(tmp_path)
    assert recorded(tmp_path) == ids(1)
