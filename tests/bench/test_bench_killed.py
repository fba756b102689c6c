"""A benchmark that is killed twice with SIGKILL and started again leaves the same files as one that was
never killed.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from steer_lit.bench.provenance import provenance
from steer_lit.bench.records import read_graded
from tests.kills import Kill, arm, in_a_process

WORDS = [
    "bench.limit=6",
    "bench.chunk=2",
    "rollout.max_new_tokens=6",
    "bench.resamples=100",
    "data.source.mean_turns=3",
]
TIMESTAMP = rb'"timestamp": "[^"]*"|\d{4}-\d\d-\d\d \d\d:\d\d'
OF_ITS_OWN = {".lock", "bench.log"}  # differ between runs; the log holds times


def run_part(repository: Path, more: list[str], folder: Path, kill: Kill | None) -> None:
    """Run the benchmark in `folder`, continuing what is there, with `more` words, until the end or the kill."""
    os.chdir(repository)
    from steer_lit.cli import main as cli

    if kill is not None:
        arm(kill)
    code = cli.run("bench", [*WORDS, *more, f"hydra.run.dir={folder}"])
    assert code == 0


def left_in(folder: Path) -> dict[str, bytes]:
    """Return the content of every file by name, without the folder's name and the time of writing."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in OF_ITS_OWN]
    files = [path for path in files if path.suffix != ".part"]  # hidden, and removed later (atomic.py)
    contents = {path: path.read_bytes().replace(bytes(folder), b"<run>") for path in files}
    return {str(path.relative_to(folder)): re.sub(TIMESTAMP, b"", content) for path, content in contents.items()}


@pytest.fixture(scope="module")
def never_killed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("straight")
    in_a_process(run_part, repository, [], kill=None, folder=folder)
    return left_in(folder)


def test_the_uninterrupted_benchmark_is_a_sensitive_reference(never_killed: dict[str, bytes]) -> None:
    policies = 4  # base and the constant policies
    assert never_killed["records.jsonl"].count(b"\n") == 6 * policies
    assert {"report.html", "summary.json", "summary.csv", "survival.png", "config.yaml"} <= never_killed.keys()
    assert any(name.endswith("raw_eval.json") for name in never_killed)


RECORDS = "steer_lit.bench.records"
PAGE, PICTURES = Kill("steer_lit.bench.html", "write_page", 1), Kill("steer_lit.bench.charts", "write_pictures", 1)


@pytest.mark.parametrize(
    ("first", "torn", "second"),
    [
        (Kill(f"{RECORDS}:RecordFile", "append", 2), 0, Kill(f"{RECORDS}:RecordFile", "append", 4)),
        (Kill(f"{RECORDS}:RecordFile", "append", 8), 7, PICTURES),  # the second run removes half a line
        (PAGE, 0, Kill("steer_lit.bench.outputs", "write_raw_evals", 1)),
        (Kill("os", "replace", 3), 0, Kill("os", "replace", 6)),  # first, then further summary files
    ],
    ids=["chunks", "half_a_line", "report", "renames"],
)
def test_trap_35_a_benchmark_killed_twice_equals_the_uninterrupted_one(
    first: Kill, torn: int, second: Kill, never_killed: dict[str, bytes], repository: Path, tmp_path: Path
) -> None:
    in_a_process(run_part, repository, [], kill=first, folder=tmp_path)
    if torn:
        with (tmp_path / "records.jsonl").open("r+b") as file:
            file.truncate((tmp_path / "records.jsonl").stat().st_size - torn)
    in_a_process(run_part, repository, [], kill=second, folder=tmp_path)
    in_a_process(run_part, repository, [], kill=None, folder=tmp_path)
    found = left_in(tmp_path)
    assert found.keys() == never_killed.keys()
    for name, content in never_killed.items():
        assert found[name] == content, name


@pytest.fixture(scope="module")
def ended(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished benchmark of the base alone."""
    folder = tmp_path_factory.mktemp("ended")
    in_a_process(run_part, repository, BASE_ALONE, kill=None, folder=folder)
    return folder


BASE_ALONE = ["bench.constants=false"]
PLAYING, APPEND = "steer_lit.bench.playing", Kill(f"{RECORDS}:RecordFile", "append", 1)


@pytest.mark.parametrize(
    ("kill", "shown"),
    [
        (Kill(PLAYING, "playing", 1), "at most 6 tokens"),  # nothing is recorded yet with the new settings
        (Kill("os", "replace", 1), "at most 6 tokens"),  # before the new config
        (Kill("os", "replace", 2), "settings"),  # between versions.json and config.yaml
        (APPEND, "settings"),
        (Kill("os", "replace", 3), "at most 3 tokens"),  # before the first old records go
        (APPEND._replace(call=2), "at most 3 tokens"),
    ],
    ids=["playing", "before_config", "within_config", "before_records", "within_records", "after_records"],
)
def test_a_killed_runs_report_never_names_settings_of_another_run(
    kill: Kill, shown: str, ended: Path, repository: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(ended, tmp_path / "run")
    in_a_process(run_part, repository, [*BASE_ALONE, "rollout.max_new_tokens=3"], kill=kill, folder=run)
    rows, _ = read_graded(run / "records.jsonl")
    facts = dict(provenance(run, [row for row in rows if row.conditions == rows[-1].conditions]))
    assert shown in facts.get("answers", "; ".join(facts))
