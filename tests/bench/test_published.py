from collections.abc import Callable

import pytest

from steer_lit.bench import tables
from steer_lit.bench.records import GradedDialogue
from steer_lit.bench.summary import summarise
from steer_lit.bench.tables import published
from steer_lit.data.labels import SUBSETS
from tests.settings import bench_settings

MakeDialogue = Callable[..., GradedDialogue]


def test_the_multi_turn_means_are_the_plain_means_of_the_subsets() -> None:
    """A typing error in any of the 72 numbers would change a mean: (21.79 + 4.92 + 11.76 + 14.89 + 9.40) /
    5 = 12.55.
    """
    table = published()["multi_turn"]
    assert table["columns"] == [*SUBSETS, "mean"]
    for policy, (*subsets, mean) in table["rows"].items():
        for of in (0, 1):
            # The paper averages unrounded rates.
            assert sum(cell[of] for cell in subsets) / 5 == pytest.approx(mean[of], abs=0.011), policy


MEANS = """
single_turn | 3B base | 48.30/45.86
single_turn | 3B + SFT | 79.85/66.46
single_turn | 3B + SaFeR-Steer | 81.84/70.77
single_turn | 7B base | 56.21/60.32
single_turn | 7B + SFT | 83.64/72.83
single_turn | 7B + SaFeR-Steer | 87.89/77.40
aligned_3b | TIS | 26.94/27.03
aligned_3b | SPA-VL | 23.81/36.68
aligned_3b | MMDPO | 13.10/27.16
aligned_3b | SafeRLHF-V | 8.58/13.04
aligned_3b | GRLHF-V | 12.93/28.41
aligned_3b | SaFeR-VLM | 32.38/46.71
ablation | full method | 55.54/70.24
ablation | without TCSR | 51.09/65.91
ablation | without feedback dynamics (scripted attacker) | 51.09/63.96
ablation | without synthetic bootstrapping (GRPO from the base policy) | 24.48/42.44
granularity | single-turn SFT | 21.77/41.92
granularity | single-turn SFT + GRPO | 17.14/32.39
granularity | multi-turn SFT | 41.61/57.57
granularity | multi-turn SFT + GRPO | 55.54/70.24
"""


def test_the_tables_that_hold_only_means_are_as_typed_here_once_more() -> None:
    lines = [
        f"{name} | {policy} | {safe:.2f}/{helpful:.2f}"
        for name, table in published().items()
        if table["columns"] == ["mean"]
        for policy, ((safe, helpful),) in table["rows"].items()
    ]
    assert lines == MEANS.split("\n")[1:-1]


def test_the_subsets_rates_are_those_typed_here_once_more() -> None:
    """The means above miss a wrong last digit, since the paper averages unrounded rates."""
    rows = published()["multi_turn"]["rows"]
    assert [" ".join(f"{safe:.2f}/{helpful:.2f}" for safe, helpful in cells[:-1]) for cells in rows.values()] == [
        "21.79/42.88 4.92/15.91 11.76/34.12 14.89/23.28 9.40/19.44",
        "39.43/64.27 50.43/72.90 34.33/53.73 48.68/58.11 35.17/38.84",
        "50.27/71.20 69.03/85.98 54.43/72.48 54.76/66.27 49.40/55.40",
        "36.06/65.54 11.42/30.42 24.56/51.18 29.01/46.56 22.27/38.70",
        "50.00/75.45 57.83/80.51 41.96/61.01 51.32/65.66 50.46/51.68",
        "53.44/75.57 77.04/86.87 65.96/72.95 66.67/70.93 61.36/55.42",
    ]


def test_every_table_is_complete() -> None:
    assert set(published()) == {"multi_turn", "single_turn", "aligned_3b", "ablation", "granularity"}
    for table in published().values():
        assert all(len(cells) == len(table["columns"]) for cells in table["rows"].values())
        assert "paper" in table["title"]


def test_our_figures_are_below_the_papers_in_their_columns(dialogue: MakeDialogue) -> None:
    rows = [dialogue("a", [3], [3], subset="steer-vls"), dialogue("b", [-3], [3], subset="steer-spa")]
    grid, more = tables.beside_published(summarise({"sft": rows}, bench_settings(resamples=100)), "multi_turn")
    assert [row[0] for row in grid.rows][-2:] == ["paper: 7B + SaFeR-Steer", "sft"]
    assert grid.rows[-1] == ("sft", "-", "-", "100.00 / 100.00", "0.00 / 100.00", "-", "-")
    assert "Not comparable one to one" in grid.note
    assert "GPT-5-nano" in grid.note
    assert len(more.rows) == 6 + 4 + 4


@pytest.mark.parametrize("protocol", ["multi_turn", "single_turn"])
def test_a_mean_is_below_the_papers_only_over_its_five_subsets(dialogue: MakeDialogue, protocol: str) -> None:
    rows = [dialogue(name, [3], [3], subset=name) for name in SUBSETS]
    for extra, mean in ([], "100.00 / 100.00"), ([dialogue("m", [3], [3], subset="mini-red_team")], "-"):
        summary = summarise({"sft": [*rows, *extra]}, bench_settings(resamples=100))
        grids = tables.beside_published(summary, protocol)
        assert grids[0].rows[-1][-1] == mean


def test_the_single_turn_protocol_is_shown_with_its_own_table(dialogue: MakeDialogue) -> None:
    settings = bench_settings(resamples=100, protocol="single_turn")
    rows = [dialogue(name, [3], [2], subset=name) for name in SUBSETS]
    grid, _ = tables.beside_published(summarise({"sft": rows}, settings), "single_turn")
    assert grid.rows[0] == ("paper: 3B base", "48.30 / 45.86")
    assert grid.rows[-1] == ("sft", "100.00 / 0.00")


def test_one_of_the_papers_subsets_is_enough_to_show_its_single_turn_table(dialogue: MakeDialogue) -> None:
    summary = summarise({"sft": [dialogue("a", [3], subset=SUBSETS[0])]}, bench_settings(resamples=100))
    grid, _ = tables.beside_published(summary, "single_turn")
    assert (grid.rows[0][-1], grid.rows[-1]) == ("48.30 / 45.86", ("sft", "-"))  # a mean is over all five


def test_a_run_without_the_papers_subsets_has_no_comparison(dialogue: MakeDialogue) -> None:
    summary = summarise({"sft": [dialogue("a", [3], subset="mini-words")]}, bench_settings(resamples=100))
    assert tables.beside_published(summary, "multi_turn") == ()
