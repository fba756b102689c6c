"""One command makes nano's tokenizer from the primer. The shipped tokenizer equals its result."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from steer_lit.cli import nano_tokenizer
from steer_lit.policy.model_facts import SHIPPED


def test_the_shipped_tokenizer_equals_the_primers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("an earlier one")
    assert nano_tokenizer.main([str(folder)]) == 0
    told = capsys.readouterr().out
    assert f"tokenizer: {folder}" in told
    assert "+experiment=pretrain_nano" in told
    made, shipped = (AutoTokenizer.from_pretrained(at, local_files_only=True) for at in (folder, SHIPPED))
    assert made.get_vocab() == shipped.get_vocab()
    assert made.backend_tokenizer.to_str() == shipped.backend_tokenizer.to_str()
    assert made.chat_template == shipped.chat_template
    assert {file.name for file in folder.iterdir()} <= {file.name for file in SHIPPED.iterdir()}


def test_the_tokenizer_is_learned_from_the_primer_and_the_template_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nano_tokenizer, "_ROWS", 10)
    lines = list(nano_tokenizer._lines())
    assert any(line.startswith("Repeat: ") for line in lines)
    assert lines.count("assistant") == 100
    assert sum("<thinking></thinking>" in line for line in lines) == 100


def test_an_impossible_folder_is_refused_before_anything_is_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nano_tokenizer, "nano_tokenizer", lambda: pytest.fail("it was learnt"))
    (tmp_path / "file").write_text("")
    assert nano_tokenizer.main([str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert nano_tokenizer.main([]) == 2
    assert "folder" in capsys.readouterr().err
