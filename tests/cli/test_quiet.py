"""What a program that calls a run from Python finds at its end."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from steer_lit.cli import main as cli
from steer_lit.terminal.stdout import REFUSED


def state() -> list[Any]:
    root = logging.getLogger()
    names = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
    environment = {name: os.environ.get(name) for name in names}
    return [
        root.handlers[:], root.level, logging.raiseExceptions, threading.excepthook, warnings.filters[:], environment,
    ]  # fmt: skip


@pytest.mark.parametrize("words", [["optim.lr=-1"], ["data.source.scale=0.01", "data.val_size=0"]])
def test_the_caller_has_its_logging_warnings_and_seed_back(
    words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    own = logging.FileHandler(tmp_path / "own.log", mode="w")  # which Hydra closes
    logging.getLogger("host").addHandler(own)
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    before = state()
    code = cli.run("train", [*words, "+debug=step", f"hydra.run.dir={tmp_path / 'run'}", "replay.dialogues=0"])
    assert code == (REFUSED if "optim.lr=-1" in words else 0)
    assert state() == before
    logging.getLogger("host").error("a line of the caller's")
    assert "a line of the caller's" in caplog.text
    assert "a line of the caller's" in (tmp_path / "own.log").read_text()
    assert logging.getLogger("lightning.pytorch").level == logging.INFO
    logging.getLogger("host").removeHandler(own)
    own.close()
    assert all("a line of the caller's" not in log.read_text() for log in tmp_path.glob("run/*.log"))


def test_a_threads_hook_is_wrapped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs a sweep has: a thousand wrappers would hide what ended a thread."""
    from steer_lit.cli.quiet import quieten

    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    monkeypatch.setattr(logging, "raiseExceptions", True)  # put back by this
    with warnings.catch_warnings():
        quieten()
        once = threading.excepthook
        quieten()
    assert threading.excepthook is once
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    assert len(told) == 1
