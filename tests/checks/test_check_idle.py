"""Settings that take no part in a run, alone and in a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steer_lit.checks.idle import idle_in_sweep
from tests.settings import Refused

IDLE = ": changes nothing that this run learns: it takes part only with "
WEIGHTS = ("w_safe", "w_use", "w_faith")


@pytest.fixture
def start(tmp_path: Path) -> list[str]:
    """Return words of a run of GRPO that is refused in any case: there is no adapter."""
    return ["+experiment=grpo_tiny", f"init_from={tmp_path}", f"hydra.run.dir={tmp_path}/run"]


@pytest.mark.parametrize(
    ("words", "key", "with_what"),
    [
        (["reward.credit=score"], "reward.alpha=0.5", "a reward.credit other than score"),
        (["rollout.max_turns=1"], "reward.alpha=0.5", "rollout.max_turns above 1"),
        (["rollout.max_turns=1"], "attacker.lead_share=0.1", "rollout.max_turns above 1"),
        (["reward.combine=product", "reward.w_use=0.3"], "reward.w_safe=0.5", "reward.combine=weighted, or if one of"),
        (["reward.combine=min", "reward.w_use=0.3"], "reward.w_safe=0.5", "reward.combine=weighted, or if one of"),
        (["objective.epochs=1"], "objective.clip_low=0.1", "objective.epochs above 1"),
        (["objective.epochs=1"], "objective.clip_high=0.3", "objective.epochs above 1"),
        (["objective.kl_coef=0"], "objective.kl_estimator=k2", "objective.kl_coef above 0"),
        (["attacker.lead_share=0"], "attacker.quote_words=2", "attacker.lead_share or attacker.extra_turns above 0"),
        (["experiment=sft_tiny"], "reward.alpha=0.5", "stage=grpo"),
        (["experiment=sft_tiny"], "attacker.lead_share=0.1", "stage=grpo"),
        (["experiment=sft_tiny", "replay.dialogues=0"], "replay.max_new_tokens=5", "replay.dialogues above 0"),
        (["experiment=null", "stage=ground", "model=nano"], "model.lora.r=4", "stage=sft or grpo"),
    ],
)
def test_a_setting_that_takes_no_part_is_refused(
    start: list[str], words: list[str], key: str, with_what: str, refused: Refused
) -> None:
    base = [] if words[0].startswith("experiment") else [start[0]]
    lines = [line for line in refused(*base, *start[1:], *words, key).splitlines() if IDLE in line]
    (line,) = [line for line in lines if line.startswith(f"  * {key.partition('=')[0]}=")]
    assert f"{IDLE}{with_what}" in line


@pytest.mark.parametrize(
    "words",
    [
        ["objective.epochs=2", "trainer.max_steps=2", "objective.clip_low=0.1"],
        ["objective.kl_estimator=k2"],
        ["reward.w_safe=0.5", "reward.w_use=0.3"],
        ["reward.combine=product", "reward.w_safe=0", "reward.w_use=0.8"],  # leaves a score out
        ["reward.credit=gain", "reward.alpha=0.5"],
        ["attacker.lead_share=0", "attacker.extra_turns=1", "attacker.quote_words=2"],
        ["reward=balanced", "reward.credit=score"],
        ["rollout.max_turns=1", "reward._target_=mine.Reward", "reward.alpha=0.5"],  # what it makes of alpha, who knows
        ["rollout.max_turns=1", "attacker=llm", "tutor=llm", "server.model=m", "attacker.client.model=n"],
    ],
)
def test_a_setting_that_takes_part_is_not(start: list[str], words: list[str], refused: Refused) -> None:
    assert IDLE not in refused(*start, *words)


SFT, ONE_TURN = {"stage": "sft"}, {"rollout": {"max_turns": 1}}
SCORE, MIN = {"reward": {"credit": "score", "alpha": 0.5}}, {"reward": {"combine": "min", **dict.fromkeys(WEIGHTS, 1)}}
WORDY = {"attacker": {"quote_words": 2, "lead_share": 0, "extra_turns": 0}}
CLIENT = {"attacker": {"client": {"model": "m"}, "clients": 2}}


@pytest.mark.parametrize(
    ("config", "key", "with_what"),
    [
        (SFT | SCORE, "reward.alpha", "stage=grpo"),
        (SFT | MIN, "reward.w_safe", "stage=grpo"),
        (SFT | WORDY, "attacker.quote_words", "stage=grpo"),
        (SFT | ONE_TURN | WORDY, "attacker.lead_share", "stage=grpo"),
        (SCORE | ONE_TURN, "reward.alpha", "a reward.credit other than score"),
        (WORDY | ONE_TURN, "attacker.quote_words", "rollout.max_turns above 1"),
        (CLIENT | ONE_TURN, "attacker.client.model", None),  # has to be valid, although nothing calls it
        (CLIENT | ONE_TURN, "attacker.clients", "rollout.max_turns above 1"),
    ],
)
def test_of_several_reasons_the_first_is_told_and_none_of_a_clients_setting(
    config: dict[str, Any], key: str, with_what: str | None
) -> None:
    told = [f"{problem.key}: {problem.remedy}" for _, problem in idle_in_sweep([config], [f"{key}=1"])]
    assert told == ([] if with_what is None else [f"{key}{IDLE}{with_what}"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rollout.max_turns=1", "attacker=adaptive,llm", "server.model=m"], ["attacker._target_="]),
        (["reward.credit=score", "reward=tcsr,mean"], ["reward.alpha=0.0", "reward.return='mean'"]),
        (["reward.combine=product", "reward.w_safe=0.4", "reward.w_use=0.3,0.4", "reward.w_faith=0.3"], ["w_use=0.4"]),
        (["objective.clip_low=0.1,0.2", "objective.epochs=1"], ["objective.clip_low=0.2"]),
        (["objective.clip_low=0.1,0.2", "objective.epochs=1,2", "trainer.max_steps=2"], ["objective.clip_low=0.2"]),
        (["seed=1,2", "objective.clip_low=0.1"], ["objective.clip_low=0.1"]),  # in none of the runs
        (["rollout.max_turns=1", "attacker=adaptive,scripted"], ["attacker._target_="]),
    ],
)
def test_a_sweep_whose_runs_would_learn_the_same_is_refused(
    start: list[str], words: list[str], told: list[str], refused: Refused, tmp_path: Path
) -> None:
    lines = refused("-m", start[0], f"init_from={tmp_path}", f"hydra.sweep.dir={tmp_path}/sweep", *words).splitlines()
    assert sum(line.startswith("  * attacker.") for line in lines) == ("attacker._target_=" in told)
    for each in told:
        (line,) = [line for line in lines if each in line and IDLE in line]
        assert ("(first in #" in line) == ("seed=1,2" not in words)


@pytest.mark.parametrize(
    "words",
    [
        ["reward.credit=score", "reward=tcsr,balanced"],
        ["objective.epochs=1,2", "trainer.max_steps=2", "objective.clip_low=0.1"],  # takes part in one of them
        ["reward.credit=score,trajectory", "reward.alpha=0.5"],
        ["objective.kl_coef=0,0.1", "objective.kl_estimator=k2"],
        ["seed=1,2", "reward.credit=score"],
    ],
)
def test_a_sweep_of_different_runs_is_not(start: list[str], words: list[str], refused: Refused, tmp_path: Path) -> None:
    assert IDLE not in refused("-m", start[0], f"init_from={tmp_path}", f"hydra.sweep.dir={tmp_path}/sweep", *words)
