"""Rows longer than the context length are set aside when they are read, with their length, the limit and the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steer_lit.errors import ConfigError, SteerError, TooManyBadRows
from steer_lit.rollout.engine import renderer_of
from steer_lit.rollout.row_length import too_long
from steer_lit.types import Attack, Dialogue, ImageRef, Message, Scenario
from tests.settings import objective_settings, optim_settings, rollout_settings

KNIFE = ImageRef("mini://knife?colour=red&x=1&y=1&size=50&bg=0")


def sft_row(name: str, words: int) -> dict[str, object]:
    said = {"role": "user", "content": "what is this " * words}
    return {"id": name, "messages": [said, {"role": "assistant", "content": "A hat."}]}


def test_a_row_of_the_context_length_fits_and_one_token_more_does_not(tiny_policy, monkeypatch) -> None:
    policy = tiny_policy()
    messages = (Message.of("user", KNIFE, "What is this? " * 5), Message.of("assistant", "A knife."))
    dialogue = Dialogue("d", messages)
    tokens = len(renderer_of(policy).dialogue(dialogue).token_ids)
    assert policy.parts.context_length == 4096
    monkeypatch.setattr(policy.base.config.text_config, "max_position_embeddings", tokens)
    assert too_long(policy, dialogue) is None
    monkeypatch.setattr(policy.base.config.text_config, "max_position_embeddings", tokens - 1)
    assert too_long(policy, dialogue) == (
        f"takes {tokens:,} tokens, model=tiny reads {tokens - 1:,}: shorten it, or lower data.max_turns"
    )


def test_a_scenarios_length_is_that_of_its_user_messages(tiny_policy) -> None:
    attack = Attack(Message.of("user", "what is this " * 2000))
    assert too_long(tiny_policy(), Scenario("s", "benign", Attack(Message.of("user", "Hi")))) is None
    assert "reads 4,096" in (too_long(tiny_policy(), Scenario("s", "benign", attack, (attack,))) or "")


def test_training_sets_long_rows_aside_before_the_first_step(tiny_policy, make_trainer, tmp_path: Path) -> None:
    from steer_lit.data.datamodule import SteerDataModule
    from steer_lit.data.sources import FileSource
    from steer_lit.lit.sft_module import SFTModule

    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(sft_row(name, words)) + "\n" for name, words in (("a", 1), ("b", 5000))))
    module = SFTModule(tiny_policy(), optim_settings(1e-3), 1024)
    data = SteerDataModule(FileSource(sft=str(path)), "sft", 1)
    data.unfit = module.unfit
    with pytest.raises(
        TooManyBadRows, match=r"row 2: .* tokens, model=tiny reads 4,096: shorten it, or lower data.max_turns"
    ):
        make_trainer(1, limit_val_batches=0).fit(module, data)
    assert module.global_step == 0


def test_a_generated_row_that_is_too_long_stops_training_and_is_named(tiny_policy, make_trainer, monkeypatch) -> None:
    from steer_lit.data.datamodule import SteerDataModule
    from steer_lit.data.sources import MiniSource
    from steer_lit.lit.sft_module import SFTModule

    policy = tiny_policy()
    monkeypatch.setattr(policy.base.config.text_config, "max_position_embeddings", 100)
    data = SteerDataModule(MiniSource(4, 4, 4, 4, 4), "sft", 1)
    with pytest.raises(SteerError, match=r"row 'mini-sft-.* tokens, model=tiny reads 100: .* lower data\.max_turns"):
        make_trainer(1, limit_val_batches=0).fit(SFTModule(policy, optim_settings(1e-3), 1024), data)


def test_rollouts_whose_answers_alone_may_be_too_long_are_refused(tiny_policy) -> None:
    from steer_lit.attacker.scripted import ScriptedAttacker
    from steer_lit.lit.grpo_module import GRPOModule
    from steer_lit.reward.reward import Reward
    from steer_lit.tutor.rubric import RubricTutor

    def make(tokens: int) -> GRPOModule:
        parts = ScriptedAttacker(), RubricTutor(), Reward(), rollout_settings(2, 4, tokens)
        return GRPOModule(tiny_policy(), *parts, objective_settings(), optim_settings(1e-3), 1024, 0)

    make(1024)
    with pytest.raises(ConfigError, match=r"over rollout\.max_turns=4 is more than the 4,096 tokens the model reads"):
        make(1025)


@pytest.mark.parametrize("normalizer", ["NFC", None])  # as Qwen's and SmolLM2's tokenizers
@pytest.mark.parametrize("letter", ["e\u0301", "\u0958"])  # NFC shortens the first and lengthens the second
def test_the_length_is_right_for_any_unicode_normalisation(
    tiny_policy, monkeypatch, letter: str, normalizer: str | None
) -> None:
    from tokenizers.normalizers import NFC

    policy = tiny_policy()
    policy.tokenizer.backend_tokenizer.normalizer = NFC() if normalizer else None
    dialogue = Dialogue("d", (Message.of("user", letter * 200), Message.of("assistant", letter * 200)))
    tokens = len(renderer_of(policy).dialogue(dialogue).token_ids)
    monkeypatch.setattr(policy.base.config.text_config, "max_position_embeddings", tokens - 1)
    assert "reads" in (too_long(policy, dialogue) or "")


def test_a_command_sets_long_rows_aside_in_its_run_folder(tmp_path: Path) -> None:
    from steer_lit.cli import main as cli

    path, run = tmp_path / "rows.jsonl", tmp_path / "run"
    path.write_text("".join(json.dumps(sft_row(name, words)) + "\n" for name, words in (("a", 1), ("b", 5000))))
    words = ["data=steer", f"data.source.sft={path}", "data.max_bad_rows=1", "data.val_size=0", "data.batch_size=1"]
    assert cli.run("train", [*words, "trainer.max_steps=1", "logger=none", f"hydra.run.dir={run}"]) == 0
    (aside,) = map(json.loads, (run / "quarantine.jsonl").read_text().splitlines())
    assert aside["row"] == 2
    assert "model=tiny reads 4,096" in aside["reason"]
