"""Names a judge, attacker or tutor as reports do: by the model behind its client, else by its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steer_lit.types import Judge


def judge_name(judge: Judge) -> str:
    """The model behind the judge's client, else the judge's class."""
    settings = getattr(getattr(judge, "client", None), "settings", None)
    return str(getattr(settings, "model", type(judge).__name__))


def configured_name(player: Mapping[str, Any]) -> str:
    """The name of the player that a config's section makes; "unknown" where the section is empty."""
    model = configured_model(player)
    return str(player.get("_target_", "unknown")).rsplit(".", 1)[-1] if model is None else model


def configured_model(player: Mapping[str, Any]) -> str | None:
    """The model that the player of a config's section asks, where it asks one."""
    return None if "client" not in player else str(player["client"].get("settings", {}).get("model"))
