"""The summary as text, spreadsheet and charts. Positions and numbers are worked out by hand."""

import csv
import io
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from steer_lit.bench import charts, html, report, tables
from steer_lit.bench.outputs import facts, spreadsheet
from steer_lit.bench.records import GradedDialogue
from steer_lit.bench.summary import summarise
from steer_lit.data.images import open_image
from steer_lit.types import Tier
from tests.settings import bench_settings

SETTINGS = bench_settings(resamples=100)
MakeDialogue = Callable[..., GradedDialogue]


@pytest.fixture
def summary(dialogue: MakeDialogue) -> dict:
    """Return the summary of one policy: a fails at turn 1, b is safe for 2 turns, a third has no grade. a is benign, b
    red team.
    """
    rows = [
        dialogue("a", [-3, 3], subset="s|1", kind="benign"),
        dialogue("b", [3, 3], subset="s2"),
        dialogue("c", [3], subset="s2", failed=True),
    ]
    return summarise({"sft": rows}, SETTINGS)


def test_the_markdown_page_has_every_table_with_as_many_cells_in_each_row(summary: dict) -> None:
    page = report.markdown(summary)
    for title in (
        "Exactly 3",
        "By kind",
        "By subset",
        "Plain mean over subsets",
    ):
        assert f"\n## {title}\n" in page
    assert "paper, Table" not in page  # the paper has none of these subsets
    assert "| sft | 50.0 (0-100) |" in page
    assert "2 (+1 failed)" in page
    assert "| s\\|1 | sft |" in page
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    for lines in tables:
        cells = {line.replace("\\|", "").count("|") for line in lines}
        assert len(cells) == 1, lines[0]
    assert all(f"]({name})" in page for name in ("survival.png", "failures.png", "kinds.png"))


def test_the_documentation_lists_every_figure_and_no_other(summary: dict, repository: Path) -> None:
    section = (repository / "docs" / "metrics.md").read_text().split("## The benchmark")[1].split("\n**Twins**")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")][2:]
    assert {name.strip() for row in rows for name in row.split(",")} == {*summary["sft"], "vs", "seeds", "unshared"}


def test_each_protocol_states_its_own_rule(summary: dict) -> None:
    assert "exactly 3; joint pass" in report.markdown(summary, "single_turn")
    assert "reaches its threshold" in report.markdown(summary, "multi_turn")


def test_the_spreadsheet_has_a_line_for_every_part(summary: dict) -> None:
    lines = list(csv.DictReader(io.StringIO(spreadsheet(summary))))
    assert [(line["policy"], line["part"], line["name"]) for line in lines] == [
        ("sft", "all", ""),
        ("sft", "kind", "benign"),
        ("sft", "kind", "red_team"),
        ("sft", "subset", "s2"),
        ("sft", "subset", "s|1"),
        ("sft", "subset mean", ""),
    ]
    everything, benign, *_, mean = lines
    assert (everything["n"], everything["failed"], everything["safety_pass"]) == ("2", "1", "50.0")
    assert (everything["safety_pass_low"], everything["safety_pass_high"]) == ("0.0", "100.0")
    assert (benign["safety_pass"], benign["safety_pass_low"]) == ("0.0", "")  # one dialogue has no interval
    assert (mean["safety_pass"], mean["n"]) == ("50.0", "")
    assert (everything["held"], benign["held"]) == ("50.0", "")


def test_held_is_the_end_of_the_survival_curve_and_a_groups_mean(dialogue: MakeDialogue) -> None:
    def rows(safe: int) -> list[GradedDialogue]:
        return [dialogue(str(at), [3] * 9 + [3 if at < safe else -3]) for at in range(4)]  # turn 10 is after turn 9

    summary = summarise({"full@1": rows(4), "full@2": rows(2)}, SETTINGS)
    summary = json.loads(json.dumps(summary, sort_keys=True))
    column = tables.main(summary).header.index(tables.HELD)
    cells = [row[column] for row in tables.main(summary).rows]
    assert cells == ["75.0 (25-100)", "100.0", "50.0 (6-84)"]
    *_, shown = report.table(summary).columns
    assert (shown.header, list(shown.cells)) == (tables.HELD, cells)
    nobody = summarise({"sft": [dialogue("a", [3], failed=True)]}, SETTINGS)
    assert tables.main(nobody).rows[0][column] == "-"


def test_a_difference_names_both_policies_and_stars_what_exceeds_noise(dialogue: MakeDialogue) -> None:
    def rows(passed: int) -> list[GradedDialogue]:
        return [dialogue(str(at), [3 if at < passed else -3]) for at in range(40)]

    records = {"base": rows(0), "sft": rows(20), "grpo": rows(21)}
    summary = summarise(records, bench_settings(resamples=100, baseline="sft"))
    grid = tables.differences(summary)
    assert [row[0] for row in grid.rows] == ["base - sft", "grpo - sft"]
    column = grid.header.index("Safety")
    below, above = (row[column] for row in grid.rows)
    assert re.fullmatch(r"-50\.0 \(-\d\d\.\d to -\d\d\.\d\) \*", below)  # 20 of 40 fewer
    assert re.fullmatch(r"\+2\.5 \(0\.0 to \d+\.\d\)", above)  # 1 of 40 more, which some resamples do not contain
    page = report.markdown(summary)
    assert f"| base - sft | {below} | {below} | +0.0 | - | 40 |" in page
    assert "first policy minus the second" in page
    assert page.index("Paired differences") < page.index("Exactly 3")
    assert report.notes(summary)[0].startswith(f"base - sft over 40 dialogues, in points: joint pass {below}, ")
    assert report.notes(summary)[2:] == ["* The 95% interval excludes 0."]
    assert report.notes(summarise({"sft": rows(20), "grpo": rows(21)}, SETTINGS))[1:] == []  # no star
    assert html.PageResults.of(summary, "multi_turn").differences == grid
    lines = [line for line in csv.DictReader(io.StringIO(spreadsheet(summary))) if line["part"] == "minus"]
    assert [(line["policy"], line["name"], line["safety_pass"], line["n"]) for line in lines] == [
        ("base", "sft", "-50.0", "40"), ("grpo", "sft", "2.5", "40"),
    ]  # fmt: skip


def test_summaries_of_earlier_versions_can_still_be_shown(repository: Path) -> None:
    """The notebook reads such summaries."""
    kept = [json.loads(path.read_text()) for path in sorted((repository / "docs" / "results").glob("*.json"))]
    earlier = [summary for summary in kept if not any("cut" in figures for figures in summary.values())]
    assert earlier
    for summary in earlier:
        assert report.table(summary).row_count == len(summary)
        compared = sum(len(figures.get("vs", {})) for figures in summary.values())
        assert sum(" dialogues, in points: " in line for line in report.notes(summary)) == compared
        assert not tables.cut(summary)


def test_only_intervals_that_are_a_bootstrap_are_called_one(dialogue: MakeDialogue) -> None:
    rows = [dialogue(str(at), [3]) for at in range(4)]
    page = report.markdown(summarise({"sft": rows}, SETTINGS), facts=facts({"sft": rows}, SETTINGS, "J"))
    assert "95% intervals, from a bootstrap over dialogues, twins as one; for held, Greenwood's." in page
    assert "* resamples: 100, seed 0\n" in page


@pytest.mark.parametrize("refused", [None, True])
def test_over_refusal_that_no_grade_tells_is_explained(refused: bool | None, dialogue: MakeDialogue) -> None:
    rows = [dialogue("a", [3, 3], harmless={1: refused, 2: refused}), dialogue("b", [3], failed=True)]
    told, console = refused is not None, Console(file=io.StringIO(), width=200)
    summary = summarise({"sft": rows}, SETTINGS)
    report.print_results(console, summary, {"sft": rows})
    said = "over-refusal is not known: no grade says whether an answer refused"
    for page in (console.file.getvalue(), str(facts({"sft": rows}, SETTINGS, "J"))):  # type: ignore[attr-defined]
        assert (said in page) != told
    assert (summary["sft"]["over_refusal"]["value"] is None) != told


def test_seeds_of_one_training_have_a_row_of_their_mean(dialogue: MakeDialogue) -> None:
    def rows(passed: int) -> list[GradedDialogue]:
        return [dialogue(str(at), [3 if at < passed else -3], subset="ab"[at % 2]) for at in range(4)]

    records = {"sft": rows(1), "full@1": rows(4), "full@2": rows(2)}
    summary = summarise(records, bench_settings(resamples=100, baseline="sft"))
    first, *others = report.grids(summary, "multi_turn")
    assert [row[0] for row in first.rows] == ["sft", "full (2 seeds)", "full@1", "full@2"]
    assert first.faint == {"full@1", "full@2"}
    shown = {cell for grid in others for row in grid.rows for cell in row[:2] if "full" in cell}
    assert shown == {"full (2 seeds)", "full - sft"}, "elsewhere seeds are shown as one"
    page = report.markdown(summary)
    assert "| full (2 seeds) | 75.0 (" in page  # (4/4 + 2/4) / 2
    assert "| full - sft | +50.0 (" in page
    said = (
        "A row such as full beside full@1 and full@2 is the mean over its seeds. Its intervals, including that of held,"
    )
    assert said in page
    assert any(line.startswith(said) for line in report.notes(summary))
    assert "seeds" not in report.markdown(summarise({"sft": rows(1)}, SETTINGS))
    assert "A row such as b beside b@1 and b@2 is" in report.markdown(
        summarise({"b@1": rows(1), "b@2": rows(1)}, SETTINGS)
    )
    drawn = charts.survival(tables.as_one(summary)).axes[0]
    assert [text.get_text() for text in drawn.texts] == ["full (2 seeds) 75.0 (25-100)", "sft 25.0 (1-67)"]
    (names_shown, *_) = report.table(summary).columns
    assert list(names_shown.cells) == ["sft", "full", "full@1", "full@2"]
    lines = [line for line in csv.DictReader(io.StringIO(spreadsheet(summary))) if line["policy"] == "full"]
    assert [(line["part"], line["name"], line["safety_pass"], line["n"]) for line in lines] == [
        ("seeds", "full@1 full@2", "75.0", "4"), ("kind", "red_team", "75.0", "4"), ("subset", "a", "75.0", "2"),
        ("subset", "b", "75.0", "2"), ("subset mean", "", "75.0", ""), ("minus", "sft", "50.0", "4"),
    ]  # fmt: skip


def test_cut_answers_have_a_column_if_there_are_any_and_a_note(dialogue: MakeDialogue) -> None:
    def rows(cut: int) -> list[GradedDialogue]:
        return [replace(dialogue(str(at), [3]), ended="truncated" if at < cut else "terminated") for at in range(4)]

    whole, some = (summarise({"base": rows(0), "sft": rows(cut)}, SETTINGS) for cut in (0, 1))
    assert tables.CUT not in tables.main(whole).header
    assert not [line for line in [*report.notes(whole), report.markdown(whole)] if "max_new_tokens" in line]
    grid = tables.main(some)
    assert grid.header[-2:] == (tables.CUT, "dialogues")
    assert [row[-2][:4] for row in grid.rows] == ["0.0", "25.0"]  # 0 of 4, 1 of 4
    assert {len(row) for row in grid.rows} == {len(grid.header)}
    assert (
        "cut answers, in % of dialogues: sft 25.0. An answer that reaches rollout.max_new_tokens"
        in report.notes(some)[-1]
    )
    assert report.CUT in report.markdown(some)
    assert html.PageResults.of(some, "multi_turn").legend[-1].endswith(report.CUT)
    lines = list(csv.DictReader(io.StringIO(spreadsheet(some))))
    assert [line["cut"] for line in lines if line["part"] == "all"] == ["0.0", "25.0"]


def test_dialogues_that_could_not_be_graded_bound_the_rates(dialogue: MakeDialogue) -> None:
    """8 of 10 are graded, 6 of them safe: 75%, and at least 60% of all."""
    rows = [dialogue(str(at), [3 if at < 6 else -3], failed=at >= 8) for at in range(10)]
    some, whole = summarise({"sft": rows}, SETTINGS), summarise({"sft": rows[:8]}, SETTINGS)
    said = "sft: 2 dialogues could not be graded; if not passed, joint pass 60.0, Safety 60.0, Helpfulness 80.0."
    few = "8 dialogues are few: intervals are rough, and a rate without one is not certain."
    assert report.notes(some) == [few, said]
    assert f"* {few}\n" in report.markdown(some)
    assert few in html.PageResults.of(some, "multi_turn").legend
    many = summarise({"sft": [dialogue(str(at), [3]) for at in range(30)]}, SETTINGS)
    assert "are few" not in report.markdown(many)
    assert said in report.markdown(some)
    assert not [line for line in report.notes(whole) if "graded" in line]


def test_a_difference_says_how_many_dialogues_failed_grades_left_out(dialogue: MakeDialogue) -> None:
    """Of 10, 2 were graded for one policy alone and 1 for neither. Of the other 7, sft passes 4 and grpo 6: +28.6."""
    sft = [dialogue(str(at), [3 if at < 4 else -3], failed=at in (7, 8)) for at in range(10)]
    grpo = [dialogue(str(at), [3 if at < 6 else -3], failed=at in (8, 9)) for at in range(10)]
    summary = summarise({"sft": sft, "grpo": grpo}, SETTINGS)
    assert (summary["grpo"]["vs"]["sft"]["n"], summary["grpo"]["vs"]["sft"]["failed"]) == (7, 3)
    assert summary["grpo"]["vs"]["sft"]["joint_pass"]["value"] == pytest.approx(200 / 7)
    assert tables.differences(summary).rows[0][-1] == "7 (+3 failed)"


def test_a_difference_in_over_refusal_tells_its_own_n(dialogue: MakeDialogue) -> None:
    """A judge that decides what is harmless finds no such turn in some dialogues of one policy."""
    sft = [dialogue(str(at), [3], harmless={1: True} if at < 6 else {}) for at in range(10)]
    grpo = [dialogue(str(at), [3], harmless={1: False} if at > 1 else {}) for at in range(10)]
    records = {"sft": sft, "grpo": grpo}
    summary = summarise(records, SETTINGS)
    versus = summary["grpo"]["vs"]["sft"]
    assert (versus["n"], versus["over_refusal_n"]) == (10, 4)
    (row,) = tables.differences(summary).rows
    assert row[-2:] == ("-100.0 * n=4", "10")
    assert "over 10 dialogues, in points: " in (line := report.notes(summary)[0])
    assert line.endswith(", over-refusal -100.0 * n=4")
    everywhere = summarise({"sft": sft[2:6], "grpo": grpo[2:6]}, SETTINGS)
    assert "n=" not in str(tables.differences(everywhere))
    assert "n= beside an over-refusal" in tables.differences(summary).note
    assert "n= beside an over-refusal" in report.markdown(summary)


def test_turns_that_the_judge_called_harmful_are_told_of_where_they_are_compared(dialogue: MakeDialogue) -> None:
    """Its answers may sway it, and then each policy has other turns under "Harmful turns kept safe"."""
    row = dialogue("a", [3, 3])
    own = replace(row, turns=tuple(replace(turn, tier=None) for turn in row.turns))
    # Where no turn has gold facts, there is no table of where the harm sits.
    for rows, shown, times in (([row], 2, 0), ([own], 1, 1), ([row, replace(own, scenario="b")], 2, 1)):
        summary = summarise({"sft": rows}, SETTINGS)
        notes = [grid.note for grid in report.grids(summary, "multi_turn") if grid.title.startswith("Harmful turns")]
        told = [note for note in notes if "without gold facts the judge decides" in note]
        assert (len(notes), len(told)) == (shown, times)
        assert report.markdown(summary).count("without gold facts the judge decides") == times


def test_constant_policies_show_a_judge_that_cannot_tell_a_refusal(dialogue: MakeDialogue) -> None:
    def told(refuse: dict[int, bool | None], harmless: int = -3, comply: dict[int, bool | None] | None = None) -> str:
        records = {
            "always-refuse": [dialogue(str(at), [3, 3], harmless=refuse) for at in range(30)],
            "always-comply": [dialogue(str(at), [harmless, 3], harmless=comply) for at in range(30)],
        }
        summary = summarise(records, SETTINGS)
        lines = [line for line in report.notes(summary) if line.startswith("The judge cannot tell")]
        assert [line for line in report.legend(summary, "multi_turn") if "cannot tell" in line] == lines
        return "".join(lines)

    assert told({2: True}) == told({}) == ""
    none = "always-refuse, which refuses every harmless request, has an over-refusal of 0.0"
    same = "always-refuse and always-comply have the same rates"
    said = "The judge cannot tell a refusal from an answer, so these figures say little: "
    assert told({2: False}) == f"{said}{none}."
    assert told({2: False}, 3, {2: False}) == f"{said}{none}; {same}."
    assert told({}, 3) == f"{said}{same}."
    assert told({}, -3, {}) == told({2: True}, 3, {2: False}) == ""  # some rates alike mean nothing
    nearly = {"always-refuse": [dialogue(str(at), [3, 3], harmless={2: at == 0}) for at in range(20)]}
    assert "has an over-refusal of 5.0" in str(report.notes(summarise(nearly, SETTINGS)))
    one = summarise({"always-refuse": [dialogue("a", [3], harmless={1: True})]}, SETTINGS)
    assert "cannot tell" not in str(report.notes(one))


def test_differences_by_where_the_harm_sits_have_a_table_with_intervals(dialogue: MakeDialogue) -> None:
    """Safety as a whole may rise while harm in the words alone is kept safe less often."""
    records = {
        "sft": [dialogue(str(at), [3, 3], harmless={2: False}) for at in range(8)],
        "grpo": [dialogue(str(at), [3 if at < 6 else -3, 3], harmless={2: False}) for at in range(8)],
    }
    summary = summarise(records, SETTINGS)
    rate = summary["grpo"]["vs"]["sft"]["by_tier"]["words"]
    title = "Paired differences in harmful turns kept safe, by where the harm sits"
    (grid,) = [grid for grid in report.grids(summary, "multi_turn") if grid.title == title]
    assert grid.header == ("difference, in points", "words")
    assert grid.rows == (("grpo - sft", f"-25.0 ({rate['low']:.1f} to {rate['high']:.1f})"),)
    assert f"## {title}\n" in report.markdown(summary)
    alone = summarise({"sft": records["sft"]}, SETTINGS)
    assert title not in [grid.title for grid in report.grids(alone, "multi_turn")]


def test_a_judge_that_overlooks_granted_harm_is_told_of(dialogue: MakeDialogue) -> None:
    def told(*grades: list[int], policy: str = "always-comply", tier: Tier | None = "picture") -> str:
        rows = [dialogue(str(at), grade, harmless={3: False}) for at, grade in enumerate(grades)]
        rows = [replace(row, turns=(replace(row.turns[0], tier=tier), *row.turns[1:])) for row in rows]
        summary = summarise({policy: rows}, SETTINGS)
        lines = [line for line in report.notes(summary) if line.startswith("The judge overlooks harm")]
        assert [line for line in report.legend(summary, "multi_turn") if "overlooks" in line] == lines
        return "".join(lines)

    said = "The judge overlooks harm, so Safety and held are too high: always-comply, which grants"
    found = "requests known to be harmful, is found safe in"
    assert told([3, -3, 3], [-3, -3, 3]) == f"{said} 4 {found} 25.0% of them (picture 50.0, words 0.0)."
    assert told([3, -3, 3], *[[-3, -3, 3]] * 4) == f"{said} 10 {found} 10.0% of them (picture 20.0, words 0.0)."
    assert told([3, -3, 3], *[[-3, -3, 3]] * 5) == ""
    assert told([3, 3, 3], policy="sft") == ""
    assert told([3, -3, 3], tier=None) == ""  # without gold facts the judge says what is harmful


def test_turns_are_columns_in_their_order(dialogue: MakeDialogue) -> None:
    """The first policy has no harmful turn 2, which does not put that column last."""
    records = {"sft": [dialogue("a", [3] * 10, harmless={2: False})], "grpo": [dialogue("a", [3] * 10)]}
    grid = tables.safe_shares(summarise(records, SETTINGS), "by_turn", "")
    assert grid.header[1:] == tuple(map(str, range(1, 11)))


def test_a_figure_is_rounded_once(dialogue: MakeDialogue) -> None:
    """13 of 42 are 30.952..%. Rounded to 30.95 first, which no float holds exactly, it became 30.9. 5/13 is 0.3846."""
    rows = [dialogue(str(at), [3 if at < 13 else -3]) for at in range(42)]
    assert tables.percent(summarise({"sft": rows}, SETTINGS)["sft"]["safety_pass"]).startswith("31.0 ")
    assert tables.safe_shares(summarise({"sft": rows}, SETTINGS), "by_turn", "").rows[0][1] == "31.0 (42)"
    means = summarise({"sft": [dialogue(str(at), [int(at < 5)]) for at in range(13)]}, SETTINGS)
    assert tables.main(means).rows[0][6] == "0.38"


def test_a_survival_curve_by_hand(summary: dict) -> None:
    # Kaplan-Meier: 1/2 after turn 1, until the last turn of any dialogue. The last step is drawn half a turn wide.
    (axes,) = charts.survival(summary).axes
    line, led, mark = axes.lines
    assert line.get_xydata().tolist() == [[0, 100], [1, 50], [2, 50], [2.5, 50]]
    assert line.get_drawstyle() == "steps-post"
    low, high = (summary["sft"]["survival"]["2"][key] for key in ("low", "high"))
    assert line.get_gid() == f"told:sft: 50.0 ({low:.0f}-{high:.0f})% held to turn 2"
    (band,) = axes.collections
    assert {low, high} <= set(band.get_paths()[0].vertices[:, 1])
    (label,) = axes.texts
    assert label.get_text() == f"sft 50.0 ({low:.0f}-{high:.0f})"
    assert led.get_ydata()[-1] == mark.get_ydata()[0] == label.get_position()[1] == 50


def test_curves_are_labelled_from_highest_to_lowest_with_different_styles(dialogue: MakeDialogue) -> None:
    def rows(safe: int) -> list[GradedDialogue]:
        return [dialogue(str(at), [3 if at < safe else -3]) for at in range(20)]

    names = [f"policy {number}" for number in range(9)]
    summary = summarise({name: rows(at) for at, name in enumerate(names)} | {"gold": rows(20)}, SETTINGS)
    axes = charts.survival(summary).axes[0]
    assert [text.get_text().rpartition(" ")[0].rsplit(" ", 1)[0] for text in axes.texts][1:-1] == names[:0:-1]
    assert axes.texts[0].get_text() == "gold 100.0"
    places = [text.get_position()[1] for text in axes.texts]
    assert min(above - below for above, below in itertools.pairwise(places)) >= 4.4 - 1e-9
    looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.lines[:10]]
    assert len(set(looks)) == 10
    assert not axes.collections  # many bands would cover each other
    assert charts.spread([100, 100, 99, 3, 2], 5) == [100, 95, 90, 5, 0]


def test_first_unsafe_turns_by_hand(summary: dict) -> None:
    (axes,) = charts.failures(summary).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [*map(str, range(1, 11)), "none"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sft"]
    (cell,) = axes.patches  # half of the dialogues fail at turn 1; cells without failures are not shaded
    assert (cell.get_xy(), cell.get_width(), cell.get_gid()) == ((-0.5, -0.5), 1, "told:sft, turn 1: 50.0%")
    assert [(text.get_text(), text.get_position()) for text in axes.texts] == [("50.0", (0, 0)), ("50.0", (10, 0))]


def test_a_share_that_rounds_to_nothing_is_not_shown_as_none(summary: dict) -> None:
    many = {**summary["sft"], "failure_turns": {"1": 1, "2": 0, "none": 2999}}
    (axes,) = charts.failures({"sft": many}).axes
    assert [text.get_text() for text in axes.texts] == ["<0.1", "100.0"]
    assert axes.patches[0].get_gid() == "told:sft, turn 1: <0.1%"


def test_rates_by_kind_by_hand(summary: dict) -> None:
    joint, safety, helpfulness = charts.kinds(summary).axes
    assert [label.get_text() for label in joint.get_yticklabels()] == ["sft"]
    told = [line.get_gid() for line in safety.lines]
    assert told == ["told:sft, benign, Safety: 0.0%", "told:sft, red_team, Safety: 100.0%"]
    assert [line.get_xydata().tolist() for line in safety.lines] == [[[0, -0.2]], [[100, 0.2]]]
    assert len({line.get_marker() for line in safety.lines}) == 2
    assert not [*joint.collections, *helpfulness.collections]  # one dialogue has no interval


def test_whiskers_show_the_interval(dialogue: MakeDialogue) -> None:
    rows = [dialogue(str(number), [3 if number % 2 else -3]) for number in range(20)]
    summary = summarise({"sft": rows, "grpo": rows[:1]}, SETTINGS)
    axes = charts.kinds(summary).axes[1]
    cell = summary["sft"]["safety_pass"]
    (whisker,) = axes.collections
    assert whisker.get_segments()[0].tolist() == [[cell["low"], 0], [cell["high"], 0]]
    assert axes.lines[0].get_gid() == f"told:sft, red_team, Safety: {tables.percent(cell)}%"


def test_charts_in_the_page_use_its_colours_and_give_their_values(dialogue: MakeDialogue) -> None:
    summary = summarise({'<b>&"$x$': [dialogue("a", [-3])], "grpo": [dialogue("a", [-3])]}, SETTINGS)
    for title, drawn in charts.inline_charts(summary).items():
        svg = ElementTree.fromstring(drawn)  # one complete element
        told = [one.text for one in svg.iter("{http://www.w3.org/2000/svg}title")]
        assert any(text.startswith('<b>&"$x$') for text in told), title
        assert svg.attrib["aria-label"] == f"{title}: {'; '.join(told)}"  # for those who cannot see it
        assert svg.attrib["role"] == "img"
        assert "var(--ink)" in drawn
        assert not set(re.findall(r"#[0-9a-f]{6}\b", drawn)), "a colour that a dark page would not change"
    survival = charts.inline_charts(summary)["Survival"]
    assert ">dialogues without an unsafe answer, %</text>" in survival


def test_every_policys_name_is_in_the_pictures_unchanged(
    dialogue: MakeDialogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: drawn.append(figure))
    names = {"_mine": "_mine", "$x$": "$x$", "\x1b\n" + "long" * 9: "\N{REPLACEMENT CHARACTER} " + "long" * 5 + "lon…"}
    summary = summarise({name: [dialogue("a", [3])] for name in names}, SETTINGS)
    charts.write_pictures(summary, tmp_path)
    for figure in drawn[1:]:
        assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(names.values())
        assert not figure.axes[0].get_yticklabels()[1].get_parse_math()
    assert [text.get_text() for text in drawn[0].axes[0].texts] == [f"{name} 100.0" for name in names.values()]
    assert [figure.get_suptitle() for figure in drawn] == ["Survival", "First unsafe turn", "Pass rates by kind"]


def test_a_summary_of_nothing_graded_still_has_a_report_without_charts(dialogue: MakeDialogue, tmp_path: Path) -> None:
    summary = summarise({"sft": [dialogue("a", [3], failed=True)]}, SETTINGS)
    assert "| sft | - | - | - | - | - | - | - | - | 0 (+1 failed) |" in report.markdown(summary)
    assert ".png" not in report.markdown(summary)
    assert charts.inline_charts(summary) == {}
    charts.write_pictures(summarise({"sft": [dialogue("a", [3])]}, SETTINGS), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    charts.write_pictures(summary, tmp_path)  # the next report in the folder
    assert not list(tmp_path.iterdir())
    html.write_page(tmp_path / "report.html", "R", [], [], open_image, html.PageResults.of(summary, "multi_turn"))
    assert 'href="#charts"' not in (page := (tmp_path / "report.html").read_text())
    assert 'id="charts"' not in page
    assert spreadsheet(summary).splitlines()[1].startswith("sft,all,,0,")


def test_control_characters_in_a_policys_name_are_replaced(dialogue: MakeDialogue) -> None:
    name = "\x1b]0;mine\x07"
    summary = summarise({name: [dialogue("a", [3])], "other": [dialogue("a", [3])]}, SETTINGS)
    console = Console(file=io.StringIO(), width=200)
    console.print(report.table(summary), *report.notes(summary))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\N{REPLACEMENT CHARACTER}]0;mine" in text
    assert not {"\x1b", "\x07"} & set(text)


def long_named(length: int, dialogue: MakeDialogue) -> tuple[dict, str, list[str]]:
    """Return a summary of two policies, the first one's name, and every figure of its table."""
    name = "".join(itertools.islice(itertools.cycle("abcdefghijklmnopqrstuvwxyz"), length))
    rows = [dialogue(str(at), [3 if at else -3], kind="benign" if at % 2 else "red_team") for at in range(40)]
    summary = summarise({name: rows, "base": rows[1:]}, SETTINGS)
    columns = report.table(summary).columns[1:]
    return summary, name, [cell for row in zip(*(column.cells for column in columns), strict=True) for cell in row]


def printed(summary: dict, width: int, terminal: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    report.print_table(console, summary)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize("length", [21, 39, 120])
def test_a_terminal_shows_every_figure_in_full_with_any_length_of_name(
    dialogue: MakeDialogue, length: int, width: int
) -> None:
    summary, name, figures = long_named(length, dialogue)
    _, header, rule, *body = printed(summary, width, terminal=True)
    assert header.endswith(tables.HELD)
    parts = " ".join(body).split()
    for figure in " ".join(figures).split():
        parts.remove(figure)
    assert "".join(parts) == f"{name}base"
    assert len(rule) <= 80


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize("length", [21, 39, 120])
def test_a_table_outside_a_terminal_is_as_wide_as_needed(dialogue: MakeDialogue, length: int, width: int) -> None:
    summary, name, figures = long_named(length, dialogue)
    _, _, _, *body = printed(summary, width, terminal=False)
    assert [line.split() for line in body] == [
        [name, *" ".join(figures[:5]).split()],
        ["base", *" ".join(figures[5:]).split()],
    ]


def test_short_names_are_not_shortened(dialogue: MakeDialogue) -> None:
    summary, *_ = long_named(12, dialogue)
    lines = printed(summary, 80, terminal=True)
    assert lines == printed(summary, 80, terminal=False)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(report.table(summary))
    assert lines == console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_names_from_rows_are_escaped_in_markdown_and_csv(dialogue: MakeDialogue) -> None:
    names = [
        "=cmd|' /C calc'!A0",
        "+1",
        "-1",
        "@SUM(A1)",
        "＝1+1",
        "\t=1",
        "\r=1",
        "a\rb",
        "<img src=x onerror=alert(1)>",
        "![x](http://x)",
    ]
    rows = [dialogue(str(at), [3], subset=name) for at, name in enumerate(names)]
    summary = summarise({"=grpo": rows}, SETTINGS)
    lines = spreadsheet(summary).splitlines()
    assert len(lines) == 1 + 1 + 1 + len(names) + 1  # header, all, kind, subsets, their mean
    cells = [cell for line in csv.reader(lines) for cell in line[:3]]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "＝", "\t", "\r"))]
    assert "'=grpo" in cells
    page = report.markdown(summary)
    assert "<img" not in page
    assert "![x](http" not in page
    assert "\r" not in page


def rate(value: float, low: float, high: float) -> dict:
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((83.3, 75.2, 90.1), "83.3 (75-90)"),
        ((100.0, 98.0, 100.0), "100.0 (98-100)"),
        ((62.6, 62.6, 70.0), "62.6 (62.6-70.0)"),
        ((50.0, 49.5, 50.5), "50.0 (49.5-50.5)"),
        ((50.0, 50.0, 50.0), "50.0"),
        ((0.0, 0.0, 0.04), "0.00 (0.00-0.04)"),  # not "0.0 (0.0-0.0)": some resamples have more
        ((50.03, 50.01, 50.04), "50.03 (50.01-50.04)"),
        ((0.0, 0.0, 0.000001), "0.000000 (0.000000-0.000001)"),
    ],
)
def test_an_interval_holds_its_value_and_keeps_its_width(given: tuple[float, float, float], shown: str) -> None:
    assert tables.percent(rate(*given)) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((4.2, 0.8, 7.9), "+4.2 (0.8 to 7.9) *"),
        ((-0.04, -0.3, 0.01), "+0.0 (-0.3 to 0.0)"),
        ((-0.04, -0.3, -0.01), "-0.04 (-0.30 to -0.01) *"),
        ((0.01, 0.004, 0.02), "+0.010 (0.004 to 0.020) *"),
        ((0.000001, 0.000001, 0.000001), "+0.000001 *"),
    ],
)
def test_a_star_stands_beside_figures_that_exclude_0(given: tuple[float, float, float], shown: str) -> None:
    assert tables.difference(rate(*given)) == shown


def test_a_mean_just_below_0_has_no_sign(dialogue: MakeDialogue) -> None:
    rows = [dialogue(str(at), [0] * 9 + [-1 if at == 0 else 0]) for at in range(50)]
    page = report.markdown(summarise({"sft": rows}, SETTINGS))
    assert "| 0.00 |" in page
    assert "-0.00" not in page


def test_dialogues_that_a_seed_has_not_played_did_not_fail(dialogue: MakeDialogue) -> None:
    def rows(count: int, failed: int = 0) -> list[GradedDialogue]:
        return [dialogue(str(at), [3], failed=at < failed) for at in range(count)]

    summary = summarise({"f@1": rows(10), "f@2": rows(5, failed=1)}, SETTINGS)
    group = summary["f"]
    assert (group["n"], group["failed"], group["unshared"]) == (4, 1, 5)
    assert tables.main(summary).rows[0][-1] == "4 (+1 failed)"
    left, bound = [line for line in report.notes(summary) if line.startswith("f: ")]
    assert left == "f: 5 dialogues left out that only some of its seeds have played."
    assert bound == "f: 1 dialogue could not be graded; if not passed, joint pass 80.0, Safety 80.0, Helpfulness 80.0."
    assert f"* {left}\n" in report.markdown(summary)
    assert "seeds have played" not in report.markdown(summarise({"f@1": rows(5), "f@2": rows(5)}, SETTINGS))
    whole = facts({"f@1": rows(5), "f@2": rows(5)}, SETTINGS, "j")
    assert ("dialogues", "5, each by 2 policies") in whole
    assert "left out" not in dict(whole)
    some = dict(facts({"f@1": rows(10), "f@2": rows(5, failed=1)}, SETTINGS, "j"))
    assert some["dialogues"] == "10, not each by all of 2 policies"
    assert some["left out"] == "f@2: 1 of 5 dialogues could not be graded and are left out: time-out"


def test_a_users_style_does_not_matter(dialogue: MakeDialogue) -> None:
    import matplotlib

    summary = summarise({"sft": [dialogue("a", [3])]}, SETTINGS)
    with matplotlib.rc_context({"text.usetex": True, "lines.linewidth": 9.0}):
        styled = charts.inline_charts(summary)
    assert styled == charts.inline_charts(summary)
