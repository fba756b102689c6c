"""The journal of finished rows: a finished row stays finished, wherever the run is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from steer_lit.errors import ServerDown
from steer_lit.synthesis.outcome import Outcome, RowEnds
from steer_lit.synthesis.work import WorkFile, make_rows


@dataclass(frozen=True, slots=True)
class Started:
    id: str
    number: int


Damage = Callable[[bytes], bytes]
STARTS = {f"key-{number}": Started(f"row-{number}", number) for number in range(20)}


def kept(start: Started) -> Outcome:
    return Outcome(
        start.id, "kept", rows={"a.jsonl": {"number": start.number, "text": "é\u2028\n"}}, text=f"text {start.number}"
    )


def run(
    path: Path, make: Callable[[Started], Outcome], workers: int = 3, stop: Callable[[], None] = lambda: None
) -> list[Outcome]:
    return make_rows(STARTS, make, WorkFile(path), workers, lambda outcome: None, stop)


def test_outcomes_are_in_the_order_of_the_starts(tmp_path: Path) -> None:
    def slow_first(start: Started) -> Outcome:
        time.sleep(0.02 if start.number == 0 else 0)
        return kept(start)

    assert run(tmp_path / "work", slow_first) == [kept(start) for start in STARTS.values()]
    assert run(tmp_path / "work", pytest.fail) == [kept(start) for start in STARTS.values()]


def without_end(cut: int) -> Damage:
    return lambda whole: whole[:-cut]


def with_line(number: int, line: bytes) -> Damage:
    return lambda whole: b"\n".join([*whole.split(b"\n")[:number], line, *whole.split(b"\n")[number + 1 :]])


def with_field(name: str, value: object) -> Damage:
    return lambda whole: with_line(3, json.dumps({**json.loads(whole.split(b"\n")[3]), name: value}).encode())(whole)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        *((without_end(cut), "") for cut in (1, 7, 60, 150)),
        (with_line(3, b'{"key": "\xff\xfe'), "1 of 20 lines are no JSON and are left out"),
        (with_line(4, b"null"), "1 of 20 lines are no "),
        *(
            (with_field(name, value), f"no finished rows and are left out, such as line 4: {name} is")
            for name, value in {"status": "done", "rows": [], "text": None, "id": 3, "key": []}.items()
        ),
    ],
)
def test_a_damaged_line_loses_that_row_only(
    tmp_path: Path, damage: Damage, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "work"
    expected = run(path, kept)
    path.write_bytes(damage(path.read_bytes()))
    made: list[str] = []

    def counted(start: Started) -> Outcome:
        made.append(start.id)
        return kept(start)

    assert run(path, counted) == expected
    assert len(made) == 1
    assert said in caplog.text if said else not caplog.text


def test_failed_rows_are_made_again_and_others_are_not(tmp_path: Path) -> None:
    def mixed(start: Started) -> Outcome:
        status = ("kept", "rejected", "unreadable", "failed")[start.number % 4]
        if status == "kept":
            return kept(start)
        raise RowEnds(status, "because", "so")  # type: ignore[arg-type]

    first = run(tmp_path / "work", mixed)
    assert [outcome.status for outcome in first[:4]] == ["kept", "rejected", "unreadable", "failed"]
    again = run(tmp_path / "work", kept)
    assert again == [kept(start) if start.number % 4 == 3 else first[start.number] for start in STARTS.values()]


def test_an_error_ends_the_run_and_loses_no_finished_row(tmp_path: Path) -> None:
    """Row 1 finds the server down while 0 and 2 are running. Those are recorded, and the others never begin.

    The thread of row 1 may begin one more row before the others are cancelled. It ends like 0 and 2.
    """
    begun: list[int] = []
    down = threading.Event()
    stopped = threading.Event()

    def make(start: Started) -> Outcome:
        begun.append(start.number)
        if start.number == 1:
            while len(begun) < 3:
                time.sleep(0.001)
            down.set()
            raise ServerDown("gone")
        down.wait()
        stopped.wait(10)  # the run reports this to the running rows
        return kept(start)

    with pytest.raises(ServerDown, match="gone"):
        run(tmp_path / "work", make, stop=stopped.set)
    assert sorted(begun) in ([0, 1, 2], [0, 1, 2, 3])
    assert stopped.is_set()
    work = WorkFile(tmp_path / "work")
    assert [number for number in range(20) if work.finished(f"key-{number}")] == sorted({*begun} - {1})


SCRIPT = """
import sys, time
from pathlib import Path
from steer_lit.synthesis.outcome import Outcome
from steer_lit.synthesis.work import WorkFile, make_rows
from tests.synthesis.test_work import Started

def make(start):
    time.sleep(0.005)
    return Outcome(start.id, "kept", rows={"a.jsonl": {"text": "x" * 5000, "number": start.number}})

starts = {str(number): Started(str(number), number) for number in range(400)}
print("begun", flush=True)
make_rows(starts, make, WorkFile(Path(sys.argv[1])), 4, lambda outcome: None, lambda: None)
"""


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_leaves_rows_that_are_resumed(
    tmp_path: Path, repository: Path, with_signal: signal.Signals
) -> None:
    path = tmp_path / "work"
    command = [sys.executable, "-c", SCRIPT, str(path)]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not path.exists() or path.stat().st_size < 60_000:
            time.sleep(0.002)
        os.kill(process.pid, with_signal)
        try:
            process.wait(60)
        finally:
            process.kill()
    work = WorkFile(path)
    finished = [number for number in range(400) if work.finished(str(number))]
    assert 5 < len(finished) < 400
    made: list[str] = []

    def make(start: Started) -> Outcome:
        made.append(start.id)
        return Outcome(start.id, "kept", rows={"a.jsonl": {"text": "x" * 5000, "number": start.number}})

    starts = {str(number): Started(str(number), number) for number in range(400)}
    outcomes = make_rows(starts, make, work, 4, lambda outcome: None, lambda: None)
    assert [outcome.rows["a.jsonl"]["number"] for outcome in outcomes] == list(range(400))
    assert len(made) + len(finished) == 400
    lines = path.read_bytes().split(b"\n")  # Linux writes by the page: a kill may leave half a line, cut off since
    assert (len(lines), lines[-1]) == (401, b"")
