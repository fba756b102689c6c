"""The command that a training run ends with can be run as it is."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from steer_lit.checks import bench_problems, train_problems
from steer_lit.cli import main as cli
from steer_lit.cli.closing import Result, closing
from steer_lit.cli.overrides import normalise_override
from steer_lit.policy import gpus, preflight
from tests.test_conf import compose, empty_adapter

SERVER = ["server.base_url=http://localhost:9/v1", "server.model=any"]
OWN = ["tutor.client.base_url=http://localhost:9/v1", "tutor.client.model=any"]
TRAINED = "those are the rows it was trained on: to see what it does on others, name their file there"
NO_GOLD = (
    "where your rows have no gold facts add tutor=llm server.base_url=http://localhost:8000/v1 server.model=<name>"
)
NOISE = "model=tiny has random weights: the figures show that all works, and mean nothing"


@pytest.mark.parametrize(
    ("words", "has", "notes"),
    [
        (["experiment=sft_tiny", "data=steer", "data.source.sft=a.jsonl", "data.source.rl=b.jsonl", "data.val_size=3"],
         ["+experiment=grpo_tiny", "data=steer", "data.source.rl=b.jsonl", "data.val_size=3"], [NO_GOLD]),
        (["experiment=sft_7b", *SERVER], ["+experiment=grpo_7b", *SERVER], []),
        (["experiment=grpo_7b", *SERVER], ["model=qwen2_5_vl_7b", "rollout.max_new_tokens=256"], []),
        (["experiment=ablation_7b", "ablation=single_turn", *SERVER], ["rollout.max_new_tokens=256"], []),
        (["experiment=grpo_smol", "data=steer", "data.source.rl=[a.jsonl,b.jsonl]", "data.source.folder=."],
         ["data=steer", "data.source.bench=[a.jsonl,b.jsonl]", "data.source.folder=."], [TRAINED]),
        (["experiment=grpo_nano", "data=steer", "data.source.rl=a.jsonl", "data.source.bench=b.jsonl", "tutor=llm",
          "data.source.kind=benign", "data.max_bad_rows=3", *SERVER],
         ["data=steer", "data.source.bench=b.jsonl", "data.source.kind=benign", "data.max_bad_rows=3", "judge=llm",
          *SERVER], []),
        (["experiment=grpo_tiny", "data=steer", "data.source.rl=a.jsonl", "tutor=llm", *OWN],
         ["data.source.bench=a.jsonl", "judge=llm", *(word.replace("tutor", "judge") for word in OWN)],
         [TRAINED, NOISE]),
        (["experiment=grpo_tiny", "rollout.max_new_tokens=1024"],
         ["rollout.max_new_tokens=1024", "bench.max_turns=4"], [NOISE]),
    ],
)  # fmt: skip
def test_the_next_command_runs_as_it_is(
    words: list[str], has: list[str], notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preflight, "resource_problems", lambda model: [])
    monkeypatch.setattr(gpus, "has_gpu", lambda: True)
    for file in "ab":
        Path(f"{file}.jsonl").write_text(json.dumps({"turns": ["What is this?", "And that?"]}))
    empty_adapter(Path("adapter"))
    config = compose(*words, "init_from=null")
    command, *said = closing(config, Path.cwd(), Result("val/loss"), words).splitlines()[1:]
    assert [line.strip()[1:-1] for line in said] == notes
    _, script, *following = shlex.split(command.removeprefix("next:"))
    program = script.removesuffix(".py")
    assert set(has) <= set(following)
    config = compose(*(normalise_override(word, program) for word in following), name=program)
    assert list(map(str, {"train": train_problems, "bench": bench_problems}[program](config))) == []


@pytest.mark.parametrize("experiment", ["sft_smol", "sft_own"])
def test_a_next_command_whose_rows_are_not_filled_in_is_refused(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would train on STEER-mini, or be measured there, what was taught by rows of one's own."""
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text(json.dumps({"turns": ["What is this?", "And that?"]}))
    empty_adapter(Path("adapter"))
    words = ["experiment=sft_smol", "data=steer", "data.source.sft=a.jsonl", f"name={experiment}"]
    said = closing(compose(*words), Path.cwd(), Result("val/loss"), words).splitlines()[1]
    _, script, *following = shlex.split(said.removeprefix("next:"))
    assert cli.run(script.removesuffix(".py"), following) == 2
    part = "rl" if script == "train.py" else "bench"
    assert f"data.source.{part}='<your rows to play>': is no such file" in capsys.readouterr().err
