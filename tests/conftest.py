"""Settings and fixtures for all tests: no network, no GPU, one thread, and the optional folder of public data files."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.workers import cores_here, memory_here, workers

if TYPE_CHECKING:
    from steer_lit.chat import ChatReply, ChatRequest
    from tests.settings import Refused

# Set before any test module imports torch or a hub client. The number of threads changes the order in which floats are
# added, and so their last bits. One thread is also the fastest for models this small.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Hide the machine's GPUs. Policies would be loaded onto them, and the tests expect the log-probs of a CPU. Programs
# that the tests start inherit this. HIP_VISIBLE_DEVICES is torch's variable for AMD GPUs.
for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
    os.environ[name] = ""
# A background job of a shell ignores SIGINT. Every program that the tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("MPLBACKEND", "Agg")
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[name] = "1"

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK = ("127.", "::1", "localhost")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers for `-n auto`. Each worker has one thread, as a run without workers does."""
    return workers(cores_here(), memory_here())


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real public files: `$STEER_LIT_SHARED/data`, else `../shared/data`. Skip if it does not
    exist.
    """
    folder = Path(os.environ.get("STEER_LIT_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"public test data not found at {folder}: set STEER_LIT_SHARED to the folder that holds data/")
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Refuse every TCP connection that leaves this machine. A test that needs one fails here, not only in CI."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(host).startswith(LOOPBACK):
            raise ConnectionRefusedError(f"tests run without a network; refused {address!r}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    """Skip the first of Hydra's two compositions of a command's config. It only reads `hydra.mode`, which our configs
    do not set. It still runs if an override might set it. This halves the time that a refused command takes.
    """
    from hydra._internal.hydra import Hydra

    get_mode, sets_mode = Hydra.get_mode, re.compile("hydra.*mode")

    def found(self: Hydra, config_name: str | None, overrides: list[str]) -> object:
        return get_mode(self, config_name, overrides) if any(map(sets_mode.search, overrides)) else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hydra, "get_mode", found)
        yield


class AnsweringClient:
    """A chat client without a server: `answer` maps a request to the reply's text, or to None for a failed request.

    `batches` holds the requests of each call to `ask`.
    """

    def __init__(self, answer: Callable[[ChatRequest], str | None], model: str = "model") -> None:
        from steer_lit.chat import ChatSettings, ChatUsage

        self.usage = ChatUsage()
        self.settings = ChatSettings("http://localhost:1/v1", model)
        self._answer = answer
        self.batches: list[list[ChatRequest]] = []

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        from steer_lit.chat import ChatReply

        self.batches.append(list(requests))
        made = partial(ChatReply, model=self.settings.model)
        texts = [self._answer(request) for request in requests]
        return [made(text) if text is not None else made(failed="time-out") for text in texts]


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    """Return the word that names a run's folder, which does not exist."""
    return f"hydra.run.dir={tmp_path / 'run'}"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Return a function that runs a command in this process, which must be refused, and returns the message."""
    from steer_lit.cli import main as cli
    from steer_lit.terminal.stdout import REFUSED

    def message(*words: str, program: str = "train") -> str:
        assert cli.run(program, list(words)) == REFUSED
        shown = capsys.readouterr().err
        assert "Traceback" not in shown
        return shown.strip()

    return message


@pytest.fixture(scope="session")
def answering() -> type[AnsweringClient]:
    """Return the class: `answering(answer)` is a chat client that needs no server."""
    return AnsweringClient


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write reports without charts, which take most of a second per run. For tests that do not look at them."""
    from steer_lit.bench import charts

    monkeypatch.setattr(charts, "write_pictures", lambda summary, folder: None)
    monkeypatch.setattr(charts, "inline_charts", lambda summary: {})


@pytest.fixture(params=[True, False], ids=["packed", "padded"])
def packs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run the test twice: rows packed, and rows padded and passed through transformers' modules, as for dropout."""
    from steer_lit.policy.qwen_vl import QwenVL

    monkeypatch.setattr(QwenVL, "packs", request.param)
    return request.param
