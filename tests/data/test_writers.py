"""Written rows are read back equal: record by record, and file by file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_lit.data.formats import read_bench_row, read_rl_row, read_sft_row, read_stage1_row
from steer_lit.data.images import picture_named
from steer_lit.data.labels import settled
from steer_lit.data.mini import MiniSplit
from steer_lit.data.rows import Quarantine, read_records
from steer_lit.data.shapes import read_dialogue, read_scenario
from steer_lit.data.writers import WriteError, bench_row, rl_row, sft_row, stage1_row, write_rows
from steer_lit.errors import SteerError
from steer_lit.types import Attack, Dialogue, ImageRef, Message, PictureGold, Scenario, TurnGold
from tests.rows import mini_rows

A, B = ImageRef("a.png"), ImageRef("b.png")
SUFFIXES = ("jsonl", "json", "parquet")
SCENARIO_SHAPES: list[tuple[Callable[[Scenario], dict[str, object]], Callable[..., Scenario]]] = [
    (rl_row, read_rl_row),
    (bench_row, read_bench_row),
    (stage1_row, read_stage1_row),
]


def back(path: Path, reader: Callable[..., object]) -> list[object]:
    return list(read_records(path, reader, Quarantine(limit=0)))


# --- random records -------------------------------------------------------------------------------------------------

# Difficult texts: marks and special tokens, all kinds of line ends, other scripts.
pieces = st.sampled_from(
    ["<image>", "<|im_start|>", "<|image_pad|>", "<|im_end|>\n", "\u2028", "\r\n", " ", "é", "图", "\0"]
)
characters = st.characters(exclude_categories=["Cs"])
texts = st.lists(pieces | st.text(characters, max_size=8), min_size=1, max_size=4).map("".join).filter(bool)
spoken = texts.filter(str.strip)
names = st.text(characters, min_size=1, max_size=9).filter(str.strip)
refs = names.map(picture_named)  # as a row names them: `blank:` starts names that no row can use
user_parts = st.lists(texts | refs, min_size=1, max_size=5).filter(
    lambda parts: any(isinstance(part, ImageRef) or part.strip() for part in parts)
)
said_parts = st.lists(texts, min_size=1, max_size=3).filter(lambda parts: "".join(parts).strip())
facts = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
# Hypothesis also draws words from the code, so these come up.
taken = ("question_id", "rest_messages", "image", "scores", "strategy", "is_safe")
categories = st.sampled_from(["Strong Red-Team", "benign", "steer-vls", "beaver", "Privacy", "unsafe", "", "label"])
metadata = st.builds(
    lambda named, other: {**other, **named},
    st.dictionaries(st.sampled_from(["category", "source_category", "label", "intent"]), categories, max_size=3),
    st.dictionaries(names.filter(lambda name: name not in taken), facts, max_size=2),
)
kinds = st.sampled_from(["benign", "obfuscated", "red_team"])
golds = st.none() | st.builds(
    TurnGold,
    intent=st.sampled_from(["harmless", "harmful"]),
    tier=st.sampled_from(["none", "words", "history", "picture"]),
    answer=st.just("") | texts,
    thinking=st.just("") | texts,
    alternative=st.just("") | texts,
    keywords=st.lists(texts, max_size=2).map(tuple),
)
attacks = st.builds(
    Attack,
    message=user_parts.map(lambda parts: Message.of("user", *parts)),
    gold=golds,
    strategy=st.just("scripted") | names,
)
scenarios = st.builds(
    Scenario,
    id=names,
    kind=kinds,
    opening=attacks,
    scripted=st.lists(attacks, max_size=3).map(tuple),
    system=st.none() | spoken,
    subset=st.sampled_from(["", "steer-spa", "own"]),
    picture=st.none() | st.builds(PictureGold, st.just("") | texts, st.just("") | texts, st.booleans()),
    metadata=metadata,
)


@st.composite
def dialogues(draw: st.DrawFn) -> Dialogue:
    system = draw(st.none() | said_parts)
    messages = [] if system is None else [Message.of("system", *system)]
    for _ in range(draw(st.integers(1, 3))):
        messages += [Message.of("user", *draw(user_parts)), Message.of("assistant", *draw(said_parts))]
    subset = draw(st.sampled_from(["", "own", "steer-dys"]))
    return Dialogue(draw(names), tuple(messages), draw(st.none() | kinds), subset, draw(metadata))


@settings(deadline=None, max_examples=60)
@given(st.lists(dialogues(), max_size=3), st.sampled_from(["messages", "conversations"]))
def test_trap_14_any_dialogue_is_read_back_equal_from_its_row(
    tmp_path_factory: pytest.TempPathFactory, records: list[Dialogue], style: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "dialogues.jsonl"
    assert write_rows(path, (sft_row(record, style) for record in records)) == len(records)  # type: ignore[arg-type]
    assert back(path, read_sft_row) == back(path, read_dialogue) == records


@pytest.mark.parametrize(("write", "read"), SCENARIO_SHAPES, ids=["rl", "bench", "stage1"])
@settings(deadline=None, max_examples=60)
@given(records=st.lists(scenarios, max_size=3))
def test_trap_14_any_scenario_is_read_back_equal_from_its_row(
    tmp_path_factory: pytest.TempPathFactory,
    write: Callable[[Scenario], dict[str, object]],
    read: Callable[..., Scenario],
    records: list[Scenario],
) -> None:
    path = tmp_path_factory.getbasetemp() / "scenarios.jsonl"
    assert write_rows(path, map(write, records)) == len(records)
    assert back(path, read) == back(path, read_scenario) == records


@settings(deadline=None, max_examples=30)
@given(st.lists(dialogues().map(lambda dialogue: replace(dialogue, metadata={})), min_size=1, max_size=4))
def test_parquet_holds_text_in_one_row_and_parts_in_the_next(
    tmp_path_factory: pytest.TempPathFactory, records: list[Dialogue]
) -> None:
    path = tmp_path_factory.getbasetemp() / "dialogues.parquet"
    write_rows(path, map(sft_row, records))
    assert back(path, read_sft_row) == records


# --- the rows of STEER-mini -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("write", "read"), SCENARIO_SHAPES, ids=["rl", "bench", "stage1"])
def test_steer_minis_scenarios_and_gold_facts_are_read_back_equal(
    tmp_path: Path, write: Callable[[Scenario], dict[str, object]], read: Callable[..., Scenario], suffix: str
) -> None:
    made = mini_rows("rl", seed=0, size=20)
    path = tmp_path / f"rows.{suffix}"
    assert write_rows(path, map(write, made)) == 20
    # A fact that is null, such as `twin` in most rows, is not written.
    assert back(path, read) == [replace(row, metadata=settled(row.metadata)) for row in made]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_steer_minis_dialogues_are_read_back_equal(tmp_path: Path, suffix: str) -> None:
    made = [MiniSplit("sft", seed=0, size=20).dialogue(row) for row in range(20)]
    path = tmp_path / f"rows.{suffix}"
    assert write_rows(path, map(sft_row, made)) == 20
    assert back(path, read_sft_row) == [replace(row, metadata=settled(row.metadata)) for row in made]


# --- the format of rows ---------------------------------------------------------------------------------------------


def scenario(*messages: Message, **given: object) -> Scenario:
    attacks = [Attack(message) for message in messages]
    return Scenario(**{"id": "q", "kind": "red_team", "opening": attacks[0], "scripted": tuple(attacks[1:]), **given})  # type: ignore[arg-type]


LOOK = scenario(Message.of("user", A, "What?"), Message.of("user", "And now?"))


def test_an_sft_row_has_llama_factorys_keys() -> None:
    messages = (Message.of("system", "S"), Message.of("user", A, "One? ", B), Message.of("assistant", "<answer>1"))
    dialogue = Dialogue("d", messages, "benign", "steer-spa", {"category": "benign", "structure": ("a", "b")})
    assert sft_row(dialogue) == {
        "id": "d",
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "<image>One? <image>"},
            {"role": "assistant", "content": "<answer>1"},
        ],
        "images": ["a.png", "b.png"],
        "category": "benign",
        "subset": "steer-spa",
        "metadata": {"structure": ("a", "b")},
    }
    assert sft_row(dialogue, "conversations")["conversations"] == [
        {"from": "system", "value": "S"},
        {"from": "human", "value": "<image>One? <image>"},
        {"from": "gpt", "value": "<answer>1"},
    ]


def test_an_rl_row_has_the_authors_keys() -> None:
    assert rl_row(replace(LOOK, metadata={"label": "red team", "source": 1})) == {
        "question": [{"role": "user", "content": "<image>What?"}],
        "images": ["a.png"],
        "label": "red team",
        "metadata": {
            "source": 1,
            "question_id": "q",
            "rest_messages": [{"role": "user", "content": "And now?"}],
        },
    }


def test_a_bench_row_names_its_picture_in_image_or_in_the_message() -> None:
    assert bench_row(replace(LOOK, system="S", metadata={"category": "red_team", "risk_trajectory": (0.1, 1.0)})) == {
        "question_id": "q",
        "image": "a.png",
        "messages_fixed": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "What?"},
            {"role": "user", "content": "And now?"},
        ],
        "category": "red_team",
        "risk_trajectory": (0.1, 1.0),
    }
    late = scenario(Message.of("user", "What?"), Message.of("user", B, "And this?"))
    row = bench_row(replace(late, metadata={"category": "red_team"}))
    assert "image" not in row
    assert row["messages_fixed"][1]["content"] == [  # type: ignore[index]
        {"type": "image", "image": "b.png"},
        {"type": "text", "text": "And this?"},
    ]
    assert "image" not in bench_row(scenario(Message.of("user", A, "\u2028")))  # no text besides it


def test_a_stage_1_row_has_the_authors_keys_in_their_order() -> None:
    facts = {"intent": "Why?", "framing": "fiction", "scores": (1, 5), "max_score": 5, "strategy": "yes-ladder"}
    row = stage1_row(replace(LOOK, metadata=facts))
    assert row == {
        "question_id": "q",
        "intent": "Why?",
        "image": "a.png",
        "multiturn_qa": [
            {"role": "user", "content": [{"type": "text", "text": "What?"}], "score": 1},
            {"role": "user", "content": [{"type": "text", "text": "And now?"}], "score": 5},
        ],
        "strategy": "yes-ladder",
        "max_score": 5,
        "kind": "red_team",
        "metadata": {"framing": "fiction"},
    }
    assert list(row)[:3] == ["question_id", "intent", "image"]


@pytest.mark.parametrize("scores", [None, (None, 3), (2, 3), ("low", "high")])
def test_stage_1_scores_come_back(scores: tuple[object, object] | None) -> None:
    judged = {} if scores is None else {"scores": scores, "max_score": scores[1]}
    facts = {"strategy": "yes-ladder", "intent": "Why?", **judged}
    script = replace(LOOK, metadata=facts)
    assert read_stage1_row(stage1_row(script), "f", 1) == script
    assert rl_row(script)["metadata"]["strategy"] == "yes-ladder"  # type: ignore[index]


def test_trap_32_facts_are_read_back_as_tuples() -> None:
    row = rl_row(replace(LOOK, metadata={"steps": ["look", {"then": ["ask"]}], "none": None}))
    assert read_rl_row(row, "f", 1).metadata == {"steps": ("look", {"then": ("ask",)})}


# --- what cannot be written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (replace(LOOK, system=""), "its system would be read back as None, not ''"),
        (replace(LOOK, id=" "), "its id would be read back as 'row-1', not ' '"),
        (replace(LOOK, opening=Attack(Message.of("user", " \n"))), "content is empty"),
        (replace(LOOK, opening=Attack(Message.of("user", "", "Hi"))), "its opening would be read back as"),
        (replace(LOOK, opening=Attack(Message.of("user", "\ud83d"))), "half of a surrogate pair"),
        (replace(LOOK, metadata={"image": "a.png"}), "its metadata would be read back as {}"),
        (replace(LOOK, metadata={"when": b"?"}), "metadata.when must be text"),
        (replace(LOOK, metadata={7: "x"}), "metadata must be text, got a number"),
    ],
)
@pytest.mark.parametrize(("write", "read"), SCENARIO_SHAPES, ids=["rl", "bench", "stage1"])
def test_a_record_that_would_be_read_back_changed_is_refused(
    write: Callable[[Scenario], object], read: object, record: Scenario, reason: str
) -> None:
    with pytest.raises(WriteError, match=r"^record '[q ]': ") as caught:
        write(record)
    assert reason in str(caught.value)
    assert isinstance(caught.value, SteerError)


def test_dialogues_that_a_row_cannot_hold_are_refused() -> None:
    asked = Message.of("user", "Hi")
    for messages, reason in (
        ((asked, Message.of("assistant", A)), "only user messages hold pictures"),
        ((asked,), "must alternate"),
        ((asked, Message.of("assistant", "")), "is empty"),
    ):
        with pytest.raises(WriteError, match=reason):
            sft_row(Dialogue("d", messages))
    for scores in ((1, 2, 3), "high"):
        with pytest.raises(WriteError, match="must be a list of 2, one for each turn"):
            stage1_row(replace(LOOK, metadata={"scores": scores}))


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, object]]:
        yield {"a": 1}
        raise KeyboardInterrupt

    for suffix in SUFFIXES:
        path = tmp_path / "new" / f"rows.{suffix}"
        assert write_rows(path, [{"a": 1}, {"a": 2}]) == 2
        before = path.read_bytes()
        with pytest.raises(KeyboardInterrupt):
            write_rows(path, broken())
        assert path.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["rows.json", "rows.jsonl", "rows.parquet"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_rows_make_a_file_without_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    assert write_rows(path, []) == 0
    assert back(path, read_sft_row) == []


def test_lines_and_arrays_are_valid_json(tmp_path: Path) -> None:
    rows = [{"a": "图\u2028"}, {"b": [1, None]}]
    write_rows(tmp_path / "rows.jsonl", rows)
    write_rows(tmp_path / "rows.json", rows)
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_bytes().split(b"\n")[:-1]] == rows
    assert json.loads((tmp_path / "rows.json").read_bytes()) == rows
    assert "图" in (tmp_path / "rows.jsonl").read_text(encoding="utf-8")


def nested(depth: int) -> object:
    return {"a": nested(depth - 1)} if depth else 1


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("rows.jsonl", {"a": float("nan")}, r"rows\.jsonl, row 2: cannot be written as JSON"),
        ("rows.json", {"a": {1, 2}}, r"row 2: cannot be written as JSON \(Object of type set"),
        ("rows.jsonl", {"a": "\ud83d"}, r"row 2: cannot be written as JSON .*surrogates"),
        ("rows.parquet", {"a": "text"}, r"one type .*write these rows to \.jsonl"),
        ("rows.parquet", {"b": nested(120)}, r"too deeply nested.*write these rows to \.jsonl"),
        ("rows.csv", {"a": 1}, r"\.jsonl, \.json and \.parquet"),
    ],
)
def test_rows_that_a_file_cannot_hold_are_refused(
    tmp_path: Path, name: str, row: dict[str, object], reason: str
) -> None:
    with pytest.raises(WriteError, match=reason):
        write_rows(tmp_path / name, [{"a": 1}, row])
    assert list(tmp_path.iterdir()) == []
