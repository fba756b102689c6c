"""Files of rows: good rows arrive whatever stands beside them, bad ones are counted and named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steer_lit.data.formats import read_sft_row
from steer_lit.data.rows import Quarantine, read_records
from steer_lit.errors import MissingResource, RowError, SteerError, TooManyBadRows


def numbered(value: object, source: str, number: int) -> tuple[int, object]:
    """A reader that takes every row that has no "bad" in it."""
    if isinstance(value, dict) and "bad" in value:
        raise RowError(source, number, "bad", "is bad")
    return number, value


def read(path: Path, limit: int = 0) -> list[tuple[int, object]]:
    return list(read_records(path, numbered, Quarantine(limit)))


def lines(path: Path, *values: object) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def test_content_may_be_text_in_one_row_and_a_list_in_the_next(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Hello"}]
    path = lines(
        tmp_path / "rows.jsonl",
        *(
            {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "x"}]}
            for content in ("Hi", parts)
        ),
    )
    dialogues = list(read_records(path, read_sft_row, Quarantine(limit=0)))
    assert [dialogue.messages[0].text for dialogue in dialogues] == ["Hi", "Hello"]


def test_line_numbers_are_those_of_an_editor(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    # A byte order mark, Windows line ends, a blank line, line separators within a string, no newline at the end.
    path.write_bytes('\ufeff{"a": 1}\r\n\r\n{"a": "x\u2028y\x85z"}\r\n{"a": 3}'.encode())
    assert read(path) == [(1, {"a": 1}), (3, {"a": "x\u2028y\x85z"}), (4, {"a": 3})]


def test_what_is_no_json_is_one_bad_row_each(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": \n{"a": "\xff"}\n' + b"[" * 100_000 + b'\n{"a": "\xc3\xa9"}\nNothing\n[2]\n')
    quarantine = Quarantine(limit=4)
    assert list(read_records(path, numbered, quarantine)) == [(1, {"a": 1}), (5, {"a": "é"}), (7, [2])]
    assert [error.row for error in quarantine.errors] == [2, 3, 4, 6]
    assert all(error.reason.startswith("is not JSON (") for error in quarantine.errors)
    assert quarantine.errors[0].source == str(path)


@pytest.mark.parametrize("name", ["[1]*?.jsonl", "a b.json", "é.jsonl"])
def test_file_names_are_not_patterns(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run[2]"
    folder.mkdir()
    assert read(lines(folder / name, {"a": 1})) == [(1, {"a": 1})]


def test_json_is_an_array_or_lines(tmp_path: Path) -> None:
    array = tmp_path / "array.json"
    array.write_text('\n  [{"a": 1}, {"bad": 2}, 3]', encoding="utf-8")
    assert read(array, limit=1) == [(1, {"a": 1}), (3, 3)]
    assert read(lines(tmp_path / "lines.json", {"a": 1}, {"a": 2})) == [(1, {"a": 1}), (2, {"a": 2})]
    array.write_text('[{"a": 1}, {"a"', encoding="utf-8")
    with pytest.raises(SteerError, match=r"array\.json is not a JSON array"):
        read(array)


def test_parquet_rows_with_the_nulls_arrow_adds(tmp_path: Path) -> None:
    from datasets import Dataset

    rows = [
        {
            "messages": [{"role": "user", "content": "<image>Hi"}, {"role": "assistant", "content": "x"}],
            "images": ["a"],
        },
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "y"}], "images": None},
    ]
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    dialogues = list(read_records(tmp_path / "rows.parquet", read_sft_row, Quarantine(limit=0)))
    assert [dialogue.messages[1].text for dialogue in dialogues] == ["x", "y"]
    (tmp_path / "rows.parquet").write_bytes(b"PAR1, but not really")
    with pytest.raises(SteerError, match="cannot be read as Parquet"):
        read(tmp_path / "rows.parquet")


def test_pictures_inside_parquet_are_bad_rows_and_stay_undecoded(tmp_path: Path) -> None:
    from datasets import Dataset, Features, Image, Value

    features = Features({"image": Image(), "conversations": [{"from": Value("string"), "value": Value("string")}]})
    row = {"image": {"bytes": b"no picture", "path": None}, "conversations": [{"from": "human", "value": "Hi"}]}
    Dataset.from_list([row], features=features).to_parquet(tmp_path / "rows.parquet")
    quarantine = Quarantine(limit=1)
    assert list(read_records(tmp_path / "rows.parquet", read_sft_row, quarantine)) == []
    assert str(quarantine.errors[0]).endswith("row 1, field 'image': must be a list, got an object")


def test_files_that_cannot_be_rows(tmp_path: Path) -> None:
    with pytest.raises(MissingResource, match=r"nothing\.jsonl does not exist"):
        read(tmp_path / "nothing.jsonl")
    with pytest.raises(SteerError, match="rename it"):  # it would read as an empty file
        read(lines(tmp_path / "x::y.jsonl", {"a": 1}))
    (tmp_path / "rows.csv").touch()
    with pytest.raises(SteerError, match=r"\.jsonl, \.json and \.parquet"):
        read(tmp_path / "rows.csv")


def test_bad_rows_are_written_down_once_and_good_ones_used(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", {"a": 1}, {"bad": 1}, {"a": 3}, {"bad": 2})
    log = tmp_path / "run" / "quarantine.jsonl"
    for _ in range(2):  # the second time as after a resume
        quarantine = Quarantine(limit=2, path=log)
        assert list(read_records(path, numbered, quarantine)) == [(1, {"a": 1}), (3, {"a": 3})]
        assert len(quarantine) == 2
    assert [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] == [
        {"source": str(path), "row": 2, "field": "bad", "reason": "is bad"},
        {"source": str(path), "row": 4, "field": "bad", "reason": "is bad"},
    ]


def test_one_bad_row_too_many_stops_and_names_the_first(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", *({"bad": number} for number in range(20)))
    log = tmp_path / "quarantine.jsonl"
    with pytest.raises(TooManyBadRows) as caught:
        list(read_records(path, numbered, Quarantine(limit=6, path=log)))
    message = str(caught.value)
    assert message.startswith("7 rows cannot be used, data.max_bad_rows=6 allows 6; all are in ")
    assert "row 5, field 'bad': is bad" in message
    assert "row 6," not in message
    assert message.endswith("... and 2 more")
    assert len(log.read_text(encoding="utf-8").splitlines()) == 7
