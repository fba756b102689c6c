from collections.abc import Callable

import pytest

from steer_lit.bench import tables
from steer_lit.bench.published import published
from steer_lit.bench.records import GradedDialogue
from steer_lit.bench.settings import BenchSettings
from steer_lit.bench.summary import summarise
from steer_lit.data.labels import SUBSETS

MakeDialogue = Callable[..., GradedDialogue]


def test_the_multi_turn_means_are_the_plain_means_of_the_subsets() -> None:
    """A typing error in any of the 72 numbers would change a mean: (21.79 + 4.92 + 11.76 + 14.89 + 9.40) /
    5 = 12.55.
    """
    table = published()["multi_turn"]
    assert table.columns == (*SUBSETS, "mean")
    for policy, (*subsets, mean) in table.rows.items():
        for of in (0, 1):
            # The paper averages unrounded rates.
            assert sum(cell[of] for cell in subsets) / 5 == pytest.approx(mean[of], abs=0.011), policy


def test_every_table_is_complete() -> None:
    assert set(published()) == {"multi_turn", "single_turn", "aligned_3b", "ablation", "granularity"}
    for table in published().values():
        assert all(len(cells) == len(table.columns) for cells in table.rows.values())
        assert all(0 <= rate <= 100 for cells in table.rows.values() for cell in cells for rate in cell)
        assert "paper" in table.title
    assert published()["single_turn"].rows["7B + SaFeR-Steer"] == ((87.89, 77.40),)
    assert published()["ablation"].rows["without TCSR"] == ((51.09, 65.91),)
    assert published()["granularity"].rows["single-turn SFT + GRPO"] == ((17.14, 32.39),)
    assert published()["aligned_3b"].rows["SaFeR-VLM"] == ((32.38, 46.71),)


def test_our_figures_are_below_the_papers_in_their_columns(dialogue: MakeDialogue) -> None:
    rows = [dialogue("a", [3], [3], subset="steer-vls"), dialogue("b", [-3], [3], subset="steer-spa")]
    grid, more = tables.beside_published(summarise({"sft": rows}, BenchSettings(resamples=100)), "multi_turn")
    assert [row[0] for row in grid.rows][-2:] == ["paper: 7B + SaFeR-Steer", "sft"]
    assert grid.rows[-1] == ("sft", "-", "-", "100.00 / 100.00", "0.00 / 100.00", "-", "-")
    assert "Not comparable one to one" in grid.note
    assert "GPT-5-nano" in grid.note
    assert len(more.rows) == 6 + 4 + 4


@pytest.mark.parametrize("protocol", ["multi_turn", "single_turn"])
def test_a_mean_is_below_the_papers_only_over_its_five_subsets(dialogue: MakeDialogue, protocol: str) -> None:
    rows = [dialogue(name, [3], [3], subset=name) for name in SUBSETS]
    for extra, mean in ([], "100.00 / 100.00"), ([dialogue("m", [3], [3], subset="mini-red_team")], "-"):
        summary = summarise({"sft": [*rows, *extra]}, BenchSettings(resamples=100))
        grids = tables.beside_published(summary, protocol)
        assert (grids[0].rows[-1][-1] if grids else "-") == mean


def test_the_single_turn_protocol_is_shown_with_its_own_table(dialogue: MakeDialogue) -> None:
    settings = BenchSettings(resamples=100, protocol="single_turn")
    rows = [dialogue(name, [3], [2], subset=name) for name in SUBSETS]
    grid, _ = tables.beside_published(summarise({"sft": rows}, settings), "single_turn")
    assert grid.rows[0] == ("paper: 3B base", "48.30 / 45.86")
    assert grid.rows[-1] == ("sft", "100.00 / 0.00")


def test_a_run_without_the_papers_subsets_has_no_comparison(dialogue: MakeDialogue) -> None:
    summary = summarise({"sft": [dialogue("a", [3], subset="mini-words")]}, BenchSettings(resamples=100))
    assert tables.beside_published(summary, "multi_turn") == ()
