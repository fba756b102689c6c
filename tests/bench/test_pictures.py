"""A report shows a picture only if it is the one of the run."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from steer_lit.bench.report_only import report_on
from steer_lit.bench.suite import Suite
from steer_lit.data.images import open_image, picture_digest
from steer_lit.rollout.logged import LoggedTrajectory, LoggedTurn
from steer_lit.types import Attack, ImageRef, Message, Scenario
from tests.bench.players import Judge, Policy, benched, reported
from tests.bench.unpacked import unpacked
from tests.settings import bench_settings

pytestmark = pytest.mark.usefixtures("no_charts")
CHANGED = "picture 'a.png': has changed since the run"
SEVERAL = "picture 'a.png': means different pictures in the joined runs"
UNKNOWN = "may be another than was judged, since a joined run has not recorded which"


def played(run: Path, pictures: Path, colours: dict[str, str], first: int = 0) -> Path:
    """Play a dialogue about each picture, which is drawn first, numbered from `first`."""
    pictures.mkdir(exist_ok=True)
    for name, colour in colours.items():
        Image.new("RGB", (28, 28), colour).save(pictures / name)
    rows = [
        Scenario(f"row-{at}", "benign", Attack(Message.of("user", ImageRef(name), "What is it?")))
        for at, name in enumerate(colours, first)
    ]
    suite = Suite(rows, partial(open_image, root=pictures), partial(picture_digest, root=pictures))
    made = {"config": {"data": {"source": {"folder": str(pictures)}}}}
    benched(run, {"sft": Policy("sft")}, suite, Judge(), run=made)
    return run


def forget_pictures(run: Path) -> Path:
    """Make the folder one that knows nothing of its pictures."""
    found = json.loads((run / "played.json").read_text())
    del found["pictures"]
    (run / "played.json").write_text(json.dumps(found))
    return run


def shown(out: Path, *runs: Path) -> tuple[dict[str, str], str]:
    """Make a report. Return the main colour of each picture on its page, or why there is none, and what is printed."""
    _, said = reported(out, from_run=list(map(str, runs)))
    return on_page((out / "report.html").read_text()), said


def on_page(page: str) -> dict[str, str]:
    data = re.findall(r"data:image/webp;base64,([\w+/=]+)", page)
    places: list[tuple[str, Any]] = unpacked(page.split('id="index">')[1].split("<")[0])["pictures"]
    return {uri: at if isinstance(at, str) else _colour(data[at]) for uri, at in places}


def _colour(webp: str) -> str:
    seen = Image.open(io.BytesIO(base64.b64decode(webp))).convert("RGB").getpixel((9, 9))
    assert isinstance(seen, tuple)
    return ("red", "green", "blue")[max(range(3), key=seen.__getitem__)]


def test_a_picture_that_was_replaced_is_left_out_of_a_later_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = played(tmp_path / "run", tmp_path / "rows", {"a.png": "red", "b.png": "blue"})
    assert shown(tmp_path / "same", run)[0] == {"a.png": "red", "b.png": "blue"}
    assert not caplog.messages
    Image.new("RGB", (28, 28), "green").save(tmp_path / "rows" / "a.png")
    pictures, said = shown(tmp_path / "out", run)
    assert pictures == {"a.png": CHANGED, "b.png": "blue"}
    assert caplog.record_tuples == [("steer_lit.bench.report_only", logging.WARNING, f"not shown: {CHANGED}")]
    assert "* not shown: pictures that are not, or may not be, those of the run\n" in said
    (tmp_path / "rows" / "b.png").unlink()
    assert "is not a file in" in shown(tmp_path / "gone", run)[0]["b.png"]
    assert shown(tmp_path / "old", forget_pictures(run))[0]["a.png"] == "green"  # nothing is known of what was judged


def test_joined_runs_show_the_picture_that_each_has_judged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a = played(tmp_path / "a", tmp_path / "x", {"a.png": "red", "b.png": "blue"})
    b = played(tmp_path / "b", tmp_path / "y", {"a.png": "green", "c.png": "red"}, first=2)
    c = played(tmp_path / "c", tmp_path / "z", {"a.png": "red"}, first=4)
    Image.new("RGB", (28, 28), "green").save(tmp_path / "x" / "c.png")  # another one by that name
    assert shown(tmp_path / "ab", a, b)[0] == {"a.png": SEVERAL, "b.png": "blue", "c.png": "red"}
    assert caplog.messages == [f"not shown: {SEVERAL}"]
    (tmp_path / "x" / "a.png").unlink()
    assert shown(tmp_path / "ac", a, c)[0] == {"a.png": "red", "b.png": "blue"}
    caplog.clear()
    pictures, _ = shown(tmp_path / "old", forget_pictures(a), b)
    assert pictures == {name: f"picture '{name}': {UNKNOWN}" for name in ("a.png", "b.png", "c.png")}
    assert caplog.messages == [f"not shown: picture files, if there are any: {UNKNOWN}"]


def rollout_line(picture: str) -> str:
    turn = LoggedTurn(
        user="What is it?",
        images=(picture,),
        strategy="",
        intent=None,
        tier=None,
        assistant="A picture.",
        finish="stop",
        verdict=None,
        score=None,
        reward=None,
        advantage=None,
    )
    return LoggedTrajectory(
        step=0,
        scenario=picture,
        kind="benign",
        subset="",
        seed=0,
        ended="terminated",
        failed=None,
        trajectory_return=None,
        turns=(turn,),
    ).to_line()


@pytest.mark.parametrize("recorded", [True, False])
def test_a_picture_that_was_replaced_is_left_out_of_a_report_on_rollouts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recorded: bool
) -> None:
    """Older runs recorded no digests: of them, what has the name now is shown."""
    run, names = tmp_path / "run", ("a.png", "b.png", "never_played.png")
    run.mkdir()
    for name in names:
        Image.new("RGB", (28, 28), "red").save(tmp_path / name)
    (run / "config.yaml").write_text(f"data: {{source: {{folder: {tmp_path}}}}}\n")
    (run / "trajectories.jsonl").write_text(rollout_line("a.png") + rollout_line("b.png"))
    if recorded:
        marks = {name: picture_digest(ImageRef(name), tmp_path) for name in names}
        (run / "pictures.json").write_text(json.dumps(marks))
    for name in ("a.png", "never_played.png"):
        Image.new("RGB", (28, 28), "green").save(tmp_path / name)
    given = {"from_run": str(run), "from_raw_eval": None}
    report_on(given, bench_settings(), tmp_path / "out", Console(quiet=True))
    page = (tmp_path / "out" / "report.html").read_text()
    assert on_page(page) == {"a.png": CHANGED if recorded else "green", "b.png": "red"}
    assert caplog.messages == [f"not shown: {CHANGED}"] * recorded
    assert ("pictures that are not, or may not be, those of the run" in page) is recorded
