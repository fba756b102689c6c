"""The checks allow exactly the values that the owner of a key accepts. Asking the owner would be slow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import hydra
from omegaconf import OmegaConf

from steer_lit.checks import facts
from steer_lit.terminal.conf_files import conf_dir


def test_every_boolean_of_every_config_is_checked_as_one() -> None:
    def switches(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from switches(value, f"{prefix}{key}.")
            elif isinstance(value, bool) and not key.startswith("_"):  # keys with an underscore are Hydra's own
                yield f"{prefix}{key}"

    options = {"train": ["callbacks=none", "debug=anomaly", "logger=wandb"], "bench": [], "synthesize": []}
    found: set[str] = set()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for program, words in options.items():
            for chosen in ([], *([word] for word in words)):
                config: Any = OmegaConf.to_container(hydra.compose(program, chosen), resolve=False)
                found |= set(switches(config))
    written = r"^ *(\w+): (?:true|false)\b"
    texts = [path.read_text(encoding="utf-8") for path in conf_dir().rglob("*.yaml")]
    names = {name for text in texts for name in re.findall(written, text, re.MULTILINE)}
    assert names - {"_recursive_", "chdir"} <= {key.rpartition(".")[2] for key in found}  # no option is missing
    assert found == set(facts._SWITCHES)


def test_keys_of_a_users_own_class_are_not_held_to_what_ours_takes() -> None:
    given = {"temperature": None, "sees": "picture", "max_tokens": -1}
    own = {"judge": {"_target_": "mine.Judge", **given}, "attacker": {"_target_": "mine.A", "extra_turns": None}}
    own["data"] = {"_target_": "mine.Rows", "blank_images": "some"}
    assert list(facts.leaf_problems(own)) == []
    ours = {"judge": {"_target_": "steer_lit.tutor.judge.LlmJudge", **given}, "attacker": {"extra_turns": None}}
    assert [problem.key for problem in facts.leaf_problems(ours)] == [
        "attacker.extra_turns", "judge.max_tokens", "judge.temperature", "judge.sees",
    ]  # fmt: skip
