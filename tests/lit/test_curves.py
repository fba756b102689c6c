"""The picture of a run's metrics: which points it holds, and that a resumed run draws the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steer_lit.lit.curves import PANELS, Curves, drawn, smoothed
from steer_lit.lit.sft_module import SFTModule
from tests.settings import optim_settings

ROOT = Path(__file__).resolve().parents[2]


def trainer_at(step: int, folder: Path, metrics: dict[str, float], rank_zero: bool = True) -> Any:
    return SimpleNamespace(
        callback_metrics=metrics,
        default_root_dir=str(folder),
        global_step=step,
        is_global_zero=rank_zero,
        sanity_checking=False,
    )


def test_smoothing_takes_as_many_values_on_both_sides_as_there_are() -> None:
    assert smoothed([1, 2, 6, 3, 8], 3) == [1.5, 3, pytest.approx(11 / 3), pytest.approx(17 / 3), 5.5]
    assert smoothed([1, 2, 6], 1) == [1, 2, 6]


def test_points_are_noted_where_they_were_logged(tmp_path: Path) -> None:
    """Lightning keeps the last validation's figures beside those of later steps; they are no points of these steps."""
    curves, module = Curves(), SimpleNamespace()
    curves.on_train_batch_end(trainer_at(1, tmp_path, {"train/loss": 3.0}), module, None, None, 0)  # type: ignore[arg-type]
    curves.on_validation_end(trainer_at(1, tmp_path, {"train/loss": 3.0, "val/loss": 2.5}), module)  # type: ignore[arg-type]
    later = {"train/loss": 2.0, "val/loss": 2.5, "train/grad_norm": 9.0}
    curves.on_train_batch_end(trainer_at(2, tmp_path, later), module, None, None, 1)  # type: ignore[arg-type]
    assert curves.points == {"train/loss": {1: 3.0, 2: 2.0}, "val/loss": {1: 2.5}}


def test_a_step_that_counted_nothing_has_no_point_and_a_second_validation_replaces_the_first(tmp_path: Path) -> None:
    curves, module = Curves(), SimpleNamespace()
    for value in (0.5, 0.25, float("nan")):
        curves.on_validation_end(trainer_at(4, tmp_path, {"val/safe_share": value}), module)  # type: ignore[arg-type]
    assert curves.points == {"val/safe_share": {4: 0.25}}


def test_a_validation_before_training_is_not_noted(tmp_path: Path) -> None:
    curves, sanity = Curves(), trainer_at(0, tmp_path, {"val/loss": 9.0})
    sanity.sanity_checking = True
    curves.on_validation_end(sanity, SimpleNamespace())  # type: ignore[arg-type]
    assert not curves.points
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rank_zero", [True, False])
def test_only_the_first_rank_draws_and_every_rank_can_save(rank_zero: bool, tmp_path: Path) -> None:
    curves = Curves()
    curves.on_validation_end(trainer_at(1, tmp_path, {"val/loss": 2.5}, rank_zero), SimpleNamespace())  # type: ignore[arg-type]
    assert (tmp_path / "curves.png").is_file() is rank_zero
    assert curves.state_dict() == {"points": {"val/loss": {1: 2.5}}}


def lines(metric: str, points: dict[str, dict[int, float]]) -> dict[str, tuple[list[float], list[float]]]:
    """Return what a metric's panel shows, by the legend's names, with that of a pale line last."""
    (axes,) = drawn({f"{kind}/{metric}": of for kind, of in points.items()}).axes
    assert axes.get_title() == PANELS[metric]
    return {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_a_short_run_is_drawn_as_it_is() -> None:
    shown = lines("right_share", {"train": {1: 0.5, 2: 0.75}, "val": {2: 0.6}})
    assert shown == {"training": ([1, 2], [0.5, 0.75]), "held out": ([2], [0.6])}


@pytest.mark.parametrize(("steps", "window"), [(30, 3), (99, 9), (400, 41)])
def test_a_long_run_is_drawn_with_its_moving_mean(steps: int, window: int) -> None:
    values = [float(step % 7) for step in range(steps)]
    shown = lines("kl", {"train": dict(enumerate(values, start=1))})
    smooth = shown.pop(f"training, mean of {window} steps")
    assert smooth == (list(range(1, steps + 1)), pytest.approx(smoothed(values, window)))
    assert list(shown.values()) == [(list(range(1, steps + 1)), values)]


def test_axes_begin_at_zero_and_shares_end_at_100_percent() -> None:
    points = {"val/safe_share": {4: 0.5}, "val/turn_tokens": {4: 30.0}, "val/turn_score": {4: 0.4}}
    by_title = {axes.get_title(): axes for axes in drawn(points).axes}
    safe, score = by_title[PANELS["safe_share"]], by_title[PANELS["turn_score"]]
    assert safe.get_xlim() == pytest.approx((0, 4.2))
    assert safe.get_ylim() == score.get_ylim() == pytest.approx((-0.02, 1.1))
    assert safe.yaxis.get_major_formatter()(0.5) == "50%"
    assert score.yaxis.get_major_formatter()(0.5) != "50%"  # the terminal has it from 0 to 1 too
    assert by_title[PANELS["turn_tokens"]].get_ylim() == pytest.approx((-0.6, 33))
    (flat,) = drawn({"train/kl": {1: 0.0}}).axes
    assert flat.get_ylim() == (0, 1)


def test_panels_stand_in_rows_of_three() -> None:
    both = {f"{kind}/{name}": {1: 0.5} for name in PANELS for kind in ("train", "val")}
    whole, one = drawn(both), drawn({"val/loss": {1: 0.5}})
    assert len(whole.axes) == len(PANELS)
    assert list(whole.get_size_inches()) == [3 * size for size in one.get_size_inches()]


def test_a_picture_that_cannot_be_written_is_told_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("a file in the folder's place")
    Curves().on_train_end(trainer_at(1, tmp_path / "run", {}), SimpleNamespace())  # type: ignore[arg-type]
    assert not caplog.messages
    curves = Curves()
    curves.on_validation_end(trainer_at(1, tmp_path / "run", {"val/loss": 2.5}), SimpleNamespace())  # type: ignore[arg-type]
    assert f"{tmp_path}/run/curves.png could not be written" in caplog.text


def test_a_users_style_does_not_matter(tmp_path: Path) -> None:
    import matplotlib

    points = {"val/loss": {1: 2.5}}
    for folder, settings in (("plain", {}), ("styled", {"text.usetex": True, "lines.linewidth": 9.0})):
        curves = Curves()
        curves.load_state_dict({"points": points})
        with matplotlib.rc_context(settings):
            curves.on_train_end(trainer_at(1, tmp_path / folder, {}), SimpleNamespace())  # type: ignore[arg-type]
    assert (tmp_path / "plain/curves.png").read_bytes() == (tmp_path / "styled/curves.png").read_bytes()


def test_docs_metrics_explains_every_metric_that_is_drawn() -> None:
    explained = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert not [name for name in PANELS if f"/{name}`" not in explained]


@pytest.fixture
def fit(make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path) -> Callable[..., Curves]:
    """Return a function that trains for `steps` and returns the callback, with a checkpoint kept of every step."""
    from lightning import Callback

    class Copies(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")

    def run(steps: int, folder: str, resume: Path | None = None) -> Curves:
        every = {"check_val_every_n_epoch": None, "val_check_interval": 2}
        curves = Curves()
        callbacks = [curves, *([] if resume else [Copies()])]
        trainer = make_trainer(steps, **every, default_root_dir=tmp_path / folder, callbacks=callbacks)
        optim = optim_settings(lr=1e-2, schedule="constant", warmup=0.0)
        module = SFTModule(tiny_policy(adapted=True), optim, 2048, replays=1, max_new_tokens=4)
        trainer.fit(module, small_world("sft", val_size=10), ckpt_path=resume, weights_only=True)
        return curves

    return run


def test_a_resumed_run_draws_what_one_that_was_never_stopped_draws(fit: Callable[..., Curves], tmp_path: Path) -> None:
    """The checkpoint of step 2 was saved before that step's validation, as a kill between the two would leave it."""
    straight = fit(4, "straight").points
    assert list(straight["train/loss"]) == [1, 2, 3, 4]
    assert list(straight["val/loss"]) == [2, 4]
    drawn = (tmp_path / "straight/curves.png").read_bytes()
    for saved in (1, 2, 3):
        assert fit(4, f"resumed_{saved}", tmp_path / f"{saved}.ckpt").points == straight
        assert (tmp_path / f"resumed_{saved}/curves.png").read_bytes() == drawn
