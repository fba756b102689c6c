import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.errors import ServerDown, SteerError, TooManyFailures
from steer_lit.lit.credit import AssignedCredit
from steer_lit.lit.grpo_module import GRPOModule
from steer_lit.lit.last_checkpoint import LastCheckpoint
from steer_lit.lit.step_batch import StepBatch
from steer_lit.lit.training_checkpoint import OWN
from steer_lit.lit.trajectory_log import TrajectoryLog
from steer_lit.objective.normalise import StepCounts
from steer_lit.reward.reward import Reward, TrajectoryReward
from steer_lit.rollout import engine
from steer_lit.rollout.seeds import stable_hash
from steer_lit.types import Scenario, SoFar, TokenTrace, Turn, Verdict
from tests.policies import ending_at_every
from tests.settings import objective_settings, optim_settings, rollout_settings

ROLLOUT = rollout_settings(group_size=3, max_turns=2, max_new_tokens=8)


class LetterTutor:
    """Gives higher scores to answers with more e's, so that rewards differ. Fails on the dialogues
    `failing` selects.
    """

    def __init__(self, failing: Callable[[Scenario, Sequence[Turn]], bool] = lambda scenario, turns: False) -> None:
        self.failing = failing

    def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
        verdicts = []
        for scenario, turns in dialogues:
            score = 1 + min(9, turns[-1].completion.text.count("e"))
            failed = self.failing(scenario, turns)
            verdicts.append(Verdict(failed="silent") if failed else Verdict(score, score, score))
        return verdicts


def make_module(policy: Any, kind: type[GRPOModule] = GRPOModule, **changes: Any) -> GRPOModule:
    settings: dict[str, Any] = {
        "attacker": ScriptedAttacker(),
        "tutor": LetterTutor(),
        "reward": Reward(w_format=0.0),
        "rollout": ROLLOUT,
        "objective": objective_settings(),
        "optim": optim_settings(lr=1e-2, schedule="constant", warmup=0.0),
        "micro_tokens": 4096,
        "seed": 1,
    }
    return kind(policy, **{**settings, **changes})


def run(make_trainer: Any, module: GRPOModule, world: Any, steps: int, **settings: Any) -> list[dict[str, float]]:
    """Fit the module. Return the metrics of every step."""
    from lightning import Callback

    metrics: list[dict[str, float]] = []

    class Keep(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    callbacks = [Keep(), *settings.pop("callbacks", [])]
    make_trainer(max_steps=steps, callbacks=callbacks, **settings).fit(module, world)
    return metrics


def record_gradients(module: GRPOModule) -> list[dict[str, torch.Tensor]]:
    """Return a list that each step adds its gradient to, as the optimizer gets it."""
    found: list[dict[str, torch.Tensor]] = []
    step = module.step_optimizer

    def recorded() -> float:
        masters = module.optimizers().masters
        found.append({name: master.grad.clone() for name, master in masters.items() if master.grad is not None})
        return step()

    module.step_optimizer = recorded  # type: ignore[method-assign]
    return found


def test_trap_18_trap_19_at_the_first_step_after_sft_the_kl_is_zero_and_the_ratio_one(
    make_trainer: Any, small_world: Any, tiny_policy: Any
) -> None:
    policy = tiny_policy(adapted=True)  # as after SFT: far from the base
    first, second = run(make_trainer, make_module(policy), small_world("grpo"), steps=2)
    assert first["train/kl"] == 0.0
    assert second["train/kl"] > 1e-6  # and not later
    assert first["train/ratio"] == first["train/ratio_max"] == 1.0
    assert first["train/ratio_gap_max"] < 1e-4  # float32: a cache and a full forward pass differ by rounding


def test_trap_17_tokens_are_scored_at_the_temperature_of_their_rollout(
    make_trainer: Any, small_world: Any, tiny_policy: Any
) -> None:
    module = make_module(tiny_policy(adapted=True), rollout=replace(ROLLOUT, temperature=0.5))
    (step,) = run(make_trainer, module, small_world("grpo"), steps=1)
    assert step["train/ratio_gap_max"] < 1e-4
    assert step["train/kl"] == 0.0  # so is the reference


def test_rows_without_advantage_are_left_out_only_if_their_gradient_is_zero(
    tiny_policy: Any, make_trainer: Any
) -> None:
    from steer_lit.types import Attack, Message, Trajectory

    scenario = Scenario("row", "benign", Attack(Message.of("user", "hello")))
    traces = [TokenTrace((1, 2, 3), (-1, 0, 0), (0.0, -1.0, -1.0)) for _ in range(3)]
    trajectories = [Trajectory(scenario, (), trace, 0) for trace in traces]
    credit = AssignedCredit(((0.5,), (0.0,), ()), 0, 0)
    for kl_coef, kept in ((0.0, 1), (0.1, 2)):
        module = make_module(tiny_policy(), objective=objective_settings(kl_coef=kl_coef))
        module.trainer = make_trainer(max_steps=1)
        step_batch = module._step_batch(trajectories, credit)
        assert len(step_batch.traces) == kept
        # The denominators count the row left out, but not the failed one (TRAPS 25).
        assert (step_batch.counts.dialogues, step_batch.counts.tokens) == (2, 4)


def test_an_advantage_of_ones_own_is_learned_from_logged_and_written_down(
    make_trainer: Any, small_world: Any, tiny_policy: Any
) -> None:
    class Own(GRPOModule):
        def credit_of(self, rewards: Sequence[TrajectoryReward | None]) -> AssignedCredit:
            credit = super().credit_of(rewards)
            return replace(credit, advantages=tuple((0.5,) * len(row) for row in credit.advantages))

    module = make_module(tiny_policy(), kind=Own)
    (step,) = run(make_trainer, module, small_world("grpo"), steps=1)
    assert step["train/advantage_std"] == 0.5
    assert {turn.advantage for rollout in module.rollouts for turn in rollout.turns} == {0.5}
    assert step["train/grad_norm"] > 0  # in groups of equal returns too


def test_an_advantage_that_is_no_number_stops_the_run_before_anything_is_learned(
    make_trainer: Any, small_world: Any, tiny_policy: Any
) -> None:
    class Own(GRPOModule):
        def credit_of(self, rewards: Sequence[TrajectoryReward | None]) -> AssignedCredit:
            credit = super().credit_of(rewards)
            return replace(credit, advantages=tuple((math.nan,) * len(row) for row in credit.advantages))

    module = make_module(tiny_policy(), kind=Own)
    gradients = record_gradients(module)
    with pytest.raises(SteerError, match=r"test_grpo_module.*Own.credit_of returned \(nan,.*\) for dialogue 1,"):
        run(make_trainer, module, small_world("grpo"), steps=1)
    assert (gradients, module.rollouts) == ([], [])


def test_trap_25_a_failed_row_changes_nothing_for_the_others(
    make_trainer: Any, small_world: Any, tiny_policy: Any
) -> None:
    """Groups of three whose third row fails have the same gradient as groups of two."""

    class FailThird(LetterTutor):
        def score(self, dialogues: Any) -> list[Verdict]:
            verdicts = super().score(dialogues)
            return [Verdict(failed="silent") if at % 3 == 2 else found for at, found in enumerate(verdicts)]

    found = []
    for size, tutor in ((3, FailThird()), (2, LetterTutor())):
        rollout = rollout_settings(group_size=size, max_turns=1, max_new_tokens=8)
        module = make_module(tiny_policy(adapted=True), tutor=tutor, rollout=rollout)
        gradients = record_gradients(module)
        (step,) = run(make_trainer, module, small_world("grpo"), steps=1)
        assert step["train/failed_share"] == pytest.approx(1 / 3 if size == 3 else 0.0)
        found.append(gradients[0])
    assert found[0].keys() == found[1].keys()
    assert any(gradient.any() for gradient in found[0].values())
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-5)


def test_too_many_failures_stop_the_run_after_logging_its_rollouts(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    module = make_module(tiny_policy(), tutor=LetterTutor(failing=lambda scenario, turns: True))
    said = r"9 of 9 trajectories.*rollout.max_failed_share=0.5; the first: silent$"
    with pytest.raises(TooManyFailures, match=said):
        run(make_trainer, module, small_world("grpo"), steps=1, callbacks=[TrajectoryLog()])
    assert not (tmp_path / "checkpoints").exists()  # nothing is learned yet
    rows = [json.loads(line) for line in (tmp_path / "trajectories.jsonl").read_text().splitlines()]
    assert [row["failed"] for row in rows] == ["silent"] * 9


@pytest.mark.parametrize(("steps", "interval"), [(3, 2), (2, 2), (2, 9)])
def test_too_many_failures_in_a_validation_stop_the_run_after_saving_it(
    steps: int, interval: int, make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """Without a verdict the run would end as if all were well, and could not tell which adapter is best."""
    validated, drawing = list[int](), count()
    last = tmp_path / "checkpoints" / "last.ckpt"

    def fit(ckpt_path: Path | None, steps: int = steps, *, fails: bool = False, **settings: Any) -> dict[str, Any]:
        policy = tiny_policy()
        module = make_module(policy)
        module.tutor = LetterTutor(failing=lambda scenario, turns: fails and module.trainer.validating)
        ended = module.on_validation_epoch_end
        module.on_validation_epoch_end = lambda: (ended(), validated.append(module.global_step))  # type: ignore
        saving = {"callbacks": [TrajectoryLog(), LastCheckpoint(100)], "enable_checkpointing": True}
        every = {"val_check_interval": interval, "check_val_every_n_epoch": None}
        trainer = make_trainer(steps, **every, **saving, **settings)
        world = small_world("grpo", val_size=10)
        torch.manual_seed(next(drawing))  # building a model draws from the random state
        trainer.fit(module, world, ckpt_path=ckpt_path, weights_only=True)
        if module.monitored.name not in trainer.callback_metrics:  # resumed at its end, as in cli/train_run.py
            trainer.validate(module, world)
        return policy.adapter_state()

    said = r"^10 of 10 trajectories failed in the validation after step 2, more than .*; the first: silent\."
    for ckpt_path in (None, last, last):  # also when it fails again: what is owed must not be forgotten
        with pytest.raises(TooManyFailures, match=said):
            fit(ckpt_path, fails=True)
    assert len((tmp_path / "trajectories.jsonl").read_text().splitlines()) == 2 * 9  # each once
    assert validated == []
    (drawn,) = torch.load(last, weights_only=True)[OWN]["random_states"]
    fit(last)  # this validation is repeated, the steps before it are not
    assert validated == [2, 3][: steps - 1]
    assert len((tmp_path / "trajectories.jsonl").read_text().splitlines()) == steps * 9
    saved = torch.load(last, weights_only=True)
    assert (saved["global_step"], saved[OWN]["validated_at"]) == (steps, steps)
    if steps == 2:  # nothing was left to train
        assert torch.equal(saved[OWN]["random_states"][0]["torch"], drawn["torch"])
    went_on = fit(last, 4)
    assert validated == [*[2, 3][: steps - 1], 4]  # each once
    straight = fit(None, 4, default_root_dir=tmp_path / "straight")
    assert all(torch.equal(went_on[name], tensor) for name, tensor in straight.items())


def test_a_validation_without_a_verdict_has_no_score(
    make_trainer: Any, small_world: Any, tiny_policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that allows any share to fail goes on, and warns once."""
    tutor, rollout = LetterTutor(failing=lambda scenario, turns: True), replace(ROLLOUT, max_failed_share=1.0)
    module = make_module(tiny_policy(), tutor=tutor, rollout=rollout)
    (step,) = run(make_trainer, module, small_world("grpo", val_size=10), steps=1, limit_val_batches=1)
    warnings = [record.getMessage() for record in caplog.records if "failed in" in record.getMessage()]
    assert warnings == ["9 of 9 trajectories failed in step 1, and are left out; the first: silent"]
    assert math.isnan(module.trainer.callback_metrics["val/right_share"])
    # All groups were skipped: there is nothing to average, and no ratio that could be the largest.
    empty = {"ratio", "ratio_max", "ratio_gap", "ratio_gap_max", "nll", "kl", "clip_share", "advantage_std"}
    assert {name for name in empty if not math.isnan(step[f"train/{name}"])} == set()
    assert step["train/policy_loss"] == step["train/kl_loss"] == step["train/grad_norm"] == 0.0


def test_a_step_reports_its_progress_in_playing_learning_and_validating_greedily(
    make_trainer: Any, small_world: Any, tiny_policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, heard = make_module(tiny_policy()), list[tuple[str, int, int]]()
    draws, drawn = list[bool](), engine.drawn
    monkeypatch.setattr(engine, "drawn", lambda *given: draws.append(module.trainer.validating) or drawn(*given))
    module.tell = lambda what, done, total: heard.append((what, done, total))
    trainer = make_trainer(1, limit_val_batches=1, num_sanity_val_steps=0)
    trainer.fit(module, small_world("grpo", val_size=10))
    told = {what: [(done, total) for said, done, total in heard if said == what] for what, _, _ in heard}
    assert list(told) == ["played", "learned", "validated"]
    for what, rows in (("played", len(module.rollouts)), ("validated", 3)):
        assert told[what] == [(done, rows) for done in range(rows + 1)]
    done, total = told["learned"][-1]
    assert done == total > 0
    assert set(draws) == {False}


@pytest.mark.parametrize(("limits", "total"), [({"max_epochs": 1}, 26), ({"max_epochs": 1, "max_steps": 5}, 5)])
def test_two_epochs_per_batch_are_two_steps_of_the_schedule(
    make_trainer: Any, small_world: Any, tiny_policy: Any, limits: dict[str, int], total: int
) -> None:
    module = make_module(tiny_policy(), objective=objective_settings(epochs=2))
    seen: list[float] = []
    module.on_train_start = lambda: seen.append(module.total_steps)  # type: ignore[method-assign]
    module.training_step = lambda batch, batch_idx: None  # type: ignore[method-assign, assignment]
    make_trainer(**{"max_steps": -1, "limit_train_batches": 13, **limits}).fit(module, small_world("grpo"))
    assert seen == [total]


def test_a_dead_server_stops_the_run_after_saving_it(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    module, last = make_module(tiny_policy()), tmp_path / "checkpoints" / "last.ckpt"
    scores, at = module.tutor.score, 0

    def score(dialogues: Sequence[SoFar]) -> list[Verdict]:
        if module.global_step == at:
            raise ServerDown("nobody answers")
        return scores(dialogues)

    module.tutor.score = score  # type: ignore[method-assign]
    with pytest.raises(ServerDown, match=r"^nobody answers$"):
        run(make_trainer, module, small_world("grpo"), steps=2)
    assert not last.exists()  # nothing is learned yet: with other settings the run may begin again in its folder
    at = 1
    with pytest.raises(ServerDown, match=r"^nobody answers\nThe run is saved: resume it once the server answers$"):
        run(make_trainer, module, small_world("grpo"), steps=2)
    assert torch.load(last, weights_only=True)["global_step"] == 1


def test_a_second_epoch_scores_against_the_policy_that_sampled(
    make_trainer: Any, small_world: Any, tiny_policy: Any
) -> None:
    module = make_module(tiny_policy(adapted=True), objective=objective_settings(epochs=2))
    (step,) = run(make_trainer, module, small_world("grpo"), steps=2)
    assert step["train/ratio_max"] > 1.0  # the ratios are those of the last epoch, after one update
    assert step["train/ratio_gap_max"] < 1e-4  # the gap is that of the first epoch


def test_each_token_has_its_turns_advantage_and_each_clip_its_own_side(tiny_policy: Any) -> None:
    objective = objective_settings(kl_coef=0.0, clip_low=0.1, clip_high=9.0, normaliser="constant")
    module = make_module(tiny_policy(), objective=objective)
    trace = TokenTrace((40, 41, 42, 43), (-1, 0, 0, 1), (0.0, -1.0, -1.0, -1.0))
    step_batch = StepBatch.of([(trace, (7.0, 7.0)), (trace, (0.5, -2.0))], StepCounts(2, 6))
    assert step_batch.tokens == 6
    batch, rows = module.policy.collate([trace]), [1]  # the second micro-batch of one row
    means = module._loss(step_batch, batch, rows, first=True)[1].means()
    step_batch.remember(batch, [0], batch.old_logprobs)  # a later micro-batch, without a gap
    assert step_batch.gap_sum > step_batch.gap_max > 0
    assert means["policy_loss"] == 1.0 / (2 * 2 * 8)  # -(0.5 + 0.5 - 2.0); dialogues, turns, tokens a turn
    step_batch.old[1] = step_batch.old[1] - 1.0
    means = module._loss(step_batch, batch, rows, first=False)[1].means()
    assert means["ratio"] == pytest.approx(math.e)
    assert means["clip_share"] == 0.0  # a ratio that rises with the advantage meets the upper bound alone


def test_every_rollout_is_logged(make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path) -> None:
    module = make_module(ending_at_every(tiny_policy(), 4), reward=Reward(w_format=0.0, credit="score"))
    batches = list[Sequence[Scenario]]()
    inner = module.training_step

    def step(batch: Any, batch_idx: int) -> None:
        batches.append(batch)
        inner(batches[0], batch_idx)  # the same scenarios twice, as in a second epoch

    module.training_step = step  # type: ignore[method-assign]
    metrics = run(make_trainer, module, small_world("grpo"), steps=2, callbacks=[TrajectoryLog()])
    rows = [json.loads(line) for line in (tmp_path / "trajectories.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 3 * 3  # steps, scenarios, dialogues per group
    assert [row["step"] for row in rows] == [0] * 9 + [1] * 9
    assert [row["scenario"] for row in rows[:9]] == [row["scenario"] for row in rows[9:]]
    drawn = [stable_hash(1, row["step"], row["scenario"], at % 3) for at, row in enumerate(rows)]
    assert [row["seed"] for row in rows] == drawn
    advantages = [[turn["advantage"] for turn in row["turns"]] for row in rows]
    assert any(len(set(turns)) > 1 for turns in advantages)  # each turn has its own credit
    squares = [number**2 for turns in advantages[9:] for number in turns]
    assert metrics[1]["train/advantage_std"] == pytest.approx(math.sqrt(sum(squares) / len(squares)))
    groups = [rows[start : start + 3] for start in range(0, len(rows), 3)]
    for group in groups:
        assert len({row["scenario"] for row in group}) == 1
        assert sum(row["turns"][0]["advantage"] for row in group) == pytest.approx(0.0, abs=1e-9)


def test_a_ratio_without_counts_does_not_repeat_an_earlier_steps_value(
    make_trainer: Any, small_world: Any, tiny_policy: Any
) -> None:
    """Lightning logs the last value of a name again in every later step of the epoch. NaN must replace it."""
    module = make_module(tiny_policy())
    inner, pairs = module.training_step, iter([(1.0, 2.0), (0.0, 0.0)])

    def step(batch: Any, batch_idx: int) -> None:
        inner(batch, batch_idx)
        module.log_ratios({"train/share": next(pairs)})

    module.training_step = step  # type: ignore[method-assign]
    first, second = run(make_trainer, module, small_world("grpo"), steps=2)
    assert first["train/share"] == 0.5
    assert math.isnan(second["train/share"])
