from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from steer_lit.reward.reward import Reward

CONF = Path(__file__).parents[2] / "conf"


def reward(*overrides: str) -> Reward:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return instantiate(compose(overrides=list(overrides)).reward)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tcsr", Reward()),
        ("mean", Reward(alpha=0.0, returns="mean")),
        ("final_only", Reward(returns="final")),
        ("balanced", Reward(combine="product")),
    ],
)
def test_each_reward_of_the_config_group(name: str, expected: Reward) -> None:
    assert reward(f"+reward={name}") == expected


def test_every_file_of_the_group_is_listed_above() -> None:
    assert {path.stem for path in (CONF / "reward").glob("*.yaml")} == {
        "tcsr",
        "mean",
        "final_only",
        "balanced",
        "custom",
    }


def test_the_keys_users_type_override_it() -> None:
    assert reward("+reward=tcsr", "reward.alpha=1", "reward.return=final") == Reward(alpha=1, returns="final")
