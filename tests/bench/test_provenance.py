"""What a report says about how its run was made, and what it does not disclose."""

import json
from pathlib import Path

import pytest

from steer_lit.bench.pictures import picture_opener
from steer_lit.bench.provenance import provenance, redacted
from steer_lit.data.images import PictureError
from steer_lit.files.run_files import CONFIG, VERSIONS
from steer_lit.types import ImageRef

MINI = "data: {source: {_target_: steer_lit.data.sources.MiniSource, seed: 3}, blank_images: true}\n"


def saved(folder: Path, config: str, versions: object = None) -> dict[str, str]:
    (folder / CONFIG).write_text(config)
    if versions is not None:
        (folder / VERSIONS).write_text(json.dumps(versions))
    return dict(provenance(folder))


def test_a_runs_provenance_is_read_from_its_folder(tmp_path: Path) -> None:
    config = MINI + "model: {name: nano, quantize: nf4}\npolicies: {base: base, other: 'server:big'}\n"
    config += "bench: {split: rl}\nrollout: {max_new_tokens: 64, temperature: 0.0}\n"
    command = "python bench.py policies.other=server:big"
    versions = {"python": "3.11", "torch": "2.9", "date": "2026-01-02 03:04", "command": command, "prompts": {"a": "b"}}
    assert saved(tmp_path, config, versions) == {
        "date": "2026-01-02 03:04",
        "model": "nano in nf4, big",
        "data": "STEER-mini, seed 3, the scenarios of GRPO, pictures blanked",
        "answers": "greedy, at most 64 tokens",
        "command": command,
        "versions": "python 3.11, torch 2.9",
    }
    config = "data: {source: {bench: [/home/me/rows/bench.jsonl, more.jsonl]}}\npolicies: {a: {model: big, base_url: 'http://h/v1'}}\n"
    config += "model: {name: tiny}\nrollout: {max_new_tokens: 9, temperature: 0.7}\n"
    assert saved(tmp_path, config, {}) == {
        "model": "big", "data": "bench.jsonl, more.jsonl", "answers": "temperature 0.7, at most 9 tokens",
    }  # fmt: skip


def test_system_prompts_are_told_if_a_policy_brings_its_own(tmp_path: Path) -> None:
    config = "system_prompt: Look.\npolicies: {base: base, kind: {adapter: base, system_prompt: Be kind.}}\n"
    assert saved(tmp_path, config)["system prompts"] == 'all others: "Look."; kind: "Be kind."'
    assert "system prompts" not in saved(tmp_path, "system_prompt: Look.\npolicies: {base: base}\n")


def test_prompts_of_ones_own_are_told_apart_without_their_folder(tmp_path: Path) -> None:
    config = "attacker: {_target_: steer_lit.attacker.llm.LlmAttacker, prompts: /home/me}\njudge: {prompts: null}\n"
    marks = {"attacker_system": "12ab", "attacker_user": "34cd", "judge_system": "56ef"}
    told = saved(tmp_path, config, {"prompts": marks})
    assert told["prompts of one's own"] == "attacker_system 12ab, attacker_user 34cd"
    assert "/home" not in str(told)
    assert "prompts of one's own" not in saved(tmp_path, "judge: {prompts: null}", {"prompts": marks})


ATTACKER = "steer_lit.attacker."
CLIENT = "client: {settings: {model: big, base_url: 'http://h/v1'}}"


@pytest.mark.parametrize(
    ("attacker", "tutor", "asked"),
    [
        (f"{ATTACKER}scripted.ScriptedAttacker", CLIENT, "the script"),  # the tutor is not asked
        (f"{ATTACKER}adaptive.AdaptiveAttacker, extra_turns: 0, lead_share: 0.5", "", "the adaptive attacker"),
        (
            f"{ATTACKER}adaptive.AdaptiveAttacker, extra_turns: 3, lead_share: 1, quote_words: 3, wordings: held_out",
            "",
            "the adaptive attacker (extra_turns=3, lead_share=1, wordings=held_out)",
        ),
        (
            f"{ATTACKER}adaptive.AdaptiveAttacker",
            CLIENT,
            "the adaptive attacker, by the questions and verdicts of model big",
        ),
        (
            f"{ATTACKER}llm.LlmAttacker, extra_turns: 4, temperature: 0.0, {CLIENT}",
            CLIENT,
            "model big behind a server (extra_turns=4), by the verdicts of model big",
        ),
        (
            f"{ATTACKER}adaptive.AdaptiveAttacker",
            CLIENT.replace("client: {", "client: {model: own, "),
            "the adaptive attacker, by the questions and verdicts of model own",
        ),
        ("mine.Attacker, secret: word", "", "Attacker"),
    ],
)
def test_the_head_names_the_attacker(tmp_path: Path, attacker: str, tutor: str, asked: str) -> None:
    assert saved(tmp_path, f"attacker: {{_target_: {attacker}}}\ntutor: {{{tutor}}}\n") == {"asked by": asked}


@pytest.mark.parametrize("client", ["5", "null", "{settings: 5}", "{model: null}"])
def test_a_client_without_a_model_is_not_told(tmp_path: Path, client: str) -> None:
    config = f"attacker: {{_target_: {ATTACKER}adaptive.AdaptiveAttacker}}\ntutor: {{client: {client}}}\n"
    assert saved(tmp_path, config) == {"asked by": "the adaptive attacker"}


@pytest.mark.parametrize("source", [[1], "text", None, {"folder": ["a", "b"], "bench": 3}])
def test_an_edited_data_section_names_no_folder_of_pictures(source: object) -> None:
    with pytest.raises(PictureError, match="no folder was named"):
        picture_opener({"source": source})(ImageRef("a.png"))


@pytest.mark.parametrize("versions", [[], "text", {"date": 3, "command": None}])
def test_unknown_facts_are_left_out(tmp_path: Path, versions: object) -> None:
    assert provenance(tmp_path / "none") == ()
    assert saved(tmp_path, "name: bench\n", versions) == {}
    (tmp_path / VERSIONS).write_text("{")
    assert provenance(tmp_path) == ()


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("policies.sft=outputs/demo/sft/adapter bench.limit=3", "policies.sft=outputs/demo/sft/adapter bench.limit=3"),
        ("policies.sft=/home/me/run/adapter", "policies.sft=…/run/adapter"),
        ("policies.sft=~/run/adapter", "policies.sft=…/run/adapter"),
        ("policies.sft=~me/run/adapter", "policies.sft=…/run/adapter"),
        ("policies.sft=~me/adapter", "policies.sft=…/adapter"),
        ("'policies.a=[~/a/adapter,~me/b/adapter]'", "'policies.a=[…/a/adapter,…/b/adapter]'"),
        ("'~policies.base'", "'~policies.base'"),  # Hydra's sign for removing a policy
        ("'~hydra/launcher'", "'~hydra/launcher'"),
        ("'~policies.a=~/run/adapter'", "'~policies.a=…/run/adapter'"),
        ("policies.sft=../../home/me/run/adapter", "policies.sft=…/run/adapter"),
        ("server.base_url=HTTP://host.corp/v1", "server.base_url=<address>"),
        ("'policies.a=[/home/me/a b/adapter,x/adapter]'", "'policies.a=[…/a b/adapter,x/adapter]'"),
        ("'from_run=\"/home/me/a, b\"'", "'from_run=\"…/me/a, b\"'"),
        ("server.base_url=http://me:word@host:8000/v1", "server.base_url=<address>"),
        ("'policies.a={model: m, base_url: \"https://host/v1\"}'", "'policies.a={model: m, base_url: \"<address>\"}'"),
    ],
)
def test_a_command_discloses_nothing_of_this_machine(typed: str, shown: str) -> None:
    assert redacted(f"python bench.py {typed}") == f"python bench.py {shown}"


def test_a_command_that_no_shell_can_parse_is_left_out() -> None:
    assert redacted("python bench.py 'a") == ""
