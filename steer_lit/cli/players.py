"""The parts of a run: built as the config says. Those that ask a server: greeted, and closed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import iscoroutinefunction, signature
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf

from steer_lit.cli.run_folder import escaped
from steer_lit.errors import ConfigError, Problem
from steer_lit.reward.reward import Credit
from steer_lit.types import AsksServer, OpenImage

PLAYERS = ("attacker", "tutor")
_CALLED = {"attacker": "attack", "tutor": "score", "judge": "grade", "reward": "of"}  # the method of each part


def build(node: DictConfig, key: str, **given: Any) -> Any:
    """Build what the config names at `key`. Hydra resolves values twice, so those resolved here are escaped twice: a
    text that holds `${` stays as it is.
    """
    from hydra.utils import instantiate

    plain: Any = OmegaConf.to_container(node, resolve=True)
    return instantiate(OmegaConf.create({key: escaped(escaped({"_convert_": "all", **plain}))})[key], **given)


def build_player(node: DictConfig, open_image: OpenImage, name: str) -> Any:
    """Build an attacker, tutor, judge or reward. A player that takes `open_image` sees the true pictures even if the
    policy is shown blank ones. `name` is its key in the config, for messages about it and its server.

    Raise ConfigError if it lacks the method that it is called by, or a reward its `credit`.
    """
    from hydra.utils import get_object

    from steer_lit.chat import ChatClient
    from steer_lit.data.images import original

    sees = name != "reward" and "open_image" in signature(get_object(node["_target_"])).parameters
    player = build(node, name, **({"open_image": lambda ref: open_image(original(ref))} if sees else {}))
    if not callable(method := getattr(player, _CALLED[name], None)) or iscoroutinefunction(method):
        found = "has it as a coroutine (async def), which is never awaited" if method else "has none"
        given = "a trajectory" if name == "reward" else "dialogues"
        remedy = f"must have a method {_CALLED[name]}, which is called with {given}, and this {found}"
        raise ConfigError([Problem(f"{name}._target_", node["_target_"], remedy)])
    if name == "reward" and (credit := getattr(player, "credit", None)) not in get_args(Credit):
        remedy = f"must have an attribute credit, one of {', '.join(get_args(Credit))}, and this has {credit!r}"
        raise ConfigError([Problem("reward._target_", node["_target_"], remedy)])
    if isinstance(client := getattr(player, "client", None), ChatClient):
        client.place = f"{name}.client"
    return player


def greet(*players: Any) -> None:
    """Contact every server that the players will ask. Raise ServerDown about all that cannot be reached."""
    from steer_lit.chat import greet_all

    asking = (player.client for player in players if isinstance(player, AsksServer))
    greet_all(client for client in asking if hasattr(client, "greet"))


@contextmanager
def hanging_up(*players: Any) -> Iterator[None]:
    """Close the clients of players that ask a server, whatever happens. Each client logs what it used."""
    try:
        yield
    finally:
        for player in players:
            if isinstance(player, AsksServer) and hasattr(player.client, "close"):
                player.client.close()
