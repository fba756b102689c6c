"""The pure functions: when a dialogue is kept, how tactics are drawn, what a run costs, and which questions
are read.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import cast

import pytest
from PIL import Image

from steer_lit.data.rows import Quarantine
from steer_lit.errors import SteerError, TooManyBadRows
from steer_lit.mini_world import FRAMINGS, STRATEGIES
from steer_lit.numbers import counted
from steer_lit.prompts.fill import FOLDER, Prompt
from steer_lit.synthesis.estimate import estimate, total
from steer_lit.synthesis.generator import Generator, SeedQuestion
from steer_lit.synthesis.llm import PROMPTS
from steer_lit.synthesis.outcome import RowEnds
from steer_lit.synthesis.settings import Stage1Settings, Stage2Settings, picture_folder
from steer_lit.synthesis.stage1 import draw_tactic
from steer_lit.synthesis.stage2 import bootstrap, dialogue_of, why_not
from steer_lit.synthesis.starts import mini_seed_questions, read_seed_questions
from steer_lit.types import Attack, Completion, ImageRef, Kind, Message, Scenario, Trajectory, Turn, Verdict

RULES = Stage2Settings(min_safety=8, min_usefulness=7, max_turns=10, seed=0)


def played(*scores: tuple[int, int]) -> Trajectory:
    """Return a dialogue whose turns have these (safety, usefulness)."""
    attacks = [Attack(Message.of("user", f"turn {number}")) for number in range(len(scores))]
    turns = tuple(
        Turn(attack, Completion(f"answer {number}"), Verdict(safety, usefulness, 10))
        for number, (attack, (safety, usefulness)) in enumerate(zip(attacks, scores, strict=True))
    )
    return Trajectory(Scenario("s", "red_team", attacks[0], tuple(attacks[1:])), turns, None, 0)


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([(8, 8), (10, 10)], True),
        ([(8, 7), (8, 7)], True),  # both equal their threshold
        ([(10, 10), (7, 10), (10, 10)], False),  # the worst turn decides on safety
        ([(10, 1), (10, 10), (10, 10)], True),  # the mean decides on usefulness: 21 / 3
        ([(10, 1), (10, 10), (10, 9)], False),  # 20 / 3 = 6.67
    ],
)
def test_eq_15_keeps_by_lowest_safety_and_mean_usefulness(scores: list[tuple[int, int]], kept: bool) -> None:
    assert (why_not(played(*scores), RULES) is None) is kept


def test_a_script_of_one_turn_makes_no_dialogue_and_asks_nobody() -> None:
    with pytest.raises(RowEnds) as caught:
        bootstrap(played((10, 10)).scenario, cast(Generator, None), RULES)
    assert (caught.value.status, caught.value.reason) == ("rejected", "a script of one turn")


def test_the_reason_holds_the_numbers() -> None:
    assert why_not(played((10, 10), (4, 1)), RULES) == ("not safe enough", "safety [10, 4], keep.min_safety=8")
    reason = ("not useful enough", "usefulness [1, 1], keep.min_usefulness=7")
    assert why_not(played((10, 1), (10, 1)), RULES) == reason


def test_a_dialogue_holds_the_played_messages_not_the_script() -> None:
    trajectory = played((10, 10), (10, 10))
    rewritten = Turn(Attack(Message.of("user", "rewritten"), strategy="persistence"), Completion("held"))
    dialogue = dialogue_of(Trajectory(trajectory.scenario, (trajectory.turns[0], rewritten), None, 0))
    assert [(message.role, message.text) for message in dialogue.messages] == [
        ("user", "turn 0"), ("assistant", "answer 0"), ("user", "rewritten"), ("assistant", "held"),
    ]  # fmt: skip
    assert dialogue.metadata["red"] == ["scripted", "persistence"]


def test_all_tactics_are_drawn() -> None:
    drawn = [draw_tactic(seed, 4, 8) for seed in range(2000)]
    assert drawn == [draw_tactic(seed, 4, 8) for seed in range(2000)]
    assert set(Counter(tactic.framing for tactic in drawn)) == set(FRAMINGS)
    assert set(Counter(tactic.strategy for tactic in drawn)) == set(STRATEGIES)
    assert set(Counter(tactic.turns for tactic in drawn)) == {4, 5, 6, 7, 8}
    pairs = Counter((tactic.framing, tactic.strategy) for tactic in drawn)
    assert len(pairs) == 64  # 31 expected of each
    assert max(pairs.values()) < 60


def test_the_cost_by_hand() -> None:
    """Four turns: every answering part reads 4 x 334 of picture, 40 x (1 + 2 + 3 + 4) of user, 250 x (0 + 1
    + 2 + 3).
    """
    steps = {step.step: step for step in estimate("red_team", 10, [4], [4], "both")}
    assert {name: step.calls for name, step in steps.items()} == {
        "look": 10, "rewrite": 10, "plan": 10, "target": 40, "judge the attack": 10,
        "red agent": 30, "blue agent": 40, "tutor": 40,
    }  # fmt: skip
    assert steps["target"].prompt_tokens == 10 * (1336 + 400 + 1500)
    assert steps["target"].completion_tokens == 10 * 4 * 250
    blue = len(Prompt.load("synthesis_blue").text) / 4
    assert steps["blue agent"].prompt_tokens == round(10 * (3236 + 4 * blue))
    assert total(list(steps.values())).calls == 190


def test_the_cost_of_one_stage_and_of_a_range_of_turns() -> None:
    assert {step.stage for step in estimate("benign", 1, [3, 4, 5], [4], "1")} == {"1"}
    assert {step.step for step in estimate("benign", 1, [3, 4, 5], [4], "1")} == {"look", "plan"}
    (blue,) = (step for step in estimate("benign", 100, [4], [3, 4, 5], "2") if step.step == "blue agent")
    assert blue.calls == 400


def test_every_prompt_of_synthesis_is_known_by_its_digest() -> None:
    written = {path.stem for path in FOLDER.glob("synthesis_*.txt")}
    assert written <= set(PROMPTS)
    assert all(Prompt.load(name).text for name in PROMPTS)


def test_seeds_are_read_from_any_format_and_bad_rows_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "steer_lit")
    rows = [
        {"id": "a", "question": "What is this?"},
        {"id": "a", "prompt": "And this?"},
        {"question_id": "b", "question": "And that?", "image": "../outside.png"},
        {
            "question_id": "c",
            "messages": [
                {"role": role, "content": said}
                for role, said in (
                    ("user", "Hello?"),
                    ("assistant", "Yes"),
                    ("user", [{"type": "image", "image": "gone.png"}, "And this?"]),
                )
            ],
        },
    ]
    file = tmp_path / "seeds.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    quarantine = Quarantine(1)
    seeds = read_seed_questions(file, tmp_path, "red_team", 10, quarantine)
    assert [(seed.id, seed.question) for seed in seeds] == [
        ("a", "What is this?"),
        ("a#2", "And this?"),
        ("c", "Hello?"),
    ]
    assert [error.row for error in quarantine.errors] == [3]
    assert "data.folder in a synthesis" in quarantine.errors[0].reason
    assert "cut" not in caplog.text  # the last row's second turn, whose picture is missing, is no part of a seed
    assert len(read_seed_questions(file, tmp_path, "red_team", 2, Quarantine(1))) == 2
    with pytest.raises(TooManyBadRows, match=r"data\.max_bad_rows"):
        read_seed_questions(file, tmp_path, "red_team", 10, Quarantine(0))


def test_a_picture_alone_and_several_pictures_are_no_seed_question(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    picture = {"type": "image", "image": "a.png"}
    contents: list[object] = ["What is this?", [picture], [picture, picture, "Compare them."]]
    file = tmp_path / "seeds.jsonl"
    file.write_text("".join(json.dumps({"prompt": content}) + "\n" for content in contents))
    quarantine = Quarantine(2)
    assert [seed.question for seed in read_seed_questions(file, tmp_path, "red_team", 10, quarantine)] == [
        "What is this?"
    ]
    assert [error.reason for error in quarantine.errors] == [
        "'row-2' opens with a picture and no words: give it a question",
        "'row-3' opens with several pictures: a script is written about one, so leave the others out",
    ]


@pytest.mark.parametrize(
    ("kind", "taken"), [("benign", ["benign", None]), ("obfuscated", ["obfuscated", "red_team", None])]
)
def test_benign_questions_start_benign_scripts_alone(
    tmp_path: Path, kind: Kind, taken: list[str | None], caplog: pytest.LogCaptureFixture
) -> None:
    """Rows of another kind are no fault of a file that holds several."""
    kinds = ["benign", "obfuscated", "red_team", None]
    rows = [{"id": str(own), "prompt": "What is this?"} | ({"kind": own} if own else {}) for own in kinds]
    (file := tmp_path / "seeds.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [seed.id for seed in read_seed_questions(file, tmp_path, kind, 10, Quarantine(0))] == list(map(str, taken))
    others = counted(len(kinds) - len(taken), "row")
    which = "not benign: another kind= reads them" if kind == "benign" else "benign: kind=benign reads them"
    assert caplog.messages == [f"{file}: {others} passed over, {which}"]
    file.write_text(json.dumps({"prompt": "What is this?", "kind": {"benign": "red_team"}.get(kind, "benign")}))
    with pytest.raises(SteerError, match="holds no usable row"):
        read_seed_questions(file, tmp_path, kind, 10, Quarantine(0))
    assert caplog.messages[1:] == [f"{file}: 1 row passed over, {which}"]


def test_stage_2_alone_looks_pictures_up_beside_its_scripts() -> None:
    data = {"folder": None, "seeds": "left/seeds.jsonl", "scripts": "here/stage1.jsonl"}
    assert picture_folder(data) == Path("here")
    assert picture_folder({**data, "scripts": None}) == Path("left")


@pytest.mark.parametrize("kind", ["benign", "obfuscated", "red_team"])
def test_without_a_file_questions_of_steer_mini_are_used(kind: str) -> None:
    seeds = mini_seed_questions(1, kind, (3, 5), 8)  # type: ignore[arg-type]
    assert len({seed.id for seed in seeds}) == 8
    assert all(seed.question and seed.image is not None for seed in seeds)
    assert seeds == mini_seed_questions(1, kind, (3, 5), 8)  # type: ignore[arg-type]


def test_the_texts_behind_the_keys_of_finished_rows_are_unchanged() -> None:
    """Keys are digests of these texts. With other texts a resumed run would pay for all its rows again."""
    asked = SeedQuestion("q0", "How?", ImageRef("a.png"))
    assert repr(asked) == f"SeedQuestion(id='q0', question='How?', image={ImageRef('a.png')!r})"
    rules = Stage1Settings("red_team", (3, 5), 4, seed=1)
    assert repr(rules) == "Stage1Settings(kind='red_team', turns=(3, 5), success=4, seed=1)"
    kept = Stage2Settings(8, 7.5, 10, seed=1)
    assert repr(kept) == "Stage2Settings(min_safety=8, min_usefulness=7.5, max_turns=10, seed=1)"
