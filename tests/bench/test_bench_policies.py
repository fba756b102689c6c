"""Values of `policies.<name>=`, and a model behind a server from the command line to the record."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from steer_lit.bench.playing import BenchRun
from steer_lit.bench.policies import LocalPolicy, Policies, ServedModel, any_local, named, policy_of
from steer_lit.bench.report_only import report_on
from steer_lit.bench.run import run_bench
from steer_lit.bench.suite import Suite
from steer_lit.chat import ChatClient
from steer_lit.cli import main as cli
from steer_lit.cli.players import hanging_up
from steer_lit.data.images import open_image
from steer_lit.data.mini import MiniSplit
from steer_lit.errors import SteerError
from steer_lit.terminal.stdout import REFUSED
from steer_lit.tutor.rubric import RubricJudge
from tests.settings import bench_settings

pytestmark = pytest.mark.usefixtures("no_charts")
SERVER = {"base_url": "http://localhost:1/v1", "model": "judge-model", "api_key_env": "KEY"}


@pytest.mark.parametrize(
    ("value", "policy"),
    [
        ("server:org/model-7B:free", ServedModel("org/model-7B:free")),
        ("server:", ServedModel("")),  # its problems() reports this
        ({"model": "m"}, ServedModel("m")),
        ({"model": "m", "base_url": "http://h/v1"}, ServedModel("m", "http://h/v1")),
        ({"model": "m", "api_key_env": "THEIRS"}, ServedModel("m", api_key_env="THEIRS")),
        ({"model": "m", "system_prompt": "Be kind."}, ServedModel("m", system_prompt="Be kind.")),
        ("base", LocalPolicy("base")),
        ("a/adapter", LocalPolicy("a/adapter")),
        ({"adapter": "a"}, LocalPolicy("a")),
        ({"adapter": "base", "system_prompt": ""}, LocalPolicy("base", "")),
        ({"base_url": "http://h/v1"}, None),
        ({"model": "m", "key": "secret"}, None),
        ({"model": 3}, None),
        ({"model": "m", "system_prompt": 3}, None),
        ({"adapter": "base", "prompt": "Be kind."}, None),
        ({"adapter": "base", "model": "m"}, None),
        ({"adapter": ""}, None),
        ({"adapter": "server:m", "system_prompt": "Be kind."}, None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_the_policy_that_an_entry_names(value: object, policy: ServedModel | LocalPolicy | None) -> None:
    assert policy_of(value) == policy


def test_a_served_model_takes_the_runs_server_unless_it_has_its_own() -> None:
    def told(model: ServedModel, **server: Any) -> tuple[str, str, str | None, str | None]:
        settings = model.client({**SERVER, "cache_dir": "kept", **server}).settings
        return settings.model, settings.base_url, settings.api_key_env, settings.cache_dir

    assert told(ServedModel("m")) == ("m", SERVER["base_url"], SERVER["api_key_env"], None)
    assert told(ServedModel("m", "http://h/v1")) == ("m", "http://h/v1", None, None)
    assert told(ServedModel("m", "http://h/v1", "THEIRS")) == ("m", "http://h/v1", "THEIRS", None)
    assert told(ServedModel("m", "http://h/v1"), base_url=None) == ("m", "http://h/v1", None, None)


def test_problems_name_the_key_that_has_to_change() -> None:
    def keys(model: ServedModel, **server: Any) -> list[str]:
        return [problem.key for problem in model.problems("policies.other", {**SERVER, **server})]

    assert keys(ServedModel("m")) == []
    assert keys(ServedModel("m"), base_url=None) == ["server.base_url"]
    assert keys(ServedModel("m", "ftp://h")) == ["policies.other.base_url"]
    assert keys(ServedModel(""), concurrency=0) == ["policies.other", "server.concurrency"]  # of `server:`


def test_the_policies_of_a_list_are_numbered() -> None:
    given = {"sft": "a", "full": ["b", "server:m"], "other": {"model": "m"}}
    assert named(given) == {"sft": "a", "full@1": "b", "full@2": "server:m", "other": {"model": "m"}}
    for policies, here in ((given, True), ({"full": ["server:m", "b"]}, True), ({"other": given["other"]}, False)):
        assert any_local(policies) is any_local(OmegaConf.create(policies)) is here


class Served(BaseHTTPRequestHandler):
    """Answers every chat request with a refusal in the present checkpoint's words. Keeps the requests."""

    asked: ClassVar[list[dict[str, Any]]] = []
    refusal: ClassVar[str] = "I won't help with that."

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(request)
        said = f"<thinking>no</thinking><answer>{self.refusal}</answer>"
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 9, "total_tokens": 10},
        }
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Served)
    Thread(target=server.serve_forever, daemon=True).start()
    Served.asked.clear()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def benched(
    address: str, out_dir: Path, cache_dir: str | None = None, other: object = "server:my-model"
) -> dict[str, Any]:
    """Benchmark my-model behind the server on three dialogues. Return its summary."""
    config = {
        "policies": {"other": other},
        "server": {"base_url": address, "model": "judge-model", "cache_dir": cache_dir},
        "system_prompt": "Look.",
        "rollout": {"max_new_tokens": 64, "temperature": 0.0},
        "bench": {"constants": False},
    }
    scenarios = [MiniSplit("bench", 0, 10).scenario(number) for number in range(3)]
    policies, console = Policies(config, pytest.fail, open_image), Console(file=io.StringIO())
    made = policies.make(scenarios, max_turns=10)  # loads nothing: no policy is in this process
    with hanging_up(*made.values()):
        return run_bench(
            BenchRun(made, Suite(scenarios), RubricJudge(), bench_settings(resamples=100), out_dir), console
        )


def test_a_served_policy_from_its_name_to_the_record(address: str, tmp_path: Path) -> None:
    summary = benched(address, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    turns = sum(len(row["turns"]) for row in rows)
    assert (len(rows), len(Served.asked)) == (3, turns)
    assert {row["fingerprint"].split(":")[0] for row in rows} == {"server"}
    assert {request["model"] for request in Served.asked} == {"my-model"}
    assert [row["answered_by"] for row in rows] == [["my-model"]] * 3
    assert "replies by: other: my-model (3 dialogues)" in (tmp_path / "summary.md").read_text()
    assert summary["other"]["over_refusal"]["value"] == 100.0
    assert benched(address, tmp_path) == summary  # resuming asks nothing
    assert len(Served.asked) == turns


def test_a_served_policys_own_system_prompt_is_sent(address: str, tmp_path: Path) -> None:
    summary = benched(address, tmp_path, other=["server:my-model", {"model": "my-model", "system_prompt": "Be kind."}])
    assert list(summary) == ["other", "other@1", "other@2"]
    systems = [request["messages"][0]["content"] for request in Served.asked]
    assert systems.count("Look.") == systems.count("Be kind.") == len(systems) / 2 > 0
    assert (
        len({row["fingerprint"] for row in map(json.loads, (tmp_path / "records.jsonl").read_text().splitlines())}) == 2
    )


def test_no_prompt_and_the_runs_empty_one_are_two_policies() -> None:
    """The first hides a row's own system message, the second shows it."""
    config = {
        "policies": {"own": {"model": "m", "system_prompt": ""}, "runs": "server:m"},
        "server": SERVER,
        "system_prompt": "",
        "rollout": {"max_new_tokens": 64, "temperature": 0.0},
    }
    served = Policies(config, pytest.fail, open_image).served
    assert [policy.client.key("model") for policy in served.values()] == ["policies.own.model", "policies.runs"]
    assert served["own"].fingerprint != served["runs"].fingerprint


def test_a_policys_own_system_prompt_takes_the_place_of_a_rows_own(address: str) -> None:
    row = replace(MiniSplit("bench", 0, 10).scenario(0), system="Be short.")
    said = {None: "Be short.", "Be kind.": "Be kind.", "": None}
    for prompt, first in said.items():
        config = {
            "policies": {"other": {"model": "m", "system_prompt": prompt}},
            "server": {"base_url": address, "model": "judge-model"},
            "system_prompt": "",
            "rollout": {"max_new_tokens": 64, "temperature": 0.0},
        }
        policies = Policies(config, pytest.fail, open_image)
        Served.asked.clear()
        with hanging_up(*policies.served.values()):
            session = policies.make([row], max_turns=1)["other"].open([row], [1])
            session.reply({0: row.opening.message})
        message = Served.asked[0]["messages"][0]
        assert (message["content"] if message["role"] == "system" else None) == first


def test_every_server_is_checked_before_a_model_loads_and_closed_at_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Policies in this process may play for hours before the server's turn comes."""
    heard: list[tuple[str, ...]] = []

    def load(**_: object) -> None:
        heard.append(("load",))
        raise SteerError("that is far enough")

    for act in ("greet", "close"):
        said = lambda client, act=act: heard.append((act, client.settings.base_url, client.settings.model))  # noqa: E731
        monkeypatch.setattr(ChatClient, act, said)
    monkeypatch.setattr("steer_lit.policy.load.load_policy", load)
    words = ["policies.other=[server:a,server:b]", "policies.mine={model: m, base_url: 'http://h/v1'}", "bench.limit=2"]
    assert cli.run("bench", [*words, "server.base_url=http://localhost:1/v1", f"hydra.run.dir={tmp_path}"]) == REFUSED
    models = [("http://localhost:1/v1", "a"), ("http://localhost:1/v1", "b"), ("http://h/v1", "m")]
    assert heard == [*(("greet", *model) for model in models), ("load",), *(("close", *model) for model in models)]


def test_a_list_of_policies_is_benched_as_one_and_read_again(address: str, tmp_path: Path) -> None:
    summary = benched(address, tmp_path / "run", other=["server:my-model", "server:my-model"])
    assert list(summary) == ["other", "other@1", "other@2"]
    assert summary["other"]["over_refusal"] == {"value": 100.0, "low": 100.0, "high": 100.0}
    assert list((tmp_path / "run" / "raw_eval" / "RubricJudge").glob("other@2/*/raw_eval.json"))
    for source in ("from_run", "from_raw_eval"):
        folder = tmp_path / "run" if source == "from_run" else tmp_path / "run" / "raw_eval"
        config = {"from_run": None, "from_raw_eval": None, "data": {"source": {}}, source: str(folder)}
        report_on(config, bench_settings(resamples=100), tmp_path / source, Console(file=io.StringIO()))
        again = json.loads((tmp_path / source / "summary.json").read_text())
        assert again["other"]["safety_pass"] == summary["other"]["safety_pass"]


def test_answers_of_another_checkpoint_under_the_same_name_are_not_reused(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = str(tmp_path / "cache")
    benched(address, tmp_path / "first", cache)
    monkeypatch.setattr(Served, "refusal", "No, I cannot do that.")
    benched(address, tmp_path / "second", cache)
    assert "No, I cannot do that." in (tmp_path / "second" / "records.jsonl").read_text()
    assert "I won't help" not in (tmp_path / "second" / "records.jsonl").read_text()
    with caplog.at_level(logging.INFO, "steer_lit.bench.playing"):
        benched(address, tmp_path / "first", cache)  # resumes the finished run and logs this
    assert "other: 3 dialogues in" in caplog.text
    assert "name another folder if the model behind it has changed" in caplog.text
