"""One report over several benchmark folders: which records are joined, and which combinations are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steer_lit.bench.records import GradedDialogue
from steer_lit.bench.report_only import report_problems
from steer_lit.cli import main as cli
from steer_lit.errors import SteerError
from tests.bench.players import folder_of, reported

pytestmark = pytest.mark.usefixtures("no_charts")
MakeDialogue = Callable[..., GradedDialogue]


@pytest.fixture(name="rows")
def make_rows(dialogue: MakeDialogue) -> Callable[..., list[GradedDialogue]]:
    """Return the function: `rows("sft", 3)` makes that policy's records of three dialogues."""

    def rows(policy: str, count: int, first: int = 0, **other: Any) -> list[GradedDialogue]:
        facts = {"policy": policy, "fingerprint": policy, **other}
        return [replace(dialogue(f"row-{at}", [3]), **facts) for at in range(first, first + count)]

    return rows


def joined(out: Path, *folders: Path) -> tuple[dict[str, int], str]:
    """Return the number of dialogues per policy in the report, and what is printed."""
    summary, said = reported(out, from_run=[str(folder) for folder in folders])
    return {name: figures["n"] for name, figures in summary.items()}, said


def test_policies_of_several_folders_are_compared_in_one_report(
    rows: Callable[..., list[GradedDialogue]], tmp_path: Path
) -> None:
    gold = rows("gold", 3, fingerprint="constant:gold")
    graded_otherwise = [replace(row, turns=(replace(row.turns[0], rationale="else"),)) for row in gold]
    a = folder_of(tmp_path / "a", [*rows("sft", 3), *gold])
    b = folder_of(tmp_path / "b", [*rows("base", 3), *rows("grpo", 3), *graded_otherwise])
    counts, said = joined(tmp_path / "out", a, b)
    assert list(counts.items()) == [("base", 3), ("sft", 3), ("grpo", 3), ("gold", 3)]
    assert "grpo - sft over 3 dialogues" in said
    assert f"* folders: …/{tmp_path.name}/a, …/{tmp_path.name}/b\n" in said
    assert "left out: " not in said


def test_dialogues_that_some_policy_lacks_are_left_out_and_counted(
    rows: Callable[..., list[GradedDialogue]], tmp_path: Path
) -> None:
    a, b = folder_of(tmp_path / "a", rows("sft", 5)), folder_of(tmp_path / "b", rows("grpo", 3, first=1))
    counts, said = joined(tmp_path / "out", a, b)
    assert counts == {"sft": 3, "grpo": 3}
    assert "the report is on the 3 dialogues that every policy has played; left out: 2 of sft\n" in said
    assert "* recorded only: 3 of 5 by grpo\n" in said
    played = b / "played.json"
    planned = json.loads(played.read_text())
    planned["policies"]["late"] = "of a run that was stopped before it"
    played.write_text(json.dumps(planned))
    assert "* recorded only: 3 of 5 by grpo, 0 of 5 by late\n" in joined(tmp_path / "again", a, b)[1]
    other = folder_of(tmp_path / "other", rows("other", 1, first=9))
    with pytest.raises(SteerError, match="sft, other have no dialogue in common"):
        joined(tmp_path / "out", a, other)


@pytest.mark.parametrize("first", [True, False])
def test_a_dialogue_of_several_folders_counts_where_it_was_graded(
    rows: Callable[..., list[GradedDialogue]], tmp_path: Path, first: bool
) -> None:
    """A judge's server may have gone down in the one."""
    whole = rows("sft", 3)
    lost = [replace(row, turns=(replace(row.turns[0], failed="gone", harmlessness=None),)) for row in whole]
    parts = {"a": [*whole[:2], lost[2]], "b": [lost[0], *whole[1:]]}
    folders = [folder_of(tmp_path / name, part) for name, part in parts.items()]
    counts, said = joined(tmp_path / "out", *(folders if first else reversed(folders)))
    assert counts == {"sft": 3}
    assert "could not be graded" not in said


@pytest.mark.parametrize(
    ("other", "conditions", "differ"),
    [
        ({"fingerprint": "new"}, {}, "policies.sft"),
        ({"policy": "grpo"}, {"judge": "K"}, "judge"),
        ({"policy": "grpo"}, {"attacker": "adaptive", "rollout.max_new_tokens": 7}, "rollout.max_new_tokens, attacker"),
        ({"policy": "grpo"}, {"bench.seed": 2}, "rollout.max_new_tokens, bench.seed"),
    ],
)
def test_folders_that_cannot_be_one_result_are_refused(
    rows: Callable[..., list[GradedDialogue]], tmp_path: Path, other: dict[str, Any], conditions: Any, differ: str
) -> None:
    a = folder_of(tmp_path / "a", rows("sft", 2), **{"rollout.max_new_tokens": 9})
    given = conditions if "bench.seed" in conditions else {"rollout.max_new_tokens": 9, **conditions}
    b = folder_of(tmp_path / "b", [replace(row, **other) for row in rows("sft", 2)], **given)
    said = f"{a} and {b} cannot be joined, they differ in {differ}: play one of them again"
    with pytest.raises(SteerError, match=re.escape(said)):
        joined(tmp_path / "out", a, b)


def test_dialogues_of_one_name_and_other_content_are_no_one_result(
    rows: Callable[..., list[GradedDialogue]], tmp_path: Path
) -> None:
    a, b = folder_of(tmp_path / "a", rows("sft", 2)), folder_of(tmp_path / "b", rows("grpo", 2))
    (b / "played.json").write_text((b / "played.json").read_text().replace('"row-1": "row-1"', '"row-1": "other"'))
    with pytest.raises(SteerError, match="they differ in data: "):
        joined(tmp_path / "out", a, b)


def test_different_records_of_one_dialogue_are_refused(
    rows: Callable[..., list[GradedDialogue]], tmp_path: Path
) -> None:
    """A server's weights may have changed. The second folder says nothing of the dialogue."""
    other = [*rows("sft", 2), replace(rows("sft", 1, first=2)[0], ended="truncated")]
    parts = {"a": rows("sft", 3), "b": rows("sft", 2), "c": other}
    folders = [folder_of(tmp_path / name, part) for name, part in parts.items()]
    with pytest.raises(SteerError, match=r"c and another folder both hold sft on row-2.*'~policies\.sft'"):
        joined(tmp_path / "out", *folders)


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"conditions": 5}', "no judge"])
def test_a_folder_without_a_manifest_is_named_with_the_way_to_one(
    rows: Callable[..., list[GradedDialogue]], tmp_path: Path, text: str | None
) -> None:
    a = folder_of(tmp_path / "a", rows("sft", 2))
    if text == "no judge":
        known = json.loads((a / "played.json").read_text())
        del known["conditions"]["judge"]
        text = json.dumps(known)
    (a / "played.json").unlink() if text is None else (a / "played.json").write_text(text)
    said = rf"from_run={a}: holds no readable played\.json: .*again with hydra\.run\.dir={a}; nothing that is"
    with pytest.raises(SteerError, match=said):
        joined(tmp_path / "out", a)


def test_a_list_names_benchmark_folders_each_once(
    rows: Callable[..., list[GradedDialogue]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = folder_of(tmp_path / "a", rows("sft", 2)), folder_of(tmp_path / "b", rows("grpo", 2))
    trained = tmp_path / "trained"
    trained.mkdir()
    (trained / "trajectories.jsonl").touch()

    def problems(*folders: Path, out: Path = tmp_path / "out") -> list[str]:
        given: Any = {"from_raw_eval": None, "judge_check": False, "bench": {"limit": None}, "run_dir": str(out)}
        return [str(problem) for problem in report_problems({**given, "from_run": list(map(str, folders))})]

    assert problems(a, b) == []
    for wrong, named in (((a, a), [str(a)] * 2), ((), []), ((a, trained), str(trained))):
        (said,) = problems(*wrong)
        assert said.startswith(f"from_run={named!r}: ")
        assert said.endswith("or a list of benchmark runs, each once")
    assert "is not a folder" in "".join(problems(a, tmp_path / "none"))
    assert "is the run that is read" in "".join(problems(a, b, out=b))
    out = tmp_path / "out"
    assert cli.run("bench", [f"from_run=[{a},{b}]", f"hydra.run.dir={out}", "bench.resamples=100"]) == 0
    assert "grpo - sft over 2 dialogues" in capsys.readouterr().out
    assert json.loads((out / "versions.json").read_text())["command"].count(str(a)) == 1


def test_facts_that_differ_are_told_of_each_folder(rows: Callable[..., list[GradedDialogue]], tmp_path: Path) -> None:
    facts = {"a": (("model", "nano"), ("date", "1")), "b": (("model", "nano"), ("date", "2"), ("data", "mini"))}
    folders = [folder_of(tmp_path / name, rows(name, 2), facts=told) for name, told in facts.items()]
    _, said = joined(tmp_path / "out", *folders)
    here = f"…/{tmp_path.name}"
    assert (
        f"* folders: {here}/a, {here}/b\n* model: nano\n* date: {here}/a: 1; {here}/b: 2\n* data: {here}/b: mini\n"
        in said
    )
