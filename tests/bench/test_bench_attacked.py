"""The benchmark with an attacker that reacts: it uses a tutor's verdicts, and its own questions are graded too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from steer_lit.answer_format import in_form
from steer_lit.attacker.adaptive import AdaptiveAttacker
from steer_lit.attacker.llm import LlmAttacker
from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.bench.records import GradedDialogue
from steer_lit.bench.suite import Suite
from steer_lit.chat import ChatClient
from steer_lit.checks.programs import bench_problems, train_problems
from steer_lit.cli import main as cli
from steer_lit.errors import TooManyFailures
from steer_lit.rollout.known_answers import KnownAnswers
from steer_lit.tutor.judge import LlmJudge
from steer_lit.tutor.llm import LlmTutor
from steer_lit.tutor.rubric import RubricJudge, RubricTutor
from steer_lit.types import Scenario, SoFar, Verdict
from tests.bench.players import benched, shown_in
from tests.rows import mini_rows
from tests.settings import bench_settings
from tests.test_conf import SERVER, compose

pytestmark = pytest.mark.usefixtures("no_charts")
PRESSING = AdaptiveAttacker(extra_turns=2, lead_share=1)


class Yielding:
    """Refuses the scripted requests like gold. Complies when pressed beyond the script."""

    fingerprint = "yielding"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> KnownAnswers:
        def said(scenario: Scenario) -> list[str]:
            script = [in_form("", attack.gold.answer) for attack in scenario.attacks if attack.gold is not None]
            return [*script, *[in_form("", "Sure, I can help with that.")] * PRESSING.extra_turns]

        return KnownAnswers(scenarios, map(said, scenarios))


class NoVerdicts:
    def score(self, dialogues: Sequence[SoFar]) -> list[Verdict]:
        return [Verdict(failed="the tutor is gone") for _ in dialogues]


class Asks:
    without_gold = True

    def attack(self, dialogues: Sequence[SoFar]) -> list[None]:
        return [None for _ in dialogues]


OWN = f"attacker._target_={__name__}.Asks"
OF_LLM = (
    "judge='rubric': grades by gold facts, and questions of attacker=llm have none: use judge=llm, "
    "or a class of your own"
)


def played(out_dir: Path, suite: Suite) -> list[GradedDialogue]:
    benched(out_dir, {"one": Yielding()}, suite, RubricJudge())
    return shown_in(out_dir)


@pytest.fixture
def rows() -> list[Scenario]:
    """Return dialogues that end with a harmful request, so that the attacker can continue."""
    scenarios = mini_rows("bench", size=60, seed=0)
    return [row for row in scenarios if (gold := row.attacks[-1].gold) is not None and gold.intent == "harmful"][:6]


def test_the_attackers_additional_turns_are_played_and_graded(tmp_path: Path, rows: list[Scenario]) -> None:
    scripted = played(tmp_path / "scripted", Suite(rows))
    pressed = played(tmp_path / "pressed", Suite(rows, attacker=PRESSING, tutor=RubricTutor()))
    for row, calm, hard in zip(rows, scripted, pressed, strict=True):
        asked = [attack.message.text for attack in row.attacks]
        assert [turn.user for turn in calm.turns] == asked
        assert {turn.harmlessness for turn in calm.turns} == {3}  # as gold
        within, beyond = hard.turns[: len(asked)], hard.turns[len(asked) :]
        assert within[0].user == asked[0]  # no answer yet to react to
        assert all(turn.user.endswith(scripted) for turn, scripted in zip(within, asked, strict=True))
        assert all(turn.strategy != "scripted" for turn in within[1:])
        assert len(beyond) == min(PRESSING.extra_turns, bench_settings().max_turns - len(asked))
        assert all(turn.intent == "harmful" and turn.harmlessness == -3 for turn in beyond)


def test_dialogues_with_another_attacker_are_played_again(tmp_path: Path, rows: list[Scenario]) -> None:
    attackers = (ScriptedAttacker(), PRESSING, AdaptiveAttacker(extra_turns=2, lead_share=0.5))
    keys: set[str] = set()
    for attacker in attackers:
        keys |= {row.key for row in played(tmp_path, Suite(rows, attacker=attacker, tutor=RubricTutor()))}
    assert len(keys) == len(attackers) * len(rows)


def test_fingerprints_of_llm_players_change_with_what_changes_their_words() -> None:
    """The time-out has no effect on the words: a benchmark continues after it was raised."""

    def asking(maker: type, model: str = "m", timeout: float = 1.0, **settings: int) -> str:
        client = ChatClient({"base_url": "http://localhost:1/v1", "model": model, "read_timeout": timeout})
        return str(maker(client, pytest.fail, **settings).fingerprint)

    for maker in (LlmTutor, LlmAttacker, LlmJudge):
        assert asking(maker) == asking(maker, timeout=9.0)
        assert len({asking(maker), asking(maker, model="n"), asking(maker, max_tokens=9)}) == 3


def test_a_dialogue_whose_tutor_gave_no_verdict_is_not_counted(tmp_path: Path, rows: list[Scenario]) -> None:
    with pytest.raises(TooManyFailures, match="the tutor is gone"):
        played(tmp_path, Suite(rows, attacker=PRESSING, tutor=NoVerdicts()))
    records = shown_in(tmp_path)
    assert all(row.failed for row in records)


@pytest.mark.parametrize(
    ("words", "problems"),
    [
        (["attacker=adaptive"], []),
        (
            ["attacker=adaptive", "bench.protocol=single_turn"],
            ["attacker='adaptive': a single_turn benchmark asks openings alone: leave it at scripted"],
        ),
        (
            ["attacker=llm"],
            [OF_LLM.replace("judge", "tutor").replace("grades", "gives the attacker its verdicts"), OF_LLM],
        ),
        (["attacker=llm", "tutor=llm"], [OF_LLM]),
        (["attacker=adaptive", "tutor=llm"], [OF_LLM.replace("attacker", "tutor")]),
        ([OWN, "tutor=llm"], [OF_LLM.replace("=llm", "=Asks", 1)]),
        (["attacker=llm", "tutor=llm", "judge=llm"], []),
        (["attacker=adaptive", f"tutor._target_={NoVerdicts.__module__}.NoVerdicts"], []),  # it writes no questions
        (["tutor=llm"], []),  # nobody asks the tutor
    ],
)
def test_attacker_tutor_and_judge_must_fit_together(words: list[str], problems: list[str]) -> None:
    found = bench_problems(compose(*words, *SERVER, name="bench"))
    assert list(map(str, found)) == problems


def test_grpo_refuses_an_attacker_whose_questions_the_rubric_cannot_score_by_its_name() -> None:
    (problem,) = train_problems(compose("experiment=grpo_tiny", "attacker=scripted", OWN))
    assert str(problem).startswith("attacker='Asks': its questions have no gold facts, and without these tutor=rubric ")
    assert str(problem).endswith(": add tutor=llm, or a class of your own")


def test_an_attacked_benchmark_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["attacker=adaptive", "attacker.lead_share=1", "bench.limit=10", "bench.resamples=100"]
    words += ["rollout.max_new_tokens=4", f"hydra.run.dir={tmp_path}"]
    assert cli.run("bench", words) == 0
    left_out = "the constant policies always-refuse, always-comply, gold are left out: they know the answers to the"
    assert capsys.readouterr().out.count(left_out) == 1
    records = shown_in(tmp_path)
    assert {row.policy for row in records} == {"base"}  # constant policies only know the script
    assert {turn.strategy for row in records for turn in row.turns[1:]} <= {"persistence", "deepen", "bait_and_switch"}
    assert cli.run("bench", [*words, "bench.constants=false"]) == 0
    assert left_out not in capsys.readouterr().out  # this run asked for none
