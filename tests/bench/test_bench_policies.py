"""Values of `policies.<name>=`, and a model behind a server from the command line to the record."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from steer_lit.bench.policies import LocalPolicy, Policies, ServedModel, any_local, named, policy_of
from steer_lit.chat import ChatClient
from steer_lit.cli import main as cli
from steer_lit.cli.players import hanging_up
from steer_lit.data.images import open_image
from steer_lit.data.mini import MiniSplit
from steer_lit.errors import SteerError
from steer_lit.terminal.stdout import REFUSED
from steer_lit.tutor.rubric import RubricJudge
from tests.bench.players import benched, reported
from tests.chat.chaos_server import ChaosServer

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


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    """A server that answers every request with a refusal, as the model that was asked for."""
    said = "<thinking>no</thinking><answer>I won't help with that.</answer>"
    with ChaosServer(answer=lambda body: said, model=lambda body: str(body["model"])) as server:
        yield server


def config_of(policies: Mapping[str, object], address: str = "http://localhost:1/v1", **more: Any) -> dict[str, Any]:
    return {
        "policies": policies,
        "server": {**SERVER, "base_url": address},
        "system_prompt": "Look.",
        "rollout": {"max_new_tokens": 64, "temperature": 0.0},
        **more,
    }


def played(
    server: ChaosServer, out_dir: Path, other: object = "server:my-model", cache: Path | None = None
) -> dict[str, Any]:
    """Benchmark my-model behind the server on three dialogues. Return its summary."""
    scenarios = [MiniSplit("bench", 0, 10).scenario(number) for number in range(3)]
    config = config_of({"other": other}, server.base_url)
    config["server"]["cache_dir"] = cache and str(cache)
    policies = Policies(config, pytest.fail, open_image)
    made = policies.make(scenarios, max_turns=10)  # loads nothing: no policy is in this process
    with hanging_up(*made.values()):
        return benched(out_dir, made, scenarios, RubricJudge())[0]


def test_a_served_policy_from_its_name_to_the_record(server: ChaosServer, tmp_path: Path) -> None:
    summary = played(server, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    turns = sum(len(row["turns"]) for row in rows)
    assert (len(rows), len(server.bodies)) == (3, turns)
    assert {row["fingerprint"].split(":")[0] for row in rows} == {"server"}
    assert {request["model"] for request in server.bodies} == {"my-model"}
    assert [row["answered_by"] for row in rows] == [["my-model"]] * 3
    assert "replies by: other: my-model (3 dialogues)" in (tmp_path / "summary.md").read_text()
    assert summary["other"]["over_refusal"]["value"] == 100.0
    assert played(server, tmp_path) == summary  # resuming asks nothing
    assert len(server.bodies) == turns


def test_a_served_policys_own_system_prompt_is_sent(server: ChaosServer, tmp_path: Path) -> None:
    summary = played(server, tmp_path, ["server:my-model", {"model": "my-model", "system_prompt": "Be kind."}])
    assert list(summary) == ["other", "other@1", "other@2"]
    systems = [request["messages"][0]["content"] for request in server.bodies]
    assert systems.count("Look.") == systems.count("Be kind.") == len(systems) / 2 > 0
    rows = map(json.loads, (tmp_path / "records.jsonl").read_text().splitlines())
    assert len({row["fingerprint"] for row in rows}) == 2


def test_no_prompt_and_the_runs_empty_one_are_two_policies() -> None:
    """The first hides a row's own system message, the second shows it."""
    config = config_of({"own": {"model": "m", "system_prompt": ""}, "runs": "server:m"}, system_prompt="")
    served = Policies(config, pytest.fail, open_image).served
    assert [policy.client.key("model") for policy in served.values()] == ["policies.own.model", "policies.runs"]
    assert served["own"].fingerprint != served["runs"].fingerprint


def test_a_policys_own_system_prompt_takes_the_place_of_a_rows_own(server: ChaosServer) -> None:
    row = replace(MiniSplit("bench", 0, 10).scenario(0), system="Be short.")
    said = {None: "Be short.", "Be kind.": "Be kind.", "": None}
    for prompt, first in said.items():
        config = config_of({"other": {"model": "m", "system_prompt": prompt}}, server.base_url, system_prompt="")
        policies = Policies(config, pytest.fail, open_image)
        with hanging_up(*policies.served.values()):
            session = policies.make([row], max_turns=1)["other"].open([row], [1])
            session.reply({0: row.opening.message})
        message = server.bodies[-1]["messages"][0]
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


def test_a_list_of_policies_is_benched_as_one_and_read_again(server: ChaosServer, tmp_path: Path) -> None:
    summary = played(server, tmp_path / "run", ["server:my-model", "server:my-model"])
    assert list(summary) == ["other", "other@1", "other@2"]
    assert summary["other"]["over_refusal"] == {"value": 100.0, "low": 100.0, "high": 100.0}
    assert list((tmp_path / "run" / "raw_eval" / "RubricJudge").glob("other@2/*/raw_eval.json"))
    for source, folder in (("from_run", tmp_path / "run"), ("from_raw_eval", tmp_path / "run" / "raw_eval")):
        again, _ = reported(tmp_path / source, **{source: str(folder)})
        assert again["other"]["safety_pass"] == summary["other"]["safety_pass"]


def test_answers_of_another_checkpoint_under_the_same_name_are_not_reused(
    server: ChaosServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = {"cache": tmp_path / "cache"}
    played(server, tmp_path / "first", **kept)
    server.answer = lambda body: "<thinking>no</thinking><answer>No, I cannot do that.</answer>"
    played(server, tmp_path / "second", **kept)
    assert "No, I cannot do that." in (tmp_path / "second" / "records.jsonl").read_text()
    assert "I won't help" not in (tmp_path / "second" / "records.jsonl").read_text()
    with caplog.at_level(logging.INFO, "steer_lit.bench.playing"):
        played(server, tmp_path / "first", **kept)  # resumes the finished run and logs this
    assert "other: 3 dialogues in" in caplog.text
    assert "name another folder if the model behind it has changed" in caplog.text
