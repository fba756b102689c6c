"""Rows of a hub over HTTP, with the real client libraries."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from PIL import Image

from steer_lit.data.images import open_image
from steer_lit.data.rows import Quarantine
from steer_lit.data.sources import FileSource, pictures_of
from tests.loopback_hub import REVISION, LoopbackHub
from tests.rows import file_rows

QUESTIONS = b"".join(json.dumps({"text": f"question {at}"}).encode() + b"\n" for at in range(3))


def converted(hub: LoopbackHub, address: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `data.convert` on the address in a new process, which takes `hub` for huggingface.co. The clients read its
    address when they start.
    """
    told = {name: value for name, value in os.environ.items() if not re.search("^HF_|OFFLINE", name)}
    told |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "cache"), "PYTHONPATH": str(Path.cwd())}
    words = [sys.executable, "-m", "steer_lit.data.convert", address, str(folder / "rl.jsonl"), "--as", "question"]
    return subprocess.run(words, env=told, cwd=folder, capture_output=True, text=True, timeout=120)


def with_pictures() -> bytes:
    """Return two rows as `datasets` uploads them: Parquet, with a picture inside the first row."""
    rows = [{"text": "What?", "image": Image.new("RGB", (8, 6), "red")}, {"text": "Hi", "image": None}]
    features = datasets.Features({"text": datasets.Value("string"), "image": datasets.Image()})
    written = io.BytesIO()
    datasets.Dataset.from_list(rows, features=features).to_parquet(written)
    return written.getvalue()


def test_rows_and_the_pictures_inside_them_are_streamed(tmp_path: Path) -> None:
    with LoopbackHub({"README.md": b"# Rows\n", "data/train-00000-of-00001.parquet": with_pictures()}) as hub:
        done = converted(hub, "hf://owner/name", tmp_path)
    assert done.returncode == 0, done.stderr
    source = FileSource(rl=str(tmp_path / "rl.jsonl"))
    pictured, plain = file_rows(source, "rl", Quarantine(0))
    (shown,) = pictures_of(pictured)
    assert open_image(shown, source.image_root).size == (8, 6)
    assert (pictured.opening.message.text, plain.opening.message.text) == ("What?", "Hi")
    assert not list((tmp_path / "cache").rglob("*.parquet"))


def test_a_split_of_a_revision_is_requested_at_its_commit(tmp_path: Path) -> None:
    with LoopbackHub({"test.jsonl": QUESTIONS, "train.jsonl": b'{"text": "other"}\n'}) as hub:
        done = converted(hub, "hf://owner/name:test@main", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = file_rows(FileSource(rl=str(tmp_path / "rl.jsonl")), "rl", Quarantine(0))
    assert [row.opening.message.text for row in rows] == ["question 0", "question 1", "question 2"]
    assert "GET /api/datasets/owner/name/revision/main" in hub.asked
    assert f"GET /datasets/owner/name/resolve/{REVISION}/test.jsonl" in hub.asked


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://owner/name:nope", "its rows cannot be streamed (Bad split: nope. Available splits: ['train'])"),
        ("hf://owner/other", "the hub does not give it (404 Client Error. (Request ID: Root=1) Repository Not Found"),
    ],
)
def test_a_missing_split_or_dataset_is_reported_in_one_line(address: str, said: str, tmp_path: Path) -> None:
    with LoopbackHub({"train.jsonl": QUESTIONS}) as hub:
        done = converted(hub, address, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"data {address}: {said}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "rl.jsonl").exists()


def test_a_local_folder_of_the_datasets_name_is_not_read_instead(tmp_path: Path) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "train.jsonl").write_text('{"text": "of another day"}\n')
    with LoopbackHub({"train.jsonl": QUESTIONS}) as hub:
        done = converted(hub, "hf://owner/name", tmp_path)
    assert done.returncode == 2
    assert "owner/name is also a folder here, which would be read in its place" in done.stderr


@pytest.mark.parametrize("local", [True, False])
def test_a_dataset_cannot_name_files_outside_itself(tmp_path: Path, local: bool) -> None:
    """A README says which files are the rows. It must not send a local file, or another site's, through a run."""
    (tmp_path / "private.jsonl").write_bytes(QUESTIONS)
    with LoopbackHub({"private.jsonl": QUESTIONS}) as other:
        path = tmp_path / "private.jsonl" if local else f"{other.url}/datasets/owner/name/resolve/main/private.jsonl"
        readme = f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {path}\n---\n"
        with LoopbackHub({"README.md": readme.encode(), "train.jsonl": QUESTIONS}) as hub:
            done = converted(hub, "hf://owner/name", tmp_path)
    assert done.returncode == 2
    assert "its rows cannot be streamed (Data files don't belong to owner/name" in done.stderr
    assert not (tmp_path / "rl.jsonl").exists()
