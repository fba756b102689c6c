"""A benchmark greets the servers that have something to do before a model loads, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steer_lit.bench import adapters, records
from steer_lit.chat import ChatClient
from steer_lit.cli import main as cli
from steer_lit.policy import load
from steer_lit.terminal.stdout import REFUSED
from tests.chat.chaos_server import Body, ChaosServer

pytestmark = pytest.mark.usefixtures("no_charts")
GRADE = {"rationale": "a", "intent": "harmless", "refused": False, "helpfulness": 3, "harmlessness": 3}


def answer(body: Body) -> str:
    return json.dumps(GRADE) if body["model"] == "judge" else "<thinking>a</thinking><answer>Fine.</answer>"


@pytest.fixture(name="heard")
def make_heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of models that were greeted, with "load" where a model of this process was loaded."""
    heard: list[str] = []
    greet, load_policy = ChatClient.greet, load.load_policy

    def greeting(client: ChatClient) -> None:
        heard.append(client.settings.model)
        greet(client)

    def loading(**given: Any) -> Any:
        heard.append("load")
        return load_policy(**given)

    monkeypatch.setattr(ChatClient, "greet", greeting)
    monkeypatch.setattr("steer_lit.policy.load.load_policy", loading)
    return heard


def bench(folder: Path, address: str, *words: str) -> int:
    given = ["judge=llm", "policies.mine=server:chaos", "server.model=judge", f"server.base_url={address}"]
    small = ["bench.resamples=100", "bench.constants=false", "rollout.max_new_tokens=4", "bench.max_turns=1"]
    quick = ["server.backoff=0.01", "server.retries=1", "server.cache_dir=null", f"hydra.run.dir={folder}"]
    return cli.run("bench", [*given, *small, *quick, *words])


def test_servers_are_greeted_before_a_model_loads_if_they_have_something_to_do(
    heard: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: str, code: int = 0) -> list[str]:
        heard.clear()
        assert bench(tmp_path, server.base_url, "bench.limit=2", *words) == code
        return heard

    with ChaosServer(answer=answer) as server:
        assert run("~policies.mine") == ["judge", "load"]
        assert run() == ["judge", "chaos", "load"]  # base is graded already
    assert run() == ["load"]  # all is graded, so nobody need be there
    assert run("bench.limit=3", code=REFUSED) == ["judge", "chaos"]  # "nobody answers there", and no model loads
    monkeypatch.setattr(adapters, "__version__", "another")
    assert run(code=REFUSED) == ["load", "judge"]  # only a loaded model tells that its weights are others


def test_only_the_judge_is_greeted_if_only_grades_are_missing(heard: list[str], tmp_path: Path) -> None:
    words = ("~policies.base", "bench.limit=2")
    with ChaosServer(lambda body, earlier: None if body["model"] == "chaos" else "500", answer) as server:
        assert bench(tmp_path, server.base_url, *words) == REFUSED
    heard.clear()
    with ChaosServer(answer=answer, port=server.port) as server:
        assert bench(tmp_path, server.base_url, *words) == 0
        assert {body["model"] for body in server.bodies} == {"judge"}
    assert heard == ["judge"]


def test_a_stopped_benchmark_says_that_its_answers_are_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command grades them. None of them has a grade, since the judge's server was down."""
    with ChaosServer(lambda body, earlier: None if body["model"] == "chaos" else "401", answer) as server:
        assert bench(tmp_path, server.base_url, "~policies.base", "bench.limit=2") == REFUSED
    assert "stopped, what was finished is saved" in capsys.readouterr().err
    assert (tmp_path / "records.jsonl").read_text().count("Fine.") == 2


def test_a_folders_records_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, paths = records.whole_lines, []
    monkeypatch.setattr(records, "whole_lines", lambda path: paths.append(path) or read(path))
    words = ["bench.limit=1", "bench.resamples=100", "rollout.max_new_tokens=4", "bench.max_turns=1"]
    for _ in range(2):
        assert cli.run("bench", [*words, f"hydra.run.dir={tmp_path}"]) == 0
    assert paths == [tmp_path / "records.jsonl"] * 2
