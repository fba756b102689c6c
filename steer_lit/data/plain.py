"""Readers of other public datasets with simple rows: prompts, questions with an answer, turns, pairs of user and bot.

| shape | a row | such as |
| --- | --- | --- |
| prompt | one string under a name of `PROMPTS`; maybe a picture | XSTest, MSTS, LLaVA |
| answered | one string each under a name of `QUESTIONS` and of `ANSWERS`; maybe a picture | BeaverTails-V, Alpaca |
| turns | `turns` or a name of `PROMPTS`: the user's, one string each | MT-Bench |
| pairs | `history`: `{user, bot}` or a list of two each; maybe then answered as above | MT-Bench-101, Alpaca |
| asked | `messages` or `conversations`; only the user's are played | any SFT file |

`question_id` or `id` names the row; the first of `CATEGORIES` that it has is its category.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from steer_lit.data.content import PICTURES, Draft, RawRow, read_content, read_messages
from steer_lit.data.formats import LABELLED_FACTS, dialogue_of, scenario_of
from steer_lit.data.labels import kind_of_request
from steer_lit.types import Dialogue, Kind, Role, Scenario

QUESTIONS = ("question", "problem", "query", "prompt", "instruction")
ANSWERS = ("answer", "solution", "response", "completion", "output")
PROMPTS = ("prompt", "prompt_text", "text", *(name for name in QUESTIONS if name != "prompt"))
NO_DIALOGUE = "is no dialogue"  # starts the error of a row that was never meant as one
MORE = "input"  # in Alpaca, what the instruction is about
CATEGORIES = ("category", "category_name", "hazard_category", "task", "type")
_BY_ID = "unsafe_image_id"  # MSTS names its pictures by an id
_CHOICES = ("options", "choices")  # a question that has them cannot be answered without them


def read_turns(value: object, source: str, number: int, kind: Kind) -> Scenario:
    """Read the user's turns, in order: the user's side of `history` and the question after it, or `turns`, or a prompt.

    A question or prompt is one turn, unless it is a list of texts. The label safe or unsafe of a single text, without
    picture or answer, says its kind, as in XSTest.
    """
    row = _row(value, source, number)
    drafts = _pairs(row, bot=False)
    if field := row.first(QUESTIONS if drafts else ("turns", *PROMPTS)):
        _check_choices(row)
        said = _said(row, field)
        turns = [(said, field)]
        if field == "turns" or (isinstance(said, list) and all(isinstance(text, str) for text in said)):
            turns = [(text, f"{field}[{index}]") for index, text in enumerate(row.listed(said, field))]
        drafts += [Draft("user", read_content(row, text, path), path) for text, path in turns]
    return _played(row, drafts, field or "history", _kind_of_text(row, drafts) or kind)


def _kind_of_text(row: RawRow, drafts: list[Draft]) -> Kind | None:
    """Return the kind that the label of a single text says, None of anything else: the label may be another part's."""
    parts = [part for draft in drafts for part in draft.parts]
    alone = len(parts) == 1 and isinstance(parts[0], str)
    others = any(row.get(*name.split(".")) for name in (*ANSWERS, *PICTURES))
    return kind_of_request(row.get("label")) if alone and not others else None


def read_answered(value: object, source: str, number: int) -> Dialogue:
    """Read the pairs of `history`, if there are any, then one question and its answer: a dialogue to learn from."""
    row = _row(value, source, number)
    drafts = _pairs(row)
    if asked := row.first(QUESTIONS):
        _check_choices(row)
        spoken: tuple[tuple[Role, str], ...] = (("user", _only(row, QUESTIONS)), ("assistant", _only(row, ANSWERS)))
        for role, field in spoken:
            drafts.append(Draft(role, read_content(row, row.text(_said(row, field), field), field), field))
    return dialogue_of(row, drafts, asked or "history", LABELLED_FACTS, in_front=True)


def read_asked(value: object, source: str, number: int, kind: Kind) -> Scenario:
    """Read the user's side of an SFT row; the assistant's messages are not looked at."""
    row = _row(value, source, number)
    field = row.first(("messages", "conversations"))
    return _played(row, read_messages(row, row.get(field), field, skip=("assistant",)), field, kind)


def _row(value: object, source: str, number: int) -> RawRow:
    """Return the row, its category and pictures under the names that all shapes share."""
    row = RawRow.of(value, source, number)
    if row.get("metadata", "rest_messages"):
        raise row.error("metadata.rest_messages", "further turns are read beside a `question` of messages alone")
    category, image = row.get(row.first(CATEGORIES) or "category"), row.get("image") or row.get(_BY_ID)
    return replace(row, values={**row.values, "category": category, "image": image})


def _check_choices(row: RawRow) -> None:
    for name in _CHOICES:
        if row.get(name):
            raise row.error(name, "are not read: write them into the question")


def _played(row: RawRow, drafts: Sequence[Draft], field: str, kind: Kind) -> Scenario:
    return scenario_of(row, drafts, field, LABELLED_FACTS, kind)


def _said(row: RawRow, field: str) -> object:
    """Return the value of a field. An `instruction` is followed by the row's `input`, on a new line."""
    value, more = row.get(field), row.get(MORE)
    if not more or field in ANSWERS:
        return value
    if field != "instruction":
        raise row.error(MORE, f"is read after an `instruction`, not after {field}: rename one, or leave {MORE} out")
    return "\n".join(filter(None, (row.text(value, field), row.text(more, MORE))))


def _only(row: RawRow, names: Sequence[str]) -> str:
    """Return the one of `names` that the row has. Raises RowError if it has none or more than one."""
    found = [name for name in names if row.get(name) is not None]
    if not found:
        raise row.error("", f"{NO_DIALOGUE}: it has a question and none of {', '.join(names)}")
    if len(found) > 1:
        raise row.error(found[1], f"stands beside {found[0]}: keep the one that is meant")
    return found[0]


def _pairs(row: RawRow, bot: bool = True) -> list[Draft]:
    drafts = []
    for index, pair in enumerate(row.listed(row.get("history") or [], "history")):
        path = f"history[{index}]"
        if isinstance(pair, list | tuple) and len(pair) == 2:
            pair = {"user": pair[0], "bot": pair[1]}
        if not isinstance(pair, Mapping):
            raise row.error(path, "must be an object with user and bot, or a list of the two texts")
        drafts.append(Draft("user", read_content(row, pair.get("user"), f"{path}.user"), f"{path}.user"))
        if bot:
            drafts.append(Draft("assistant", read_content(row, pair.get("bot"), f"{path}.bot"), f"{path}.bot"))
    return drafts
