"""Row files with pictures: rows with a broken picture are found before anything is trained on them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from steer_lit.data.rows import Quarantine
from steer_lit.data.shapes import told_of_unknown, unknown_keys
from steer_lit.data.sources import FileSource, MiniSource, Record, SourceSplit, content_of, pictures_of
from steer_lit.data.writers import write_rows
from steer_lit.errors import SteerError, TooManyBadRows
from steer_lit.types import Scenario
from tests.rows import file_rows


def ask(picture: str, number: int) -> dict[str, object]:
    return {"question_id": number, "messages_fixed": [{"role": "user", "content": "What is this?"}], "image": picture}


def play(source: FileSource, quarantine: Quarantine, max_turns: int = 10) -> list[Scenario]:
    rows = file_rows(source, "bench", quarantine, max_turns)
    found = [rows[number] for number in range(len(rows))]
    assert all(isinstance(row, Scenario) for row in found)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("split", ["sft", "captions", "primer"])
def test_generated_rows_depend_on_their_seed_and_number(split: SourceSplit) -> None:
    source = MiniSource(sft=20, rl=1, bench=1, captions=20, primer=20)
    rows, others = (each.rows(split, 10) for each in (source, replace(source, seed=1)))
    assert len(rows) == 20
    assert rows[13] == rows[13] != others[13]
    for number in (-1, 20):
        with pytest.raises(IndexError, match=f"row {number} of 20"):
            rows[number]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    Image.new("RGB", (8, 8), "red").save(data / "a.png")
    Image.radial_gradient("L").save(data / "cut.jpg")
    (data / "cut.jpg").write_bytes((data / "cut.jpg").read_bytes()[:-200])
    return data


def test_a_truncated_picture_is_found_before_the_run(folder: Path) -> None:
    """The header is intact, so the size can be read, but the pixels cannot."""
    write_rows(folder / "bench.jsonl", [ask("a.png", 1), ask("cut.jpg", 2), ask("cut.jpg", 3)])
    quarantine = Quarantine(limit=2)
    assert [row.id for row in play(FileSource(bench=str(folder / "bench.jsonl")), quarantine)] == ["1"]
    assert [error.row for error in quarantine.errors] == [2, 3]
    assert "truncated" in quarantine.errors[0].reason
    with pytest.raises(TooManyBadRows, match=r"^2 rows cannot be used, (.|\n)*row 2, field 'images'"):
        play(FileSource(bench=str(folder / "bench.jsonl")), Quarantine(limit=1))


def test_a_file_without_a_usable_row_is_not_advised_to_go_on_without_them(folder: Path) -> None:
    file = folder / "bench.jsonl"
    for rows, advised in (([ask("none.png", 1), {"nothing": 1}], False), ([ask("a.png", 1), {"nothing": 1}], True)):
        write_rows(file, rows)
        with pytest.raises(TooManyBadRows) as caught:
            play(FileSource(bench=str(file)), Quarantine(limit=0))
        assert ("or raise data.max_bad_rows to go on without" in str(caught.value)) == advised
        assert ("No row is left: repair the file, docs/rows.md describes" in str(caught.value)) != advised


def test_bad_rows_and_rows_without_their_picture_are_reported_together(folder: Path) -> None:
    write_rows(folder / "bench.jsonl", [ask("none.png", 1), {"nothing": 1}, ask("a.png", 3), {"nothing": 2}])
    with pytest.raises(TooManyBadRows, match=r"^3 rows cannot be used") as caught:
        play(FileSource(bench=str(folder / "bench.jsonl")), Quarantine(limit=0))
    unread, blind = str(caught.value).replace(str(folder / "bench.jsonl"), "bench.jsonl").splitlines()[1:]
    assert unread.startswith("  * bench.jsonl, row 2: ")
    assert unread.endswith(" (1 more row likewise)")
    assert blind.startswith("  * bench.jsonl, row 1, field 'images': picture 'none.png': is not a file")


def test_a_missing_picture_in_a_turn_that_is_cut_does_not_matter(folder: Path) -> None:
    turns = [{"role": "user", "content": text} for text in ("One?", "Two?", "<image>Three?")]
    write_rows(folder / "bench.jsonl", [{"question_id": 1, "messages_fixed": turns, "image": "missing.png"}])
    (row,) = play(FileSource(bench=str(folder / "bench.jsonl")), Quarantine(0), max_turns=2)
    assert (len(row.attacks), list(pictures_of(row))) == (2, [])


def test_scenarios_without_a_kind_have_the_sources(folder: Path) -> None:
    write_rows(folder / "bench.jsonl", [ask("a.png", 1), {**ask("a.png", 2), "category": "obfuscated"}])
    source = FileSource(bench=str(folder / "bench.jsonl"), kind="benign")
    assert [row.kind for row in play(source, Quarantine(0))] == ["benign", "obfuscated"]
    assert [row.kind for row in play(FileSource(bench=source.bench), Quarantine(0))] == ["red_team", "obfuscated"]


def test_rows_with_equal_ids_get_different_ones(tmp_path: Path) -> None:
    file = tmp_path / "rl.jsonl"
    write_rows(file, ({"id": name, "prompt": "What?"} for name in ("q", "q#2", "q", "q", "r", "q#2")))
    rows = file_rows(FileSource(rl=str(file)), "rl", Quarantine(0))
    assert [row.id for row in rows] == ["q", "q#2", "q#3", "q#4", "r", "q#2#2"]


def test_a_twin_is_a_row_of_the_same_file(tmp_path: Path) -> None:
    """Two synthesized files number their rows alike. Rows that are no twins would count as one in every interval."""
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file in files:
        twins = [("p", "q"), ("q", "p"), ("r", "gone"), ("p", "r")]
        write_rows(file, ({"id": one, "prompt": f"{file}?", "metadata": {"twin": other}} for one, other in twins))
    rows = file_rows(FileSource(rl=list(map(str, files))), "rl", Quarantine(0))
    assert [(row.id, row.metadata["twin"]) for row in rows] == [
        ("p", "q"), ("q", "p"), ("r", "gone"), ("p#2", "r"), ("p#3", "q#2"), ("q#2", "p#3"), ("r#2", "gone"),
        ("p#4", "r#2"),
    ]  # fmt: skip


def test_unknown_keys_inside_messages_are_named() -> None:
    """Such as those by which a row says that an answer is not to be learned."""
    answer = {"role": "assistant", "content": "Sure.", "weight": 0, "is_safe": False, "gold": {}, "tool_calls": None}
    row = {"messages": [{"role": "user", "content": "Hi.", "name": "me"}, answer, answer]}
    assert unknown_keys(row) == ["messages[].name", "messages[].weight", "messages[].is_safe"]
    assert unknown_keys({"question": [{"role": "user", "content": "Hi.", "name": "me"}]}) == ["question[].name"]
    assert told_of_unknown(Counter(unknown_keys({"messages": [{"x": 1}]}))) == "unknown keys: messages[].x (1 row)"


@pytest.mark.parametrize("split", ["sft", "rl", "bench"])
def test_a_run_warns_once_of_keys_that_no_reader_knows(
    tmp_path: Path, split: SourceSplit, caplog: pytest.LogCaptureFixture
) -> None:
    """A misspelt `images` plays the dialogue without its picture. A key that another shape has is no mistake."""
    turns = [{"role": "user", "content": "Hi", "strategy": "ask"}, {"role": "assistant", "content": "Ho"}]
    row = {"messages": turns, "picture": {"hazardous": False}, "kn\x1bd": "benign", "date": "today", "more": None}
    files = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    for file in files:
        write_rows(Path(file), [row, row, {"messages": turns, "answer": "x", "": 1}])
    file_rows(FileSource(**{split: files}), split, Quarantine(0))
    said = (
        f"data.source.{split}: unknown keys: kn\ufffdd (4 rows), date (4 rows), (no name) (2 rows). Did you mean kind?"
    )
    assert caplog.messages == [said]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        *(("imgaes", "images"), ("image_path", "images"), ("kidn", "kind"), ("sytem", "system")),
        *(("date", ""), ("source", ""), ("prompt_id", "")),
    ],
)
def test_a_key_is_told_from_a_misspelt_one(key: str, near: str) -> None:
    unknown = Counter(unknown_keys({"turns": ["Hi"], key: "x"}))
    assert told_of_unknown(unknown) == f"unknown keys: {key} (1 row){near and f'. Did you mean {near}?'}"


def test_an_unfit_row_is_set_aside_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "rl.jsonl"
    write_rows(file, ({"id": name, "prompt": f"About {name}?"} for name in ("one", "two")))
    quarantine = Quarantine(limit=1)

    def unfit(record: Record) -> str | None:
        return "takes 9 tokens" if "two" in record.id else None

    source = FileSource(rl=str(file))
    rows = source.fitting("rl", source.read("rl", 10, quarantine), quarantine, unfit)
    assert len(rows) == 1
    (error,) = quarantine.errors
    assert (error.source, error.row) == (str(file), 2)
    assert error.reason.endswith("takes 9 tokens")


def test_only_the_first_rows_that_can_be_used_are_looked_at(folder: Path) -> None:
    """What is wrong behind them stops nobody. Those before are in the way, and count."""
    asked = [ask("none.png", 1), ask("a.png", 2), {"nothing": 1}, *(ask("a.png", number) for number in range(4, 7))]
    write_rows(folder / "rl.jsonl", [*asked, ask("cut.jpg", 7), {"nothing": 1}])
    source = FileSource(rl=str(folder / "rl.jsonl"))

    def first(count: int, limit: int) -> tuple[list[str], list[int]]:
        quarantine = Quarantine(limit)
        rows = source.first(count, 10, quarantine, lambda row: "is odd" if row.id == "4" else None)
        return [row.id for row in rows], sorted(error.row for error in quarantine.errors)

    assert first(1, limit=1) == (["2"], [1])
    assert first(3, limit=3) == (["2", "5", "6"], [1, 3, 4])
    with pytest.raises(TooManyBadRows, match=r"^3 rows cannot be used"):
        first(3, limit=2)
    with pytest.raises(TooManyBadRows, match=r"^5 rows cannot be used"):
        first(4, limit=3)


@pytest.fixture
def two_files(tmp_path: Path) -> list[str]:
    """Rows to play in two files, each with a bad one."""
    files = [tmp_path / "own.jsonl", tmp_path / "more.jsonl"]
    for name, file in zip("ab", files, strict=True):
        write_rows(file, [{"prompt": f"{name}1?"}, {"nothing": 1}, {"prompt": f"{name}3?"}])
    return list(map(str, files))


def test_several_files_give_their_rows_one_after_the_other(two_files: list[str], tmp_path: Path) -> None:
    quarantine = Quarantine(limit=2, path=tmp_path / "quarantine.jsonl")
    source = FileSource(rl=two_files)
    rows = file_rows(source, "rl", quarantine)
    assert [row.opening.message.text for row in rows if isinstance(row, Scenario)] == ["a1?", "a3?", "b1?", "b3?"]
    assert [row.id for row in rows] == ["row-1", "row-3", "row-1#2", "row-3#2"]
    assert [(error.source, error.row) for error in quarantine.errors] == [(file, 2) for file in two_files]
    assert source.image_root == tmp_path
    whole = "".join(Path(file).read_text() for file in two_files)
    (joined := tmp_path / "joined.jsonl").write_text(whole)
    alone = file_rows(FileSource(rl=str(joined)), "rl", Quarantine(2))
    assert [replace(row, id="") for row in alone] == [replace(row, id="") for row in rows]


def test_bad_rows_of_several_files_are_reported_together(two_files: list[str], tmp_path: Path) -> None:
    for mended in (False, True):
        with pytest.raises(TooManyBadRows) as caught:
            file_rows(FileSource(rl=two_files), "rl", Quarantine(0, tmp_path / "quarantine.jsonl"))
        assert [file in str(caught.value) for file in two_files] == [True, not mended]
        found = [json.loads(line)["source"] for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
        assert found == (two_files[:1] if mended else two_files)
        write_rows(Path(two_files[1]), [{"prompt": "b?"}])


def test_a_file_without_a_usable_row_is_refused_beside_others(two_files: list[str]) -> None:
    write_rows(Path(two_files[1]), [{"nothing": 1}])
    with pytest.raises(
        SteerError, match=r"more\.jsonl holds no usable row, 1 were put aside; the first: .*more\.jsonl"
    ):
        file_rows(FileSource(rl=two_files), "rl", Quarantine(2))


def test_rows_have_one_content_if_they_are_alike_but_for_their_ids(two_files: list[str], tmp_path: Path) -> None:
    rows = [{"question_id": name, "prompt": f"{name}?"} for name in ("b1", "b3", "c1", "c1")]
    write_rows(more := tmp_path / "more.json", rows)
    found = file_rows(FileSource(rl=[*two_files, str(more)]), "rl", Quarantine(2))
    assert (len(found), len(set(map(content_of, found)))) == (8, 5)
    write_rows(more, [{**row, "kind": "benign"} for row in rows[:2]])  # the same words, played as another kind
    found = file_rows(FileSource(rl=[*two_files, str(more)]), "rl", Quarantine(2))
    assert len(set(map(content_of, found))) == len(found) == 6
