"""An export is complete at any moment, and names the base model that it belongs to."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError, safe_open

from steer_lit.lit.export import export
from steer_lit.policy.fingerprint import language_fingerprint


class Saving:
    """A policy whose adapter has three files. The weight file changes from step to step."""

    trains = "adapter"

    def __init__(self, step: int) -> None:
        self.step = step

    def save_adapter(self, folder: Path) -> None:
        folder.mkdir()
        for name in ("README.md", "adapter_config.json"):
            (folder / name).write_text("as ever")
        (folder / "adapter_model.safetensors").write_text(f"step {self.step}")


def test_a_tower_is_exported_with_the_base_it_was_trained_in_front_of(
    tiny_policy: Callable[..., Any], tmp_path: Path
) -> None:
    policy = tiny_policy()
    policy.train_only("tower")
    export(policy, tmp_path)
    with safe_open(tmp_path / "tower.safetensors", "pt") as file:
        assert file.metadata()["base"] == "tiny"
        assert file.metadata()["language_fingerprint"] == language_fingerprint(policy.base) != policy.fingerprint


@pytest.mark.parametrize("name", ["replace", "rmdir", "rmtree"])
def test_a_run_killed_while_it_exports_leaves_a_whole_adapter(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill the run before each step that changes a folder. The next export must leave no trace of the killed one."""
    owner = shutil if name == "rmtree" else os
    function = getattr(owner, name)
    export(Saving(0), tmp_path)  # type: ignore[arg-type]
    for call in itertools.count(1):
        calls = itertools.count(1)

        def dying(*arguments: Any, calls: Any = calls, last: int = call, **named: Any) -> Any:
            if next(calls) == last:
                raise KeyboardInterrupt
            return function(*arguments, **named)

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(owner, name, dying)
            export(Saving(call), tmp_path)  # type: ignore[arg-type]
            break
        found = {file.name: file.read_text() for file in (tmp_path / "adapter").iterdir()}
        assert found.keys() == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
        assert found["adapter_model.safetensors"] in (f"step {call - 1}", f"step {call}")
        export(Saving(call), tmp_path)  # type: ignore[arg-type]
        assert (tmp_path / "adapter" / "adapter_model.safetensors").read_text() == f"step {call}"
    assert call > 1
    assert [file.name for file in tmp_path.iterdir()] == ["adapter"]


def test_an_adapter_that_does_not_fit_on_the_disk_raises_the_disks_error_and_leaves_no_file(tmp_path: Path) -> None:
    class Full(Saving):
        def save_adapter(self, folder: Path) -> None:
            super().save_adapter(folder)
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(OSError, match=r"No space left.*/adapter") as said:
        export(Full(0), tmp_path)  # type: ignore[arg-type]
    assert (said.value.errno, said.value.filename) == (errno.EIO, str(tmp_path / "adapter"))
    assert not list(tmp_path.iterdir())  # the disk needs the space
