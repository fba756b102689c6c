"""Names of judges, attackers and tutors in reports: the model behind the client, else the class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steer_lit.types import Judge


def judge_name(judge: Judge) -> str:
    """Return the model behind the judge's client, else the judge's class."""
    settings = getattr(getattr(judge, "client", None), "settings", None)
    return str(getattr(settings, "model", type(judge).__name__))


def configured_name(player: Mapping[str, Any]) -> str:
    """Return the name of the player that a config's section makes; "unknown" if the section is empty."""
    model = configured_model(player)
    return str(player.get("_target_", "unknown")).rsplit(".", 1)[-1] if model is None else model


def configured_model(player: Mapping[str, Any]) -> str | None:
    """Return the model that the player of a config's section asks; None if it has no client."""
    return None if "client" not in player else str(player["client"].get("settings", {}).get("model"))
