"""The checks allow exactly the values that the owner of a key accepts. Asking the owner would be slow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import hydra
from omegaconf import OmegaConf

from steer_lit.checks import leaves
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
    assert found == set(leaves._SWITCHES)
