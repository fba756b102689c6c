"""nano's shipped tokenizer equals the one that is learnt from the primer."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from steer_lit.cli import nano_tokenizer
from steer_lit.policy.model_facts import SHIPPED


def test_the_shipped_tokenizer_equals_the_primers(tmp_path: Path) -> None:
    nano_tokenizer.nano_tokenizer().save_pretrained(tmp_path)
    made, shipped = (AutoTokenizer.from_pretrained(at, local_files_only=True) for at in (tmp_path, SHIPPED))
    assert made.get_vocab() == shipped.get_vocab()
    assert made.backend_tokenizer.to_str() == shipped.backend_tokenizer.to_str()
    assert made.chat_template == shipped.chat_template
    assert {file.name for file in tmp_path.iterdir()} <= {file.name for file in SHIPPED.iterdir()}


def test_the_tokenizer_is_learned_from_the_primer_and_the_template_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nano_tokenizer, "_ROWS", 10)
    lines = list(nano_tokenizer._lines())
    assert any(line.startswith("Repeat: ") for line in lines)
    assert lines.count("assistant") == 100
    assert sum("<thinking></thinking>" in line for line in lines) == 100
