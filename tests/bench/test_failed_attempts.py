"""What a benchmark leaves that fails under other settings, or whose judge goes away: neither grades nor answers are
lost, and a report shows one run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steer_lit.bench import playing
from steer_lit.bench.constant import ALWAYS_REFUSE
from steer_lit.errors import ServerDown, SteerError, TooManyFailures
from tests.bench.players import Judge, Policy, benched, questions, reported, rows_of

pytestmark = pytest.mark.usefixtures("no_charts")
SCENARIOS = questions(10)
ALL = [scenario.id for scenario in SCENARIOS]


def bench(folder: Path, judge: Judge, *policies: tuple[str, Policy], tokens: int = 9) -> tuple[dict[str, Any], str]:
    """Run the benchmark. Its config is frozen as a run's own would be."""

    def freeze() -> None:
        config = {"rollout": {"max_new_tokens": tokens, "temperature": 0}}
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(json.dumps(config))

    run = {"played_on": {"rollout.max_new_tokens": tokens}, "freeze": freeze}
    return benched(folder, dict(policies), SCENARIOS, judge, run=run, chunk=4)


def again(folder: Path) -> tuple[dict[str, Any], str]:
    """Return what a report made again shows: its summary, and its text with what is printed."""
    return reported(folder / "again", from_run=str(folder))


def test_an_attempt_whose_judge_grades_nothing_costs_no_grade_and_hides_no_report(tmp_path: Path) -> None:
    right, policy = Judge(), Policy("p")
    summary, _ = bench(tmp_path, right, ("sft", policy), tokens=9)
    with pytest.raises(TooManyFailures):
        bench(tmp_path, Judge("K", ALL), ("sft", Policy("p")), tokens=7)
    assert [row.failed for row in rows_of(tmp_path)] == [False] * 10 + [True] * 8
    shown, said = again(tmp_path)
    assert shown == summary
    assert "* judge: J\n" in said
    assert "at most 9 tokens" in said  # the config is still that of the run that graded
    asked = right.asked, policy.played
    assert bench(tmp_path, right, ("sft", policy))[0] == summary
    assert (right.asked, policy.played) == asked


def test_grades_that_another_judge_lacks_are_not_shown_as_its_own(tmp_path: Path) -> None:
    policy = Policy("p")
    bench(tmp_path, Judge(), ("sft", policy))
    bench(tmp_path, Judge("K", ALL[:4]), ("sft", policy))
    shown, _ = again(tmp_path)
    assert (shown["sft"]["n"], shown["sft"]["failed"]) == (6, 4)
    last = Judge("K")
    assert bench(tmp_path, last, ("sft", policy))[0]["sft"]["n"] == 10
    assert (last.asked, policy.played) == (4, 10)


def test_a_report_on_fewer_records_than_the_run_was_to_make_says_so(tmp_path: Path) -> None:
    bench(tmp_path, Judge(), ("sft", Policy("p")), ("grpo", Policy("q")))
    assert "recorded only" not in again(tmp_path)[1]
    lines = (tmp_path / "records.jsonl").read_text().splitlines(keepends=True)
    for left_out in (1, 3):
        (tmp_path / "records.jsonl").write_text("".join(lines[:-left_out]))
        told, said = f"recorded only: {10 - left_out} of 10 by grpo\n", again(tmp_path)[1]
        assert f"* {told}" in said  # on the page
        assert f"\n{told}" in said  # on the terminal


def test_a_policy_at_a_wrong_address_costs_no_grade(tmp_path: Path) -> None:
    """Its address belongs to its fingerprint, not to the run's conditions."""
    right = Policy("server:right")
    summary, _ = bench(tmp_path, Judge(), ("sft", right))
    with pytest.raises(TooManyFailures, match="no dialogue of sft could be graded: policy: time-out"):
        bench(tmp_path, Judge(), ("sft", Policy("server:wrong", server=False)))
    assert again(tmp_path)[0] == summary
    assert bench(tmp_path, Judge(), ("sft", right))[0] == summary
    assert right.played == 10


def test_a_report_on_grades_is_only_replaced_by_one_on_grades(tmp_path: Path) -> None:
    bench(tmp_path, Judge(), ("sft", Policy("p")), tokens=9)
    outputs = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".jsonl"}
    with pytest.raises(TooManyFailures, match="no dialogue of sft could be graded"):
        bench(tmp_path, Judge("K"), ("sft", Policy("q", server=False)))
    assert {path: path.read_bytes() for path in outputs} == outputs
    with pytest.raises(TooManyFailures, match="no dialogue of another could be graded"):
        bench(tmp_path, Judge("K"), ("another", Policy("q", server=False)))
    assert {path: path.read_bytes() for path in outputs} == outputs
    bench(tmp_path, Judge("K"), ("sft", Policy("q")))
    assert outputs[tmp_path / "report.html"] != (tmp_path / "report.html").read_bytes()


def test_a_failed_policy_drops_none_of_its_grades_from_the_report(tmp_path: Path) -> None:
    base = ("base", Policy("b"))
    summary, _ = bench(tmp_path, Judge(), base, ("sft", Policy("server:right")))
    report = (tmp_path / "report.html").read_bytes()
    with pytest.raises(TooManyFailures, match="no dialogue of sft could be graded"):
        bench(tmp_path, Judge(), base, ("sft", Policy("server:wrong", server=False)))
    assert (tmp_path / "report.html").read_bytes() == report
    assert again(tmp_path)[0] == summary


def test_a_policy_that_never_had_a_grade_keeps_no_others_out_of_the_report(tmp_path: Path) -> None:
    with pytest.raises(TooManyFailures, match="no dialogue of sft could be graded"):
        bench(tmp_path, Judge(), ("base", Policy("b")), ("sft", Policy("q", server=False)))
    shown = json.loads((tmp_path / "summary.json").read_text())
    assert (shown["base"]["n"], shown["sft"]["n"]) == (10, 0)


def test_constant_policies_are_no_result_beside_a_policy_that_answers_nothing(tmp_path: Path) -> None:
    refuses = ("always-refuse", ALWAYS_REFUSE)
    summary, _ = bench(tmp_path, Judge(), ("sft", Policy("p")), refuses)
    with pytest.raises(TooManyFailures, match="no dialogue of sft could be graded"):
        bench(tmp_path, Judge("K"), ("sft", Policy("q", server=False)), refuses)
    assert again(tmp_path)[0] == summary
    assert list(bench(tmp_path / "alone", Judge(), refuses)[0]) == ["always-refuse"]


def test_a_record_with_more_turns_than_its_scenario_is_named(tmp_path: Path) -> None:
    bench(tmp_path, Judge(failing=ALL[2:3]), ("sft", Policy("p")))
    rows = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    (lost,) = [row for row in rows if row["scenario"] == "row-2"]
    lost["turns"] *= 2
    (tmp_path / "records.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    said = r"records\.jsonl: the record of sft on row-2 has 2 turns, its scenario 1: delete the line to have"
    with pytest.raises(SteerError, match=said):
        bench(tmp_path, Judge(), ("sft", Policy("p")))


def test_where_nothing_was_graded_the_config_is_that_of_the_latest_run(tmp_path: Path) -> None:
    for count in (9, 7):
        policy = Policy(f"at most {count}", server=False)
        with pytest.raises(TooManyFailures):
            bench(tmp_path, Judge(), ("sft", policy), tokens=count)
        for said in ((tmp_path / "summary.md").read_text(), again(tmp_path)[1]):
            assert f"at most {count} tokens" in said


def test_policies_keep_the_runs_order_if_grades_come_later(tmp_path: Path) -> None:
    policies = [(name, Policy(name)) for name in ("base", "sft", "grpo")]
    with pytest.raises(TooManyFailures, match="no dialogue of sft could be graded"):
        bench(tmp_path, Judge(failing=["by sft"]), *policies)
    summary, _ = bench(tmp_path, Judge(), *policies)
    shown, said = again(tmp_path)
    assert list(shown) == list(summary) == ["base", "sft", "grpo"]
    assert shown == summary
    assert "grpo - sft over 10 dialogues" in said


def test_answers_are_kept_if_the_judges_server_goes_down(tmp_path: Path) -> None:
    policy, leaving = Policy("p"), Judge(lasts=1)
    with pytest.raises(ServerDown, match="8 of 10 requests failed"):
        bench(tmp_path, leaving, ("sft", policy))
    assert leaving.calls == 2  # not asked again once it is down
    ended = rows_of(tmp_path)
    assert len(ended) <= 6  # nor is more played than had ended by then
    assert [row.failed for row in ended[:4]] == [False, False, True, True]
    assert ended[2].turns[0].failed == "the judge's server went down"  # reports show it, and no address
    assert ended[2].turns[0].assistant == "by p"
    judge, before = Judge(), policy.played
    summary, printed = bench(tmp_path, judge, ("sft", policy))
    assert summary["sft"]["n"] == 10
    assert judge.asked == 8
    assert policy.played - before == 10 - len(ended)
    assert f"sft: 2 of 10 dialogues graded, {len(ended)} answered\n" in printed


@pytest.mark.parametrize(("given", "returned"), [([{"harmlessness": 3}] * 2, r"\[\{'harm"), ([], "0"), (None, "None")])
def test_a_judge_of_ones_own_that_gives_no_grades_is_named(
    given: Any, returned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "grade", lambda self, dialogues: given)
    said = rf"Judge\.grade returned {returned}.* for 2 dialogues: it must return a list with one Grade for each"
    with pytest.raises(SteerError, match=said):
        bench(tmp_path, Judge(), ("sft", Policy("p")))


def test_what_a_dead_server_left_ungraded_is_not_the_next_judges_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServerDown):
        bench(tmp_path, Judge(lasts=0), ("sft", Policy("p")))
    left = [row.scenario for row in rows_of(tmp_path)]
    monkeypatch.setattr(playing, "TELLING", 3)
    summary, _ = bench(tmp_path, Judge(failing=left[:2]), ("sft", Policy("p")))  # of the first half chunk, none
    assert summary["sft"]["n"] == 10 - 2


def test_a_judge_whose_server_is_down_is_not_said_to_grade_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playing, "TELLING", 1)
    with pytest.raises(ServerDown):
        bench(tmp_path, Judge(lasts=0), ("sft", Policy("p")))


def test_a_judge_that_is_down_while_recorded_answers_are_graded_costs_no_grade(tmp_path: Path) -> None:
    bench(tmp_path, Judge(failing=ALL[:6]), ("sft", Policy("p")))
    with pytest.raises(ServerDown):
        bench(tmp_path, Judge(lasts=1), ("sft", Policy("p")))
    assert sorted(row.scenario for row in rows_of(tmp_path) if row.failed) == ALL[2:6]
    judge, policy = Judge(), Policy("p")
    assert bench(tmp_path, judge, ("sft", policy))[0]["sft"]["n"] == 10
    assert (judge.asked, policy.played) == (4, 0)
