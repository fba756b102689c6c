"""A benchmark on a file of rows, from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from steer_lit.bench.policies import LocalPolicy
from steer_lit.bench.trained_rows import told_of_trained
from steer_lit.cli import main as cli
from steer_lit.data.mini import MiniSplit
from steer_lit.data.rows import Quarantine
from steer_lit.data.sources import FileSource, blanked
from steer_lit.data.writers import bench_row
from tests.rows import file_rows

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


def test_a_benchmark_warns_of_dialogues_that_an_adapter_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also through the run that a run started from, where either cuts rows short, and where all pictures are white."""
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps(bench_row(MiniSplit("bench", 0, 10).scenario(number))) for number in range(6)]
    for name, some in (("first", rows[:4]), ("later", rows[3:5]), ("new", rows[5:]), ("all", rows)):
        Path(f"{name}.jsonl").write_text("\n".join(some) + "\n")
    trained = ["+experiment=grpo_tiny", "data=steer", "data.batch_size=1", "data.max_turns=3", "logger=none"]
    for name, start, held_out in (("first", "null", 1), ("later", "first/adapter", 0)):
        words = [
            f"init_from={start}",
            f"data.source.rl={name}.jsonl",
            f"data.val_size={held_out}",
            "trainer.max_steps=1",
        ]
        assert cli.run("train", [*trained, *words, f"hydra.run.dir={name}"]) == 0

    def told(file: str) -> list[str]:
        capsys.readouterr()
        policies = ["policies.sft=first/adapter", "policies.grpo=later/adapter", "bench.constants=false"]
        words = [*policies, "data=steer", f"data.source.bench={file}.jsonl", "rollout.max_new_tokens=8"]
        assert cli.run("bench", [*words, "bench.resamples=100", f"hydra.run.dir=bench_{file}"]) == 0
        captured = capsys.readouterr()
        return [line for line in (captured.out + captured.err).splitlines() if "trained on" in line]

    assert told("new") == []
    (said,) = told("all")
    assert said.startswith(
        "WARNING: some of the 6 dialogues to play were trained on (policies.sft on 3, policies.grpo on 5): "
    )
    shorter = file_rows(FileSource(bench="all.jsonl"), "bench", Quarantine(0), max_turns=2)
    policies = {"sft": LocalPolicy("first/adapter"), "grpo": LocalPolicy("later/adapter")}
    for played in (shorter, list(map(blanked, shorter))):
        assert list(told_of_trained(policies, played)) == [said.removeprefix("WARNING: ")]
    for text in ("data: hello", "data: null", "data: {max_turns: 0}", "data: {max_turns: '3'}", "init_from: 3"):
        Path("later/config.yaml").write_text(text)  # was edited: nothing follows from it
        assert [said for said in told_of_trained(policies, shorter) if "policies.sft on 3, " not in said] == []
    only_openings = [replace(row, scripted=MiniSplit("bench", 0, 10).scenario(9).scripted) for row in shorter]
    assert list(told_of_trained(policies, only_openings)) == []
