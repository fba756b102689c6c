"""A benchmark that is killed twice with SIGKILL and started again leaves the same files as one that was
never killed.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from steer_lit.bench.joined import recorded
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
    for path in folder.glob("*.jsonl"):  # dialogues that a kill cut short end later
        contents[path] = b"".join(sorted(contents[path].splitlines(keepends=True)))
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


@pytest.mark.parametrize(
    ("kill", "tokens"),
    [
        (Kill("steer_lit.bench.playing", "playing", 1), 6),
        (Kill(f"{RECORDS}:RecordFile", "append", 2), 6),
        (Kill("os", "replace", 2), 6),  # after versions.json, before config.yaml
        (Kill("os", "replace", 3), 6),  # before the manifest
        (Kill("os", "replace", 4), 3),
    ],
    ids=["playing", "records", "within_config", "before_manifest", "after_manifest"],
)
def test_a_killed_runs_report_is_on_one_runs_records_and_names_its_settings(
    kill: Kill, tokens: int, ended: Path, repository: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(ended, tmp_path / "run")
    in_a_process(run_part, repository, [*BASE_ALONE, "rollout.max_new_tokens=3"], kill=kill, folder=run)
    manifest, records = recorded([run])
    assert dict(manifest.facts)["answers"] == f"greedy, at most {tokens} tokens"
    assert {name: len(rows) for name, rows in records.items()} == {"base": 6}
