"""What a checkpoint holds. A run resumed from it equals a run that was never stopped."""

from __future__ import annotations

import io
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steer_lit.errors import SteerError
from steer_lit.lit.export import PolicyExport
from steer_lit.lit.grpo_module import GRPOModule
from steer_lit.lit.last_checkpoint import LastCheckpoint
from steer_lit.lit.optim import lr_factor
from steer_lit.lit.sft_module import SFTModule
from steer_lit.lit.training_checkpoint import OWN, random_state, read_checkpoint, restore_random_state
from steer_lit.reward.reward import Reward
from steer_lit.tutor.rubric import RubricTutor
from tests.settings import objective_settings, optim_settings, rollout_settings

OPTIM = optim_settings(lr=1e-2, schedule="cosine", warmup=0.3)


def sft_module(policy: Any) -> SFTModule:
    return SFTModule(policy, OPTIM, micro_tokens=2048)


def grpo_module(policy: Any) -> GRPOModule:
    from steer_lit.attacker.adaptive import AdaptiveAttacker

    rollout = rollout_settings(group_size=2, max_turns=2, max_new_tokens=6)
    # The rubric gives every nonsense answer the same scores. Repetition and format make the difference within a group.
    return GRPOModule(
        policy, AdaptiveAttacker(), RubricTutor(), Reward(), rollout, objective_settings(), OPTIM, 2048, seed=1
    )


def pretrain_module(policy: Any) -> SFTModule:
    return SFTModule(policy, OPTIM, micro_tokens=2048, trains="base")


MODULES = {"sft": sft_module, "grpo": grpo_module, "pretrain": pretrain_module}


@pytest.mark.parametrize(("stage", "dtype"), [("sft", "float32"), ("grpo", "bfloat16"), ("pretrain", "float32")])
def test_a_resumed_run_equals_the_uninterrupted_run(
    stage: str, dtype: str, make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """Stopped after 3 of 6 steps and again after 5. An epoch has 4 steps, so the second part crosses an epoch's end."""
    world = small_world(stage, batch_size=10)
    assert len(world.train_dataloader()) == 4

    def fit(policy: Any, until: int, resume: Path | None, folder: str) -> None:
        # `max_steps` is that of the whole run, because the learning rate depends on it. `until` stops the run earlier.
        callbacks = [LastCheckpoint(every_n_steps=100), *([stop_at(until)] if until < 6 else [])]
        trainer = make_trainer(6, callbacks=callbacks, default_root_dir=tmp_path / folder, enable_checkpointing=True)
        data = small_world(stage, batch_size=10)
        trainer.fit(MODULES[stage](policy), data, ckpt_path=resume, weights_only=True)
        assert trainer.global_step == until

    adapted = stage != "pretrain"  # pretraining's adapter has no effect
    straight = tiny_policy(dtype, adapted)
    start = {name: parameter.detach().clone() for name, parameter in learnt(straight, stage).items()}
    fit(straight, 6, None, "straight")
    fit(tiny_policy(dtype, adapted), 3, None, "first")
    again = stage == "grpo"  # a GRPO checkpoint names the adapter that the run started from
    fit(tiny_policy(dtype, again), 5, tmp_path / "first/checkpoints/last.ckpt", "second")
    resumed = tiny_policy(dtype, again)
    fit(resumed, 6, tmp_path / "second/checkpoints/last.ckpt", "third")
    ended, other = learnt(straight, stage), learnt(resumed, stage)
    assert all(torch.equal(other[name], tensor) for name, tensor in ended.items())
    assert not all(torch.equal(tensor, start[name]) for name, tensor in ended.items())


def learnt(policy: Any, stage: str) -> Any:
    return dict(policy.base.named_parameters()) if stage == "pretrain" else policy.adapter_state()


def stop_at(step: int) -> Any:
    from lightning import Callback

    class Stop(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = trainer.global_step >= step

    return Stop()


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_trap_33_checkpoints_hold_plain_types_and_only_what_trains(
    stage: str, make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    policy = tiny_policy()
    callbacks = [LastCheckpoint(every_n_steps=100), PolicyExport()]
    make_trainer(2, callbacks=callbacks, enable_checkpointing=True).fit(MODULES[stage](policy), small_world(stage))
    saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert saved["state_dict"].keys() == {f"policy.{name}" for name in policy.adapter_parameters()}
    assert saved[OWN]["fingerprint"] == policy.fingerprint
    assert ("reference" in saved[OWN]) is (stage == "grpo")
    assert (tmp_path / "adapter/adapter_model.safetensors").is_file()
    assert (tmp_path / "adapter/adapter_config.json").is_file()


def test_a_run_from_the_exported_adapter_starts_with_the_same_weights(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    from steer_lit.policy.lora import AdapterFolder

    policy, fresh = tiny_policy(), tiny_policy()
    make_trainer(2, callbacks=[PolicyExport()]).fit(sft_module(policy), small_world("sft"))
    AdapterFolder(tmp_path / "adapter").load_into(fresh.model, fresh.fingerprint)
    assert all(torch.equal(tensor, policy.adapter_state()[name]) for name, tensor in fresh.adapter_state().items())


def test_trap_19_a_resumed_run_keeps_its_first_reference_and_logs_its_step(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "steer_lit")
    policy = tiny_policy(adapted=True)
    start = policy.adapter_state()
    trainer = make_trainer(2, callbacks=[LastCheckpoint(every_n_steps=100)], enable_checkpointing=True)
    trainer.fit(grpo_module(policy), small_world("grpo"))
    assert "resumed" not in caplog.text
    resumed = tiny_policy(adapted=True)
    make_trainer(3).fit(
        grpo_module(resumed), small_world("grpo"), ckpt_path=tmp_path / "checkpoints/last.ckpt", weights_only=True
    )
    assert all(torch.equal(tensor, start[name]) for name, tensor in resumed.reference_state.items())
    assert f"resumed at step 2 of {tmp_path / 'checkpoints/last.ckpt'}" in caplog.text
    assert "fresh" not in caplog.text  # no new adapter: the second policy was loaded


def test_a_resumed_run_refuses_another_starting_adapter(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """The adapter is compared by content, not by the name of its folder. A run without one may start from other random
    matrices.
    """
    for adapted in (True, False):
        trainer = make_trainer(1, callbacks=[LastCheckpoint(every_n_steps=100)], enable_checkpointing=True)
        trainer.fit(grpo_module(tiny_policy(adapted=adapted)), small_world("grpo"))
        saved = read_checkpoint(tmp_path / "checkpoints/last.ckpt")
        grpo_module(tiny_policy(adapted=adapted, seed=int(not adapted))).on_load_checkpoint(saved)
        with pytest.raises(
            SteerError, match=r"^init_from=null: the checkpoint's run started .*, init_from=null as it was:"
        ):
            grpo_module(tiny_policy(adapted=not adapted)).on_load_checkpoint(saved)


def cut(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[..., :-1].clone()


def first(states: dict[Any, Any]) -> Any:
    return next(iter(states))


DAMAGED: dict[str, tuple[Any, str]] = {
    "weights": (lambda saved: saved.update(state_dict={}), "has other weights than this run trains, policy.model.*"),
    "weight": (
        lambda saved: saved["state_dict"].popitem(),
        r"policy\.model.* has shape none, .*: it is damaged",
    ),
    "stranger": (lambda saved: saved["state_dict"].update(a=torch.ones(1)), r"trains, a has shape \(1,\), not none"),
    "shape": (
        lambda saved: saved["state_dict"].update({(key := first(saved["state_dict"])): cut(saved["state_dict"][key])}),
        r"lora_A.default.weight has shape \(4, \d+\), not \(4, \d+\)",
    ),
    "nan": (
        lambda saved: saved["state_dict"].update({(key := first(saved["state_dict"])): saved["state_dict"][key] / 0}),
        "not finite",
    ),
    "reference": (
        lambda saved: saved[OWN]["reference"].popitem(),
        "has a reference that does not fit, .* shape none",
    ),
}


def test_a_damaged_checkpoint_is_refused_before_the_first_step(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """Lightning alone would accept missing tensors, and other shapes would fail in the middle of the first step."""
    trainer = make_trainer(1, callbacks=[LastCheckpoint(every_n_steps=100)], enable_checkpointing=True)
    trainer.fit(grpo_module(tiny_policy()), small_world("grpo"))
    module = grpo_module(tiny_policy())
    for damage, said in DAMAGED.values():
        saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
        module.on_load_checkpoint(saved)
        damage(saved)
        with pytest.raises(SteerError, match=rf"^the checkpoint .*{said}"):
            module.on_load_checkpoint(saved)


def test_a_run_saved_before_its_first_step_can_be_resumed(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """Such a checkpoint is written if the server is down from the start. The optimizer has no moments yet."""
    trainer = make_trainer(0, enable_checkpointing=True)
    trainer.fit(grpo_module(tiny_policy()), small_world("grpo"))
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    saved = read_checkpoint(tmp_path / "first.ckpt")
    assert saved["optimizer_states"][0]["state"] == {}
    grpo_module(tiny_policy()).on_load_checkpoint(saved)


@pytest.mark.parametrize("spoilt", ["weights", "gradient"])
def test_non_finite_weights_or_gradients_are_neither_saved_nor_exported(
    spoilt: str, make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    """Weights that the last update made non-finite must also be found, not only a non-finite gradient."""

    def fit(steps: int, spoils_at: int) -> None:
        module = sft_module(tiny_policy())
        step = module.step_optimizer

        def spoiling() -> None:
            optimizer = module.optimizers()
            if module.global_step == spoils_at and spoilt == "weights":
                optimizer.param_groups[0]["weight_decay"] = 1e308
            elif module.global_step == spoils_at:
                next(iter(optimizer.masters.values())).grad.fill_(torch.inf)
            step()

        module.step_optimizer = spoiling  # type: ignore[method-assign]
        callbacks = [LastCheckpoint(every_n_steps=1), PolicyExport()]
        make_trainer(steps, callbacks=callbacks, enable_checkpointing=True).fit(module, small_world("sft"))

    what = {"weights": "norm of the weights after", "gradient": "gradient of"}[spoilt]
    lower = r"is (nan|inf): lower optim.lr=0.01 or optim.weight_decay=0.01, and"
    with pytest.raises(SteerError, match=f"^the {what} step 1 {lower} begin again: nothing was saved"):
        fit(1, 0)
    assert list(tmp_path.rglob("*")) == []
    last = tmp_path / "checkpoints/last.ckpt"
    with pytest.raises(SteerError, match=f"^the {what} step 2 {lower} go on from the last .*ckpt_path={last}$"):
        fit(2, 1)
    sft_module(tiny_policy()).on_load_checkpoint(read_checkpoint(last))  # accepts finite weights only


def draw() -> tuple[float, float, float, float]:
    return random.random(), random.gauss(0, 1), float(np.random.randn()), torch.rand(1).item()  # noqa: NPY002


def test_trap_33_random_state_loads_under_weights_only_and_continues_exactly() -> None:
    draw()  # creates second normal numbers, which are kept in the state
    file = io.BytesIO()
    torch.save(random_state(), file)
    expected = [draw(), draw()]
    file.seek(0)
    restore_random_state(torch.load(file, weights_only=True))
    assert [draw(), draw()] == expected


def test_trap_34_the_random_state_is_restored_after_everything_is_built(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    from lightning import Callback

    drawn: list[tuple[float, float]] = []

    class Draw(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            drawn.append((random.random(), torch.rand(1).item()))

    def fit(steps: int, resume: Path | None) -> None:
        callbacks = [Draw(), LastCheckpoint(every_n_steps=100)]
        trainer = make_trainer(steps, callbacks=callbacks, enable_checkpointing=True)
        trainer.fit(sft_module(tiny_policy()), small_world("sft"), ckpt_path=resume, weights_only=True)

    random.seed(3)
    torch.manual_seed(3)
    fit(4, None)
    straight, drawn[:] = list(drawn), []
    random.seed(3)
    torch.manual_seed(3)
    last = tmp_path / "checkpoints/last.ckpt"
    for steps, resume in ((2, None), (3, last), (4, last)):
        fit(steps, resume)
        torch.rand(100)  # as if another model had been built
        random.random()
    assert drawn == straight


def test_trap_34_each_rank_restores_its_own_random_state(
    make_trainer: Any, small_world: Any, tiny_policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning import Callback

    drawn: list[float] = []

    class Draw(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            drawn.append(random.random())

    module = sft_module(tiny_policy())
    for seed in (1, 2):
        random.seed(seed)
        module._random_states.append(random_state())
    monkeypatch.setattr(SFTModule, "global_rank", 1)
    make_trainer(1, callbacks=[Draw()]).fit(module, small_world("sft"))
    assert drawn == [random.Random(2).random()]


def test_a_checkpoint_of_another_base_model_is_refused(tiny_policy: Any) -> None:
    module = sft_module(tiny_policy())
    with pytest.raises(SteerError, match=r"belongs to base model 0123, .*: resume with the model the run was started"):
        module.on_load_checkpoint({OWN: {"fingerprint": "0123", "random_states": []}})


def test_a_checkpoint_of_another_prompt_scale_resolution_or_number_type_is_refused(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path
) -> None:
    callbacks = [LastCheckpoint(every_n_steps=100)]
    make_trainer(1, callbacks=callbacks, enable_checkpointing=True).fit(sft_module(tiny_policy()), small_world("sft"))
    reworded, rescaled, resized, elsewhere, rounded = (tiny_policy() for _ in range(5))
    reworded.system_prompt = "Be brief."
    rescaled.model.peft_config["default"].lora_alpha = 4
    resized.parts = replace(resized.parts, max_pixels=3136)
    elsewhere.base.lm_head.to(torch.bfloat16)  # the type that `auto` chooses on a CPU with fast bfloat16
    for parameter in rounded.adapter_parameters().values():
        parameter.data = parameter.data.bfloat16()
    others = {"system_prompt": reworded, "lora.alpha": rescaled, "max_pixels": resized, "model.dtype": elsewhere}
    others["lora.dtype"] = rounded
    for key, policy in others.items():
        with pytest.raises(SteerError, match=rf"was trained with {key}=.*, this run has"):
            make_trainer(2).fit(
                sft_module(policy), small_world("sft"), ckpt_path=tmp_path / "checkpoints/last.ckpt", weights_only=True
            )


def test_a_checkpoint_of_other_layers_or_of_quantized_ones_is_refused(tiny_policy: Any, monkeypatch: Any) -> None:
    checkpoint: dict[str, Any] = {}
    trained = sft_module(tiny_policy())
    trained._trainer = type("Alone", (), {"world_size": 1})()  # type: ignore[assignment]
    trained.on_save_checkpoint(checkpoint)
    fewer = tiny_policy(targets=("q_proj", "v_proj"))
    with pytest.raises(SteerError, match=r"lora.targets=\['down_proj', .*, this run has \['q_proj', 'v_proj'\]"):
        sft_module(fewer).on_load_checkpoint(checkpoint)
    monkeypatch.setattr("steer_lit.policy.qwen_vl.four_bit_modules", lambda model: ["some"])
    with pytest.raises(SteerError, match=r"was trained with model.quantize='none', this run has 'nf4'"):
        sft_module(tiny_policy()).on_load_checkpoint(checkpoint)


def test_a_resumed_run_uses_its_own_optimizer_settings(
    make_trainer: Any, small_world: Any, tiny_policy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A user may resume with a lower learning rate after a non-finite gradient. The checkpoint's rate must
    not be used.
    """
    caplog.set_level("INFO", "steer_lit")
    callbacks = [LastCheckpoint(every_n_steps=100), stop_at(3)]
    trainer = make_trainer(6, callbacks=callbacks, enable_checkpointing=True)
    trainer.fit(sft_module(tiny_policy()), small_world("sft"))
    assert "from here on" not in caplog.text
    module = sft_module(tiny_policy())
    module.optim = replace(OPTIM, lr=1e-3, weight_decay=0.5, betas=(0.8, 0.9))
    rates: list[float] = []
    step = module.step_optimizer
    module.step_optimizer = lambda: (rates.append(module.optimizers().param_groups[0]["lr"]), step())  # type: ignore[method-assign, assignment, func-returns-value]
    trainer = make_trainer(6)
    trainer.fit(module, small_world("sft"), ckpt_path=tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert rates == [1e-3 * lr_factor(step, 6, "cosine", 0.3) for step in (3, 4, 5)]
    (group,) = trainer.optimizers[0].param_groups
    assert (group["weight_decay"], group["betas"]) == (0.5, (0.8, 0.9))
    assert "optim.lr=0.001 from here on, before it was 0.01" in caplog.text


class Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ({"steer_lit": Runs()}, "names posix.mkdir, code that is not run"),
        ({"optimizer_states": [], "state_dict": {}}, "was not written by steer_lit, it holds no steer_lit"),
        ({"steer_lit": {}, "state_dict": {}}, "was not written by steer_lit, it holds no optimizer_states"),
        (torch.ones(2), "was not written by steer_lit, it holds no steer_lit"),
    ],
)
def test_a_foreign_checkpoint_is_refused_in_one_line(
    saved: Any, said: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    from steer_lit.cli import main as cli

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.ckpt"
    torch.save(saved, path)
    words = [f"ckpt_path={path}", f"hydra.run.dir={tmp_path / 'run'}", "logger=none"]
    assert cli.run("train", words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == f"ckpt_path={str(path)!r}: {said}: name a .ckpt under <run>/checkpoints"
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("pickled", [b"\x80\x02garbage", b"", b"\x80\x02}X\x01\x00\x00\x00\xff."])
def test_a_damaged_checkpoint_is_named_without_advice_to_load_it_unsafely(pickled: bytes, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "last.ckpt", "w") as archive:
        archive.writestr("last/data.pkl", pickled)
        archive.writestr("last/version", "3")
    remedy = r"is damaged, or no checkpoint at all: name a \.ckpt under <run>/checkpoints$"
    with pytest.raises(SteerError, match=rf"^ckpt_path=.*last.ckpt': {remedy}"):
        read_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(SteerError, match=r"^ckpt_path=.*': cannot be read \(.*Is a directory.*\): name a \.ckpt under"):
        read_checkpoint(tmp_path)
