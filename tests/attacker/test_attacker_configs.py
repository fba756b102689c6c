from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from steer_lit.attacker.adaptive import AdaptiveAttacker
from steer_lit.attacker.scripted import ScriptedAttacker

CONF = Path(__file__).parents[2] / "conf" / "attacker"


@pytest.mark.parametrize(("name", "attacker"), [("scripted", ScriptedAttacker), ("adaptive", AdaptiveAttacker)])
def test_config_builds_its_attacker(name: str, attacker: type) -> None:
    assert type(instantiate(OmegaConf.load(CONF / f"{name}.yaml"))) is attacker


def test_overrides_reach_the_attacker() -> None:
    config = OmegaConf.merge(OmegaConf.load(CONF / "adaptive.yaml"), {"extra_turns": 5, "quote_words": 0})
    attacker = instantiate(config)
    assert (attacker.extra_turns, attacker.quote_words) == (5, 0)
