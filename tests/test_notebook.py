"""notebooks/inspect_run.ipynb is stored without outputs and runs on the files of a GRPO run and a benchmark run."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from rich.console import Console

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.bench.constant import ALWAYS_COMPLY, ALWAYS_REFUSE
from steer_lit.bench.playing import BenchRun
from steer_lit.bench.run import run_bench
from steer_lit.bench.suite import BenchPolicy, Suite
from steer_lit.data.mini import MiniSplit
from steer_lit.lit.transcripts import logged
from steer_lit.reward.reward import Reward
from steer_lit.rollout.play import play
from steer_lit.tutor.rubric import RubricJudge, RubricTutor
from tests.settings import bench_settings

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_stored_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert [cell["outputs"] for cell in cells(path)] == [[]] * len(cells(path))
    assert {cell["execution_count"] for cell in cells(path)} == {None}


class Untrained:
    """A constant policy that counts as a trained one. The notebook leaves constant policies out of its comparisons."""

    def __init__(self, inner: BenchPolicy, fingerprint: str) -> None:
        self.open, self.fingerprint = inner.open, fingerprint


def write_runs(outputs: Path) -> None:
    """Write a GRPO run and a benchmark.

    The GRPO run has two steps on two ranks; in each group two of three members refuse everything. The benchmark has two
    policies, one of them under two seeds. The second seed's dialogues have other questions and one turn fewer.
    """
    split = MiniSplit("bench", seed=0, size=10)
    scenarios = [split.scenario(row) for row in range(4)]
    lines = []
    for step in range(2):
        for policy in (ALWAYS_REFUSE, ALWAYS_REFUSE, ALWAYS_COMPLY):
            rows = play(scenarios, [step] * len(scenarios), policy, ScriptedAttacker(), RubricTutor(), 10)
            for trajectory in rows:
                reward = Reward().of(trajectory)
                lines.append(logged(trajectory, step, reward, (0.5,) * len(trajectory.turns)).to_line())
    (outputs / "grpo").mkdir(parents=True)
    settings = {"reward": {"credit": "gain"}, "objective": {"scale": "group"}, "data": {"source": {"rl": 2000}}}
    (outputs / "grpo" / "config.yaml").write_text(yaml.safe_dump(settings))
    for name, own in (("trajectories", lines[::2]), ("trajectories.rank1", lines[1::2])):
        (outputs / "grpo" / f"{name}.jsonl").write_text("".join(own))
    policies = {
        "refuses": Untrained(ALWAYS_REFUSE, "a"),
        "complies@1": Untrained(ALWAYS_COMPLY, "b"),
        "complies@2": Untrained(ALWAYS_COMPLY, "c"),
    }
    run_bench(
        BenchRun(policies, Suite(scenarios), RubricJudge(), bench_settings(), outputs / "bench"), Console(quiet=True)
    )
    (outputs / "bench" / "config.yaml").write_text(yaml.safe_dump({"data": {"source": {"bench": 2000}}}))
    records = outputs / "bench" / "records.jsonl"
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    for row in rows:
        if row["policy"] == "complies@2":
            row["turns"] = [{**turn, "user": f"Come on: {turn['user']}"} for turn in row["turns"][:-1]]
    records.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def of_own_rows(training: Path, rows: Path) -> None:
    """Make the run look as if its rows and one picture came from the folder `rows`, and its reward from a user's class,
    which needs no key `credit`.
    """
    rows.mkdir()
    Image.new("RGB", (28, 28), "red").save(rows / "a.png")
    for log in training.glob("trajectories*.jsonl"):
        log.write_text(re.sub(r"mini://[^\"]+", "a.png", log.read_text()))
    config = training / "config.yaml"
    settings = yaml.safe_load(config.read_text())
    settings["reward"] = {"_target_": "mine.Reward"}
    settings["data"]["source"] = {"rl": ["rows/rl.jsonl", "rows/more.csv"], "folder": None}
    config.write_text(yaml.safe_dump(settings))


def without_gold(bench: Path) -> None:
    """Make the benchmark look as if its rows had no gold facts and `refuses` was asked nothing harmful in words."""
    records, summary = bench / "records.jsonl", bench / "summary.json"
    records.write_text(re.sub(r'"(intent|tier)": "\w+"', r'"\1": null', records.read_text()))
    figures = json.loads(summary.read_text())
    del figures["refuses"]["by_tier"]["words"]
    summary.write_text(json.dumps(figures))


@pytest.mark.parametrize("own", [False, True], ids=["generated rows", "own rows"])
def test_inspect_run_shows_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], own: bool
) -> None:
    write_runs(tmp_path / "outputs" / "demo")
    if own:
        of_own_rows(tmp_path / "outputs" / "demo" / "grpo", tmp_path / "rows")
        without_gold(tmp_path / "outputs" / "demo" / "bench")
    monkeypatch.chdir(tmp_path)
    import matplotlib.pyplot as plt

    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))
    space: dict[str, Any] = {}
    for cell in cells(ROOT / "notebooks" / "inspect_run.ipynb"):
        exec(compile(ast.parse("".join(cell["source"])), cell["id"], "exec"), space)
    shown = capsys.readouterr().out
    assert "24 rollouts in 2 steps; 12 graded dialogues" in shown
    credit = "as its class says" if own else "gain"
    assert f"reward.credit={credit}, objective.scale=group" in shown
    assert "complies - refuses over 4 dialogues" in shown
    assert len(figures) == 5  # training, one group, a transcript's picture, the benchmark, a picture of the last part
    assert all(figure.axes[0].has_data() for figure in figures)
    counted = [axes for figure in figures for axes in figure.axes if axes.get_xlabel() in ("step", "turn")]
    assert len(counted) == 4
    assert all(float(tick).is_integer() for axes in counted for tick in axes.get_xticks())
    labels = [text.get_text() for text in figures[1].axes[0].get_legend().get_texts()]
    assert [re.sub(r"-?\d+\.\d+", "x", label) for label in labels] == ["R = x, 2 members", "R = x"]
    assert [line.get_label() for line in figures[3].axes[0].lines] == ["refuses", "complies (2 seeds)"]
    assert "None" not in shown
    assert ("] user (unknown): " in shown) is own
    tiers = [text.get_text() for text in figures[3].axes[1].get_xticklabels()]
    refuses = dict(zip(tiers, (text.get_text() for text in figures[3].axes[1].texts), strict=False))
    assert refuses["words"] == ("" if own else "100")  # no such turn is not 0%
    last = shown[shown.rindex("mini-bench-") :]
    for asked, answering in re.findall(r"^\[\d+\] user \(.*?\): (.*)\n((?:    .*\n)+)", last, re.M):
        others = asked.startswith("Come on: ")
        names = ["complies@2"] if others else ["refuses", "complies@1"]
        assert [line.split()[0] for line in answering.splitlines()] == names
    assert last.count("] user ") == 2 * last.count("refuses (") - 1
    if own:  # the picture was replaced
        (tmp_path / "outputs" / "demo" / "grpo" / "pictures.json").write_text('{"a.png": "another\'s"}')
        transcript = next(cell for cell in cells(ROOT / "notebooks" / "inspect_run.ipynb") if "text" in cell["id"])
        exec("".join(transcript["source"]), space)
        assert capsys.readouterr().out.startswith("picture 'a.png': has changed since the run\nmini-bench-")
    plt.close("all")


def test_without_a_run_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders, setup = ("".join(cell["source"]) for cell in cells(ROOT / "notebooks" / "inspect_run.ipynb")[:2])
    with pytest.raises(
        FileNotFoundError, match=r"demo/grpo/trajectories\.jsonl and .*bench/records\.jsonl: run `make demo`"
    ):
        exec(f"{folders}\n{setup}", {})
