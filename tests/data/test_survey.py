"""The survey's report on files with faults."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from steer_lit.cli import main as cli
from steer_lit.data import images
from steer_lit.data.images import open_image
from steer_lit.data.survey import main
from steer_lit.data.survey_file import survey_rows
from steer_lit.types import ImageRef


def row(*answers: str) -> str:
    asked = {"role": "user", "content": "Hi"}
    return json.dumps(
        {"messages": [turn for said in answers for turn in (asked, {"role": "assistant", "content": said})]}
    )


def surveyed(folder: Path, capsys: pytest.CaptureFixture[str], code: int = 0, **files: str) -> list[str]:
    for name, text in files.items():
        (folder / f"{name}.jsonl").write_text(text)
    assert main([str(folder)]) == code
    return unfolded(capsys.readouterr().out).splitlines()


def unfolded(text: str) -> str:
    return text.replace("\n    ", " ")


def counted(lines: list[str], name: str) -> list[str]:
    """Return a file's columns in the table: rows, SFT, playable, refused, picture missing."""
    (line,) = [line for line in lines if re.match(rf"{name} *(│ +[\d,]+ *){{5}}$", line)]
    return line.removeprefix(name).replace("│", "").split()


def test_files_that_are_not_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, elsewhere = tmp_path / "rows", tmp_path / "elsewhere"
    for each in (folder, elsewhere):
        each.mkdir()
    assert surveyed(folder, capsys, 1)[-1] == "No row file is here: .jsonl, .json, .csv, .parquet."
    good = row("<answer>Ho</answer>")
    surveyed(folder, capsys, rows=good)
    (folder / "CAPITALS.JSONL").write_text(f"{good}\n{good}")
    (folder / "gone.jsonl").symlink_to(folder / "nowhere")
    (folder / "linked").symlink_to(elsewhere)
    lines = surveyed(folder, capsys, 1, empty="\n")
    assert counted(lines, "empty.jsonl") == ["0"] * 5
    assert counted(lines, "CAPITALS.JSONL") == ["2", "2", "2", "0", "0"]
    assert "Not read: gone.jsonl (a linked folder, or no file), linked (a linked folder, or no file)." in lines


def test_a_single_file_is_surveyed_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    surveyed(tmp_path, capsys, other=row("Ho"), asked='{"turns": ["?"], "images": ["a.png"]}')
    assert main([str(tmp_path / "asked.jsonl")]) == 0
    told = capsys.readouterr().out
    assert counted(told.splitlines(), "asked.jsonl") == ["1", "0", "1", "0", "0"]
    assert "other" not in told


def test_a_file_without_rows_is_a_fault_as_it_is_for_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert surveyed(tmp_path, capsys, 1, empty="\n")[-1] == "  * holds no row: a run refuses it"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("rows.jsnl", "rows.jsnl: no such file or folder. Did you mean {}/rows.jsonl?"),
        ("notes.txt", "notes.txt: is no row file; rows are read from .jsonl"),
        ("nowhere", "nowhere: no such file or folder"),
    ],
)
def test_what_cannot_be_surveyed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, said: str
) -> None:
    for name in ("rows.jsonl", "notes.txt"):
        (tmp_path / name).touch()
    assert main([str(tmp_path / given)]) == 2
    assert said.format(tmp_path) in capsys.readouterr().err


def test_hostile_names_and_texts_are_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark = "<image> & [bold]x[] :cat: |\x1b"
    said = "\n".join(surveyed(tmp_path, capsys, 1, **{mark: json.dumps({"turns": ["?"], "images": [mark]})}))
    assert said.count("<image> & [bold]x[] :cat: |\ufffd") == 2  # the file, twice
    assert "picture missing, 1 row (1): '<image> & [bold]x[] :cat: |\\x1b': is no file" in said
    assert "\x1b" not in said


def test_answers_without_the_answer_part_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = "<thinking>Hm.</thinking><answer>Ho</answer>"
    files = {
        "good": row(good, good),
        "plain": f"{row('Ho', good)}\n{row('<answer> </answer>')}\n",
        "asked": '{"prompt": "?"}',
    }
    (told,) = [line for line in surveyed(tmp_path, capsys, **files) if "<answer>" in line]
    assert told.startswith("  2 of 3 answers have no <answer> part: a policy that learns to answer so is given 0")
    assert "<answer>" not in "".join(surveyed(tmp_path, capsys, 1, plain=""))


def test_pictures_may_be_in_another_folder_and_only_broken_ones_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, pictures = tmp_path / "rows", tmp_path / "pictures"
    for folder in (rows, pictures):
        folder.mkdir()
    Image.new("RGB", (40, 40)).save(pictures / "a.png")
    (pictures / "b.png").write_bytes(b"no picture")
    asked = [{"turns": ["?"], "images": [f"{name}.png"]} for name in "ab"]
    (rows / "rl.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in asked))
    assert main([str(rows)]) == 1
    beside = unfolded(capsys.readouterr().out)
    assert counted(beside.splitlines(), "rl.jsonl") == ["2", "0", "0", "0", "2"]
    assert "  * picture missing, 2 rows (1, 2): 'a.png', 'b.png': is no file in the folder of its pictures" in beside
    assert main([str(rows), "--pictures", str(pictures)]) == 1
    told = unfolded(capsys.readouterr().out)
    assert counted(told.splitlines(), "rl.jsonl") == ["2", "0", "1", "0", "1"]
    assert "picture missing, 1 row (2): 'b.png': " in told
    assert main([str(rows), "--pictures", str(tmp_path / "none")]) == 2
    assert "none: no such folder" in capsys.readouterr().err


def test_a_picture_is_decoded_once_however_many_files_name_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding takes most of the time. A second row file with the same pictures must not decode them again."""
    (tmp_path / "pics").mkdir()
    names = [f"pics/{number}.png" for number in range(3)]
    for name in names[:2]:
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    (tmp_path / names[2]).write_bytes(b"no picture")
    decoded: list[str] = []

    def counting(ref: ImageRef, root: Path | None = None) -> Image.Image:
        decoded.append(Path(ref.uri).name)
        return open_image(ref, root)

    monkeypatch.setattr(images, "open_image", counting)
    asked = "".join(json.dumps({"turns": ["?"], "images": [name]}) + "\n" for name in names)
    told = surveyed(tmp_path, capsys, 1, rl=asked, bench=asked)
    assert sorted(decoded) == ["0.png", "1.png", "2.png"]
    assert counted(told, "bench.jsonl") == counted(told, "rl.jsonl") == ["3", "0", "2", "0", "1"]


def test_the_most_frequent_reasons_have_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["{}", *(json.dumps({"turns": ["?"], "images": number}) for number in (3, 4)), "[1", "{"]
    rows += [json.dumps({f"key {number}": 1}) for number in range(11)]
    lines = surveyed(tmp_path, capsys, 1, rows="\n".join(rows))
    assert counted(lines, "rows.jsonl") == ["16", "0", "0", "16", "0"]
    told = [line.split(":")[0] for line in lines if line.startswith("  * ")]
    assert told[:3] == ["  * refused, 2 rows (2, 3)", "  * refused, 1 row (1)", "  * refused, 1 row (4)"]
    assert len(told) == 13
    assert told[-1] == "  * and 3 more reasons"
    assert "is no dialogue" not in "".join(lines)


def test_rows_that_stand_there_twice_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are no fault, but a file joined by mistake would be trained on twice. Ids do not count."""
    rows = [
        {"id": f"{at}", "turns": [text], "kind": "benign"} for at, text in enumerate(["a", "b", "a", "a", "c", "b"])
    ]
    blind = {"turns": ["Hm"], "images": ["none.png"]}  # put aside, however often it stands there
    text = "\n".join(map(json.dumps, [*rows, {**rows[0], "kind": "red_team"}, blind, blind]))
    lines = surveyed(tmp_path, capsys, 1, rows=text)
    told = "the same as an earlier row, whatever its id: 3 rows (3, 4, 6)"
    assert [line.strip() for line in lines if "the same" in line] == [told]


def test_a_good_file_to_play_has_no_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plays = json.dumps({"turns": ["?"], "images": ["a.png"], "kind": "red_team"})
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    lines = surveyed(tmp_path, capsys, rl=plays)
    assert counted(lines, "rl.jsonl") == ["1", "0", "1", "0", "0"]
    assert re.fullmatch(r"file +│ rows │ SFT │ playable │ refused │ picture missing *", lines[0])
    assert set(lines[1]) <= set("─┼╴╶")
    assert lines[3:] == []
    # In a file with dialogues such a row is reported, because SFT would stop at it.
    lines = surveyed(tmp_path, capsys, 1, rl="", mixed=f"{row('<answer>Ho</answer>')}\n{plays}")
    assert counted(lines, "mixed.jsonl") == ["2", "1", "2", "0", "0"]
    assert [line for line in lines if line.startswith("  * not for SFT, 1 row (2): is no dialogue: it holds questions")]


def test_files_written_by_runs_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("synthesize", ["kind=benign", "rows=3", f"hydra.run.dir={tmp_path}"]) == 0
    (tmp_path / "quarantine.stage1.jsonl").write_text('{"id": "a", "status": "rejected"}\n')
    capsys.readouterr()
    lines = surveyed(tmp_path, capsys)
    assert [line.split()[0] for line in lines[2:5]] == ["rl.jsonl", "sft.jsonl", "stage1.jsonl"]
    assert not [line for line in lines if "unknown" in line]
    assert not [line for line in lines if "quarantine" in line or "manifest" in line]


def test_a_misspelt_key_is_told_for_learning_and_for_playing(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"mesages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}\n')
    (line,) = survey_rows(rows).lines()
    assert "refused, 1 row (1): is nothing to learn from or to play: it has 'mesages'. Did you mean messages?" in line
    rows.write_text('{"question_id": 1, "images": ["a.png"]}\n')  # as rows have them
    (line,) = survey_rows(rows).lines()
    assert "Did you mean" not in line


@pytest.mark.parametrize("name", ["data", "test"])
def test_a_file_whose_rows_have_a_name_is_told(tmp_path: Path, name: str) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps({"version": 1, name: [{"prompt": "Hi"}]}))
    (line,) = survey_rows(rows).lines()
    assert line.endswith(f"; {name!r} looks like a list of rows: a .json file holds such a list itself")
    (tmp_path / "rows.jsonl").write_text('{"image": "a.png", "qa": [{"question": "What?", "answer": "A hat."}]}')
    rows.write_text('{"dialog": [{"speaker": "a", "text": "Hi"}]}')
    for path in (rows, tmp_path / "rows.jsonl"):
        (line,) = survey_rows(path).lines()
        assert "looks like" not in line
