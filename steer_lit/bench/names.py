"""Names of judges, attackers and tutors in reports: the model behind the client, else the class.

A server may answer for another model than the one it is asked for: its replies name it, and the records hold that name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from steer_lit.numbers import counted
from steer_lit.types import Judge

if TYPE_CHECKING:
    from steer_lit.bench.records import Records


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


def repliers(records: Records) -> dict[str, Counter[str]]:
    """Count the dialogues by the model that the server says answered, for the judge and each policy behind one."""
    rows = [row for played in records.values() for row in played]
    found = {"the judge": Counter(name for row in rows for name in row.graded_by)}
    found |= {policy: Counter(name for row in played for name in row.answered_by) for policy, played in records.items()}
    return {asked: names for asked, names in found.items() if names}


def several_repliers(records: Records) -> list[str]:
    """Return a line for each that was answered by more than one model: its figures are of none of them."""
    return [
        f"{asked} was answered by more than one model: {_listed(names)}; these figures are of no single one"
        for asked, names in repliers(records).items()
        if len(names) > 1
    ]


def replied(records: Records) -> str:
    """Say which models answered, as their servers name them; "" if none does."""
    return "; ".join(f"{asked}: {_listed(names)}" for asked, names in repliers(records).items())


def _listed(names: Counter[str]) -> str:
    return ", ".join(f"{name} ({counted(number, 'dialogue')})" for name, number in names.most_common())
