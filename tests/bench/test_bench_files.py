"""A benchmark on a file of rows, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steer_lit.cli import main as cli
from steer_lit.data.mini import MiniSplit
from steer_lit.data.writers import bench_row

pytestmark = pytest.mark.usefixtures("no_charts")


def test_rows_set_aside_are_reported_and_listed_in_the_run_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = [json.dumps(bench_row(MiniSplit("bench", 0, 10).scenario(number))) for number in range(2)]
    Path("rows.jsonl").write_text("\n".join([good[0], "{", good[1]]) + "\n")
    words = ["data=steer", "data.source.bench=rows.jsonl", "~policies.base", "bench.resamples=100", "hydra.run.dir=run"]
    assert cli.run("bench", [*words, "data.max_bad_rows=1"]) == 0
    assert "1 row put aside, see run/quarantine.jsonl" in capsys.readouterr().out
    (aside,) = map(json.loads, Path("run/quarantine.jsonl").read_text().splitlines())
    assert (aside["source"], aside["row"]) == ("rows.jsonl", 2)
    Path("rows.jsonl").write_text("\n".join(good) + "\n")
    assert cli.run("bench", words) == 0
    assert "put aside" not in capsys.readouterr().out


def test_the_named_part_of_the_data_is_played(tmp_path: Path) -> None:
    words = ["~policies.base", "bench.limit=10", "bench.resamples=100", "bench.split=rl", "data.source.seed=1"]
    assert cli.run("bench", [*words, f"hydra.run.dir={tmp_path}"]) == 0
    records = (tmp_path / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["scenario"][:10] for line in records} == {"mini-rl-1-"}
