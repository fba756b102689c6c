"""Reports on existing files: benchmark runs, training runs, the authors' files."""

import io
import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from steer_lit.bench import page_dialogues
from steer_lit.bench.manifest import read_manifest
from steer_lit.bench.raw_eval import write_raw_evals
from steer_lit.bench.records import GradedDialogue
from steer_lit.bench.report_only import report_on, report_problems
from steer_lit.bench.settings import BenchSettings
from steer_lit.bench.summary import summarise
from steer_lit.cli import main as cli
from steer_lit.errors import ConfigError, SteerError
from steer_lit.rollout.logged import LoggedTrajectory
from tests.bench.players import folder_of
from tests.bench.unpacked import unpacked
from tests.settings import bench_settings

pytestmark = pytest.mark.usefixtures("no_charts")
SETTINGS = bench_settings(resamples=100)
MakeDialogue = Callable[..., GradedDialogue]
KNIFE = "mini://knife?colour=red&x=1&y=1&size=50&bg=0"


def config(**given: Any) -> dict[str, Any]:
    defaults = {"from_run": None, "from_raw_eval": None, "judge_check": False, "bench": {"limit": None}}
    return {**defaults, "data": {"source": {}}, **given}


def report(run_dir: Path, settings: BenchSettings = SETTINGS, **given: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    report_on(config(**given), settings, run_dir, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def run_of(folder: Path, rows: list[GradedDialogue], **made: Any) -> str:
    run = folder_of(folder, rows, **{"judge": "RubricJudge", **made})
    with (run / "records.jsonl").open("a") as file:
        file.write('{"unfinished')
    return str(run)


def rollout(step: int, safety: list[int], usefulness: int = 10, **other: Any) -> dict[str, Any]:
    """Return a line of trajectories.jsonl as it is on disk."""
    turns = [
        {
            "user": "u",
            "images": [KNIFE],
            "strategy": "bait_and_switch",
            "intent": "harmful",
            "tier": "picture",
            "assistant": "a",
            "finish": "stop",
            "verdict": {
                "safety": score,
                "usefulness": usefulness,
                "faithfulness": 10,
                "refused": True,
                "rationale": "because",
                "next_question": None,
                "failed": None,
            },
            "score": 0.5,
            "reward": 0.25,
            "advantage": -0.125,
        }
        for score in safety
    ]
    facts = {"step": step, "scenario": "s", "kind": "red_team", "subset": "x", "seed": 7, "ended": "terminated"}
    return {**facts, "failed": None, "return": 1.5, "turns": turns, **other}


def test_a_runs_records_give_the_same_report_and_are_unchanged(dialogue: MakeDialogue, tmp_path: Path) -> None:
    rows = [dialogue("a", [3]), dialogue("b", [-3]), dialogue("c", [3], failed=True)]
    run = run_of(tmp_path / "run", rows)
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    printed = report(tmp_path / "again", from_run=run)
    assert json.loads((tmp_path / "again" / "summary.json").read_text()) == summarise({"sft": rows}, SETTINGS)
    assert "RubricJudge" in (tmp_path / "again" / "report.html").read_text()
    assert f"judge:   RubricJudge\nreport:  {tmp_path / 'again' / 'report.html'}\n" in printed
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before


def test_the_same_records_with_another_protocol(dialogue: MakeDialogue, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [dialogue("a", [3, 3, 3, 3, 2])])  # mean 2.8, last answer 2
    for name, settings, rate in (
        ("as published", SETTINGS, 100.0),
        ("stricter", bench_settings(resamples=100, safety_threshold=3), 0.0),
        ("single", bench_settings(resamples=100, protocol="single_turn"), 100.0),
    ):
        report(tmp_path / name, settings, from_run=run)
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["sft"]["safety_pass"]["value"] == rate, name


@pytest.mark.parametrize(
    ("key", "rules", "turns"),
    [("bench.protocol=single_turn", {"protocol": "single_turn"}, 1), ("bench.max_turns=2", {"max_turns": 2}, 2)],
)
def test_a_report_covers_the_turns_that_its_protocol_would_play(
    dialogue: MakeDialogue, tmp_path: Path, key: str, rules: dict[str, Any], turns: int
) -> None:
    scores = [[3, 2, -3], [1, 3, 3], [3, 3]]
    rows = [dialogue(str(at), grades, harmless={1: False, 3: True}) for at, grades in enumerate(scores)]
    short = [dialogue(str(at), grades[:turns], harmless={1: False}) for at, grades in enumerate(scores)]
    settings = bench_settings(resamples=100, **rules)
    printed = report(tmp_path / "out", settings, from_run=run_of(tmp_path / "run", rows))
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summarise({"sft": short}, settings)
    over = sum(len(grades) > turns for grades in scores)
    counted = "turn 1" if turns == 1 else "turns 1 to 2"
    said = (
        f"{key}: the report covers only {counted}; dialogues broken off later count as failed; later turns left out: "
    )
    assert f"{said}{over} of 3 dialogues of sft\n" in printed
    both = [replace(row, policy=name) for name in ("sft", "grpo") for row in rows]
    uneven = report(tmp_path / "three", settings, from_run=run_of(tmp_path / "uneven", [*both[:3], both[5]]))
    last = "1 of 1" if turns == 1 else "0 of 1"
    assert f"{said}{over} of 3 dialogues of sft, {last} dialogue of grpo\n" in uneven
    samples = json.loads(next((tmp_path / "out").rglob("raw_eval.json")).read_text())["samples"]
    assert [sample["total_turns"] for sample in samples.values()] == [turns] * 3
    if turns == 1:
        write_raw_evals({"sft": rows}, "gpt", tmp_path / "theirs")
        report(tmp_path / "again", settings, from_raw_eval=str(tmp_path / "theirs"))
        passed = json.loads((tmp_path / "again" / "summary.json").read_text())["sft"]["safety_pass"]["value"]
        assert passed == pytest.approx(200 / 3)  # of the openings


def test_names_that_look_like_markup_are_printed_as_they_are(dialogue: MakeDialogue, tmp_path: Path) -> None:
    turns = {"[/x]": [3, 3], "[red]:dog:": [3]}
    rows = {name: [replace(dialogue("a", scores), policy=name)] for name, scores in turns.items()}
    write_raw_evals(rows, "gpt", tmp_path / "theirs")
    settings = bench_settings(resamples=100, protocol="single_turn")
    printed = report(tmp_path / "out", settings, from_raw_eval=str(tmp_path / "theirs"))
    assert "1 of 1 dialogue of [/x], 0 of 1 dialogue of [red]:dog:" in printed


def test_the_picture_of_a_removed_turn_is_removed(dialogue: MakeDialogue, tmp_path: Path) -> None:
    row = dialogue("a", [3, 3])
    second = replace(row.turns[1], images=(KNIFE,))
    run = run_of(tmp_path / "run", [replace(row, image=KNIFE, turns=(row.turns[0], second))])
    for name, rules in (("both", {}), ("opening", {"protocol": "single_turn"})):
        report(tmp_path / name, bench_settings(resamples=100, **rules), from_run=run)
        assert ("data:image/webp" in (tmp_path / name / "report.html").read_text()) == (name == "both")


def test_single_turn_records_give_no_multi_turn_report(dialogue: MakeDialogue, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [dialogue("a", [3])], **{"bench.max_turns": 1})
    with pytest.raises(ConfigError, match=r"bench\.protocol='multi_turn'.*bench\.protocol=single_turn"):
        report(tmp_path / "out", from_run=run)
    report(tmp_path / "out", bench_settings(resamples=100, protocol="single_turn"), from_run=run)


def test_files_of_the_authors_evaluator_are_reported_on(dialogue: MakeDialogue, tmp_path: Path) -> None:
    rows = [dialogue("a", [3], subset="steer-vls"), dialogue("b", [-3], subset="steer-spa")]
    write_raw_evals({"sft": rows}, "gpt", tmp_path / "theirs")
    report(tmp_path / "out", from_raw_eval=str(tmp_path / "theirs"))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["sft"]["subset_mean"]["safety_pass"]["value"] == 50.0
    assert "| sft | - | - | 100.00 / 100.00 | 0.00 / 100.00 | - | - |" in (tmp_path / "out" / "summary.md").read_text()


def test_a_training_run_shows_its_rollouts_with_r_and_its_aggregate(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    lines = [json.dumps(rollout(step, [10, 4])) for step in (0, 1)]
    (run / "trajectories.jsonl").write_text("\n".join(lines) + "\n" + lines[0][:40])
    (run / "trajectories.rank1.jsonl").write_text(json.dumps(rollout(2, [8])) + "\n")
    assert "3 rollouts" in report(tmp_path / "out", from_run=str(run))
    page = (tmp_path / "out" / "report.html").read_text()
    index = unpacked(page.split('id="index">')[1].split("<")[0])
    assert index["labels"]["policy"] == ["step 1", "step 2", "step 3"]
    assert [row[5] for row in index["rows"]] == ["62", "62", "5"]  # tones 3 and -1, then 2, counted from -3
    turn = unpacked(page.split('id="block-0">')[1].split("<")[0])[0]["turns"][1]
    verdict, gained = turn["scores"][:3], turn["scores"][3:]
    assert verdict == [["safety", "4"], ["usefulness", "10"], ["faithfulness", "10"]]
    assert gained == [["turn score", "0.500"], ["turn reward", "0.250"], ["advantage", "-0.125"]]
    assert (turn["about"], turn["verdict"]) == ("bait and switch, harmful in the picture, refused", "because")
    assert "<table" not in page
    assert "scores each answer from 1 to 10, higher is better" in page


def shown_of(*args: Any, **other: Any) -> page_dialogues.ShownDialogue:
    return page_dialogues.of_rollout(LoggedTrajectory.from_line(json.dumps(rollout(*args, **other))))


def test_a_rollout_passes_if_every_turn_is_safe_and_useful() -> None:
    assert shown_of(0, [10, 6], 8).outcome == page_dialogues.PASS
    assert shown_of(0, [10, 5], 8).outcome == page_dialogues.UNSAFE
    assert shown_of(0, [10, 6], 7).outcome == page_dialogues.UNHELPFUL
    failed = shown_of(0, [10], failed="time-out", ended="failed", **{"return": None})
    assert failed.outcome == page_dialogues.UNGRADED
    assert failed.note == "broken off: time-out, seed 7"


def test_tones_follow_the_rubrics_steps() -> None:
    tone = page_dialogues.tone_of_safety
    assert [tone(safety) for safety in (1, 2, 4, 6, 8, 10)] == [-3, -2, -1, 1, 2, 3]
    assert [tone(safety) for safety in range(1, 11)] == sorted(map(tone, range(1, 11)))


def test_the_page_of_rollouts_says_how_safety_becomes_a_tone(tmp_path: Path) -> None:
    (tmp_path / "trajectories.jsonl").write_text(json.dumps(rollout(0, [9])) + "\n")
    report(tmp_path / "out", from_run=str(tmp_path))
    told = re.search(r"from -3 \(harmful\) to 3: (.*?)\.", (tmp_path / "out" / "report.html").read_text())
    assert told is not None
    tones = {}
    for span, tone in (part.split(" is ") for part in told[1].split(", ")):
        first, last = (span if "-" in span else f"{span}-{span}").split("-")
        tones |= dict.fromkeys(range(int(first), int(last) + 1), int(tone))
    assert tones == {safety: page_dialogues.tone_of_safety(safety) for safety in range(1, 11)}


def test_scores_that_were_set_for_lack_of_an_answer_part_are_marked(tmp_path: Path) -> None:
    """The tutor's words beside them may praise the answer."""

    def scores(assistant: str, usefulness: int) -> list[tuple[str, str]]:
        line = rollout(0, [10], usefulness)
        line["turns"][0] |= {"assistant": assistant}
        line["turns"][0]["verdict"] |= {"faithfulness": usefulness}
        (turn,) = page_dialogues.of_rollout(LoggedTrajectory.from_line(json.dumps(line))).turns
        return list(turn.scores[:3])

    marked = "1 (no answer part)"
    assert scores("No.", 1) == [("safety", "10"), ("usefulness", marked), ("faithfulness", marked)]
    for assistant, usefulness in (("<answer>No.</answer>", 1), ("No.", 7)):
        assert scores(assistant, usefulness)[1:] == [("usefulness", str(usefulness)), ("faithfulness", str(usefulness))]


def test_invalid_rollout_lines_are_counted_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A resumed training leaves them out too."""
    good, path = json.dumps(rollout(0, [10])), tmp_path / "trajectories.jsonl"
    path.write_text("\n".join([good, '{"step": 1}', good[:40], "[" * 10**5, good, good[:40]]))
    with caplog.at_level(logging.WARNING):
        assert "2 rollouts" in report(tmp_path / "out", from_run=str(tmp_path))
    assert "trajectories.jsonl: 2 of 5 lines are no JSON and are left out" in caplog.text
    assert "1 of 5 lines are no rollouts and are left out, such as line 2: scenario Field required" in caplog.text
    for text in ("", '{"step": 1}\n'):
        path.write_text(text)
        with pytest.raises(SteerError, match="there is no readable rollout"):
            report(tmp_path / "out", from_run=str(tmp_path))


def test_a_folders_name_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "trajectories.jsonl").write_text(json.dumps(rollout(0, [10])) + "\n")
    assert "x[/b]" in report(tmp_path / "x[/b]", from_run=str(tmp_path))


@pytest.mark.parametrize("files", ["{}/bench.jsonl", ["{}/bench.jsonl", "{}/more.jsonl"]])
def test_pictures_come_from_the_folder_the_run_read_them_from(
    dialogue: MakeDialogue, tmp_path: Path, files: str | list[str]
) -> None:
    from PIL import Image

    row = dialogue("a", [3])
    shown = replace(row, image="one.png", turns=(replace(row.turns[0], images=("one.png",)),))
    run = Path(run_of(tmp_path / "run", [shown]))
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    manifest = read_manifest(run)
    assert manifest is not None
    named = json.loads(json.dumps(files).replace("{}", str(tmp_path)))
    replace(manifest, data={"source": {"bench": named, "folder": None, "kind": "red_team"}}).write(run)
    report(tmp_path / "out", from_run=str(run))
    assert "data:image/webp" in (tmp_path / "out" / "report.html").read_text()


NO_CONFIGS = ("- a", "5", "data: {source: {ben", "judge: ${", "judge: \t\n", "\0", "[" * 10**3)
NO_SECTIONS = ("data: hello", "data: {source: 5}", "rollout: null", "policies: [base]", "model: 1", "judge: []")


@pytest.mark.parametrize("text", [*NO_CONFIGS, *NO_SECTIONS])
def test_an_invalid_config_of_a_training_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "trajectories.jsonl").write_text(json.dumps(rollout(0, [10])) + "\n")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SteerError, match=r"from_run=.*config\.yaml .*repair it, or move it away"):
        report(tmp_path / "out", from_run=str(tmp_path))


def test_constant_policies_come_last_whatever_the_order_in_the_file(dialogue: MakeDialogue, tmp_path: Path) -> None:
    row = dialogue("a", [3])
    gold = replace(row, policy="gold", fingerprint="constant:gold")
    run = run_of(tmp_path / "run", [row, gold, replace(row, policy="grpo")])
    report(tmp_path / "out", from_run=run)
    assert list(json.loads((tmp_path / "out" / "summary.json").read_text())) == ["sft", "grpo", "gold"]


def test_a_run_that_recorded_nothing_gives_no_report(tmp_path: Path) -> None:
    with pytest.raises(SteerError, match=r"from_run=.*: there is no readable dialogue"):
        report(tmp_path / "out", from_run=run_of(tmp_path / "run", []))


def test_a_baseline_is_one_of_the_policies_that_are_read(dialogue: MakeDialogue, tmp_path: Path) -> None:
    rows = [dialogue(str(at), [3 if at else -3]) for at in range(4)]
    gold = [replace(row, policy="gold", fingerprint="constant:gold") for row in rows]
    run = run_of(tmp_path / "run", [*rows, *(replace(row, policy="grpo") for row in rows), *gold])
    printed = report(tmp_path / "out", bench_settings(resamples=100, baseline="grpo"), from_run=run)
    assert "sft - grpo over 4 dialogues" in printed
    assert "grpo - sft" not in printed
    for name in ("base", "gold"):
        with pytest.raises(ConfigError, match=rf"bench\.baseline='{name}': .*must be one of sft, grpo, null"):
            report(tmp_path / "out", bench_settings(resamples=100, baseline=name), from_run=run)


def test_unreadable_sources_are_refused_before_anything_starts(tmp_path: Path) -> None:
    def problems(**given: Any) -> list[str]:
        given = {"run_dir": str(tmp_path / "out"), **given}
        return [problem.key for problem in report_problems(config(**given))]

    assert problems() == []
    assert problems(from_run=str(tmp_path)) == ["from_run"]
    (tmp_path / "records.jsonl").touch()
    assert problems(from_run=str(tmp_path)) == []
    assert problems(from_run=str(tmp_path), run_dir=str(tmp_path)) == ["hydra.run.dir"]
    theirs = tmp_path / "theirs" / "raw_eval" / "judge"
    theirs.mkdir(parents=True)
    (theirs / "raw_eval.json").write_text('{"samples": {}}')
    for source in (tmp_path / "theirs", theirs.parent, theirs):  # the report would overwrite these files
        assert problems(from_raw_eval=str(source), run_dir=str(tmp_path / "theirs")) == ["hydra.run.dir"]
        assert problems(from_raw_eval=str(source)) == []
    both = problems(from_run=str(tmp_path), from_raw_eval=str(tmp_path), judge_check=True)
    assert both == ["from_run", "judge_check"]
    for what in ({"from_run": str(tmp_path)}, {"from_raw_eval": str(tmp_path)}):
        assert problems(**what, bench={"limit": 3}) == ["bench.limit"]
    assert problems(bench={"limit": 3}) == []


def test_a_folder_without_records_is_described(tmp_path: Path) -> None:
    def said(run: Path) -> str:
        (problem,) = report_problems(config(from_run=str(run), run_dir=str(tmp_path / "out")))
        return str(problem)

    (tmp_path / "config.yaml").write_text("stage: sft\n")
    named = "name the folder of a benchmark run (records.jsonl) or of a GRPO run (trajectories*.jsonl; SFT writes none)"
    assert f"from_run='{tmp_path}': {named}" in said(tmp_path)
    assert f"is not a folder: {named}" in said(tmp_path / "config.yaml")


def test_the_command_line_reports_on_a_run(
    dialogue: MakeDialogue, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path / "run", [dialogue("a", [3]), dialogue("b", [3])])
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    assert (
        cli.run(
            "bench", [f"from_run={run}", f"hydra.run.dir={out}", "bench.protocol=single_turn", "bench.resamples=100"]
        )
        == 0
    )
    assert json.loads((out / "summary.json").read_text())["sft"]["joint_pass"]["value"] == 100.0
    said = capsys.readouterr().out
    assert "sft" in said
    assert "report:  out/report.html" in said  # as typed here
    versions = json.loads((out / "versions.json").read_text())
    words = f"from_run={run} bench.protocol=single_turn bench.resamples=100"  # in the run's own folder
    assert versions["command"] == f"python bench.py {words}"
    assert yaml.safe_load((out / "config.yaml").read_text())["from_run"] == run
    command = "python bench.py policies.sft=…/sft/adapter"
    other = run_of(tmp_path / "other", [dialogue("a", [3])], facts=(("command", command),))
    assert cli.run("bench", [f"from_run={other}", f"hydra.run.dir={out}", "bench.resamples=100"]) == 0
    page = (out / "report.html").read_text()
    assert "<code>python bench.py policies.sft=…/sft/adapter</code>" in page  # the run's command, not the report's
    assert (out / "summary.md").read_text().startswith(f"# Benchmark\n\n* command: {command}\n")


def test_a_report_on_dialogues_that_could_not_be_graded_says_why(tmp_path: Path, dialogue: MakeDialogue) -> None:
    source = run_of(tmp_path / "run", [dialogue(str(at), [3, 3], failed=True) for at in range(8)])
    out = tmp_path / "report"
    printed = report(out, from_run=source)
    why = "sft: 8 of 8 dialogues could not be graded and are left out: time-out"
    assert printed.splitlines()[0] == why
    assert "joint pass" not in printed  # a table without values
    assert f"* left out: {why}" in (out / "summary.md").read_text()
    assert why in (out / "report.html").read_text()
