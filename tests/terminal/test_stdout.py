"""Programs whose standard output cannot take what they print."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from steer_lit.errors import SteerError
from steer_lit.terminal import stdout
from steer_lit.terminal.stdout import CLOSED, INTERRUPTED, LOST, REFUSED, carried_out
from tests.forked import started

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason=f"{FULL} is Linux's")
PROGRAMS = ("convert", "survey", "train", "bench", "synthesize")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    said = [{"role": "user", "content": "Hé"}, {"role": "assistant", "content": "<answer>Ho</answer>"}]
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "é.jsonl").write_text(json.dumps({"messages": said, "é": 1}))
    return folder


def command(name: str, rows: Path) -> list[str]:
    if name == "convert":
        return ["-m", "steer_lit.data.convert", str(rows / "é.jsonl"), str(rows.parent / "é.jsonl")]
    return ["-m", "steer_lit.data.survey", str(rows)] if name == "survey" else [f"{name}.py", "--cfg", "job"]


def run(words: list[str], repository: Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, *words], cwd=repository, stderr=subprocess.PIPE, encoding="utf-8", timeout=120, **more
    )


@pytest.mark.parametrize("name", ["convert", "survey"])
def test_characters_that_the_encoding_lacks_are_escaped(repository: Path, rows: Path, name: str) -> None:
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run(command(name, rows), repository, stdout=subprocess.PIPE, env=ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9" in done.stdout


@needs_full
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_full_disk_at_the_output_is_reported_once_as_a_failure(repository: Path, rows: Path, name: str) -> None:
    with FULL.open("w") as full:
        done = run(command(name, rows), repository, stdout=full)
    assert (done.returncode, done.stderr) == (LOST, "standard output: No space left on device\n")
    assert name != "convert" or (rows.parent / "é.jsonl").is_file()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_with_a_closed_pipe_ends_silently(repository: Path, rows: Path, name: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(command(name, rows), repository, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (CLOSED, "")


@needs_full
def test_a_run_continues_without_its_output(tmp_path: Path) -> None:
    said = tmp_path / "said"
    running = started("train", ["+debug=step", f"hydra.run.dir={tmp_path / 'run'}"], said, output=FULL)
    running.join()
    assert (running.exitcode, said.read_text()) == (LOST, "standard output: No space left on device\n")
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_run_with_a_closed_pipe_stops_and_prints_the_command_that_resumes_it(tmp_path: Path) -> None:
    """The step is finished and saved first, although no save was due: Ctrl-C ends `| tee` together with the run."""
    often = ["trainer.max_steps=400", "callbacks.progress.line_every_s=0", "callbacks.checkpoint.every_n_steps=500"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    running = started("train", ["+debug=step", *often, f"hydra.run.dir={tmp_path / 'run'}"], tmp_path / "said", pipe)
    with pipe.open(encoding="utf-8") as printed:
        assert any("step 1/400" in line for line in printed)
    running.join()
    said = (tmp_path / "said").read_text()
    assert running.exitcode == CLOSED
    assert re.match(r"stopped, step \d+ is saved\nnext:    ", said)
    assert "Traceback" not in said


def test_a_write_interrupted_by_ctrl_c_is_not_repeated(repository: Path) -> None:
    code = """
import io, signal
from steer_lit.terminal import stdout
class Interrupted(io.FileIO):
    def write(self, data):
        count = super().write(data)
        signal.raise_signal(signal.SIGINT)
        return count
stdout._Output.__bases__ = (Interrupted,)
def main():
    try:
        print("one line", flush=True)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return 0
stdout.printing(main)
"""
    done = run(["-c", code], repository, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "one line\n", "")


def test_a_small_program_returns_its_exit_code_or_prints_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser("small")
    parser.add_argument("word")

    def work(given: Namespace) -> int:
        if given.word == "row":
            raise SteerError("no row\ncan be \x1bread")
        if given.word == "disk":
            raise OSError(28, "No space left on device", "there")
        if given.word == "stop":
            raise KeyboardInterrupt
        return 1

    assert carried_out(parser, ["other"], work) == 1
    assert carried_out(parser, ["row"], work) == REFUSED
    assert capsys.readouterr().err == "no row\ncan be \N{REPLACEMENT CHARACTER}read\n"
    assert carried_out(parser, ["disk"], work) == REFUSED
    assert capsys.readouterr().err == "[Errno 28] No space left on device: 'there'\n"
    assert carried_out(parser, ["stop"], work) == INTERRUPTED
    assert capsys.readouterr().err == "stopped before the end: give the same command again\n"
    assert carried_out(parser, [], work) == REFUSED
    assert "required: word" in capsys.readouterr().err
    assert carried_out(parser, ["--help"], work) == 0


@pytest.mark.parametrize(("number", "stopped"), [(errno.EPIPE, 1), (errno.ENOSPC, 0)])
def test_a_closed_pipe_stops_a_training_and_a_full_disk_does_not(number: int, stopped: int, tmp_path: Path) -> None:
    calls: list[str] = []
    output = stdout._Output(tmp_path / "out", "w")
    stdout.stop_unread_by(lambda: calls.append("stop"))
    try:
        output._lost(OSError(number, "no"))
    finally:
        stdout.stop_unread_by(None)
    assert len(calls) == stopped
