from types import SimpleNamespace
from typing import Any

import pytest
import torch

from steer_lit.lit.sft_module import SFTModule
from steer_lit.rollout.engine import SampledSession
from tests.settings import optim_settings

OPTIM = optim_settings(lr=1e-3, schedule="constant", warmup=0.0, max_grad_norm=0.01)


def gradient_of_one_step(make_trainer: Any, small_world: Any, policy: Any, micro_tokens: int, **settings: Any) -> Any:
    """Return the gradient by parameter that the optimizer gets in the first step."""
    module = SFTModule(policy, OPTIM, micro_tokens, **settings)
    seen: dict[str, torch.Tensor] = {}
    configure = module.configure_optimizers

    def configured() -> Any:
        (optimizer,), schedules = configure()
        masters = optimizer.masters
        optimizer.register_step_pre_hook(lambda *_: seen.update({name: masters[name].grad.clone() for name in masters}))
        return [optimizer], schedules

    module.configure_optimizers = configured  # type: ignore[method-assign]
    make_trainer(max_steps=1).fit(module, small_world("ground" if settings else "sft", batch_size=5))
    return seen


def test_trap_28_all_and_only_the_adapter_learns(make_trainer: Any, small_world: Any, tiny_policy: Any) -> None:
    policy = tiny_policy(adapted=True)
    gradients = gradient_of_one_step(make_trainer, small_world, policy, 4096)
    assert gradients.keys() == policy.adapter_parameters().keys()
    assert all(gradient.any() for gradient in gradients.values())
    assert float(torch.nn.utils.get_total_norm(gradients.values())) == pytest.approx(OPTIM.max_grad_norm)  # clipped


def test_grounding_trains_the_tower_and_nothing_else(make_trainer: Any, small_world: Any, tiny_policy: Any) -> None:
    policy = tiny_policy()
    gradients = gradient_of_one_step(make_trainer, small_world, policy, 4096, trains="tower")
    assert gradients
    assert all(".visual." in name for name in gradients)
    assert any(gradient.any() for gradient in gradients.values())


def test_validation_loss_is_the_mean_over_all_supervised_tokens(
    make_trainer: Any, small_world: Any, tiny_policy: Any
) -> None:
    policy, world = tiny_policy(), small_world("sft", batch_size=7, val_size=10)  # steps of 7 and 3 rows
    module = SFTModule(policy, OPTIM, micro_tokens=4096)
    trainer = make_trainer(max_steps=1)
    metrics = trainer.validate(module, world, verbose=False)[0]
    total, count = 0.0, 0
    for rows in world.val_dataloader():
        for row in rows:
            batch = policy.collate([module.renderer.dialogue(row)])
            with torch.no_grad():
                total -= float(policy.logprobs(batch).sum())
            count += int(batch.completion_mask.sum())
    assert metrics["val/loss"] == pytest.approx(total / count, rel=1e-5)


def test_replays_count_turns_answered_exactly(
    make_trainer: Any, small_world: Any, tiny_policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steer_lit.lit import sft_module
    from steer_lit.lit.sft_module import as_scenario
    from steer_lit.types import Completion, Trajectory, Turn

    def replay_the_first_turn_right(policy: Any, dialogues: Any, *limits: Any) -> list[Trajectory]:
        played = []
        for row, dialogue in enumerate(dialogues):
            scenario, (first, second) = as_scenario(dialogue), dialogue.answers
            told = [Completion(first), Completion(second, finish="length") if row else Completion("no")]
            turns = [Turn(*turn) for turn in zip(scenario.attacks, told[: 1 if row == 3 else 2], strict=False)]
            played.append(Trajectory(scenario, tuple(turns), None, 0))
        return played

    monkeypatch.setattr(sft_module, "replay", replay_the_first_turn_right)
    module = SFTModule(tiny_policy(), OPTIM, micro_tokens=4096, replays=4)
    world = small_world("sft", val_size=10)
    metrics = make_trainer(max_steps=1).validate(module, world, verbose=False)[0]
    assert len(module.replayed) == 4
    assert metrics["val/exact_share"] == pytest.approx(0.5)  # of two turns each, played or not


def test_no_more_dialogues_are_replayed_at_a_time_than_the_hardware_allows(
    make_trainer: Any, small_world: Any, tiny_policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering, reply = [], SampledSession.reply

    def watched(session: SampledSession, asked: Any) -> Any:
        answering.append(len(session.answering) + len(asked))
        assert session.policy.temperature == 0
        return reply(session, asked)

    monkeypatch.setattr(SampledSession, "reply", watched)
    module = SFTModule(tiny_policy(), OPTIM, micro_tokens=4096, replays=4, max_new_tokens=3, side_by_side=2)
    make_trainer(1).validate(module, small_world("sft", val_size=10), verbose=False)
    assert len(module.replayed) == 4
    assert max(answering) == 2


@torch.no_grad()
@pytest.mark.parametrize("replays", [1, 3, 4])
def test_two_ranks_replay_as_many_dialogues_in_total_as_one(replays: int, small_world: Any, tiny_policy: Any) -> None:
    rows = [row for step in small_world("sft", val_size=10).val_dataloader() for row in step]
    held_out: list[Any] = []
    for rank in (0, 1):
        module = SFTModule(tiny_policy(), OPTIM, micro_tokens=4096, replays=replays)
        module._trainer = SimpleNamespace(world_size=2, global_rank=rank)  # type: ignore[assignment]
        for start in (0, 4):
            module.validation_step(rows[start : start + 4][rank::2], 0)
        held_out += module._held_out
    assert sorted(row.id for row in held_out) == sorted(row.id for row in rows[:replays])
