"""One report over several benchmark folders: which records are joined, and which combinations are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from steer_lit.bench.joined import ReadRun, joined_facts
from steer_lit.bench.provenance import RECORDED_ONLY
from steer_lit.bench.records import GradedDialogue
from steer_lit.bench.report_only import report_problems
from steer_lit.cli import main as cli
from steer_lit.errors import SteerError
from tests.bench.players import reported

pytestmark = pytest.mark.usefixtures("no_charts")
MakeDialogue = Callable[..., GradedDialogue]
ADAPTIVE = "attacker: {_target_: steer_lit.attacker.adaptive.AdaptiveAttacker, lead_share: 1}\n"


def folder_of(path: Path, rows: Sequence[GradedDialogue], config: str = "rollout: {max_new_tokens: 9}\n") -> Path:
    path.mkdir()
    (path / "records.jsonl").write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
    (path / "config.yaml").write_text(config)
    return path


@pytest.fixture(name="rows")
def make_rows(dialogue: MakeDialogue) -> Callable[..., list[GradedDialogue]]:
    """Return the function: `rows("sft", 3)` makes that policy's records of three dialogues."""

    def rows(policy: str, count: int, first: int = 0, **other: Any) -> list[GradedDialogue]:
        facts = {"policy": policy, "conditions": "c", "judge": "J", "fingerprint": policy, **other}
        return [
            replace(dialogue(f"row-{at}", [3]), key=f"{policy}-{at}", **facts) for at in range(first, first + count)
        ]

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
    a = folder_of(tmp_path / "a", [*rows("base", 3), *rows("sft", 3), *gold])
    b = folder_of(tmp_path / "b", [*rows("base", 3), *rows("grpo", 3), *graded_otherwise])
    counts, said = joined(tmp_path / "out", a, b)
    assert counts == {"base": 3, "sft": 3, "grpo": 3, "gold": 3}
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
    other = folder_of(tmp_path / "other", rows("other", 1, first=9))
    with pytest.raises(SteerError, match="sft, other have no dialogue in common"):
        joined(tmp_path / "out", a, other)


@pytest.mark.parametrize("first", [True, False])
def test_a_policy_of_several_folders_counts_as_where_most_of_it_was_graded(
    rows: Callable[..., list[GradedDialogue]], tmp_path: Path, first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A judge's server may have gone down in the one."""
    whole = rows("sft", 3)
    lost = [replace(row, turns=(replace(row.turns[0], failed="gone", harmlessness=None),)) for row in whole[1:]]
    folders = [folder_of(tmp_path / "a", whole), folder_of(tmp_path / "b", [whole[0], *lost])]
    with caplog.at_level("INFO"):
        counts, said = joined(tmp_path / "out", *(folders if first else reversed(folders)))
    assert counts == {"sft": 3}
    assert "could not be graded" not in said
    assert f"sft stands in 2 folders, and counts as in {tmp_path / 'a'}" in caplog.messages


@pytest.mark.parametrize(
    ("other", "config", "said"),
    [
        ({"fingerprint": "new"}, "", r"sft in .*a and in .*b are other weights"),
        ({"ended": "truncated"}, "", r"both hold sft on row-0, with different records: .*'~policies\.sft'"),
        ({"policy": "grpo", "conditions": "d", "judge": "K"}, "", "J judged the one, K the other"),
        (
            {"policy": "grpo", "conditions": "d"},
            ADAPTIVE,
            r"_target_=.* and .*AdaptiveAttacker",
        ),
        (
            {"policy": "grpo", "conditions": "d"},
            "rollout: {max_new_tokens: 7}",
            r"data \(rollout\.max_new_tokens=9 and 7\): ",
        ),
        ({"policy": "grpo", "conditions": ""}, "", "b does not say what its dialogues were played under"),
    ],
)
def test_folders_that_cannot_be_one_result_are_refused(
    rows: Callable[..., list[GradedDialogue]], tmp_path: Path, other: dict[str, Any], config: str, said: str
) -> None:
    a = folder_of(tmp_path / "a", rows("sft", 2))
    b = folder_of(tmp_path / "b", [replace(row, **other) for row in rows("sft", 2)], config)
    with pytest.raises(SteerError, match=said):
        joined(tmp_path / "out", a, b)


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
    for wrong, said in (((a, a), "each once"), ((), "each once"), ((a, trained), "joins benchmark runs alone")):
        assert said in "".join(problems(*wrong))
    assert "no such folder" in "".join(problems(a, tmp_path / "none"))
    assert "is the run that is read" in "".join(problems(a, b, out=b))
    out = tmp_path / "out"
    assert cli.run("bench", [f"from_run=[{a},{b}]", f"hydra.run.dir={out}", "bench.resamples=100"]) == 0
    assert "grpo - sft over 2 dialogues" in capsys.readouterr().out
    assert json.loads((out / "versions.json").read_text())["command"].count(str(a)) == 1


def test_what_one_folder_lacks_is_no_fact_of_a_joined_report() -> None:
    """Its policies may count as in another folder."""
    runs = [
        ReadRun(
            Path(name), {}, "J", {}, [("judge", "J"), (RECORDED_ONLY, "5 of 8 by base")] if lacks else [("judge", "J")]
        )
        for name, lacks in (("a", False), ("b", True))
    ]
    assert joined_facts(runs, ["a", "b"]) == [("folders", "a, b"), ("judge", "J")]


def test_folders_contradict_each_other_across_one_that_says_nothing(
    rows: Callable[..., list[GradedDialogue]], tmp_path: Path
) -> None:
    other = [*rows("sft", 2), replace(rows("sft", 1, first=2)[0], ended="truncated")]
    parts = {"a": rows("sft", 3), "b": rows("sft", 2), "c": other}
    folders = [folder_of(tmp_path / name, part) for name, part in parts.items()]
    with pytest.raises(SteerError, match=r"a and .*c both hold sft on row-2"):
        joined(tmp_path / "out", *folders)
