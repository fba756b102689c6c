"""Row files: good rows are read whatever is beside them, bad rows are counted and named."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from datasets import Dataset, Features, Image, Value
from pyarrow import parquet

from steer_lit.data.content import RawRow
from steer_lit.data.formats import read_sft_row
from steer_lit.data.rows import Quarantine, read_records, source_problem
from steer_lit.data.shapes import read_dialogue, read_scenario
from steer_lit.errors import MissingResource, RowError, SteerError, TooManyBadRows

PICTURE_INSIDE = "is a picture inside the row: `python -m steer_lit.data.convert` saves it as a file that rows name"


def numbered(value: object, source: str, number: int) -> tuple[int, object]:
    """A reader that accepts every row without the key "bad"."""
    if isinstance(value, dict) and "bad" in value:
        raise RowError(source, number, "bad", "is bad")
    return number, value


def read(path: Path, limit: int = 0) -> list[tuple[int, object]]:
    return list(read_records(path, numbered, Quarantine(limit)))


def openings(path: Path, bad: int = 0) -> tuple[list[str], list[RowError]]:
    """Read rows to play. Return their first questions, and the rows put aside, of which there may be `bad`."""
    scenarios = list(read_records(path, read_scenario, quarantine := Quarantine(bad)))
    return [scenario.opening.message.text for scenario in scenarios], quarantine.errors


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
    # A byte order mark, Windows line ends, a blank line, line separators in a string, no newline at the end.
    path.write_bytes('\ufeff{"a": 1}\r\n\r\n{"a": "x\u2028y\x85z"}\r\n{"a": 3}'.encode())
    assert read(path) == [(1, {"a": 1}), (3, {"a": "x\u2028y\x85z"}), (4, {"a": 3})]


def test_each_line_of_invalid_json_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": \n{"a": "\xff"}\n' + b"[" * 100_000 + b'\n{"a": "\xc3\xa9"}\nNothing\n[2]\n')
    quarantine = Quarantine(limit=4)
    assert list(read_records(path, numbered, quarantine)) == [(1, {"a": 1}), (5, {"a": "é"}), (7, [2])]
    assert [error.row for error in quarantine.errors] == [2, 3, 4, 6]
    assert all(error.reason.startswith("cannot be read as JSON (") for error in quarantine.errors)
    assert quarantine.errors[0].source == str(path)


def test_a_row_with_a_key_twice_is_ambiguous(tmp_path: Path) -> None:
    """`json` would silently keep the last one's value."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"prompt": "Hi", "prompt": "Ho"}\n{"prompt": "Hey"}\n{"a": [{"b": 1, "b": 1}]}\n', encoding="utf-8"
    )
    quarantine = Quarantine(limit=2)
    assert list(read_records(path, numbered, quarantine)) == [(2, {"prompt": "Hey"})]
    assert [(error.row, error.reason) for error in quarantine.errors] == [
        (1, "cannot be read as JSON (key 'prompt' occurs twice)"),
        (3, "cannot be read as JSON (key 'b' occurs twice)"),
    ]
    array = tmp_path / "rows.json"
    array.write_text('[{"prompt": "Hi", "prompt": "Ho"}]', encoding="utf-8")
    with pytest.raises(SteerError, match=r"array or object \(key 'prompt' occurs twice\): write it again"):
        read(array)


@pytest.mark.parametrize("name", ["[1]*?.jsonl", "a b.json", "é.jsonl", "x::y.jsonl"])
def test_file_names_are_not_patterns(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run[2]"
    folder.mkdir()
    assert read(lines(folder / name, {"a": 1})) == [(1, {"a": 1})]


def test_json_is_an_array_or_lines(tmp_path: Path) -> None:
    array = tmp_path / "array.json"
    array.write_text('\n  [{"a": 1}, {"bad": 2}, 3]', encoding="utf-8")
    assert read(array, limit=1) == [(1, {"a": 1}), (3, 3)]
    assert read(lines(tmp_path / "lines.json", {"a": 1}, {"a": 2})) == [(1, {"a": 1}), (2, {"a": 2})]
    assert read(lines(tmp_path / "one.json", {"a": 1})) == [(1, {"a": 1})]
    array.write_text('{\n  "rows": {"a": 1}\n}\n', encoding="utf-8")  # an object over several lines is one row
    assert read(array) == [(1, {"rows": {"a": 1}})]
    array.write_text('[{"a": 1}, {"a"', encoding="utf-8")
    with pytest.raises(SteerError, match=r"array\.json cannot be read as a JSON array"):
        read(array)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("value", [{"prompt": "Hi"}, [{"prompt": "Hi"}, {"prompt": "Ho"}]])
def test_one_value_in_a_file_of_lines_is_told(tmp_path: Path, value: object, indent: int | None) -> None:
    """Written by `json.dump`, with or without an indent, a list or a single row is a .json file."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\ufeff\n" + json.dumps(value, indent=indent), encoding="utf-8")
    if isinstance(value, dict) and not indent:
        assert len(list(read_records(path, read_scenario, Quarantine(0)))) == 1
        return
    with pytest.raises(SteerError, match="one row a line; a file that holds one list or object is named"):
        list(read_records(path, read_scenario, Quarantine(0)))
    path.rename(path := tmp_path / "rows.json")
    assert list(read_records(path, read_scenario, Quarantine(0)))
    path.write_text('{\n  "prompt": "Hi"\n', encoding="utf-8")
    with pytest.raises(SteerError, match=r"rows\.json cannot be read as a JSON array or object \(Expecting"):
        list(read_records(path, read_scenario, Quarantine(0)))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_cells_that_no_comma_separates_are_told(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"id{separator}prompt\n1{separator}Hi\n", encoding="utf-8")
    with pytest.raises(SteerError, match="between its names: cells are separated by commas"):
        list(read_records(path, read_scenario, Quarantine(0)))


def test_parquet_rows_with_arrows_nulls_are_read(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("within", ["", "struct", "list", "map"])
@pytest.mark.parametrize("kind", ["timestamp", "duration", "zone"])
def test_a_time_that_python_cannot_hold_costs_no_row_of_parquet(kind: str, within: str, tmp_path: Path) -> None:
    types = {"timestamp": ("us",), "duration": ("s",), "zone": ("us", "No/Where")}
    made = (pyarrow.duration if kind == "duration" else pyarrow.timestamp)(*types[kind])
    times = pyarrow.array([0, None, 2**60], pyarrow.int64()).cast(made)
    ends = pyarrow.array([0, 1, 2, 3], pyarrow.int32())
    if within == "struct":
        times = pyarrow.StructArray.from_arrays([times], ["at"])
    elif within == "list":
        times = pyarrow.ListArray.from_arrays(ends, times)
    elif within == "map":
        times = pyarrow.MapArray.from_arrays(ends, pyarrow.array(["at"] * 3), times)
    column = {"": "id", "list": "unread"}.get(within, "metadata")
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"prompt": ["Hi", "Ho", "Hey"], column: times}), path)
    scenarios = list(read_records(path, read_scenario, Quarantine(limit=0)))
    assert [scenario.opening.message.text for scenario in scenarios] == ["Hi", "Ho", "Hey"]
    assert scenarios[1].id == "row-2"
    assert [len(scenario.metadata) for scenario in scenarios] == ([1, 0, 1] if column == "metadata" else [0, 0, 0])


def test_a_time_or_date_in_parquet_is_read_as_the_text_that_json_has(tmp_path: Path) -> None:
    at, day = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), date(2024, 5, 6)
    row: dict[str, Any] = {"prompt": "Hi", "id": at, "category": day, "metadata": {"cost": Decimal("1.50")}}
    row["metadata"] |= {"seen": [day, None], "notes": [{"by": [None, None], "on": day}]}
    parquet.write_table(pyarrow.Table.from_pylist([row]), path := tmp_path / "rows.parquet")
    (scenario,) = read_records(path, read_scenario, Quarantine(limit=0))
    assert (scenario.id, scenario.subset) == ("2024-05-06 07:08:09.000000Z", "2024-05-06")
    seen = {"seen": ("2024-05-06", None), "notes": ({"by": (None, None), "on": "2024-05-06"},)}
    assert scenario.metadata == {"category": "2024-05-06", "cost": "1.50", **seen}


def test_maps_of_parquet_are_objects(tmp_path: Path) -> None:
    """As Spark writes messages. A key that a map has twice makes its row ambiguous."""
    said = [[("role", "user"), ("content", "Hi")], [("role", "assistant"), ("content", "x")]]
    twice = [[("role", "user"), ("content", "Hi"), ("content", "Ho")], said[1]]
    messages = pyarrow.array([said, twice], pyarrow.list_(pyarrow.map_(pyarrow.string(), pyarrow.string())))
    parquet.write_table(pyarrow.table({"messages": messages}), path := tmp_path / "rows.parquet")
    (dialogue,) = read_records(path, read_dialogue, quarantine := Quarantine(limit=1))
    assert [message.text for message in dialogue.messages] == ["Hi", "x"]
    assert "'content'" in quarantine.errors[0].reason


def test_numbers_name_the_values_of_an_object_and_structs_cannot(tmp_path: Path) -> None:
    counts = pyarrow.array([[(1, 2)]], pyarrow.map_(pyarrow.int32(), pyarrow.int32()))
    parquet.write_table(pyarrow.table({"prompt": ["Hi"], "metadata": counts}), path := tmp_path / "rows.parquet")
    (scenario,) = read_records(path, read_scenario, Quarantine(limit=0))
    assert scenario.metadata == {"1": 2}
    by_place = pyarrow.map_(pyarrow.struct([("x", pyarrow.int32())]), pyarrow.int32())
    parquet.write_table(pyarrow.table({"prompt": ["Hi"], "n": pyarrow.array([[({"x": 1}, 2)]], by_place)}), path)
    assert not list(read_records(path, read_scenario, quarantine := Quarantine(limit=1)))
    assert quarantine.errors[0].reason.startswith("holds a value that cannot be read (")


@pytest.mark.parametrize("view", ["list_view", "large_list_view"])
def test_list_views_of_parquet_are_lists(tmp_path: Path, view: str) -> None:
    """Arrow casts one to a list with the items of other rows, or fails."""
    turns = pyarrow.array([["Hi", "And?"], ["Ho"]], getattr(pyarrow, view)(pyarrow.string()))
    times = pyarrow.array([[0, 1], [2]], getattr(pyarrow, view)(pyarrow.timestamp("us")))
    parquet.write_table(pyarrow.table({"turns": turns, "unread": times}), path := tmp_path / "rows.parquet")
    scenarios = list(read_records(path, read_scenario, Quarantine(limit=0)))
    asked = [[attack.message.text for attack in scenario.attacks] for scenario in scenarios]
    assert asked == [["Hi", "And?"], ["Ho"]]


def test_an_unreadable_cell_of_parquet_is_one_bad_row(tmp_path: Path) -> None:
    texts = pyarrow.array([b"Hi", b"\xff", b"Hey"]).view(pyarrow.string())
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"prompt": texts}), path)
    quarantine = Quarantine(limit=1)
    assert [number for number, _ in read_records(path, numbered, quarantine)] == [1, 3]
    assert [error.row for error in quarantine.errors] == [2]
    assert quarantine.errors[0].reason.startswith("holds a value that cannot be read (")


def test_pictures_inside_parquet_are_bad_rows_and_stay_undecoded(tmp_path: Path) -> None:
    features = Features({"image": Image(), "conversations": [{"from": Value("string"), "value": Value("string")}]})
    row = {"image": {"bytes": b"no picture", "path": None}, "conversations": [{"from": "human", "value": "Hi"}]}
    Dataset.from_list([row], features=features).to_parquet(tmp_path / "rows.parquet")
    quarantine = Quarantine(limit=1)
    assert list(read_records(tmp_path / "rows.parquet", read_sft_row, quarantine)) == []
    assert str(quarantine.errors[0]).endswith(f"row 1, field 'image': {PICTURE_INSIDE}")


def test_csv_cells_are_text_and_empty_ones_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    # A byte order mark, Windows line ends, a quoted line end, a blank line, and words that pandas reads as numbers.
    path.write_bytes('\ufeffid,prompt,note\r\n1,"One,\r\n""two""?",NA\r\n\r\n02,图,\r\n'.encode())
    assert read(path) == [
        (1, {"id": "1", "prompt": 'One,\r\n"two"?', "note": "NA"}),
        (2, {"id": "02", "prompt": "图", "note": None}),
    ]
    path.write_text("\n\r\nid,prompt\n1,Hi\n", encoding="utf-8")
    assert read(path) == [(1, {"id": "1", "prompt": "Hi"})]
    path.write_text("", encoding="utf-8")
    assert read(path) == []


def test_each_invalid_line_of_csv_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a,prompt\n1,Hi\n1\n1,2,3\n1,\xff\n1,Ho\n")
    texts, errors = openings(path, bad=3)
    assert texts == ["Hi", "Ho"]
    assert [(error.row, error.field, error.reason[:24]) for error in errors] == [
        (2, "", "has 1 cells under a head"),
        (3, "", "has 3 cells under a head"),
        (4, "prompt", "holds half of a surrogat"),
    ]


def test_a_long_cell_of_csv_is_one_cell(tmp_path: Path) -> None:
    path, long = tmp_path / "rows.csv", "A line.\n" * 30_000
    path.write_text(f'prompt\n"{long}"\nHo\n', encoding="utf-8")
    assert openings(path)[0] == [long, "Ho"]


def test_invalid_quotes_in_csv_are_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('prompt\n5" of it\n"A "good" one"\n"One ""more"""\n"Ho\n' + "x\n" * 100, encoding="utf-8")
    texts, errors = openings(path, bad=102)
    assert texts == ['5" of it', 'One "more"']
    assert [error.row for error in errors] == [2, *range(4, 105)]
    assert "unexpected end of data): look for a quote that is not closed" in errors[1].reason
    assert "belongs to what begins at row 4" in errors[-1].reason
    with pytest.raises(TooManyBadRows, match="102 rows cannot be used"):
        list(read_records(path, read_scenario, Quarantine(limit=101)))


@pytest.mark.parametrize("opened", ['"Ho,2\nx,2\nx,2\n"Hi",2\n', '"Ho,2\nx,2\nx,2\n5",2,2\n'])
def test_every_row_inside_an_open_quote_is_a_bad_row(tmp_path: Path, opened: str) -> None:
    """The place of the next quote decides whether the CSV is invalid or has a row with too many cells."""
    path = tmp_path / "rows.csv"
    path.write_text(f"prompt,note\nHey,1\n{opened}Hello,3\n1,2,3\n", encoding="utf-8")
    texts, errors = openings(path, bad=5)
    assert texts == ["Hey", "Hello"]
    assert [error.row for error in errors] == [2, 3, 4, 5, 7]


def test_rows_nested_too_deeply_are_bad_rows(tmp_path: Path) -> None:
    def parse(value: object, source: str, number: int) -> object:
        return RawRow.of(value, source, number).frozen(value, "")

    deep = '{"a": ' + "[" * 700 + "]" * 700 + "}"
    (tmp_path / "rows.jsonl").write_text(f'{deep}\n{{"a": 1}}\n', encoding="utf-8")
    quarantine = Quarantine(limit=1)
    assert list(read_records(tmp_path / "rows.jsonl", parse, quarantine)) == [{"a": 1}]
    assert "nested too deeply" in quarantine.errors[0].reason


def test_sources_that_are_no_row_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").touch()
    for source, reason in (
        (tmp_path / "nothing.jsonl", r"nothing\.jsonl is no such file; rows are read from \.jsonl, \.json, \.csv"),
        (tmp_path, f"data {tmp_path} is a folder without row files; rows are read from"),
        (tmp_path / "rows.txt", "is not a row file; rows are read from"),
        ("hf://owner", "is not the address of a hub dataset: hf://owner/name"),
    ):
        with pytest.raises(MissingResource, match=reason):
            list(read_records(source, numbered, Quarantine(0)))


def test_what_was_meant_by_a_wrong_name_is_suggested(tmp_path: Path) -> None:
    for name in ("rl.jsonl", "sft.jsonl", "sft.txt", "b2.quarantine.jsonl", "sft.quarantine.jsonl", "manifest.json"):
        (tmp_path / name).touch()
    for given, said in (
        ("", f"is a folder: name a row file in it, such as {tmp_path}/rl.jsonl, {tmp_path}/sft.jsonl"),
        ("sft.quarantin.jsonl", "is no such file; rows are read from"),
        ("sft.jsnl", f"is no such file. Did you mean {tmp_path}/sft.jsonl?"),
        ("dialogues.jsonl", "is no such file; rows are read from .jsonl, .json, .csv, .parquet files and from"),
    ):
        assert (source_problem(str(tmp_path / given)) or "").startswith(said)


def test_bad_rows_are_listed_once_and_good_ones_used(tmp_path: Path) -> None:
    """A start after a resume lists the same rows, one after a repair only those left; no file is left for none."""
    log = tmp_path / "run" / "quarantine.jsonl"
    path = tmp_path / "rows.jsonl"
    two, one, none = [2, 4], [4], list[int]()
    for bad in (two, two, one, none):
        lines(path, *({"bad": number} if number in bad else {"a": number} for number in range(1, 5)))
        quarantine = Quarantine(limit=2, path=log)
        found = [number for number, _ in read_records(path, numbered, quarantine)]
        assert found == [number for number in range(1, 5) if number not in bad]
        assert len(quarantine) == len(bad)
        told = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
        assert told == [{"source": str(path), "row": row, "field": "bad", "reason": "is bad"} for row in bad]
        assert log.exists() == bool(bad)


def test_too_many_bad_rows_are_all_listed_before_the_error(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", *({"bad": number} for number in range(20)))
    log = tmp_path / "quarantine.jsonl"
    with pytest.raises(TooManyBadRows) as caught:
        list(read_records(path, numbered, Quarantine(limit=6, path=log)))
    message = str(caught.value)
    assert message.startswith(f"20 rows cannot be used, data.max_bad_rows=6 allows 6; all are in {log}. ")
    assert f"`python -m steer_lit.data.survey {path}`" in message
    assert message.endswith(f":\n  * {path}, row 1, field 'bad': is bad (19 more rows likewise)")
    assert len(log.read_text(encoding="utf-8").splitlines()) == 20
    with pytest.raises(TooManyBadRows) as caught:
        list(read_records(lines(path, {"a": 1}, {"bad": 1}), numbered, Quarantine(limit=0, path=log)))
    assert str(caught.value).startswith(f"1 row cannot be used, data.max_bad_rows=0 allows 0; it is in {log}. ")
    assert str(caught.value).endswith(f"to go on without it:\n  * {path}, row 2, field 'bad': is bad")


def test_bad_rows_are_told_by_their_reasons() -> None:
    quarantine = Quarantine(limit=0)
    for row, reason in enumerate("abacdefgg", start=1):
        quarantine.add(RowError("rows", row, f"turns.{row}" if reason == "a" else "", reason))
    quarantine.add(RowError("rows", 10, "image", "a"))
    with pytest.raises(TooManyBadRows) as caught:
        quarantine.settle()
    told = ["row 1, field 'turns.1': a (1 more row likewise)", "row 2: b", "row 4: c", "row 5: d", "row 6: e"]
    assert str(caught.value).endswith("".join(f"\n  * rows, {line}" for line in told) + "\n  ... and 4 more")


def test_a_hub_dataset_is_not_fetched_beyond_too_many_bad_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = enumerate([{"bad": 1}, {"a": 2}, {"bad": 3}, {"a": 4}], start=1)
    monkeypatch.setattr("steer_lit.data.rows.hub_rows", lambda name: stream)
    log = tmp_path / "quarantine.jsonl"
    with pytest.raises(TooManyBadRows, match=r"^2 rows cannot be used, data\.max_bad_rows=1 allows 1; all are in"):
        list(read_records("hf://owner/name", numbered, Quarantine(1, log), check=False))
    assert next(stream) == (4, {"a": 4})
    assert [json.loads(line)["row"] for line in log.read_text().splitlines()] == [1, 3]


def test_a_huge_role_gives_a_short_error_with_the_allowed_values(tmp_path: Path) -> None:
    message = {"role": "x" * 3_000_000, "content": "Hi"}
    path = lines(tmp_path / "rows.jsonl", {"messages": [message]}, {"y" * 3_000_000: 1})
    quarantine = Quarantine(limit=2, path=tmp_path / "quarantine.jsonl")
    assert list(read_records(path, read_sft_row, quarantine)) == []
    first, _ = quarantine.errors
    assert first.reason.startswith("is 'xxx")
    assert first.reason.endswith("must be one of user, human, assistant, gpt, system")
    assert all(len(str(error)) < 1000 for error in quarantine.errors)
    assert (tmp_path / "quarantine.jsonl").stat().st_size < 3000


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_repeated_column_name_is_one_clear_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        path.write_text("prompt,,note,prompt,\nHi,,a,Ho,\n", encoding="utf-8")  # several columns may have no name
    else:
        columns = [pyarrow.array([text]) for text in ("Hi", "a", "Ho")]
        parquet.write_table(pyarrow.Table.from_arrays(columns, ["prompt", "note", "prompt"]), path)
    with pytest.raises(SteerError, match=r"has more than one column named 'prompt': rename or remove"):
        read(path)
