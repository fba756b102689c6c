"""Converting row files: exact if the new format has a place for everything, with a message if it has not."""

from __future__ import annotations

import base64
import json
import resource
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from steer_lit.data.convert import SHAPES, main
from steer_lit.data.images import open_image
from steer_lit.data.rows import Quarantine, read_records
from steer_lit.data.shapes import read_dialogue, read_scenario
from steer_lit.data.sources import FileSource, pictures_of
from steer_lit.data.unpack import PictureFolder
from steer_lit.data.writers import rl_row, write_rows
from steer_lit.errors import RowError
from steer_lit.terminal.stdout import REFUSED
from steer_lit.types import Scenario
from tests.rows import file_rows, mini_rows

# Like LLaMA-Factory's demo: no ids, marks anywhere, one picture twice.
DEMO = [
    {
        "messages": [
            {"role": "user", "content": "<image>Who are they?"},
            {"role": "assistant", "content": "Two players.\n"},
            {"role": "user", "content": "What are they doing?<image>"},
            {"role": "assistant", "content": "他们在庆祝。"},
        ],
        "images": ["pictures/1.png", "pictures/1.png"],
    },
    {
        "messages": [{"role": "system", "content": "Be brief."}, *(
            {"role": role, "content": text} for role, text in (("user", " Hi "), ("assistant", "Hello!"))
        )],
        "images": [],
    },
]  # fmt: skip
ASKED = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "1"}]


def write(path: Path, rows: Sequence[object]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("shape", ["conversations", "sharegpt", "messages"])
def test_trap_14_llama_factorys_rows_are_unchanged_by_converting_and_back(
    tmp_path: Path, shape: str, suffix: str
) -> None:
    there, back = str(tmp_path / f"there.{suffix}"), tmp_path / "back.jsonl"
    assert main([write(tmp_path / "demo.jsonl", DEMO), there, "--as", shape]) == 0
    assert main([there, str(back)]) == 0
    assert lines(back) == DEMO


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_full_disk_is_told_with_the_file(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write(tmp_path / "demo.jsonl", DEMO), tmp_path / f"there.{suffix}"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, limits[1]))  # no file may grow beyond that
    try:
        assert main([source, str(out)]) == REFUSED
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err
    assert "File too large" in said
    assert str(out) in said


@pytest.mark.parametrize("shape", SHAPES[3:])
def test_gold_facts_and_stage_1_scores_survive_every_playable_format(
    tmp_path: Path, shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = mini_rows("rl", seed=0, size=10)
    file = tmp_path / "made.jsonl"
    write_rows(file, map(rl_row, made))
    there, back = str(tmp_path / "there.json"), tmp_path / "back.jsonl"
    assert main([str(file), there, "--as", shape]) == 0
    assert main([there, str(back), "--as", "question"]) == 0
    assert back.read_bytes() == file.read_bytes()

    turns = [{**ASKED[0], "score": score} for score in (1, 5)]
    scored = {"question_id": "q", "intent": "Why?", "multiturn_qa": turns, "max_score": 5, "strategy": "own"}
    there, back = str(tmp_path / "there.parquet"), tmp_path / "stage1.jsonl"
    assert main([write(tmp_path / "scored.jsonl", [scored]), there, "--as", shape]) == 0
    assert main([there, str(back), "--as", "multiturn_qa"]) == 0
    (row,) = lines(back)
    assert [turn["score"] for turn in row["multiturn_qa"]] == [1, 5]  # type: ignore[attr-defined]
    assert {**row, "multiturn_qa": turns} == scored
    assert "left out" not in capsys.readouterr().out


def test_unknown_keys_are_left_out_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gold = {"intent": "harmful", "tier": "words", "answer": "No."}
    rows = [
        {"id": "a", "messages": [{**ASKED[0], "gold": gold}, ASKED[1]], "verdict": {"safety": 9}, "imags": "x"},
        {"id": "b", "messages": ASKED, "imags": "", "is_safe": True},
        {"messages": [], "imags": "put aside"},
    ]
    file = write(tmp_path / "rows.jsonl", rows)
    for shape, kept in (("messages", ASKED), ("question", [{**ASKED[0], "gold": gold}])):
        out = tmp_path / f"{shape}.jsonl"
        assert main([file, str(out), "--as", shape]) == 1
        said = "left out, unknown keys: verdict (1 row), imags (1 row). Did you mean images?"
        assert capsys.readouterr().out.splitlines()[0] == said
        assert lines(out)[0][shape] == kept
        assert not {"verdict", "imags", "is_safe"} & {key for row in lines(out) for key in row}


def test_a_missing_kind_stays_missing(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi?"}, {"prompt": "And?", "kind": "obfuscated"}]
    rows += [{"prompt": f"Is it {label}?", "kind": "", "label": label} for label in ("benign", "red team")]
    file = write(tmp_path / "asked.jsonl", rows)
    for shape in SHAPES[3:]:
        out = tmp_path / f"{shape}.jsonl"
        assert main([file, str(out), "--as", shape]) == 0
        for kind in ("benign", "red_team"):
            played = file_rows(FileSource(rl=str(out), kind=kind), "rl", Quarantine(0))
            assert [row.kind for row in played] == [kind, "obfuscated", kind, kind]


def test_converted_rows_can_be_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """IN and its pictures are in one folder, OUT in another. The printed config keys must work."""
    data = tmp_path / "my data"
    bad = [{"messages": ASKED[:1]}, {"messages": ASKED, "videos": ["v.mp4"]}]
    file, out = write(data / "demo.jsonl", [DEMO[0], *bad, DEMO[1]]), tmp_path / "new" / "sft.parquet"
    (data / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(data / "pictures" / "1.png")
    assert main([file, str(out), "--as", "sharegpt"]) == 1
    *_, first, closing = capsys.readouterr().out.splitlines()
    aside = tmp_path / "new" / "sft.quarantine.jsonl"
    assert first.startswith(f"{aside} says why rows were put aside; the first: {file}, row 2, field 'messages': ")
    keys = f"data=steer data.source.sft={out} 'data.source.folder={data}'"
    assert closing == f"rows written: 2, put aside: 2; to use them: {keys}"
    assert [(entry["row"], entry["field"]) for entry in lines(aside)] == [(2, "messages"), (3, "videos")]
    rows = file_rows(FileSource(sft=str(out), folder=str(data)), "sft", Quarantine(0))
    assert [rows[0].messages, rows[1].messages] == [read_dialogue(row, "", 1).messages for row in DEMO]  # type: ignore[union-attr]


def test_rows_with_missing_pictures_are_written(tmp_path: Path) -> None:
    """The pictures may be added later."""
    names = ("b.png", "data:" + "x" * 5000, "../outside.png", "mini://hat?colour=red")
    rows = [{"messages": [{**ASKED[0], "content": "<image>"}, ASKED[1]], "images": [name]} for name in names]
    assert main([write(tmp_path / "rows.jsonl", rows), str(out := tmp_path / "out.jsonl")]) == 0
    assert [row["images"] for row in lines(out)] == [[name] for name in names]


def test_no_file_is_overwritten_and_no_empty_file_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "asked.jsonl", [{"prompt": "Hi?"}])
    out = tmp_path / "out.jsonl"
    assert main([file, str(out)]) == 2
    said = capsys.readouterr().err
    assert "no row of" in said
    assert "the first of 1: " in said
    assert "question, messages_fixed, multiturn_qa need no answers" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked.jsonl", "out.quarantine.jsonl"]
    assert main([file, str(out), "--as", "question"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked.jsonl", "out.jsonl"]  # no stale quarantine
    (tmp_path / "again.quarantine.jsonl").touch()
    assert main([str(tmp_path / "none.jsonl"), str(tmp_path / "again.jsonl")]) == 2
    assert not (tmp_path / "again.quarantine.jsonl").exists()
    assert main([file, file, "--as", "question"]) == 2
    own = write(tmp_path / "own.quarantine.jsonl", [{"prompt": "Hi?"}])
    assert main([own, str(tmp_path / "own.jsonl"), "--as", "question"]) == 2
    assert len(lines(Path(own))) == len(lines(Path(file))) == 1
    for arguments, reason in (
        ([file, str(tmp_path / "out.csv"), "--as", "question"], ".jsonl, .json and .parquet"),
        ([str(tmp_path / "none.jsonl"), str(tmp_path / "x.jsonl")], "is no such file"),
        ([file, str(tmp_path / "x.jsonl"), "--as", "pairs"], "invalid choice"),
    ):
        capsys.readouterr()
        assert main(arguments) == 2
        assert reason in capsys.readouterr().err


def test_scores_that_do_not_match_the_turns_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": ASKED[:1], "metadata": {"scores": scores}} for scores in (3, [1, 2], [2])]
    assert main([write(tmp_path / "rows.jsonl", rows), str(tmp_path / "out.jsonl"), "--as", "multiturn_qa"]) == 1
    said = capsys.readouterr().out
    assert "rows written: 1, put aside: 2" in said
    assert "rows.jsonl, row 1: record" in said  # no single field is wrong
    assert [entry["row"] for entry in lines(tmp_path / "out.quarantine.jsonl")] == [1, 2]


def test_an_answer_field_is_kept_as_the_dialogues_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "vqa.jsonl", [{"image": "a.png", "question": "What is this?", "answer": "A cat."}])
    assert main([file, str(tmp_path / "sft.jsonl")]) == 0
    assert "left out" not in capsys.readouterr().out
    (row,) = lines(tmp_path / "sft.jsonl")
    asked = {"role": "user", "content": "<image>What is this?"}
    assert row == {"messages": [asked, {"role": "assistant", "content": "A cat."}], "images": ["a.png"]}


def test_public_files_lose_nothing(shared_data: Path, tmp_path: Path) -> None:
    demo, out = shared_data / "llamafactory-mllm-demo" / "mllm_demo.json", tmp_path / "sharegpt.json"
    assert main([str(demo), str(out), "--as", "sharegpt"]) == 0
    assert main([str(out), str(tmp_path / "back.json")]) == 0
    assert json.loads((tmp_path / "back.json").read_text("utf-8")) == json.loads(demo.read_text("utf-8"))
    questions = shared_data / "xstest-prompts" / "xstest_prompts.csv"
    assert main([str(questions), str(tmp_path / "bench.parquet"), "--as", "messages_fixed"]) == 0
    before: list[Scenario] = list(read_records(questions, read_scenario, Quarantine(0)))
    assert list(read_records(tmp_path / "bench.parquet", read_scenario, Quarantine(0))) == before


def drawn(colour: str, kind: str, size: tuple[int, int] = (8, 6)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def test_pictures_inside_rows_become_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Like verl's Parquet, with bytes beside the prompt. A picture that two rows hold becomes one file. A broken
    picture costs its row.
    """
    red, blue = drawn("red", "PNG"), drawn("blue", "JPEG")
    pictures = [[red], [blue, red], [b"no picture"], [], [red, drawn("red", "PNG", (1000, 2))]]
    rows = [
        {
            "question": [{"role": "user", "content": "<image>" * len(inside) + f"{number}?"}],
            "images": [{"bytes": data, "path": None} for data in inside],
        }
        for number, inside in enumerate(pictures)
    ]
    file, out = tmp_path / "verl.parquet", tmp_path / "new" / "rl.jsonl"
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    assert main([str(file), str(out), "--as", "question"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-2] == f"pictures that lay inside rows: 2, now files in {tmp_path / 'new' / 'rl_pictures'}"
    assert said[-1].endswith(f"put aside: 2; to use them: data=steer data.source.rl={out}")
    bad = lines(tmp_path / "new" / "rl.quarantine.jsonl")
    assert [(row["row"], row["field"]) for row in bad] == [(3, "images[0]"), (5, "images[1]")]
    unknown = "picture 'inside the row': cannot be decoded (UnidentifiedImageError: cannot identify image file)"
    assert bad[0]["reason"] == unknown
    assert "sides may differ" in str(bad[1]["reason"])
    source = FileSource(rl=str(out))
    played = file_rows(source, "rl", Quarantine(0))
    assert len(played) == 3
    shown = [[open_image(ref, source.image_root).getpixel((0, 0)) for ref in pictures_of(row)] for row in played]
    assert [len(pixels) for pixels in shown] == [1, 2, 0]
    assert shown[0][0] == shown[1][1] == (255, 0, 0)
    assert sorted(path.suffix for path in (tmp_path / "new" / "rl_pictures").iterdir()) == [".jpeg", ".png"]


def test_data_urls_become_files_in_picture_fields_only(tmp_path: Path) -> None:
    url = f"data:image/png;base64,{base64.b64encode(drawn('red', 'PNG')).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": url}]
    asked = {"role": "user", "content": parts}
    file, out = write(tmp_path / "chat.jsonl", [{"messages": [asked, ASKED[1]]}]), tmp_path / "sft.jsonl"
    with pytest.raises(RowError, match="is a picture inside the row"):
        read_dialogue({"messages": [asked, ASKED[1]]}, file, 1)
    assert main([file, str(out)]) == 0
    dialogue = file_rows(FileSource(sft=str(out)), "sft", Quarantine(0))[0]
    assert dialogue.messages[0].text == url  # type: ignore[union-attr]
    assert [ref.uri.split("/")[0] for ref in pictures_of(dialogue)] == ["sft_pictures"]
    for wrong, reason in ((url[:-3] + "*", "is no base64"), (url.replace(";base64", ""), "must go on with ;base64,")):
        row = {"messages": [{"role": "user", "content": "<image>"}, ASKED[1]], "images": [wrong]}
        with pytest.raises(RowError, match=f"field 'images\\[0\\]': picture 'data:image/.*': {reason}"):
            PictureFolder(out).unpacked(row, file, 1)


def test_bytes_in_json_are_base64(tmp_path: Path) -> None:
    text = base64.b64encode(drawn("red", "PNG")).decode()
    row = {"prompt": "<image>What?", "image": {"bytes": text, "path": None}, "metadata": {"size": {"bytes": "12"}}}
    out = tmp_path / "rl.jsonl"
    assert main([write(tmp_path / "rows.jsonl", [row]), str(out), "--as", "question"]) == 0
    source = FileSource(rl=str(out))
    (played,) = file_rows(source, "rl", Quarantine(0))
    assert [open_image(ref, source.image_root).getpixel((0, 0)) for ref in pictures_of(played)] == [(255, 0, 0)]
    assert played.metadata == {"size": {"bytes": "12"}}


def test_rows_with_both_embedded_and_named_pictures_must_stay_in_their_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run looks for pictures in one folder only."""
    url = f"data:image/png;base64,{base64.b64encode(drawn('red', 'PNG')).decode()}"
    held: list[object] = [url, "a.png", {"bytes": None, "path": "a.png"}]
    rows = [{"prompt": "<image>What?", "image": picture} for picture in held]
    file = write(tmp_path / "rows.jsonl", rows)
    (tmp_path / "a.png").write_bytes(drawn("blue", "PNG"))
    assert main([file, str(tmp_path / "new" / "rl.jsonl"), "--as", "question"]) == 2
    assert f"lie inside rows and beside it: name a file in {tmp_path} to write" in capsys.readouterr().err
    assert not (tmp_path / "new" / "rl.jsonl").exists()
    assert main([file, str(tmp_path / "rl.jsonl"), "--as", "question"]) == 0
    played = file_rows(FileSource(rl=str(tmp_path / "rl.jsonl")), "rl", Quarantine(0))
    shown = [ref.uri for number in range(3) for ref in pictures_of(played[number])]
    assert (shown[0].split("/")[0], shown[1:]) == ("rl_pictures", ["a.png", "a.png"])
