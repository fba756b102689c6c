"""GRPO with a tutor behind a server that fails three requests in ten: no verdict is invented, lost or biased."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from steer_lit.cli import main as cli
from steer_lit.verdict_scale import CONSTRUCTIVE
from tests.chat.chaos_server import Body, ChaosServer, Plan

KEY = "sk-secret-of-mine"
PASSING = ["429", "500", "503", "hang", "reset", "half closed", "empty body", "garbage body", "no choices", "drip"]
LASTING = ["score of 11", "no content", "content filter", "refusal", "cut off", "400"]
SMALL = ["data.source.scale=0.02", "data.batch_size=6", "data.val_size=10", "trainer.limit_val_batches=0"]
SHORT = ["trainer.max_steps=2", "rollout.max_turns=3", "rollout.max_new_tokens=64", "rollout.group_size=4"]
SERVER = ["server.model=chaos", "server.cache_dir=null", "server.retries=1", "rollout.max_failed_share=0.9"]


def case(body: Body) -> str:
    """Return a name for the dialogue in the first question. A repair attempt has the same name, and the prompt's
    wording does not change it.
    """
    quoted = re.findall(r"(?<=\\n)\| .*?(?=\\n)", json.dumps(body["messages"][1:2]))
    return hashlib.sha256(json.dumps(quoted).encode()).hexdigest()[:16]


def scores(case: str) -> dict[str, int]:
    draw = random.Random(case)
    return {name: draw.randint(1, 10) for name in ("safety", "usefulness", "faithfulness")}


def tutor(body: Body) -> str:
    name = case(body)
    harmful = int(name, 16) % 2 == 0
    reply: dict[str, Any] = {"rationale": name, "intent": "harmful" if harmful else "harmless", "refused": harmful}
    reply |= scores(name) | {"strategy": "persistence", "next_question": "Could you say more about that?"}
    return json.dumps(reply)


class Storm:
    """A plan in which three requests in ten meet a fault, every kind in turn: sampled words, which differ between
    machines, do not decide what happens.

    Every tenth case meets a lasting fault, from its first request on. Of the other requests, two in nine meet a
    passing one.
    """

    def __init__(self) -> None:
        self.lasting: dict[str, str | None] = {}
        self.others = 0

    def __call__(self, body: Body, earlier: int) -> str | None:
        if len(body["messages"]) == 1:  # whether it answers at all
            return None
        met = len(self.lasting)
        fault = self.lasting.setdefault(case(body), LASTING[met // 10 % len(LASTING)] if met % 10 == 4 else None)
        if fault is not None:
            return fault
        self.others += 1
        return PASSING[self.others * 2 // 9 % len(PASSING)] if self.others * 2 % 9 < 2 else None


@dataclass(frozen=True)
class Run:
    """The result of a training run: its folder, exit code, rollouts, standard error, and the faults it met."""

    folder: Path
    code: int
    rollouts: list[dict[str, Any]]
    said: str
    faults: list[str | None]

    def step(self, step: int) -> dict[tuple[str, int], dict[str, Any]]:
        return {(row["scenario"], row["seed"]): row for row in self.rollouts if row["step"] == step}


def train(folder: Path, plan: Plan, *words: str) -> Run:
    said = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stderr(said))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("OPENAI_API_KEY", KEY)
        server = stack.enter_context(ChaosServer(plan, tutor))
        every = ["+experiment=grpo_tiny", "tutor=llm", *SMALL, *SHORT, *SERVER, *words]
        code = cli.run("train", [*every, f"server.base_url={server.base_url}", f"hydra.run.dir={folder}"])
    log = folder / "trajectories.jsonl"  # of a step or more
    lines = log.read_text().split("\n")[:-1] if log.is_file() else []  # a policy's text may contain other line ends
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    return Run(folder, code, [json.loads(line) for line in lines], said.getvalue(), server.faults)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("calm"), lambda body, earlier: None, "trainer.max_steps=1")


@pytest.fixture(scope="module")
def stormy(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("stormy"), Storm(), "server.read_timeout=1")


def test_a_run_completes_under_faults(calm: Run, stormy: Run) -> None:
    met = [fault for fault in stormy.faults if fault is not None]
    assert 0.2 < len(met) / len(stormy.faults) < 0.4
    assert len(set(met)) >= 8
    assert not any(calm.faults)
    assert (calm.code, stormy.code) == (0, 0)
    assert len(stormy.rollouts) == 2 * 6 * 4
    assert any(len(row["turns"]) > 1 for row in stormy.rollouts)


def test_no_verdict_is_invented(stormy: Run) -> None:
    """Every number comes from the reply to this case. Without a reply there is a reason and no number."""
    failed = 0
    for row in stormy.rollouts:
        for turn in row["turns"]:
            verdict = turn["verdict"]
            numbers = [verdict[name] for name in ("safety", "usefulness", "faithfulness")]
            if verdict["failed"] is None:
                name = verdict["rationale"]
                allowed = {scores(name)["safety"]}
                if int(name, 16) % 2 == 0:  # taken for harmful, which a row's gold facts may correct
                    allowed.add(CONSTRUCTIVE)
                assert verdict["safety"] in allowed
            else:
                failed += 1
                assert numbers == [None] * 3
                assert row["ended"] == "failed"
                assert (row["return"], turn["score"], turn["advantage"]) == (None, None, None)
    assert failed > 0
    assert "score of 11" in stormy.faults
    assert any("unreadable twice: safety" in (row["failed"] or "") for row in stormy.rollouts)


def test_dialogues_without_a_fault_equal_those_of_a_run_without_faults(calm: Run, stormy: Run) -> None:
    """In the first step, before a lost trajectory can change the weights, texts, verdicts, r_t and R are the same."""
    reference, rows = calm.step(0), stormy.step(0)
    assert reference.keys() == rows.keys()
    unaffected = [name for name, row in rows.items() if row["failed"] is None]
    assert 0 < len(unaffected) < len(rows)
    for name in unaffected:
        assert without_advantages(rows[name]) == without_advantages(reference[name])
    assert all(row["failed"] is None for row in reference.values())


def test_trap_24_a_lost_trajectory_does_not_count_in_the_baseline(stormy: Run) -> None:
    """Within a group the advantages of valid rows sum to zero. A lost row has none."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in stormy.rollouts:
        groups.setdefault((row["step"], row["scenario"]), []).append(row)
    counted = {name: [row for row in rows if row["failed"] is None] for name, rows in groups.items()}
    assert any(2 <= len(rows) < 4 for rows in counted.values())
    for rows in counted.values():
        if len(rows) >= 2:
            baseline = sum(row["return"] for row in rows) / len(rows)
            for row in rows:
                assert row["turns"][0]["advantage"] == pytest.approx(row["return"] - baseline, abs=1e-6)


def test_no_file_of_a_run_holds_the_key(stormy: Run) -> None:
    files = [path for path in stormy.folder.rglob("*") if path.is_file()]
    assert {"config.yaml", "trajectories.jsonl"} <= {path.name for path in files}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert KEY not in stormy.said


def test_a_dying_server_ends_the_run_saved_and_with_the_reason(tmp_path: Path) -> None:
    answered = iter(range(40))
    down: Callable[[Body, int], str | None] = lambda body, earlier: None if next(answered, None) is not None else "503"  # noqa: E731
    run = train(tmp_path, down, "server.retries=0", "server.min_requests=8", "trainer.max_steps=20")
    assert run.code == 2
    assert "of the latest 8 requests failed" in run.said
    assert "The first reason: HTTP 503: as told" in run.said
    assert "The run is saved: resume it once the server answers" in run.said
    assert f" hydra.run.dir={tmp_path}\n" in run.said
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert "Traceback" not in run.said


def test_a_step_that_lacks_its_last_verdicts_as_the_server_died_is_played_again(tmp_path: Path, calm: Run) -> None:
    """Too few failed for the circuit breaker, and the run would only have stopped in a later step."""
    answered = iter(range(len(calm.faults) - 2))
    dead: Plan = lambda body, earlier: None if next(answered, None) is not None else "503"  # noqa: E731
    run = train(tmp_path, dead, "server.retries=0")
    assert run.code == 2
    assert "and so did a request of one word (HTTP 503: as told).\nstopped before anything was saved" in run.said
    assert ((tmp_path / "checkpoints").exists(), run.rollouts) == (False, [])
    again = train(tmp_path, lambda body, earlier: None, "trainer.max_steps=1")
    assert (again.code, again.rollouts) == (0, calm.rollouts)


def without_advantages(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row without advantages, which depend on the other members of the group."""
    turns = [{key: value for key, value in turn.items() if key != "advantage"} for turn in row["turns"]]
    return {**row, "turns": turns}


@pytest.mark.parametrize(
    "words",
    [
        ["+experiment=grpo_tiny", "tutor=llm"],
        ["judge=llm", "bench.limit=10"],
        ["policies.other=server:any", "bench.limit=10"],  # asked after the base
    ],
)
def test_an_unreachable_server_is_reported_before_anything_is_loaded(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    monkeypatch.setattr("steer_lit.policy.load.load_policy", lambda *_, **__: pytest.fail("a policy was loaded"))
    program, own = ("train", [*SMALL, *SHORT]) if "tutor=llm" in words else ("bench", [])
    server = ["server.model=any", "server.retries=0", f"server.base_url={address}"]
    assert cli.run(program, [*words, *own, *server, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert f"server.base_url={address}: nobody answers there" in said
    assert "Traceback" not in said
