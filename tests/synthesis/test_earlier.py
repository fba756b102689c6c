"""A folder that holds finished rows: a run that would replace or remove them is refused, whatever tells them apart."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from steer_lit.cli import main as cli

REFUSED = 2
SERVER = ["server.base_url=http://127.0.0.1:1/v1", "server.model=played"]
Refusal = Callable[..., str]  # (words) -> what the refused command says


def synthesize(*words: str) -> int:
    return cli.run("synthesize", list(words))


def held(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob("[!.]*") if path.suffix != ".log"}


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Return a function that gives what a refused synthesis says, and checks that it left the folder x as it was."""

    def refused(*words: str) -> str:
        before = held("x")
        capsys.readouterr()
        assert synthesize(*words) == REFUSED
        assert held("x") == before
        return capsys.readouterr().err

    return refused


def removed(*names: str) -> None:
    """Remove files of the folder x, as if the run that wrote them had been stopped before its end."""
    for name in names:
        Path("x", name).unlink()


def test_rows_of_a_file_that_changed_are_made_again_and_a_file_of_others_is_refused(refusal: Refusal) -> None:
    """The file is the same setting, and no row of the journal serves for another one."""
    assert synthesize("rows=6", "stages=1", "hydra.run.dir=one") == 0
    file = Path("one/stage1.jsonl")
    words = ["stages=2", f"data.scripts={file}", "hydra.run.dir=x"]
    assert synthesize(*words) == 0
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["intent"] = "Another one."
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert synthesize(*words) == 0
    assert len(Path("x/work.stage2.jsonl").read_text().splitlines()) == len(rows) + 1
    written = [json.loads(line) for line in Path("x/sft.jsonl").read_text().splitlines()]
    assert [row["metadata"]["intent"] == "Another one." for row in written] == [True, *[False] * (len(written) - 1)]
    file.write_text("".join(json.dumps({**row, "intent": "Yet another one."}) + "\n" for row in rows))
    assert "hydra.run.dir=x: holds a finished stage 2 made from other rows, pictures or prompts" in refusal(*words)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (["rows=3"], "rows=12, now 3"),
        (["seed=2", "rows=30"], "seed=1, now 2"),
        (["kind=benign", "success=5"], "kind=red_team, now benign, success=4, now 5"),
        (["kind=benign", "stages=2"], "kind=red_team, now benign"),  # the config would say so of the scripts, too
        (["turns.red_team=[4,5]"], "turns.red_team=[4, 8], now [4, 5]"),
        (["keep.min_safety=9", "stages=1"], "keep.min_safety=8, now 9"),
        (["stages=2", "data.scripts=x/stage1.jsonl"], "data.scripts=null, now x/stage1.jsonl"),
        (["generator.patience=1", "dry_run=true"], "generator.patience=2, now 1"),
        (["generator=llm", *SERVER], "generator.name=template, now llm"),
        ([f"system_prompt={'no ' * 99}"], f"now {('no ' * 99)[:80]}..., which"),
    ],
)
def test_a_synthesis_that_would_replace_another_is_refused_by_what_differs(
    refusal: Refusal, other: list[str], said: str
) -> None:
    assert synthesize("rows=12", "hydra.run.dir=x") == 0
    refused = refusal("rows=12", *other, "hydra.run.dir=x")
    assert said in refused
    assert "hydra.run.dir=x: holds a synthesis with" in refused
    assert "which this one would replace: name another folder, hydra.run.dir=..." in refused


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


@pytest.mark.parametrize("text", [None, "", "[" * 100_000, "seed: 1", "- 1"])
def test_rows_without_a_readable_config_are_not_replaced(text: str | None, refusal: Refusal) -> None:
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    config = Path("x/config.yaml")
    config.unlink() if text is None else config.write_text(text)
    assert "hydra.run.dir=x: holds " in refusal("rows=4", "hydra.run.dir=x")


def test_a_damaged_manifest_lets_no_other_rows_in_and_is_made_anew(refusal: Refusal) -> None:
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    whole = json.loads((manifest := Path("x/manifest.json")).read_text())
    manifest.write_text("[")
    assert "seed=1, now 7" in refusal("rows=4", "seed=7", "hydra.run.dir=x")
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    again = json.loads(manifest.read_text())
    for stages in (whole["stages"], again["stages"]):
        for stage in stages.values():
            del stage["seconds"]
    assert again == whole


@pytest.mark.parametrize("name", ["stage1", "rl", "sft"])
def test_a_file_that_was_removed_is_written_again(name: str) -> None:
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    whole = (file := Path("x") / f"{name}.jsonl").read_bytes()
    file.unlink()
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    assert file.read_bytes() == whole


@pytest.mark.parametrize("name", ["stage1", "rl", "sft"])
def test_rows_changed_by_hand_are_not_undone(name: str, refusal: Refusal) -> None:
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    file = Path("x") / f"{name}.jsonl"
    made = file.read_bytes()
    for spaced in (made + b"\n", made.removesuffix(b"\n"), made.replace(b"\n", b"\r\n")):  # as editors leave
        file.write_bytes(spaced)
        assert synthesize("rows=4", "hydra.run.dir=x") == 0
        assert file.read_bytes() == made
    file.write_bytes(made + made.splitlines()[0].replace(b"?", b"!") + b"\n")
    stage = 2 if name == "sft" else 1
    said = f"{file} holds 1 row that work.stage{stage}.jsonl does not, such as one changed by hand: move it away"
    assert said in refusal("rows=5", "hydra.run.dir=x")
    file.rename("mine.jsonl")
    assert synthesize("rows=5", "hydra.run.dir=x") == 0


@pytest.mark.parametrize("name", ["stage1", "rl", "sft"])
def test_row_files_that_no_synthesis_made_are_not_replaced(name: str, refusal: Refusal) -> None:
    """Such as in the folder of one's own rows, named by mistake."""
    Path("x").mkdir()
    Path("x", f"{name}.jsonl").write_text('{"prompt": "My own."}\n')
    assert f"x/{name}.jsonl holds 1 row that work.stage" in refusal("rows=4", "hydra.run.dir=x")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (
            ["generator=llm", *SERVER, "data.seeds=gone.jsonl"],
            "seeds",
        ),
        (["stages=2", "data.scripts=gone.jsonl"], "scripts"),
    ],
)
def test_a_missing_file_is_named_with_its_key(words: list[str], key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert synthesize(*words, "rows=0", "hydra.run.dir=x") == REFUSED
    said = capsys.readouterr().err
    assert f"data.{key}='gone.jsonl': is no such file" in said
    assert "rows=0: " in said  # with every other problem
