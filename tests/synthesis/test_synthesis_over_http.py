"""Synthesis with the real client over HTTP: faults, Ctrl-C while the server hangs, stored replies."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from steer_lit.chat import ChatClient, ChatMessage, ChatRequest, ChatSettings
from steer_lit.synthesis.generator import Generator
from steer_lit.synthesis.llm import llm_generator
from steer_lit.synthesis.settings import SynthesisSettings
from tests.chat.chaos_server import Body, ChaosServer
from tests.synthesis.played import part_of, plays_well, run

FAULTS = ("429", "500", "reset", "garbage body", "empty body", "no choices")
FILES = ("stage1.jsonl", "rl.jsonl", "sft.jsonl")
INTERRUPTED = 130


def request_of(body: Body) -> ChatRequest:
    """Return the request that was sent over HTTP, without pictures."""
    parts = []
    for message in body["messages"]:
        content = message["content"]
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        parts.append(ChatMessage(message["role"], text))
    schema = body.get("response_format", {}).get("json_schema")
    named = {} if schema is None else {"schema": schema["schema"], "schema_name": schema["name"]}
    return ChatRequest(tuple(parts), **named)


def answer(body: Body) -> str:
    request = request_of(body)
    return plays_well(part_of(request), request)


def generator_of(client: ChatClient, seeds_file: Path) -> Generator:
    data = {"seeds": str(seeds_file), "scripts": None, "folder": None}
    return llm_generator("llm", client, client, system_prompt="Look, then reply.", data=data, seed=1)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_trap_37_a_third_of_the_requests_failing_changes_no_row(
    seeds_file: Path, settings: Callable[..., SynthesisSettings], tmp_path: Path
) -> None:
    """Every third request meets a fault the first time. The files equal those of a run without faults."""

    def plan(body: Body, earlier: int) -> str | None:
        met = len(server.bodies)
        return FAULTS[met // 3 % len(FAULTS)] if met % 3 == 0 and earlier == 0 else None

    made = {}
    for name, planned in {"calm": lambda body, earlier: None, "chaos": plan}.items():
        run_dir = tmp_path / name
        with ChaosServer(planned, answer) as server:
            kept = str(tmp_path / f"{name}-kept")
            client = ChatClient(ChatSettings(server.base_url, "chaos", concurrency=4, backoff=0.01, cache_dir=kept))
            run(generator_of(client, seeds_file), settings(), run_dir)
            made[name] = [(run_dir / file).read_bytes() for file in FILES]
            asked = len(server.bodies)
            for journal in run_dir.glob("work.*.jsonl"):
                journal.unlink()
            run(generator_of(client, seeds_file), settings(), run_dir)
            assert len(server.bodies) == asked  # every reply was stored: making the rows again costs nothing
            client.close()
            faults = [fault for fault in server.faults if fault is not None]
    assert len(faults) > 20
    assert made["chaos"] == made["calm"]


def test_ctrl_c_stops_at_once_and_the_run_can_be_resumed(seeds_file: Path, repository: Path, tmp_path: Path) -> None:
    """The server hangs after its 20th answer. Ctrl-C does not wait for the threads that wait for it."""
    run_dir = tmp_path / "run"
    command = [
        sys.executable, "synthesize.py", "generator=llm", "rows=6", f"data.seeds={seeds_file}", "server.model=chaos",
        "server.concurrency=3", f"server.cache_dir={tmp_path / 'kept'}", "near_duplicate=1", f"hydra.run.dir={run_dir}",
    ]  # fmt: skip
    with ChaosServer(lambda body, earlier: "hang" if len(server.bodies) >= 20 else None, answer) as server:
        process = subprocess.Popen(
            [*command, f"server.base_url={server.base_url}"],
            cwd=repository, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while len(server.bodies) < 21:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        asked_at = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
        assert time.monotonic() - asked_at < 60  # the server's time-out is 300 s
        assert process.returncode == INTERRUPTED
        *_, stopped, following = err.strip().splitlines()
        assert stopped in ("stopped, what was finished is saved", "stopped before anything was finished")
        given = [*command[2:-1], f"server.base_url={server.base_url}", command[-1]]
        assert shlex.split(following.removeprefix("next:")) == ["python", "synthesize.py", *given]
        assert "Traceback" not in err

        server.plan = lambda body, earlier: None
        first = len(server.bodies)
        done = subprocess.run(
            [*command, f"server.base_url={server.base_url}"],
            cwd=repository, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    assert "dialogues:" in done.stdout
    assert len((run_dir / "sft.jsonl").read_text().splitlines()) == 6
    again = sum(body in server.bodies[:20] for body in server.bodies[first:])
    assert again <= 3  # stored answers are not requested again; up to three requests may have been running
