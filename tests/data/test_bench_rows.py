"""The rows that a benchmark plays, from both sources."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from steer_lit.data.bench_rows import BenchRows
from steer_lit.data.sources import FileSource, MiniSource
from steer_lit.errors import TooManyBadRows
from steer_lit.types import ImageRef, Scenario

MINI = MiniSource(sft=47, rl=60, bench=20, captions=30, primer=100)


def of_file(path: Path, *rows: dict[str, Any], **options: Any) -> BenchRows:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return BenchRows(FileSource(bench=str(path)), **{"max_turns": 10, **options})


def test_the_benchmark_holds_every_row_in_order_and_can_be_iterated_again() -> None:
    rows = BenchRows(MINI, max_turns=10)
    scenarios = list(rows)
    assert all(isinstance(row, Scenario) for row in scenarios)
    assert scenarios == list(rows) == list(BenchRows(MINI, max_turns=10))
    assert (len(rows), len({row.id for row in scenarios}), rows.quarantined) == (20, 20, 0)
    assert len(BenchRows(MiniSource(12_934, 2_000, 3_227, 12_934, 0), max_turns=10)) == 3_227  # STEER-Bench


def test_grpos_scenarios_can_be_benchmarked(tmp_path: Path) -> None:
    """The topics are those of training. With another seed the dialogues differ, which shows if a gain extends beyond
    them.
    """
    met, others = (BenchRows(replace(MINI, seed=seed), 10, split="rl") for seed in (0, 1))
    assert [row.id for row in met][:2] == ["mini-rl-0-00000", "mini-rl-0-00001"]
    assert len(met) == 60
    assert not {row.id for row in met} & {row.id for row in others}
    (tmp_path / "rl.jsonl").write_text(json.dumps({"id": "a", "turns": ["What?"]}) + "\n", encoding="utf-8")
    of_file = FileSource(rl=str(tmp_path / "rl.jsonl"), bench=str(tmp_path / "missing.jsonl"))
    assert [row.id for row in BenchRows(of_file, 10, split="rl")] == ["a"]


def test_a_row_given_twice_is_played_once_also_with_blank_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for colour in ("red", "blue"):
        Image.new("RGB", (4, 4), colour).save(tmp_path / f"{colour}.png")
    asked = [{"id": id, "turns": ["What?"], "image": f"{id}.png"} for id in ("red", "blue")]
    for blank in (False, True):
        caplog.clear()
        rows = of_file(tmp_path / "a.jsonl", *asked, asked[0], {**asked[1], "id": "c"}, blank_images=blank)
        assert [row.id for row in rows] == ["red", "blue"]
        assert caplog.messages == ["2 rows left out (3, 4), the same as earlier rows: each is played once"]


def test_rows_that_differ_only_in_what_is_not_played_are_played_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A single-turn benchmark plays openings: it would count three dialogues for two questions."""
    asked = [{"id": turns, "turns": list(turns)} for turns in ("ab", "ac", "ba")]
    for played, left in ((2, ["ab", "ac", "ba"]), (None, ["ab", "ac", "ba"]), (1, ["ab", "ba"])):
        assert not caplog.messages
        assert [row.id for row in of_file(tmp_path / "a.jsonl", *asked, turns_played=played)] == left
    said = "1 row left out (2), the same as earlier rows in what is played, 1 turn: each is played once"
    assert caplog.messages == [said]


def test_rows_left_out_of_several_files_are_named_with_their_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    for file in files:
        Path(file).write_text('{"turns": ["What?"]}\n{"turns": ["What?"]}\n', encoding="utf-8")
    assert len(BenchRows(FileSource(bench=files), 10)) == 1
    a, b = files
    assert f"3 rows left out (2 of {a}, 1 of {b}, 2 of {b}), the same" in caplog.text


def test_a_pictures_digest_changes_with_its_pixels(tmp_path: Path) -> None:
    """A picture file may be replaced under the same name. Each file is read once."""

    def coloured(colour: str) -> str:
        Image.new("RGB", (4, 4), colour).save(tmp_path / "one.png")
        rows = of_file(tmp_path / "rows.jsonl", {"id": "a", "prompt": "What?", "image": "one.png"})
        (ref,) = next(iter(rows)).opening.message.images
        found = rows.picture_digest(ref)
        (tmp_path / "one.png").unlink()
        assert rows.picture_digest(ref) == found
        return found

    assert coloured("red") == coloured("red") != coloured("blue")
    assert BenchRows(MINI, 10).picture_digest(ImageRef("mini://knife?colour=red&x=1&y=1&size=50&bg=0")) == ""


def test_blank_pictures_change_the_pixels_only() -> None:
    seen, blank = BenchRows(MINI, 10), BenchRows(MINI, 10, blank_images=True)
    for scenario, other in zip(seen, blank, strict=True):
        assert repr(scenario) == repr(other).replace("blank:", "")
        (ref,) = other.opening.message.images
        assert blank.open_image(ref).getcolors() == [(112 * 112, (255, 255, 255))]
        assert other.picture is not None  # the judge still needs its facts


def test_a_rows_own_system_message_counts_only_where_the_run_has_no_prompt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = [{"question_id": at, "messages_fixed": [*system, *turn("Hi")]} for at, system in enumerate(([], [BRIEF]))]
    with caplog.at_level("WARNING", "steer_lit.data"):
        own = of_file(tmp_path / "rows.jsonl", *asked)
        assert [row.system for row in own] == [None, "Be brief."]
        assert not caplog.records
        runs = of_file(tmp_path / "rows.jsonl", *asked, system_prompt="Look.")
        assert [row.system for row in runs] == [None, None]
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 2 rows bring a system message; system_prompt is used instead, empty it to use theirs"
    ]


BRIEF = {"role": "system", "content": "Be brief."}


def turn(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


BENCH: list[dict[str, Any]] = [
    {"question_id": 1, "messages_fixed": turn("One?", "", "Two?"), "image": "a.png", "category": "steer-spa"},
    {"question_id": 2, "messages_fixed": turn("One?"), "image": "missing.png"},
    {"question_id": 1, "messages_fixed": turn("Three?")},
    {"question_id": 4, "messages_fixed": turn("One?"), "image": "broken.png"},
    {"question_id": 5, "messages_fixed": turn("One?"), "image": "../a.png"},
    {"question_id": "1", "messages_fixed": turn(*["Again?", ""] * 9)},
]


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Return the path for a file of rows, beside a good picture and a broken one."""
    Image.new("RGB", (30, 20), (9, 99, 200)).save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path / "bench.jsonl"


def test_rows_without_their_pictures_are_set_aside_before_playing(bench: Path) -> None:
    rows = of_file(bench, *BENCH, max_bad_rows=3, quarantine_dir=str(bench.parent / "run"))
    scenarios = list(rows)
    assert [scenario.id for scenario in scenarios] == ["1", "1#2", "1#3"]  # filed by id, so ids are made to differ
    assert [len(scenario.attacks) for scenario in scenarios] == [2, 1, 9]
    aside = [json.loads(line) for line in (bench.parent / "run" / "quarantine.jsonl").read_text().splitlines()]
    assert [(entry["row"], entry["field"]) for entry in aside] == [(2, "images"), (4, "images"), (5, "images")]
    assert "'missing.png': is not a file in" in aside[0]["reason"]
    assert "lies outside" in aside[2]["reason"]
    assert rows.open_image(scenarios[0].opening.message.images[0]).getpixel((0, 0)) == (9, 99, 200)
    assert list(rows) == scenarios
    assert rows.quarantined == 3
    assert not (bench.parent / "quarantine.jsonl").exists()


def test_nothing_is_written_where_no_folder_is_named(bench: Path) -> None:
    assert len(of_file(bench, *BENCH, max_bad_rows=3)) == 3
    with pytest.raises(TooManyBadRows, match=r"data\.max_bad_rows=2"):
        list(of_file(bench, *BENCH, max_bad_rows=2))
    assert sorted(path.name for path in bench.parent.iterdir()) == ["a.png", "bench.jsonl", "broken.png"]
