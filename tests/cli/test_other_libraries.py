"""Names of other libraries: the errors and the table in docs/method.md lead to the same keys, which exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra.conf import HydraConf
from omegaconf import OmegaConf

from steer_lit.cli.other_libraries import KEYS
from steer_lit.cli.overrides import no_key
from steer_lit.dotted import ABSENT, at
from steer_lit.terminal.conf_files import composed
from tests.settings import Refused

GRPO = ("experiment=grpo_nano",)
_NOT_NAMED_HERE = {"use_kl_loss"}  # says that there is a KL term at all


def table(repository: Path) -> list[tuple[list[str], list[str]]]:
    """Return, for each row of the document's table, our keys and the others' names."""
    text = (repository / "docs/method.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (.*) \|$", text.partition("## Coming from TRL")[2].partition("\n## ")[0], re.MULTILINE)
    rows = [[re.findall(r"`([\w.]+)(?:=[^`]*)?`", cell) for cell in line.split(" | ")] for line in lines[2:]]
    return [(ours, [name for cell in theirs for name in cell if name not in _NOT_NAMED_HERE]) for ours, *theirs in rows]


def test_every_key_of_the_table_exists() -> None:
    config = dict(composed("train", GRPO) or {}) | {"hydra": OmegaConf.to_container(OmegaConf.structured(HydraConf))}
    missing = {key for keys in KEYS.values() for key in keys if at(config, key.partition("=")[0]) is ABSENT}
    assert not missing


def test_the_document_has_the_same_names_and_keys(repository: Path) -> None:
    rows = table(repository)
    assert len(rows) > 15
    for name, keys in KEYS.items():
        beside = [ours for ours, theirs in rows if any(f".{each}".endswith(f".{name}") for each in theirs)]
        assert {key.partition("=")[0] for key in keys} <= {key for ours in beside for key in ours}, name


def test_every_name_of_the_document_leads_to_a_key_of_its_row(repository: Path) -> None:
    rows = table(repository)
    for name in {name for _, theirs in rows for name in theirs}:
        keys = {key for ours, theirs in rows if name in theirs for key in ours}
        assert any(key in no_key(name, "train", GRPO) for key in keys), name


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("learning_rate=1e-4", "learning_rate: there is no such key in this run. Here it is optim.lr."),
        ("+beta=0.1", "beta: there is no such key in this run. Here it is objective.kl_coef."),
        ("optim.beta=0.1", "optim.beta: there is no such key in this run. Did you mean optim.betas?"),  # ours, mistyped
        ("bf16=true", "bf16: there is no such key in this run. Here it is model.dtype=bfloat16."),
        ("--lora_r=16", "--lora_r: there is no such option, and keys are typed without dashes"),
    ],
)
def test_another_librarys_name_is_translated(word: str, said: str, refused: Refused) -> None:
    assert refused("+experiment=grpo_nano", word).startswith(said)


def test_a_key_of_another_stage_is_named_with_that_stage(refused: Refused) -> None:
    said = "Here it is rollout.group_size. This is sft; rollout is a section of grpo, as in +experiment=grpo_nano."
    assert said in refused("+experiment=sft_nano", "num_generations=8")
