"""The policies of a run, by name: `base`, an adapter of this process's base model, or a model behind a server.

policies.sft=outputs/sft/adapter                        policies.other=server:Qwen/Qwen2.5-VL-7B-Instruct
policies.other={model: my-model, base_url: http://localhost:8001/v1, api_key_env: THEIR_KEY}
policies.full=[<run 1>/adapter,<run 2>/adapter,<run 3>/adapter]    seeds of one training: full@1, full@2 and full@3
policies.prompted={adapter: base, system_prompt: "..."}            a prompt of its own; a served model may have one too
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from steer_lit.bench.seed_groups import SEED_MARK
from steer_lit.bench.suite import BenchPolicy, with_prompt
from steer_lit.errors import ConfigError, Problem
from steer_lit.rollout.server_policy import ServerPolicy
from steer_lit.types import OpenImage, Scenario

if TYPE_CHECKING:
    from steer_lit.bench.adapters import AdapterPolicies
    from steer_lit.chat import ChatClient
    from steer_lit.policy.qwen_vl import QwenVL

log = logging.getLogger(__name__)

SERVER = "server:"
ALLOWED = (
    "must be base, an adapter folder, server:<model>, {model: <model>, base_url: <address>, api_key_env: <variable>, "
    "system_prompt: <text>}, {adapter: <base or folder>, system_prompt: <text>}, or a list of such"
)


@dataclass(frozen=True, slots=True)
class LocalPolicy:
    """A policy that this process plays: `base` or an adapter folder. `system_prompt` None is the run's."""

    adapter: str
    system_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model behind a server. A field that is None takes the value of the run, of its `server` settings."""

    model: str
    base_url: str | None = None
    api_key_env: str | None = None
    system_prompt: str | None = None

    def _own(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "system_prompt"}

    def client(self, server: Mapping[str, Any], place: str = "") -> ChatClient:
        """Make the model's client from the run's `server` settings, overridden by this model's own below `place`.

        The client keeps no replies: they are stored by the model's name, which may stand for another checkpoint later.
        """
        from steer_lit.chat import ChatClient

        client = ChatClient({**server, "cache_dir": None}, **self._own())
        client.place, client.whole = place, self._whole()
        return client

    def _whole(self) -> str:
        """Return the setting that may be all there is of this policy, as in `server:<model>`, or ""."""
        return "model" if (self.base_url, self.api_key_env, self.system_prompt) == (None, None, None) else ""

    def problems(self, key: str, server: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield what keeps the client from being made, under `key` for own settings and under `server` for others."""
        from steer_lit.chat.settings import settings_problems, with_own

        for problem in settings_problems(with_own(server, self._own())):
            own = getattr(self, problem.key, None) is not None
            place = key if problem.key == self._whole() else f"{key}.{problem.key}"
            yield replace(problem, key=place if own else f"server.{problem.key}")


READ = frozenset(field.name for kind in (ServedModel, LocalPolicy) for field in fields(kind))  # keys in braces


def policy_of(value: object) -> ServedModel | LocalPolicy | None:
    """Return the policy that one entry of a config's `policies` names, None if it names none."""
    if isinstance(value, str):
        if value.startswith(SERVER):
            return ServedModel(value.removeprefix(SERVER))
        return LocalPolicy(value) if value else None
    if not isinstance(value, Mapping):
        return None
    kind, name = (ServedModel, "model") if "model" in value else (LocalPolicy, "adapter")
    whose, prompt = value.get(name), value.get("system_prompt")
    sound = isinstance(whose, str) and whose and (kind is ServedModel or not whose.startswith(SERVER))
    known = set(value) <= {field.name for field in fields(kind)}
    return kind(**value) if sound and known and isinstance(prompt, str | None) else None


def named(policies: Mapping[str, Any]) -> dict[str, Any]:
    """Return each policy of a config's `policies` by name. The members of a list are numbered from 1."""
    found: dict[str, Any] = {}
    for name, value in policies.items():
        if isinstance(value, Sequence) and not isinstance(value, str):  # OmegaConf's lists too
            found |= {f"{name}{SEED_MARK}{seed}": one for seed, one in enumerate(value, 1)}
        else:
            found[name] = value
    return found


def any_local(policies: Mapping[str, Any]) -> bool:
    """Return whether this process plays any policy of a config: the base model or an adapter of it."""
    return any(not isinstance(policy_of(value), ServedModel) for value in named(policies).values())


class Policies:
    """The policies that a benchmark's config names.

    Policies behind a server are ready at once, in `served` by name; `open_image` opens the pictures they see. The
    policies of this process, `local`, share one base model, which `load` makes.
    """

    def __init__(self, config: Mapping[str, Any], load: Callable[[], QwenVL], open_image: OpenImage) -> None:
        self._config, self._load = config, load
        self._each = {name: policy_of(value) for name, value in named(config["policies"]).items()}
        self.local = {name: policy for name, policy in self._each.items() if isinstance(policy, LocalPolicy)}
        self._decoding = {key: config["rollout"][key] for key in ("max_new_tokens", "temperature")}
        seeing = {"open_image": open_image, **self._decoding}
        self.served: dict[str, ServerPolicy] = {}
        for name, model in self._each.items():
            if isinstance(model, ServedModel):
                client = model.client(config["server"], f"policies.{name}")
                prompt = {"system_prompt": config["system_prompt"], "own_prompt": model.system_prompt}
                self.served[name] = ServerPolicy(client, **prompt, **seeing)

    def make(self, scenarios: Sequence[Scenario], max_turns: int) -> dict[str, BenchPolicy]:
        """Return all policies by name, in the config's order.

        Loads the base model if this process plays any policy, and puts every adapter on it once, so call it before one
        plays for hours. Raises what `AdapterPolicies.policy` raises, and ConfigError if the first `max_turns` turns of
        a scenario, with answers of the greatest length, exceed the model's context.
        """
        from steer_lit.rollout.row_length import no_room

        policies: dict[str, BenchPolicy] = {**self.served}
        if self.local:
            base = self._base()
            made = {
                name: base.policy(of.adapter, f"policies.{name}", of.system_prompt) for name, of in self.local.items()
            }
            policies |= made
            for prompt in dict.fromkeys(policy.system_prompt for policy in self.local.values()):
                shown, longest = with_prompt(scenarios, prompt), self._decoding["max_new_tokens"]
                if reason := next(filter(None, (no_room(base.qwen, row, max_turns, longest) for row in shown)), None):
                    raise ConfigError([Problem("rollout.max_new_tokens", longest, reason)])
            at_once = min(self._config["bench"]["chunk"], len(scenarios))
            if shortage := next(iter(made.values())).cache_shortage(at_once, max_turns):
                log.warning("memory may run out: %s", shortage)
        return {name: policies[name] for name in self._each}

    def _base(self) -> AdapterPolicies:
        from steer_lit.bench.adapters import AdapterPolicies
        from steer_lit.policy.lora import LoraSettings

        model = self._config["model"]
        lora = LoraSettings(**{field.name: model["lora"][field.name] for field in fields(LoraSettings)})
        return AdapterPolicies(self._load(), lora=lora, quantize=model["quantize"], **self._decoding)
