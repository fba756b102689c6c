"""Rows of a hub dataset: the address, streaming, and one clear message without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from steer_lit.data.rows import Quarantine, read_records, source_problem
from steer_lit.data.shapes import read_dialogue, read_scenario
from steer_lit.data.sources import FileSource
from steer_lit.errors import MissingResource, SteerError
from tests.rows import file_rows

ROWS = [
    {"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "x"}], "images": None}
    for i in range(5)
]


@pytest.mark.parametrize(
    "address", ["hf://", "hf://name", "hf://datasets/owner/name", "hf://owner/name?split=x", "hf://owner/name: x"]
)
def test_an_invalid_address_is_refused_with_the_form(address: str) -> None:
    assert source_problem(address) == "is not the address of a hub dataset: hf://owner/name[/config][:split][@revision]"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Simulate a hub with one dataset. Return a record of the requests."""
    import datasets
    import huggingface_hub

    asked: dict[str, object] = {}
    whole = datasets.Dataset.from_list(ROWS)

    def dataset_info(self: object, id: str, **given: object) -> SimpleNamespace:
        asked["info"] = (id, given["revision"])
        return SimpleNamespace(sha="c0ffee")

    def load_dataset(id: str, config: str | None, **given: object) -> datasets.IterableDataset:
        asked["load"] = (id, config, given)
        if given["split"] == "torn":
            return datasets.IterableDataset.from_generator(torn)
        return whole.to_iterable_dataset()

    def torn() -> Iterator[dict[str, object]]:
        yield ROWS[0]
        raise ConnectionError("the line went dead\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


@pytest.mark.parametrize(
    ("address", "id", "config", "split", "revision"),
    [
        ("hf://owner/name", "owner/name", None, "train", None),
        ("hf://o-1/n.2_x:validation", "o-1/n.2_x", None, "validation", None),
        ("hf://owner/name/en:test@v1.0", "owner/name", "en", "test", "v1.0"),
        ("hf://owner/name@refs/convert/parquet", "owner/name", None, "train", "refs/convert/parquet"),
    ],
)
def test_an_address_names_dataset_config_split_and_revision(
    hub: dict[str, object], address: str, id: str, config: str | None, split: str, revision: str | None
) -> None:
    assert next(read_records(address, read_dialogue, Quarantine(0))).id == "row-1"
    assert hub["info"] == (id, revision)
    assert hub["load"] == (id, config, {"split": split, "revision": "c0ffee", "streaming": True})


def test_rows_are_streamed_at_the_revision_looked_up(hub: dict[str, object]) -> None:
    dialogues = list(read_records("hf://owner/name/en:train@main", read_dialogue, Quarantine(0)))
    assert [dialogue.messages[0].text for dialogue in dialogues] == ["0?", "1?", "2?", "3?", "4?"]
    assert [dialogue.id for dialogue in dialogues] == [f"row-{number}" for number in range(1, 6)]
    assert hub["info"] == ("owner/name", "main")
    assert hub["load"] == ("owner/name", "en", {"split": "train", "revision": "c0ffee", "streaming": True})


def test_pictures_inside_hub_rows_are_bad_rows_and_stay_undecoded(
    hub: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    rows = [{"text": "What?", "image": {"bytes": b"no picture", "path": None}}, {"text": "Hi", "image": None}]
    features = datasets.Features({"text": datasets.Value("string"), "image": datasets.Image()})
    stored = datasets.Dataset.from_list(rows, features=features).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **given: stored)
    quarantine = Quarantine(1)
    assert [row.id for row in read_records("hf://owner/name", read_scenario, quarantine)] == ["row-2"]
    assert quarantine.errors[0].reason.startswith("is a picture inside the row: `python -m steer_lit.data.convert`")


def test_trap_35_a_hub_dataset_becomes_a_list_for_the_cursor(hub: dict[str, object], tmp_path: Path) -> None:
    source = FileSource(sft="hf://owner/name")
    rows = file_rows(source, "sft", Quarantine(0))
    assert [rows[number].id for number in (4, 0)] == ["row-5", "row-1"]
    assert len(rows) == 5
    assert source.image_root is None
    assert FileSource(sft="hf://owner/name", rl=str(tmp_path / "rl.jsonl")).image_root == tmp_path


def test_a_broken_stream_is_reported_in_one_line(hub: dict[str, object]) -> None:
    rows = read_records("hf://owner/name:torn", read_dialogue, Quarantine(0))
    assert next(rows).id == "row-1"
    with pytest.raises(SteerError, match=r"name:torn: its rows cannot be streamed \(the line went dead\)\. Check"):
        next(rows)


def test_offline_there_is_one_clear_message() -> None:
    """`tests/conftest.py` keeps the hub's client offline."""
    with pytest.raises(MissingResource) as caught:
        file_rows(FileSource(sft="hf://owner/name"), "sft", Quarantine(0))
    message = str(caught.value)
    assert message.startswith("data hf://owner/name: the hub does not give it (")
    assert "hf download owner/name --repo-type dataset" in message
    assert "\n" not in message
