"""A run's settings as loggers show them."""

from typing import Any
from unittest.mock import Mock

import hydra
from lightning.pytorch.loggers import CometLogger, Logger, MLFlowLogger
from omegaconf import OmegaConf

from steer_lit.lit.run_settings import RunSettings, flat
from steer_lit.terminal.conf_files import conf_dir


def test_settings_are_flattened_to_what_tensorboard_shows() -> None:
    settings = {"a": {"b": 1, "_target_": "steer_lit.x.Y", "c": {"d": None, "e": [1, 2]}}, "f": True}
    assert flat(settings) == {"a.b": 1, "a.c.e": "[1, 2]", "f": True}


def shown(*words: str) -> dict[str, Any]:
    """Return what the loggers of a GRPO run show."""
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra.compose("train", ["experiment=grpo_tiny", "init_from=null", "run_dir=unused", *words])
    settings: Any = OmegaConf.to_container(config.callbacks.settings.settings, resolve=True)
    return flat(settings)


def test_runs_that_differ_in_a_part_or_its_settings_are_told_apart() -> None:
    assert shown("attacker.lead_share=0")["attacker.lead_share"] == 0
    assert shown("reward=custom", "reward._target_=mine.Reward")["reward._target_"] == "mine.Reward"
    assert shown("tutor._target_=mine.Tutor")["tutor._target_"] == "mine.Tutor"


def test_of_a_server_only_its_model_is_shown() -> None:
    served = ["tutor=llm", "attacker=llm", "server.base_url=http://private:8000/v1", "server.model=judge-7b"]
    served += ["server.api_key_env=MY_VARIABLE", "tutor.client.base_url=other:9000/v1", "+tutor.page=https://private"]
    settings = shown(*served)
    assert {key: value for key, value in settings.items() if "client" in key} == {
        "attacker.client.settings.model": "judge-7b",
        "tutor.client.settings.model": "judge-7b",
    }
    assert not [key for key, value in settings.items() if "private" in str(value)]


def test_every_logger_gets_the_settings() -> None:
    loggers = [Mock(spec=kind) for kind in (Logger, MLFlowLogger, CometLogger)]
    RunSettings({"seed": 1}).on_fit_start(Mock(loggers=loggers), Mock())
    for logger in loggers:
        logger.log_hyperparams.assert_called_once_with({"seed": 1})
