"""A folder that holds finished rows: a run that would replace or remove them is refused, whatever tells them apart."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from steer_lit.cli import main as cli
from steer_lit.data.rows import Quarantine
from steer_lit.errors import SteerError
from steer_lit.synthesis import manifest
from steer_lit.synthesis import run as run_module
from steer_lit.synthesis.earlier import check_earlier
from steer_lit.synthesis.generator import Generator
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.synthesis.starts import read_starts
from steer_lit.synthesis.work import WorkFile
from tests.synthesis.played import run

REFUSED = 2
SERVER = ["server.base_url=http://127.0.0.1:1/v1", "server.model=played"]
Refusal = Callable[..., str]  # (words) -> what the refused command says
OTHERS = "other rows or with other settings (work.stage{}.jsonl has none of this run's), which this one from {} would"


def synthesize(*words: str) -> int:
    return cli.run("synthesize", list(words))


def held(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob("[!.]*") if path.suffix != ".log"}


def scripts(name: str, seed: int, rows: int = 6) -> Path:
    """Write scripts without ids, whose rows are therefore named after their places in the file."""
    assert synthesize(f"rows={rows}", f"seed={seed}", "stages=1", f"hydra.run.dir={name}") == 0
    file = Path(f"{name}.jsonl")
    lines = Path(name, "stage1.jsonl").read_text().splitlines()
    found = [{**json.loads(line), "question_id": f"row-{place}"} for place, line in enumerate(lines, start=1)]
    file.write_text("".join(json.dumps(row) + "\n" for row in found))
    return file


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


def test_rows_are_compared_by_content_where_ids_are_places(refusal: Refusal) -> None:
    words = ["stages=2", "rows=6", "hydra.run.dir=x"]
    assert synthesize(*words, f"data.scripts={scripts('one', 1)}") == 0
    said = refusal(*words, f"data.scripts={scripts('two', 2)}")
    assert f"holds a finished stage 2 made from {OTHERS.format(2, 'data.scripts=two.jsonl')}" in said
    removed("work.stage2.jsonl")  # without it, nothing tells whether these are the same rows
    assert OTHERS.format(2, "data.scripts=one.jsonl") in refusal(*words, "data.scripts=one.jsonl")


def test_a_file_that_keeps_some_rows_only_is_refused(refusal: Refusal) -> None:
    file = scripts("one", 1)
    words = ["stages=2", f"data.scripts={file}", "hydra.run.dir=x"]
    assert synthesize(*words) == 0
    first, *others = file.read_text().splitlines()
    edited = {**json.loads(first), "intent": "Another one.", "question_id": "new"}
    file.write_text("\n".join([json.dumps(edited), *others, ""]))
    said = f"holds a finished stage 2 of {len(others) + 1} rows, 1 of which this one from data.scripts=one.jsonl would"
    assert said in refusal(*words)
    file.write_text("\n".join([json.dumps(edited), first, *others, ""]))  # one more row is no loss
    assert synthesize(*words) == 0


def test_rows_of_a_stopped_run_do_not_stand_for_those_of_the_finished_one(refusal: Refusal) -> None:
    """The journal keeps both. The second run replaced the first's rows once it had as many lines there."""
    words, one, two = ["stages=2", "rows=6", "hydra.run.dir=x"], scripts("one", 1), scripts("two", 2)
    assert synthesize(*words, f"data.scripts={two}") == 0
    removed("manifest.json", "sft.jsonl")
    assert synthesize(*words, f"data.scripts={one}") == 0
    assert OTHERS.format(2, "data.scripts=two.jsonl") in refusal(*words, f"data.scripts={two}")
    assert synthesize(*words, f"data.scripts={one}") == 0


def test_rows_that_were_never_made_are_no_loss() -> None:
    """A server that went down has left two of eight rows without an answer."""
    words = ["stages=1", "hydra.run.dir=x"]
    assert synthesize("rows=8", *words) == 0
    work = Path("x/work.stage1.jsonl")
    *made, one, other = [json.loads(line) for line in work.read_text().splitlines()]
    lines = [*made, *({**row, "status": "failed", "rows": {}} for row in (one, other))]
    work.write_text("".join(json.dumps(row) + "\n" for row in lines))
    assert synthesize("rows=5", *words) == REFUSED
    assert synthesize("rows=6", *words) == 0


def test_a_row_whose_content_changed_is_not_answered_from_the_journal() -> None:
    """Before the stage is finished nothing is refused, but no row of a journal serves for another one."""
    file = scripts("one", 1)
    words = ["stages=2", f"data.scripts={file}", "hydra.run.dir=x"]
    assert synthesize(*words) == 0
    removed("manifest.json", "sft.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**row, "intent": "Another one."}) + "\n" for row in rows))
    assert synthesize(*words) == 0
    assert len(WorkFile(Path("x/work.stage2.jsonl")).keys) == 2 * len(rows)
    written = [json.loads(line) for line in Path("x/sft.jsonl").read_text().splitlines()]
    assert {row["metadata"]["intent"] for row in written} == {"Another one."}


@pytest.mark.parametrize("stages", ["1", "both"])
def test_fewer_rows_do_not_shrink_finished_files(stages: str, refusal: Refusal) -> None:
    words = [f"stages={stages}", "hydra.run.dir=x"]
    assert synthesize("rows=8", *words) == 0
    said = "a finished stage 1 of 8 rows, 5 of which this one with rows=3 would remove: "
    assert said in refusal("rows=3", *words)
    assert synthesize("rows=10", *words) == 0


def test_rows_that_were_put_aside_count_and_lost_lines_of_the_journal_do_not() -> None:
    words = ["stages=1", "generator.patience=3", "hydra.run.dir=x"]
    assert synthesize("rows=12", *words) == 0
    written = len(Path("x/stage1.jsonl").read_text().splitlines())
    assert written < 11
    assert synthesize("rows=11", *words) == REFUSED
    work = Path("x/work.stage1.jsonl")
    work.write_bytes(work.read_bytes()[:-9])
    assert synthesize("rows=12", *words) == 0
    assert len(Path("x/stage1.jsonl").read_text().splitlines()) == written


def test_stage_2_goes_on_from_fewer_scripts_where_near_duplicates_are_left_out(
    settings: Callable[..., SynthesisSettings], played: Callable[..., tuple[object, Generator]], tmp_path: Path
) -> None:
    _, generator = played()
    folder = tmp_path / "x"
    run(generator, settings("both"), folder)
    both, alone = (replace(settings(stages), near_duplicate=0.1) for stages in ("both", "1"))
    assert run(generator, alone, folder)["stages"]["stage1"]["written"] < 6
    check_earlier(both, generator, read_starts(both, folder, Quarantine(0)), folder)
    with pytest.raises(SteerError, match="stage 1 of 6 rows, 2 of which this one with rows=4 would remove"):
        check_earlier(fewer := replace(both, rows=4), generator, read_starts(fewer, folder, Quarantine(0)), folder)


@pytest.mark.parametrize(
    ("damaged", "other"),
    [
        ("", "seed=7"),
        ("[" * 100_000, "success=5"),
        ("{}", "seed=7"),
        ('{"stages": {"stage1": {"written": 4}}}', "keep.min_safety=9"),
        (None, "keep.min_safety=9"),
    ],
)
def test_a_damaged_manifest_lets_no_other_rows_in(damaged: str | None, other: str, refusal: Refusal) -> None:
    words = ["rows=4", "hydra.run.dir=x"]
    assert synthesize(*words) == 0
    manifest = Path("x/manifest.json")
    manifest.unlink() if damaged is None else manifest.write_text(damaged)
    stage = 2 if "keep" in other else 1
    assert f"a finished stage {stage} made from {OTHERS.format(stage, 'data.seeds=null')}" in refusal(*words, other)
    assert synthesize(*words) == 0
    assert json.loads(manifest.read_text())["stages"]["stage2"]["settings"]["min_safety"] == 8


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("seed", None), ("settings", None), ("generator", None)),
        *(("files", value) for value in (None, {"stage1.jsonl": {}}, {"stage1.jsonl": "x"}, [1])),
    ],
)
def test_a_damaged_manifest_does_not_keep_a_synthesis_from_going_on(key: str, value: object) -> None:
    words = ["rows=4", "stages=1", "hydra.run.dir=x"]
    assert synthesize(*words) == 0
    manifest = json.loads(whole := Path("x/manifest.json").read_text())
    del manifest["stages"]["stage1"][key]
    manifest["stages"]["stage1"] |= {key: value} if value else {}
    Path("x/manifest.json").write_text(json.dumps(manifest))
    assert synthesize(*words) == 0
    again = json.loads(Path("x/manifest.json").read_text())["stages"]["stage1"]
    assert again[key] == json.loads(whole)["stages"]["stage1"][key]


def test_dialogues_of_other_scripts_are_not_replaced_by_both_stages(refusal: Refusal) -> None:
    """Stage I is made here for the first time, so the dialogues that are here cannot come from its scripts."""
    assert synthesize("stages=2", f"data.scripts={scripts('one', 2)}", "hydra.run.dir=x") == 0
    assert "holds a finished stage 2 made from other rows" in refusal("rows=4", "seed=1", "hydra.run.dir=x")


def test_a_run_killed_before_its_manifest_goes_on_beside_rows_of_a_stopped_one() -> None:
    words = ["rows=4", "stages=1", "hydra.run.dir=x"]
    assert synthesize(*words, "seed=2") == 0
    removed("manifest.json", "stage1.jsonl", "rl.jsonl")
    assert synthesize(*words) == 0
    removed("manifest.json")
    assert synthesize(*words) == 0


def test_rows_of_a_stopped_run_do_not_replace_finished_ones_with_other_settings(refusal: Refusal) -> None:
    """All rows of the run are in the journal, which does not say that the finished stage holds others."""
    words = ["stages=1", "hydra.run.dir=x"]
    assert synthesize(*words, "rows=6", "seed=2") == 0
    removed("manifest.json", "stage1.jsonl", "rl.jsonl")
    assert synthesize(*words, "rows=4") == 0
    assert "made with seed=1, which this one with seed=2 would replace" in refusal(*words, "rows=6", "seed=2")


@pytest.mark.parametrize(
    ("other", "before", "now"),
    [
        (["kind=benign"], "stage 1 made with kind=red_team", "kind=benign"),
        (["seed=2", "rows=30"], "stage 1 made with seed=1", "seed=2"),
        (["success=5"], "stage 1 made with success=4", "success=5"),
        (["turns.red_team=[4,5]"], "stage 1 made with turns.red_team=[4, 8]", "turns.red_team=[4, 5]"),
        (["keep.min_safety=9", "rows=12"], "stage 2 made with keep.min_safety=8", "keep.min_safety=9"),
        (["stages=2", "seed=2"], "stage 2 made with seed=1", "seed=2"),
        (["generator.patience=1"], "stage 1 made with the generator's target=refuses 2 harmful turns", "the generator"),
        (["generator=llm", *SERVER], "stage 1 made with generator=template", "generator=llm"),
    ],
)
def test_the_setting_that_would_replace_finished_rows_is_named(
    refusal: Refusal, other: list[str], before: str, now: str
) -> None:
    assert synthesize("rows=12", "hydra.run.dir=x") == 0
    said = refusal("rows=4", *other, "hydra.run.dir=x")
    assert f"hydra.run.dir=x: holds a finished {before}" in said
    assert f"which this one with {now}" in said
    assert "would replace: name another folder, hydra.run.dir=..." in said


def test_what_goes_on_in_a_folder_is_not_refused() -> None:
    for words in (
        ["rows=8", "stages=1"],
        ["rows=8", "stages=2", "keep.min_usefulness=6"],
        ["rows=12", "stages=2", "keep.min_usefulness=6", "data.scripts=x/stage1.jsonl"],
        ["rows=12", "keep.min_usefulness=6"],
        ["rows=12", "keep.min_usefulness=6", "near_duplicate=0.9"],
    ):
        assert synthesize(*words, "hydra.run.dir=x") == 0


def test_a_stage_that_wrote_nothing_may_be_made_with_other_settings() -> None:
    assert synthesize("rows=2", "generator.patience=9", "hydra.run.dir=x") == REFUSED
    assert synthesize("rows=4", "hydra.run.dir=x") == 0


@pytest.mark.parametrize("name", ["stage1", "rl", "sft"])
def test_a_file_that_was_removed_is_written_again(name: str) -> None:
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    whole = (file := Path("x") / f"{name}.jsonl").read_bytes()
    file.unlink()
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    assert file.read_bytes() == whole


@pytest.mark.parametrize("name", ["stage1", "rl", "sft"])
def test_rows_added_by_hand_are_not_undone(name: str, refusal: Refusal) -> None:
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    file = Path("x") / f"{name}.jsonl"
    file.write_bytes(edited := file.read_bytes() * 2)
    said = f"{file} has changed since it was written, and this run would undo that: move it"
    assert said in refusal("rows=5", "hydra.run.dir=x")
    file.rename("mine.jsonl")
    assert synthesize("rows=5", "hydra.run.dir=x") == 0
    assert len(file.read_bytes().splitlines()) >= len(edited.splitlines()) / 2


def test_an_empty_line_at_the_end_of_a_row_file_is_no_row() -> None:
    """Editors leave one, or a last line without its end. The digest stays what `sha256sum` says of the file as made."""
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    made = (file := Path("x/sft.jsonl")).read_bytes()
    for edited in (made + b"\n", made.removesuffix(b"\n"), made.replace(b"\n", b"\r\n")):
        file.write_bytes(edited)
        assert synthesize("rows=4", "hydra.run.dir=x") == 0
        assert file.read_bytes() == made
    files = json.loads(Path("x/manifest.json").read_text())["stages"]["stage2"]["files"]
    assert files["sft.jsonl"]["sha256"] == hashlib.sha256(made).hexdigest()


@pytest.mark.parametrize("written", range(5))  # of both stages, files and the manifest behind them
def test_a_run_killed_while_it_writes_more_rows_goes_on(written: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its new files lie beside the earlier manifest."""
    assert synthesize("rows=6", "hydra.run.dir=whole") == 0
    assert synthesize("rows=4", "hydra.run.dir=x") == 0
    calls = []

    def killed(replace: Callable[..., object]) -> Callable[..., object]:
        def write(*given: object) -> object:
            calls.append(given)
            if len(calls) > written:
                raise SteerError("killed")
            return replace(*given)

        return write

    with monkeypatch.context() as dying:
        dying.setattr(manifest, "write_rows", killed(manifest.write_rows))
        dying.setattr(run_module, "write_manifest", killed(run_module.write_manifest))
        assert synthesize("rows=6", "hydra.run.dir=x") == REFUSED
    assert synthesize("rows=6", "hydra.run.dir=x") == 0
    for name in ("stage1.jsonl", "rl.jsonl", "sft.jsonl"):
        assert Path("x", name).read_bytes() == Path("whole", name).read_bytes()


@pytest.mark.parametrize("name", ["stage1", "rl", "sft"])
def test_row_files_that_no_synthesis_made_are_not_replaced(name: str, refusal: Refusal) -> None:
    """Such as in the folder of one's own rows, named by mistake."""
    Path("x").mkdir()
    Path("x", f"{name}.jsonl").write_text('{"prompt": "My own."}\n')
    stage = 2 if name == "sft" else 1
    assert f"hydra.run.dir=x: holds a finished stage {stage} made from other" in refusal("rows=4", "hydra.run.dir=x")


def test_a_dry_run_is_refused_like_the_run_that_it_announces(
    refusal: Refusal, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["rows=4", "stages=1", "hydra.run.dir=x"]
    assert synthesize(*words) == 0
    before = held("x")
    said = refusal(*words, "seed=2", "dry_run=true")
    assert "made with seed=1, which this one with seed=2 would replace" in said
    assert synthesize(*words, "dry_run=true") == 0
    assert shlex.split(capsys.readouterr().out.splitlines()[-1])[3:] == words
    assert held("x") == before


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
