"""Which settings are refused, under which key they are reported, and that no key is in a config."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from steer_lit.chat import ChatClient, ChatSettings
from steer_lit.chat.settings import with_own
from steer_lit.checks.programs import bench_problems, train_problems
from steer_lit.checks.servers import client_problems
from steer_lit.errors import ConfigError

GOOD: dict[str, Any] = {"base_url": "http://localhost:8000/v1", "model": "judge"}
CLIENT = "steer_lit.chat.ChatClient"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("base_url", None, "server.base_url=http://localhost:8000/v1"),
        ("base_url", "localhost:8000", "whole address"),
        ("base_url", "ftp://host/v1", "whole address"),
        ("base_url", "http://[host/v1", "no address"),
        ("base_url", "https://me:sk-1234@host/v1", "must hold no key"),
        ("base_url", "https://host/v1?key=sk-1234", "must hold no key"),
        ("base_url", "http://me:sk-1234/w@host/v1", "no address"),
        ("base_url", "http://host/v1#sk-1234", "must hold no key"),
        ("base_url", "http://host:99999/v1", "no address"),
        ("base_url", "http://10.0.0.999/v1", "no address"),
        ("base_url", "http://host/v1\n", "no address"),
        ("base_url", " http://host/v1", "whole address"),
        ("model", None, "name of the model"),
        ("model", "", "name of the model"),
        ("api_key_env", "sk-1234", "never the key itself"),
        ("api_key_env", "hf_AbCd1234", "never the key itself"),  # a key may look like a name: no such variable here
        ("api_key_env", "", "never the key itself"),
        ("structured", "yes", "auto, json_schema, json_object, off"),
        ("cache_dir", "", "null to keep nothing"),
        ("concurrency", 0, "at least 1 and at most 10000"),
        ("concurrency", 2.5, "whole number"),
        ("concurrency", True, "whole number"),
        ("retries", -1, "at least 0 and at most 100"),
        ("min_requests", "all", "whole number"),
        ("min_requests", 10**24, "at least 1 and at most 1000000"),
        ("retries", 10**24, "at least 0 and at most 100"),
        ("concurrency", 10**24, "at least 1 and at most 10000"),
        ("read_timeout", 10**30, "at most 1000000"),
        ("backoff", 1e300, "at most 1000000"),
        ("connect_timeout", 0, "a number, above 0 and"),
        ("read_timeout", None, "a number, above 0 and"),
        ("backoff", -1.0, "a number, above 0 and"),
        ("max_failed_share", 1.5, "at least 0 and at most 1"),
    ],
)
def test_a_value_that_cannot_work_is_refused(name: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        ChatSettings(**{**GOOD, name: value})
    assert [problem.key for problem in refused.value.problems] == [name]
    assert "sk-1234" not in str(refused.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        ChatSettings("nowhere", "", concurrency=0, max_failed_share=2)
    assert {problem.key for problem in refused.value.problems} == {
        "base_url",
        "model",
        "concurrency",
        "max_failed_share",
    }


def test_a_problem_is_reported_at_the_key_that_was_set() -> None:
    """A value from `server` is reported there, a client's own value at the client."""
    server = {**GOOD, "base_url": None, "concurrency": 0}
    own = {**server, "base_url": "http://localhost:1/v1", "retries": -1, "concurency": 4}
    config = {
        "server": server,
        "tutor": {"client": {"_target_": CLIENT, "settings": server}},
        "attacker": {"inner": {"client": {"_target_": CLIENT, "settings": own}}},
    }
    assert [problem.key for problem in client_problems(config)] == [
        "server.base_url",
        "server.concurrency",
        "attacker.inner.client.settings.concurency",
        "server.concurrency",
        "attacker.inner.client.settings.retries",
    ]


def test_a_clients_own_setting_replaces_the_servers() -> None:
    shared = ChatSettings(**GOOD, retries=2)
    own: dict[str, Any] = {"model": "weaker", "base_url": None, "concurrency": 3}
    for settings in (shared, {**GOOD, "retries": 2}, {**GOOD, "retries": 2, "model": None}):
        assert ChatClient(settings, **own).settings == replace(shared, model="weaker", concurrency=3)
    config = {
        "server": {**GOOD, "retries": -1},
        "target": {"_target_": CLIENT, "settings": {**GOOD, "retries": -1}, "model": 5, "base_url": None, "keys": 1},
    }
    assert [problem.key for problem in client_problems(config)] == ["target.keys", "target.model", "server.retries"]


def test_an_unused_server_needs_no_address() -> None:
    assert list(client_problems({"server": {"base_url": None}, "tutor": {"_target_": "RubricTutor"}})) == []


@pytest.mark.parametrize("name", ["train", "bench", "synthesize"])
def test_the_server_node_is_all_a_client_needs(repository: Path, name: str) -> None:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        node = OmegaConf.to_container(compose(name, ["server.base_url=http://h/v1", "server.model=m"]).server)
    assert isinstance(node, dict)
    assert set(node) == {field.name for field in fields(ChatSettings)}
    settings = ChatClient(node).settings
    assert settings == ChatSettings("http://h/v1", "m", cache_dir="outputs/chat_cache")


@pytest.mark.parametrize(("name", "problems_of"), [("train", train_problems), ("bench", bench_problems)])
def test_trap_37_a_short_connect_time_out_is_refused(repository: Path, name: str, problems_of: Any) -> None:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        config = compose(name, ["server.connect_timeout=5", "hydra.run.dir=x", "run_dir=x"])
    assert "server.connect_timeout" in [problem.key for problem in problems_of(config)]


def test_trap_37_a_clients_own_short_connect_time_out_is_refused() -> None:
    server = {"base_url": "http://h/v1", "model": "m", "connect_timeout": 30.0}
    client = {"_target_": CLIENT, "settings": server, "connect_timeout": 5}
    (problem,) = client_problems({"server": server, "tutor": {"client": client}})
    assert str(problem).startswith("tutor.client.connect_timeout=5: must be at least 30 s")


@pytest.mark.parametrize(
    ("shared", "own", "variable"),
    [
        ("http://a:1/v1", {"model": "m"}, "KEY"),
        ("http://a:1/v1", {"base_url": "http://A:1/v2/"}, "KEY"),  # another path, the same server
        ("http://a:1/v1", {"base_url": "http://b:1/v1"}, None),
        ("http://a:1/v1", {"base_url": "http://a:2/v1"}, None),
        ("https://a:1/v1", {"base_url": "http://a:1/v1"}, None),  # unencrypted
        ("http://a:1/v1", {"base_url": "http://b:1/v1", "api_key_env": "B_KEY"}, "B_KEY"),
        (None, {"base_url": "http://b:1/v1"}, None),  # another client may use another server
        (None, {"base_url": "http://b:1/v1", "api_key_env": "KEY"}, "KEY"),
        ("http://a:1/v1", {"base_url": "http://["}, None),
    ],
)
def test_a_key_is_sent_only_to_its_own_server(shared: str | None, own: dict[str, str], variable: str | None) -> None:
    given = {"base_url": shared, "model": "any", "api_key_env": "KEY", "retries": 2}
    assert with_own(given, {"model": None, **own}) == {**given, **own, "api_key_env": variable}


def test_the_key_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", " sk-1 ")
    settings = {"base_url": "http://a/v1", "model": "m"}
    assert ChatSettings(**settings, api_key_env="KEY").key == "sk-1"
    assert ChatSettings(**settings, api_key_env="UNSET").key == ""
    assert ChatSettings(**settings, api_key_env=None).key == ""
