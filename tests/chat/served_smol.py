"""`transformers serve` with `smol` on loopback: a real OpenAI-compatible server, small enough for a test."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

STARTS_WITHIN = 300.0  # seconds; 5 on a free core
_SERVE = "from transformers.cli.transformers import main; main()"


def served_folder(checkpoint: Path, folder: Path) -> Path:
    """Return the checkpoint's folder with the files for preparing pictures, which a server needs and our program does
    not.
    """
    folder.mkdir()
    for file in checkpoint.iterdir():
        (folder / file.name).symlink_to(file)
    pixels = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    pixels |= {"size": {"shortest_edge": 4 * 14 * 14, "longest_edge": 112 * 112}}
    kind = {"processor_class": "Qwen2_5_VLProcessor"}
    files = {
        "preprocessor_config.json": {**pixels, **kind, "image_processor_type": "Qwen2VLImageProcessor"},
        "video_preprocessor_config.json": {**pixels, **kind, "video_processor_type": "Qwen2VLVideoProcessor"},
        "processor_config.json": kind,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def why_not() -> str | None:
    """Return why no server can be started here; None if one can."""
    missing = [name for name in ("fastapi", "uvicorn", "torchvision") if importlib.util.find_spec(name) is None]
    return f"transformers serve needs {' and '.join(missing)}: pip install -e '.[dev]'" if missing else None


@contextmanager
def serving(model: Path, log: Path) -> Iterator[str]:
    """Serve `model` under that name. Yields the base URL when the server answers, and stops it at the end
    of the block.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-c", _SERVE, "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    words += ["--device", "cpu", "--dtype", "bfloat16"]
    with log.open("w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    pytest.fail(f"transformers serve did not come up (exit code {process.poll()}):\n{log.read_text()[-3000:]}")
