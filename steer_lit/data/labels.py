"""What a row says about a record besides its messages: id, kind, subset, metadata and gold facts.

Each fact is read and written here, so that one function undoes the other. The authors' shapes have no fields for kind
and subset, and the files were not public when this was written, so two readings are ours:

* **Kind.** `category`, `source_category` or `label` may name it, such as "Benign", "obfuscated_risk" or "Red-Team
  attack": a text that says more, such as "benign image, harmful text", names none. A row that names none gets its
  reader's default. "Safe" names none there: it may be said of an answer or a picture, and whatever is known to be
  benign overrides tutor and judge.
* **Subset.** `source_category` or `category` may name one of the five benchmark subsets, with or without "steer-".
  Otherwise a `category` that names no kind is itself the subset, so that a report can still group by it.

Five keys are ours and state what the authors' shapes leave open: a row's `kind`, `subset` and `picture` (what the
picture shows), and a message's `gold` (what is true of that turn) and `strategy`. They are written only if the record
would not be read back equal without them. A `kind` that is not empty must be one of the three, or `safe` or
`unsafe`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from steer_lit.data.content import RawRow
from steer_lit.numbers import is_whole
from steer_lit.types import Attack, Dialogue, Intent, Kind, PictureGold, Scenario, Tier, TurnGold

SUBSETS = ("steer-beaver", "steer-mmsafe", "steer-vls", "steer-spa", "steer-dys")
_KINDS: dict[str, Kind] = {"benign": "benign", "obfuscated": "obfuscated", "redteam": "red_team"}
_NOUNS = "attack|conversation|dialogue|instruction|prompt|query|question|request|risk|sample|strong|user"
_A_KIND = re.compile(f"(?:strong)?({'|'.join(_KINDS)})(?:(?:{_NOUNS}|queries)s?)*")
_SAFETY: dict[str, Kind] = {"safe": "benign", "unsafe": "red_team"}
_NAMING = ("category", "source_category", "label")
_NOT_FACTS = ("question_id", "rest_messages", "image")  # what an RL row keeps in `metadata` besides facts


def read_labels(row: RawRow, names: Sequence[str]) -> tuple[Kind | None, str, Mapping[str, object]]:
    """Return a row's kind, None if it names none, its subset and its facts.

    Facts in `names` are read from the row or its `metadata`, others from `metadata`.
    """
    facts: dict[str, object] = {}
    for name in names:
        for path in ((name,), ("metadata", name)):
            fact = row.frozen(row.get(*path), ".".join(path))
            if fact is not None:
                facts[name] = fact
                break
    more = row.frozen(row.get("metadata"), "metadata")
    if isinstance(more, Mapping):
        facts |= {key: fact for key, fact in more.items() if key not in (*names, *_NOT_FACTS)}
    said = row.get("subset")
    subset = row.text(said, "subset") if isinstance(said, str) else _subset_of(facts)
    return _read_kind(row, facts), subset, facts


def write_labels(
    record: Dialogue | Scenario, metadata: Mapping[str, object], names: Sequence[str]
) -> dict[str, object]:
    """Return the keys of a row from which `read_labels` reads kind, subset and `metadata` back."""
    row: dict[str, object] = {name: metadata[name] for name in names if name in metadata}
    rest = {key: fact for key, fact in metadata.items() if key not in names}
    if record.kind != _kind_of(metadata):
        row["kind"] = record.kind or ""
    if record.subset != _subset_of(metadata):
        row["subset"] = record.subset
    return row | ({"metadata": rest} if rest else {})


def settled(metadata: Mapping[str, object]) -> Mapping[str, object]:
    """Return the facts as they are read back from a row. Raises RowError if a row cannot hold one of them."""
    facts = RawRow(metadata, "", 0).frozen(metadata, "metadata")
    assert isinstance(facts, Mapping)
    return facts


def _as_whole(number: object) -> object:
    """Return a whole float, such as `1.0`, as an int, and anything else unchanged.

    pandas turns a column of ids into floats if one row has none. From 2^53 up a float may not be the number that was
    meant, and stays a float.
    """
    return int(number) if isinstance(number, float) and number.is_integer() and abs(number) < 2**53 else number


def kind_of_request(label: object) -> Kind | None:
    """Return the kind of a request that is labelled safe or unsafe, None for any other label."""
    return _SAFETY.get(label.strip().lower()) if isinstance(label, str) else None


def identity(row: RawRow, *fields: str) -> str:
    """Return the first id that the row has in one of the fields, as text, or "row-" and its number if it has none."""
    for field, candidate in [(field, _as_whole(row.get(*field.split(".")))) for field in fields]:
        if is_whole(candidate):
            return str(candidate)
        if candidate is not None and not isinstance(candidate, str):
            raise row.error(field, f"must be text or a whole number, got {candidate!r:.60}")
        if candidate is not None and row.text(candidate, field).strip():
            return str(candidate)
    return f"row-{row.number}"


def read_turn_gold(row: RawRow, item: Mapping[str, object], path: str) -> TurnGold | None:
    """Read what is true of a turn from its message's `gold`; return None if there is no such object."""
    gold, path = item.get("gold"), f"{path}.gold"
    if not isinstance(gold, Mapping):
        return None
    keywords = [] if gold.get("keywords") is None else row.listed(gold["keywords"], f"{path}.keywords")
    return TurnGold(
        intent=_choice(row, gold, path, "intent", get_args(Intent)),
        tier=_choice(row, gold, path, "tier", get_args(Tier)),
        answer=_text(row, gold, path, "answer"),
        thinking=_text(row, gold, path, "thinking"),
        alternative=_text(row, gold, path, "alternative"),
        keywords=tuple(row.text(word, f"{path}.keywords") for word in keywords),
    )


def read_picture_gold(row: RawRow) -> PictureGold | None:
    """Read what the picture shows from the row's `picture`; return None if there is no such object."""
    gold, path = row.get("picture"), "picture"
    if not isinstance(gold, Mapping):
        return None
    if not isinstance(hazardous := gold.get("hazardous"), bool):
        raise row.error(f"{path}.hazardous", f"must be true or false, got {hazardous!r}")
    return PictureGold(_text(row, gold, path, "object"), _text(row, gold, path, "colour"), hazardous)


def write_attack(attack: Attack) -> dict[str, object]:
    """Return the keys of a message, besides role and content, that hold its strategy and gold facts."""
    keys: dict[str, object] = {} if attack.strategy == "scripted" else {"strategy": attack.strategy}
    return keys if attack.gold is None else {**keys, "gold": write_gold(attack.gold)}


def write_gold(gold: TurnGold | PictureGold) -> dict[str, object]:
    """Return the facts that are not empty."""
    return {name: value for name, value in asdict(gold).items() if value not in ("", ())}


def _text(row: RawRow, gold: Mapping[str, object], path: str, name: str) -> str:
    return "" if gold.get(name) is None else row.text(gold[name], f"{path}.{name}")


def _choice(row: RawRow, gold: Mapping[str, object], path: str, name: str, allowed: Sequence[str]) -> Any:
    if (found := gold.get(name)) not in allowed:
        raise row.error(f"{path}.{name}", f"is {found!r}, must be one of {', '.join(allowed)}")
    return found


def _read_kind(row: RawRow, facts: Mapping[str, object]) -> Kind | None:
    """Return the kind that the row's `kind` states ("" means none), else the kind that its facts name."""
    if (named := row.frozen(row.get("kind"), "kind")) is None:
        return _kind_of(facts)
    if named == "":
        return None
    if (kind := _kind_in(named) or kind_of_request(named)) is not None:
        return kind
    allowed = ", ".join([*get_args(Kind), *_SAFETY])
    raise row.error("kind", f"is {row.get('kind')!r}, must be one of {allowed}, or left out")


def _kind_of(facts: Mapping[str, object]) -> Kind | None:
    named = (_kind_in(facts.get(name)) for name in _NAMING)
    return next((kind for kind in named if kind), None)


def _kind_in(value: object) -> Kind | None:
    """Return the kind that a text names and says no more than that, else None."""
    found = _A_KIND.fullmatch(re.sub(r"[\W_]+", "", value.lower())) if isinstance(value, str) else None
    return None if found is None else _KINDS[found[1]]


def _subset_of(facts: Mapping[str, object]) -> str:
    for value in (facts.get("source_category"), facts.get("category")):
        name = re.sub(r"[\s_]+", "-", value.strip().lower()) if isinstance(value, str) else ""
        for subset in SUBSETS:
            if name in (subset, subset.removeprefix("steer-")):
                return subset
    category = facts.get("category")
    return category if isinstance(category, str) and not _kind_in(category) else ""
