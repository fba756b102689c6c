"""The summary as text, spreadsheet and charts: positions and numbers worked by hand."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from steer_lit.bench import charts, report
from steer_lit.bench.records import GradedDialogue
from steer_lit.bench.suite import BenchSettings
from steer_lit.bench.summary import summarise

SETTINGS = BenchSettings(resamples=100)
MakeDialogue = Callable[..., GradedDialogue]


@pytest.fixture
def summary(dialogue: MakeDialogue) -> dict:
    """One policy: a fails at turn 1, b never over 2 turns; one benign, one red team; a third has no grade."""
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
        "Multi-turn pass rates (paper, Table 3)",
    ):
        assert f"\n## {title}\n" in page
    assert "| sft | 50.0 [0.0, 100.0] |" in page
    assert "2 (+1 failed)" in page
    assert "| s\\|1 | sft |" in page
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    for lines in tables:
        cells = {line.replace("\\|", "").count("|") for line in lines}
        assert len(cells) == 1, lines[0]
    assert all(f"]({name})" in page for name in ("survival.png", "failures.png", "kinds.png"))


def test_the_documentation_lists_every_figure_and_no_other(summary: dict, repository: Path) -> None:
    section = (repository / "docs" / "metrics.md").read_text().split("## The benchmark")[1]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")][2:]
    assert {name.strip() for row in rows for name in row.split(",")} == {*summary["sft"], "vs"}


def test_each_protocol_states_its_own_rule(summary: dict) -> None:
    assert "exactly 3; joint pass" in report.markdown(summary, "single_turn")
    assert "Table 2" in report.markdown(summary, "single_turn")
    assert "reaches its threshold" in report.markdown(summary, "multi_turn")


def test_the_spreadsheet_has_a_line_for_every_part(summary: dict) -> None:
    lines = list(csv.DictReader(io.StringIO(report.spreadsheet(summary))))
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


def test_a_survival_curve_by_hand(summary: dict) -> None:
    # Kaplan-Meier: 1/2 after turn 1 and on to the horizon of 10. The chart is 640 x 300 with 40 left, 8 right, 12 top
    # and 40 bottom: a turn is (640 - 48) / 10.5 = 56.38 wide, 100% at y = 12, 50% at 12 + 248 / 2 = 136.
    (curve,) = charts.survival(summary).curves
    corners = curve.line.split()
    assert corners[:4] == ["40.0,12.0", "96.4,12.0", "96.4,136.0", "152.8,136.0"]
    assert corners[-1] == "632.0,136.0"
    assert len(corners) == 2 * 11
    assert len(curve.band.split()) == 2 * len(corners)
    assert curve.told == "sft: 50.0% without an unsafe answer after turn 10"


def test_bars_by_hand(summary: dict) -> None:
    chart = charts.failures(summary)
    assert [tick.label for tick in chart.x_ticks] == [*map(str, range(1, 11)), "none"]
    # eleven columns of 592 / 11 = 53.82; the bar takes 84%: 45.21, from 40 + 53.82 * 0.08 = 44.31 on
    first, *others = chart.bars
    assert (first.x, first.width) == (pytest.approx(44.31, abs=0.01), pytest.approx(45.21, abs=0.01))
    assert (first.y, first.height) == (136.0, 124.0)  # half the dialogues fail at turn 1
    assert [bar.height for bar in others] == [0.0] * 9 + [124.0]
    joint, safety, helpfulness = charts.kinds(summary)
    assert [bar.told for bar in safety.bars] == ["sft, benign: 0.0%", "sft, red_team: 100.0%"]
    assert [bar.whisker for bar in joint.bars + helpfulness.bars] == [None] * 4  # no interval of one dialogue


def test_whiskers_show_the_interval(dialogue: MakeDialogue) -> None:
    rows = [dialogue(str(number), [3 if number % 2 else -3]) for number in range(20)]
    summary = summarise({"sft": rows}, SETTINGS)
    (bar,) = charts.kinds(summary)[1].bars
    cell = summary["sft"]["safety_pass"]
    top, bottom = bar.whisker
    assert top < bar.y == 136.0 < bottom
    assert bar.told == f"sft, red_team: 50.0% [{cell['low']:.1f}, {cell['high']:.1f}]"


def test_a_summary_of_nothing_graded_still_has_a_report(dialogue: MakeDialogue) -> None:
    summary = summarise({"sft": [dialogue("a", [3], failed=True)]}, SETTINGS)
    assert "| sft | - | - | - | - | - | - | - | 0 (+1 failed) |" in report.markdown(summary)
    assert charts.survival(summary).curves == ()
    assert charts.failures(summary).bars == ()
    assert charts.kinds(summary)[0].bars == ()
    assert report.spreadsheet(summary).splitlines()[1].startswith("sft,all,,0,")


def test_a_policys_name_from_a_file_cannot_drive_the_terminal(dialogue: MakeDialogue) -> None:
    name = "\x1b]0;mine\x07"
    summary = summarise({name: [dialogue("a", [3])], "other": [dialogue("a", [3])]}, SETTINGS)
    console = Console(file=io.StringIO(), width=200)
    console.print(report.table(summary), *report.notes(summary))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\N{REPLACEMENT CHARACTER}]0;mine" in text
    assert not {"\x1b", "\x07"} & set(text)


def test_names_from_rows_are_neither_markup_nor_formulas(dialogue: MakeDialogue) -> None:
    names = [
        "=cmd|' /C calc'!A0",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "a\rb",
        "<img src=x onerror=alert(1)>",
        "![x](http://x)",
    ]
    rows = [dialogue(str(at), [3], subset=name) for at, name in enumerate(names)]
    summary = summarise({"=grpo": rows}, SETTINGS)
    lines = report.spreadsheet(summary).splitlines()
    assert len(lines) == 1 + 1 + 1 + len(names) + 1  # header, all, kind, subsets, their mean
    cells = [cell for line in csv.reader(lines) for cell in line[:3]]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert "'=grpo" in cells
    page = report.markdown(summary)
    assert "<img" not in page
    assert "![x](http" not in page
    assert "\r" not in page
