"""Unreachable, dying or refusing servers: the message states the reason, then what is saved, then the next command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from omegaconf import DictConfig

from steer_lit.cli import main as cli
from steer_lit.cli.players import build_player, greet
from steer_lit.terminal.stdout import REFUSED
from tests.bench.players import shown_in
from tests.chat.chaos_server import ChaosServer, Plan
from tests.synthesis.test_synthesis_over_http import answer

pytestmark = pytest.mark.usefixtures("no_charts")
NOTHING, SOME = "stopped before anything was finished", "stopped, what was finished is saved"
SAID = {  # fault of the server: part of the message
    "none": "nobody answers there (no connection",
    "401": "it refuses every request (HTTP 401: as told): correct this address",
    "404": "it refuses every request (HTTP 404: as told): correct this address",
    "html": "the body is not JSON but '<html><body>Welcome",
    "dies": "no connection to http://127.0.0.1:",
}
BENCH = ["~policies.base", "policies.mine=server:chaos", "bench.limit=3", "bench.chunk=1", "bench.resamples=100"]
SYNTHESIS = ["generator=llm", "rows=4", "stages=1", "kind=benign", "near_duplicate=1", "data.seeds=seeds.jsonl"]
ANSWERS = {"bench": lambda body: "<thinking>a</thinking><answer>Fine.</answer>", "synthesize": answer}
SERVED = ["server.model=chaos", "server.backoff=0.01", "server.retries=1", "server.cache_dir=null"]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run in a folder that holds seeds, without this machine's proxy and key variables."""
    monkeypatch.chdir(tmp_path)
    questions = (json.dumps({"question_id": f"q{n}", "question": f"How would one take number {n}?"}) for n in range(4))
    Path("seeds.jsonl").write_text("\n".join([*questions, ""]))
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def misbehaving(fault: str, dies_after: int = 0, program: str = "bench") -> ChaosServer:
    def dies(body: object, earlier: int) -> str | None:
        if len(server.bodies) == dies_after:
            server._server.close()
        return "reset" if len(server.bodies) >= dies_after else None

    plan: Plan = dies if fault == "dies" else lambda body, earlier: fault
    server = ChaosServer(
        plan, ANSWERS[program], models=401 if fault == "401" else b"<html>" if fault == "html" else 404
    )
    return server


def told(capsys: pytest.CaptureFixture[str]) -> tuple[str, str, list[str]]:
    """Return why the run ended, what it left, and the words of the command that continues it."""
    why, left, following = capsys.readouterr().err.strip().splitlines()[-3:]
    python, script, *words = shlex.split(following.removeprefix("next:"))
    assert (python, following[:5]) == ("python", "next:")
    return why, left, [script, *words]


@pytest.mark.parametrize("case", [*(f"synthesize {fault}" for fault in list(SAID)[:-1]), "bench none", "bench dies"])
def test_the_reason_comes_first_and_the_next_command_continues(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, fault = case.split()
    words = [*(SYNTHESIS if program == "synthesize" else [*BENCH, "bench.constants=false"]), *SERVED]
    with misbehaving(fault, 1, program) as server:
        if fault == "none":
            server._server.close()
        words += [f"server.base_url={server.base_url}", "hydra.run.dir=run"]
        assert cli.run(program, words) == REFUSED
    why, left, following = told(capsys)
    assert SAID[fault] in why
    assert left == NOTHING
    assert Path("run").exists() == (fault not in ("none", "401"))  # their run had not begun
    assert following == [f"{program}.py", *words]
    with ChaosServer(answer=ANSWERS[program], port=server.port):
        assert cli.run(program, following[1:]) == 0
    if program == "bench":
        assert not any(row.failed for row in shown_in(Path("run")))
    else:
        assert Path("run", "stage1.jsonl").read_text().count("\n") == 4


def test_a_training_that_its_server_refuses_says_why_and_what_to_type(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(config: DictConfig, run_dir: Path) -> None:
        greet(build_player(config.tutor, str, "tutor"))

    monkeypatch.setitem(cli.RUNS, "train", run)
    words = ["+experiment=grpo_tiny", "init_from=null", "tutor=llm", *SERVED, "server.base_url={}"]
    with misbehaving("401") as server:
        words[-1] = f"server.base_url={server.base_url}"
        assert cli.run("train", [*words, "hydra.run.dir=run"]) == REFUSED
    why, left, following = told(capsys)
    assert SAID["401"] in why
    assert left == "stopped before the run began: nothing new was saved"
    assert following == ["train.py", *words, "hydra.run.dir=run"]


def test_all_servers_that_are_missing_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """One told after the other would cost a start each. Two clients of one server are told once."""
    words = [*BENCH, *SERVED, "attacker=llm", "tutor=llm", "judge=llm", "server.base_url=http://127.0.0.1:1/v1"]
    words += ["judge.client.base_url=http://127.0.0.1:2/v1", "hydra.run.dir=run"]
    assert cli.run("bench", words) == REFUSED
    judge, others, left, _ = capsys.readouterr().err.strip().splitlines()[-4:]
    assert judge.startswith("judge.client.base_url=http://127.0.0.1:2/v1: nobody answers there")
    assert others.startswith("server.base_url=http://127.0.0.1:1/v1: nobody answers there")
    assert left == NOTHING


def test_the_results_of_the_other_policies_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with misbehaving("500") as server:
        words = [*BENCH[1:], *SERVED, f"server.base_url={server.base_url}", "hydra.run.dir=run"]
        assert cli.run("bench", ["policies.base=base", *words]) == REFUSED
    shown = capsys.readouterr()
    why, left, _ = shown.err.strip().splitlines()[-3:]
    assert why == "no dialogue of mine could be graded: policy: HTTP 500: as told, after 2 attempts"
    assert left == SOME
    assert "joint pass" in shown.out
    assert "always-refuse" in shown.out


def test_a_benchmark_with_failed_dialogues_shows_the_command_that_retries_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*BENCH, *SERVED, "bench.protocol=single_turn", "server.concurrency=1"]
    with misbehaving("dies", 2) as server:
        words += [f"server.base_url={server.base_url}", "hydra.run.dir=run"]
        assert cli.run("bench", words) == 0
    shown = capsys.readouterr().out
    assert "mine: 1 of 3 dialogues could not be graded" in shown
    command, why = shown.splitlines()[-2:]
    assert why.strip() == "(asks again for 1 dialogue that could not be graded)"
    _, _, *following = shlex.split(command)
    assert following == ["bench.py", *words]
    with ChaosServer(answer=ANSWERS["bench"], port=server.port):
        assert cli.run("bench", following[1:]) == 0
    shown = capsys.readouterr().out
    assert "could not be graded" not in shown
    assert "next:" not in shown


def test_a_table_without_values_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with misbehaving("500") as server:
        words = [*BENCH, *SERVED, f"server.base_url={server.base_url}", "bench.constants=false"]
        assert cli.run("bench", [*words, "hydra.run.dir=run"]) == REFUSED
    assert "joint pass" not in capsys.readouterr().out


def test_a_synthesis_whose_server_dies_later_keeps_what_was_made(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SYNTHESIS, *SERVED, "server.concurrency=1", "hydra.run.dir=run"]
    with misbehaving("dies", 2, "synthesize") as server:
        words += [f"server.base_url={server.base_url}"]
        assert cli.run("synthesize", words) == 0  # two rows were made
    shown = capsys.readouterr().out
    assert "stage 1: the first that the server did not answer: no connection to http://127.0.0.1:" in shown
    (retry,) = (line for line in shown.splitlines() if "had no answer" in line)
    with ChaosServer(answer=answer, port=server.port) as mended:
        assert cli.run("synthesize", shlex.split(retry.partition("again: python synthesize.py ")[2])) == 0
    assert len(mended.bodies) == 2  # for the two missing rows
    assert Path("run", "stage1.jsonl").read_text().count("\n") == 4
