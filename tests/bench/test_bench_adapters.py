"""One base model with adapters of different ranks and scales."""

import json
import math
import shutil
import weakref
from collections.abc import Callable
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from steer_lit import __version__
from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.bench.adapters import AdaptedPolicy, AdapterPolicies
from steer_lit.bench.policies import Policies
from steer_lit.bench.suite import BenchPolicy
from steer_lit.data.images import open_image
from steer_lit.digests import digest
from steer_lit.errors import ConfigError, MissingResource, SteerError
from steer_lit.policy.load import load_policy
from steer_lit.policy.lora import AdapterFolder, LoraSettings
from steer_lit.policy.model_facts import LINEAR_LAYERS, NumberType, Quantization
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.rollout.engine import SampledPolicy
from steer_lit.rollout.play import play
from steer_lit.types import Attack, ImageRef, Message, Policy, Scenario, TokenTrace

TRACE = TokenTrace((60, 61, 62, 63), (-1, 0, 0, 0), (0.0,) * 4, ())
OWN = LoraSettings(r=4, alpha=8)
KNIFE = ImageRef("mini://knife?colour=red&x=1&y=1&size=50&bg=0")


def load(
    lora: LoraSettings = OWN,
    init_from: str | None = None,
    dtype: NumberType = "float32",
    *,
    quantize: Quantization = "none",
    system_prompt: str = "Be brief.",
    min_pixels: int = 784,
    max_pixels: int = 12544,
) -> QwenVL:
    return load_policy(
        name="tiny",
        quantize=quantize,
        dtype=dtype,
        lora=lora,
        system_prompt=system_prompt,
        open_image=open_image,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        init_from=init_from,
    )


def logits(qwen: QwenVL) -> torch.Tensor:
    """Return log-probs from transformers' modules and PEFT. Those of the engine must agree."""
    batch = qwen.collate([TRACE])
    with qwen.inference():
        hidden = qwen.hidden(qwen.embed(batch.input_ids, batch.images), batch.position_ids)
        scored = qwen.logprobs(batch)
    plain = qwen.logits(hidden[0]).log_softmax(-1)[:-1].gather(-1, batch.input_ids[0, 1:, None])
    torch.testing.assert_close(scored[0, 1:], plain.squeeze(-1), atol=1e-5, rtol=0)
    return scored


@pytest.fixture
def policies() -> AdapterPolicies:
    return AdapterPolicies(load(), lora=OWN, quantize="none", max_new_tokens=4, temperature=0.0)


@pytest.fixture
def folder(tmp_path):
    """Return a function that makes the folder of a trained adapter."""

    def make(r: int, alpha: int, *targets: str) -> str:
        lora = LoraSettings(r=r, alpha=alpha, targets=targets or LINEAR_LAYERS)
        qwen, place = load(lora), tmp_path / "_".join((str(r), str(alpha), *targets))
        with torch.no_grad():
            for number, parameter in enumerate(qwen.adapter_parameters().values()):
                parameter.add_(0.01 * (1 + number % 3))
        qwen.save_adapter(place)
        return str(place)

    return make


def test_adapters_of_several_ranks_and_scales_are_played_as_they_were_trained(policies, folder) -> None:
    base = logits(load())
    for shape in ((4, 8), (16, 8), (2, 4), (4, 16), (4, 8)):
        adapter = folder(*shape)
        policies.policy(adapter)
        played = logits(policies.qwen)
        assert torch.equal(played, logits(load(LoraSettings(*shape), init_from=adapter))), shape
        assert not torch.equal(played, base)
        policies.policy("base")
        assert torch.equal(logits(policies.qwen), base)


def answers(policy: Policy) -> list[TokenTrace | None]:
    """Return the token ids and log-probs of the policy's answers in two dialogues."""
    asked = Attack(Message.of("user", KNIFE, "What is this?")), Attack(Message.of("user", "May I have it?"))
    rows = [Scenario("picture", "benign", asked[0], asked[1:]), Scenario("words", "benign", asked[1])]
    played = play(rows, [1, 2], policy, ScriptedAttacker(), None, 2, stop_when_truncated=False)
    return [trajectory.trace for trajectory in played]


@pytest.mark.parametrize(("quantize", "dtype"), [("none", "float32"), ("none", "bfloat16"), ("nf4", "float32")])
def test_policies_on_one_base_answer_as_each_does_alone(folder, quantize: Quantization, dtype: NumberType) -> None:
    sampling = {"max_new_tokens": 8, "temperature": 1.0}

    def alone(lora: LoraSettings, adapter: str | None) -> list[TokenTrace | None]:
        return answers(SampledPolicy(load(lora, adapter, dtype, quantize=quantize), **sampling))

    shapes: list[tuple] = [(4, 8), (16, 8), (4, 16), (2, 4, "q_proj", "v_proj"), (16, 8, "down_proj")]
    folders = [folder(*shape) for shape in shapes]
    policies = AdapterPolicies(load(dtype=dtype, quantize=quantize), lora=OWN, quantize=quantize, **sampling)
    made = {name: policies.policy(name) for name in ("base", *folders)}
    expected = {"base": alone(OWN, None)}
    for (r, alpha, *targets), adapter in zip(shapes, folders, strict=True):
        expected[adapter] = alone(LoraSettings(r=r, alpha=alpha, targets=targets or LINEAR_LAYERS), adapter)
    assert len({str(said) for said in expected.values()}) == 1 + len(shapes)
    for name in (*expected, "base", *reversed(folders), "base", folders[3], folders[1], folders[1]):
        assert answers(made[name]) == expected[name], name


def test_the_base_is_loaded_once_and_an_active_adapter_is_not_read_again(
    folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[QwenVL] = []
    read: list[str] = []

    def count() -> QwenVL:
        loaded.append(load())
        return loaded[-1]

    def reading(folder: AdapterFolder, *given: object) -> None:
        read.append(folder.path.name)
        load_into(folder, *given)  # type: ignore[arg-type]

    load_into = AdapterFolder.load_into
    monkeypatch.setattr(AdapterFolder, "load_into", reading)
    policies = named(load=count, a=folder(8, 8), b=folder(4, 8))
    assert not loaded
    made = policies.make([], max_turns=2)
    assert (len(loaded), read) == (1, ["8_8", "4_8"])
    for name in ("base", "a", "a", "b", "b"):
        answers(made[name])
    assert (len(loaded), read) == (1, ["8_8", "4_8", "8_8", "4_8"])


def test_the_previous_adapter_is_freed(policies, folder) -> None:
    shapes = [folder(8, 8), folder(16, 8), folder(2, 4, "q_proj")]
    held: list[weakref.ref[torch.Tensor]] = []
    for adapter in (*shapes, "base"):
        answers(policies.policy(adapter))
        assert not any(parameter() is not None for parameter in held), adapter
        held = [weakref.ref(parameter) for parameter in policies.qwen.adapter_parameters().values()]


def test_an_adapter_that_changed_since_it_was_checked_is_refused(policies, folder) -> None:
    adapter, other = folder(4, 8), folder(4, 16)
    policy: BenchPolicy = policies.policy(adapter)
    policies.policy(other)
    shutil.copy(Path(other) / "adapter_config.json", adapter)
    with pytest.raises(SteerError, match=rf"^policies='{adapter}': that adapter changed while others were played: run"):
        policy.open([], [])


@pytest.mark.parametrize(("owner", "name"), [(QwenVL, "adapt"), (AdapterFolder, "load_into")])
def test_an_adapter_that_memory_has_no_room_for_is_named(
    owner: type, name: str, policies, folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(owner, name, without_memory)
    adapter = folder(8, 8)
    with pytest.raises(MissingResource, match=rf"^out of memory while putting on policies.a={adapter}: free what"):
        policies.policy(adapter, "policies.a")


def test_the_same_weights_in_another_folder_are_checked_too(policies, folder) -> None:
    adapter = folder(4, 8)
    policies.policy(adapter)
    shutil.copytree(adapter, foreign := f"{adapter}_foreign")
    rewrite(foreign, fingerprint="0123456789ab")
    with pytest.raises(SteerError, match="that adapter was trained on base 'tiny'"):
        policies.policy(foreign)


def test_the_parts_of_a_fingerprint(policies, folder) -> None:
    """Graded dialogues are kept for as long as the fingerprint stays the same."""
    adapter = folder(16, 8)
    weights = sha256((Path(adapter) / "adapter_model.safetensors").read_bytes()).hexdigest()
    shown = [("max_pixels", 12544), ("min_pixels", 784), ("system_prompt", "Be brief.")]
    for name, told in (("base", "base"), (adapter, f"{weights} alpha 8")):
        named = (__version__, policies.qwen.fingerprint, "none float32 float32", told, shown, 4, 0.0)
        assert policies.policy(name).fingerprint == digest(repr(named), 16)


def test_another_scale_changes_the_fingerprint(policies, folder) -> None:
    adapter = folder(4, 8)
    before: AdaptedPolicy = policies.policy(adapter)
    config = Path(adapter) / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 16}))
    after = policies.policy(adapter)
    assert before.fingerprint != after.fingerprint


def test_another_number_type_prompt_or_resolution_changes_the_fingerprint() -> None:
    def fingerprint(**other: Any) -> str:
        made = AdapterPolicies(load(**other), lora=OWN, quantize="none", max_new_tokens=4, temperature=0.0)
        return made.policy("base").fingerprint

    lora = {"lora": replace(OWN, dtype="bfloat16")}
    others: list[dict[str, Any]] = [{}, lora, {"dtype": "bfloat16"}, {"min_pixels": 1568}, {"max_pixels": 3136}]
    others.append({"system_prompt": "Be long."})
    assert len({fingerprint(), *(fingerprint(**other) for other in others)}) == len(others)


def named(load: Callable[[], QwenVL] = load, max_new_tokens: int = 4, **others: object) -> Policies:
    config = {
        "policies": {"base": "base", **others},
        "rollout": {"max_new_tokens": max_new_tokens, "temperature": 0.0},
        "bench": {"chunk": 64},
        "model": {"lora": asdict(OWN), "quantize": "none"},
        "system_prompt": "Be brief.",
        "server": {"base_url": "http://localhost:1/v1"},
    }
    return Policies(config, load, open_image)


def rewrite(adapter: str, **changes: str) -> None:
    facts = Path(adapter) / "steer_lit.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), **changes}))


def test_an_adapter_that_does_not_fit_is_found_before_any_policy_plays(folder) -> None:
    good, bad = folder(4, 8), folder(8, 8)
    rewrite(bad, fingerprint="0123456789ab")
    with pytest.raises(SteerError, match=rf"^policies\.b='{bad}': that adapter was trained on base 'tiny'"):
        named(served="server:m", a=good, b=bad).make([], max_turns=2)


def test_a_dialogue_that_may_outgrow_the_model_is_found_before_any_policy_plays() -> None:
    asked = Attack(Message.of("user", KNIFE, "What is this? " * 40))
    row = Scenario("long", "benign", asked, (asked, asked))
    # By hand: <|im_start|>, <|im_end|>, a role and a newline are one token each. "Be brief." has 8. The text is 40
    # times "What", " is", " this", "?" and " ". The picture of 112 by 112 pixels has 16 squares of 28 between two
    # marks.
    system, user, assistant = 3 + 8 + 2, 3 + (1 + 16 + 1) + 40 * 5 + 2, 3
    tokens = system + 2 * (user + assistant) + 2  # two more close the first answer if it is cut
    assert tokens == 467
    fits = (4096 - tokens) // 2
    named(max_new_tokens=fits).make([row], max_turns=2)
    said = rf"max_new_tokens={fits + 1}: over the 2 turns of row 'long', which takes {tokens:,} tokens itself, is more"
    with pytest.raises(ConfigError, match=rf"rollout\.{said} than the 4,096 tokens the model reads: lower it or bench"):
        named(max_new_tokens=fits + 1, served="server:m").make([row], max_turns=2)


def test_a_cache_that_may_outgrow_the_memory_is_told_before_any_policy_plays(
    folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = "{} dialogues of {} turns, lower {}"
    monkeypatch.setattr(
        SampledPolicy, "cache_shortage", lambda policy, *numbers: said.format(*numbers, policy.memory_keys)
    )
    row = Scenario("q", "benign", Attack(Message.of("user", "Hi.")))
    named(sft=folder(4, 8)).make([row] * 70, max_turns=3)
    (told,) = [record.getMessage() for record in caplog.records if "memory may" in record.getMessage()]
    assert told == "memory may run out: 64 dialogues of 3 turns, lower bench.chunk or rollout.max_new_tokens"
    caplog.clear()
    named().make([row] * 5, max_turns=3)
    assert "memory may run out: 5 dialogues" in caplog.text


def test_a_system_prompt_of_a_policys_own_acts_as_the_runs_would(folder) -> None:
    adapter = folder(4, 8)
    own = {name: {"adapter": name, "system_prompt": "Be long. Be kind."} for name in ("base", adapter)}
    made = named(long=own["base"], sft=adapter, asked=own[adapter], empty={**own["base"], "system_prompt": ""}).make(
        [], max_turns=2
    )
    said = {name: answers(policy) for name, policy in made.items()}
    alone = {"max_new_tokens": 4, "temperature": 0.0}
    assert said["base"] == answers(SampledPolicy(load(), **alone))
    assert said["long"] == answers(SampledPolicy(load(system_prompt="Be long. Be kind."), **alone))
    assert said["sft"] == answers(SampledPolicy(load(init_from=adapter), **alone))
    asked = load(init_from=adapter, system_prompt="Be long. Be kind.")
    assert said["asked"] == answers(SampledPolicy(asked, **alone))
    assert said["empty"] == answers(SampledPolicy(load(system_prompt=""), **alone))
    assert len({policy.fingerprint for policy in made.values()}) == 5


def test_an_adapter_is_warned_of_if_its_own_prompt_is_not_what_it_was_trained_with(folder, caplog) -> None:
    adapter = folder(4, 8)  # under "Be brief."
    named(same={"adapter": adapter, "system_prompt": "Be brief."}).make([], max_turns=2)
    assert "that adapter was trained with" not in caplog.text
    named(other={"adapter": adapter, "system_prompt": "Be long."}).make([], max_turns=2)
    assert "was trained with system_prompt='Be brief.', not this run's 'Be long.'" in caplog.text


def test_a_long_system_prompt_of_a_policys_own_counts_before_any_policy_plays() -> None:
    asked = Attack(Message.of("user", "What is this?"))
    row = Scenario("short", "benign", asked)
    named(max_new_tokens=64).make([row], max_turns=1)
    with pytest.raises(ConfigError, match="over the 1 turn of row 'short'"):
        named(max_new_tokens=64, long={"adapter": "base", "system_prompt": "Be kind. " * 1000}).make([row], max_turns=1)


def test_a_warning_about_an_adapter_is_logged_once(folder, caplog) -> None:
    other, foreign = folder(4, 8), folder(8, 8)
    rewrite(other, system_prompt="Be long.")
    (Path(foreign) / "steer_lit.json").unlink()
    for policy in named(a=other, b=foreign).make([], max_turns=2).values():
        policy.open([], [])
    assert caplog.text.count(f"policies.a={other}: that adapter was trained with system_prompt='Be long.'") == 1
    assert caplog.text.count(f"policies.b={foreign}: no steer_lit.json") == 1


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *(("r", rank) for rank in (None, "8", 0, True, 2.5)),
        *(("lora_alpha", alpha) for alpha in (None, "8", 0, 1e308, math.nan, math.inf, -math.inf)),
    ],
)
def test_an_adapter_without_a_valid_rank_or_scale_is_refused(policies, folder, name, number) -> None:
    adapter = folder(4, 8)
    config = Path(adapter) / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), name: number}))
    with pytest.raises(SteerError, match=rf"adapter_config\.json has {name}="):
        policies.policy(adapter)
