"""A folder that holds finished rows: the journals keep them, whatever other run replaces the row files."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from steer_lit.cli import main as cli

REFUSED = 2
SERVER = ["server.base_url=http://127.0.0.1:1/v1", "server.model=played"]


def synthesize(*words: str) -> int:
    return cli.run("synthesize", list(words))


def held(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob("[!.]*") if path.suffix != ".log"}


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_rows_of_a_file_that_changed_are_made_again_and_come_back_with_the_old_file() -> None:
    """The file is the same setting, and no row of the journal serves for another one."""
    assert synthesize("rows=6", "stages=1", "hydra.run.dir=one") == 0
    file = Path("one/stage1.jsonl")
    words = ["stages=2", f"data.scripts={file}", "hydra.run.dir=x"]
    assert synthesize(*words) == 0
    whole, made = file.read_text(), Path("x/sft.jsonl").read_bytes()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["intent"] = "Another one."
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert synthesize(*words) == 0
    assert len(Path("x/work.stage2.jsonl").read_text().splitlines()) == len(rows) + 1
    written = [json.loads(line) for line in Path("x/sft.jsonl").read_text().splitlines()]
    assert [row["metadata"]["intent"] == "Another one." for row in written] == [True, *[False] * (len(written) - 1)]
    file.write_text(whole)
    assert synthesize(*words) == 0
    assert Path("x/sft.jsonl").read_bytes() == made


@pytest.mark.parametrize("other", [["rows=3"], ["seed=2"], ["kind=benign"], ["keep.min_safety=9", "stages=2"]])
def test_the_rows_that_another_synthesis_replaced_are_restored_by_the_first_ones_command(
    other: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["rows=12", "hydra.run.dir=x"]
    assert synthesize(*words) == 0
    made = rows_of("x")
    assert synthesize(*words, *other) == 0
    assert (other == ["rows=3"]) == (len(rows_of("x")["sft.jsonl"].splitlines()) == 3)
    journals = [path.read_bytes() for path in sorted(Path("x").glob("work.*.jsonl"))]
    capsys.readouterr()
    assert synthesize(*words) == 0
    assert rows_of("x") == made
    assert [path.read_bytes() for path in sorted(Path("x").glob("work.*.jsonl"))] == journals
    assert "up to" not in capsys.readouterr().out  # nothing is left to make


def test_what_goes_on_in_a_folder_is_not_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["rows=8", "stages=1"],
        ["rows=8", "stages=2", "keep.min_usefulness=6"],  # there were no dialogues yet
        ["rows=12", "keep.min_usefulness=6"],
        ["rows=12", "keep.min_usefulness=6", "near_duplicate=0.9", "name=again"],
        ["rows=12", "keep.min_usefulness=6", "server.base_url=http://h/v1", "server.retries=9"],
        ["rows=12", "keep.min_usefulness=6", "dry_run=true"],
    ):
        before = held("x")
        assert synthesize(*words, "hydra.run.dir=x") == 0
    assert held("x") == before
    assert shlex.split(capsys.readouterr().out.splitlines()[-1])[3:] == [*words[:-1], "hydra.run.dir=x"]


def test_a_stage_without_rows_may_be_made_with_other_settings() -> None:
    """Whether it wrote none, or was stopped: then its rows are in the journal alone, which keeps both runs' rows."""
    assert synthesize("rows=2", "generator.patience=9", "hydra.run.dir=x") == REFUSED
    assert synthesize("rows=6", "seed=2", "hydra.run.dir=x") == 0
    for name in ("manifest.json", "stage1.jsonl", "rl.jsonl", "sft.jsonl"):
        Path("x", name).unlink()
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    assert synthesize("rows=4", "hydra.run.dir=whole") == 0
    assert rows_of("x") == rows_of("whole")


def rows_of(folder: str) -> dict[str, bytes]:
    return {name: Path(folder, name).read_bytes() for name in ("stage1.jsonl", "rl.jsonl", "sft.jsonl")}


@pytest.mark.parametrize("name", ["stage1", "rl", "sft"])
def test_a_file_that_was_removed_is_written_again(name: str) -> None:
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    whole = (file := Path("x") / f"{name}.jsonl").read_bytes()
    file.unlink()
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    assert file.read_bytes() == whole


@pytest.mark.parametrize("name", ["stage1", "rl", "sft"])
def test_row_files_that_no_synthesis_made_are_not_replaced(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as in the folder of one's own rows, named by mistake."""
    Path("x").mkdir()
    file = Path("x", f"{name}.jsonl")
    file.write_text('{"prompt": "My own."}\n')
    for dry in ([], ["dry_run=true"]):
        assert synthesize("rows=4", *dry, "hydra.run.dir=x") == REFUSED
        said = f"{file} has rows, but no work.stage{2 if name == 'sft' else 1}.jsonl lies beside it: no synthesis made"
        assert said in capsys.readouterr().err
    assert [path.name for path in Path("x").glob("*.jsonl")] == [file.name]
    file.write_text("")
    assert synthesize("rows=4", "hydra.run.dir=x") == 0


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["generator=llm", *SERVER, "data.seeds=gone.jsonl"], "seeds"),
        (["stages=2", "data.scripts=gone.jsonl"], "scripts"),
    ],
)
def test_a_missing_file_is_named_with_its_key(words: list[str], key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert synthesize(*words, "rows=0", "hydra.run.dir=x") == REFUSED
    said = capsys.readouterr().err
    assert f"data.{key}='gone.jsonl': is no such file" in said
    assert "rows=0: " in said  # with every other problem
