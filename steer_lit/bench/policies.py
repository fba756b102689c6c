"""The policies of a run, by name: `base`, an adapter of this process's base model, or a model behind a server.

policies.sft=outputs/sft/adapter                        policies.other=server:Qwen/Qwen2.5-VL-7B-Instruct
policies.other={model: my-model, base_url: http://localhost:8001/v1, api_key_env: THEIR_KEY}
policies.full=[<run 1>/adapter,<run 2>/adapter,<run 3>/adapter]    seeds of one training: full@1, full@2 and full@3
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from steer_lit.bench.seed_groups import SEED_MARK
from steer_lit.bench.suite import BenchPolicy
from steer_lit.errors import ConfigError, Problem
from steer_lit.rollout.server_policy import ServerPolicy
from steer_lit.types import OpenImage, Scenario

if TYPE_CHECKING:
    from steer_lit.bench.adapters import AdapterPolicies
    from steer_lit.chat import ChatClient
    from steer_lit.policy.qwen_vl import QwenVL

SERVER = "server:"
ALLOWED = (
    "must be base, an adapter folder, server:<model>, {model: <model>, base_url: <address>, api_key_env: <variable>}, "
    "or a list of such"
)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model behind a server. A field that is None takes the value of the run's `server` settings."""

    model: str
    base_url: str | None = None
    api_key_env: str | None = None

    def client(self, server: Mapping[str, Any]) -> ChatClient:
        """Make the model's client from the run's `server` settings, overridden by this model's own.

        The client keeps no replies: they are stored by the model's name, which may stand for another checkpoint later.
        """
        from steer_lit.chat import ChatClient

        return ChatClient({**server, "cache_dir": None}, **asdict(self))

    def problems(self, key: str, server: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield what keeps the client from being made, under `key` for own settings and under `server` for others."""
        from steer_lit.chat.settings import settings_problems, with_own

        for problem in settings_problems(with_own(server, asdict(self))):
            own = getattr(self, problem.key, None) is not None
            yield replace(problem, key=f"{key}.{problem.key}" if own else f"server.{problem.key}")


READ = frozenset(field.name for field in fields(ServedModel))  # a served model's keys in a config


def served(value: object) -> ServedModel | None:
    """Return the served model that a `policies` entry names, or None."""
    if isinstance(value, str) and value.startswith(SERVER):
        return ServedModel(value.removeprefix(SERVER))
    if isinstance(value, Mapping) and set(value) <= READ and isinstance(value.get("model"), str):
        return ServedModel(**value)
    return None


def named(policies: Mapping[str, Any]) -> dict[str, Any]:
    """Return each policy of a config's `policies` by name. The members of a list are numbered from 1."""
    found: dict[str, Any] = {}
    for name, value in policies.items():
        if isinstance(value, Sequence) and not isinstance(value, str):  # OmegaConf's lists too
            found |= {f"{name}{SEED_MARK}{seed}": one for seed, one in enumerate(value, 1)}
        else:
            found[name] = value
    return found


def played_here(policies: Mapping[str, Any]) -> dict[str, Any]:
    """Return, by key, the policies of a config that this process plays: the base model and its adapters."""
    return {f"policies.{name}": value for name, value in named(policies).items() if served(value) is None}


class Policies:
    """The policies that a benchmark's config names.

    Policies behind a server are ready at once, in `served` by name; `open_image` opens the pictures they see. The
    policies of this process share one base model, which `load` makes.
    """

    def __init__(self, config: Mapping[str, Any], load: Callable[[], QwenVL], open_image: OpenImage) -> None:
        self._config, self._load = config, load
        self._each = named(config["policies"])
        self._decoding = {key: config["rollout"][key] for key in ("max_new_tokens", "temperature")}
        seeing = {"open_image": open_image, "system_prompt": config["system_prompt"], **self._decoding}
        behind = {name: model for name, value in self._each.items() if (model := served(value)) is not None}
        self.served = {name: ServerPolicy(model.client(config["server"]), **seeing) for name, model in behind.items()}

    def make(self, scenarios: Sequence[Scenario], max_turns: int) -> dict[str, BenchPolicy]:
        """Return all policies by name, in the config's order.

        Loads the base model if this process plays any policy, and puts every adapter on it once, so call it before one
        plays for hours. Raises what `AdapterPolicies.policy` raises, and ConfigError if the first `max_turns` turns of
        a scenario, with answers of the greatest length, exceed the model's context.
        """
        if self.served.keys() == self._each.keys():
            return {**self.served}
        base = self._base()
        policies: dict[str, BenchPolicy] = {
            name: self.served[name] if name in self.served else base.policy(value, f"policies.{name}")
            for name, value in self._each.items()
        }
        _check_length(base.qwen, scenarios, max_turns, self._decoding["max_new_tokens"])
        return policies

    def _base(self) -> AdapterPolicies:
        from steer_lit.bench.adapters import AdapterPolicies
        from steer_lit.policy.lora import LoraSettings

        model = self._config["model"]
        lora = LoraSettings(**{field.name: model["lora"][field.name] for field in fields(LoraSettings)})
        return AdapterPolicies(self._load(), lora=lora, quantize=model["quantize"], **self._decoding)


def _check_length(qwen: QwenVL, scenarios: Sequence[Scenario], max_turns: int, max_new_tokens: int) -> None:
    from steer_lit.rollout.row_length import no_room

    reasons = (no_room(qwen, scenario, max_turns, max_new_tokens) for scenario in scenarios)
    if reason := next(filter(None, reasons), None):
        raise ConfigError([Problem("rollout.max_new_tokens", max_new_tokens, reason)])
