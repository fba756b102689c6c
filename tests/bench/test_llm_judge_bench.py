"""The benchmark with a judge behind a server: requests are sent in waves, and none is repeated or its
result invented.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from steer_lit.bench.constant import ALWAYS_COMPLY, ALWAYS_REFUSE
from steer_lit.data.images import open_image
from steer_lit.data.mini import MiniSplit
from steer_lit.errors import ServerDown, TooManyFailures
from steer_lit.tutor.judge import LlmJudge
from tests.bench.players import benched

pytestmark = pytest.mark.usefixtures("no_charts")
SCENARIOS = [MiniSplit("bench", 0, 10, None, max_turns=10).scenario(number) for number in range(4)]


def answer(request) -> str:
    refused = "I won't" in request.messages[1].text.rsplit("The answer to grade:", 1)[1]
    return json.dumps(
        {
            "rationale": "by its words",
            "intent": "harmful",
            "refused": refused,
            "helpfulness": 2,
            "harmlessness": 3 if refused else -2,
        }
    )


def bench(judge: LlmJudge, out_dir: Path) -> tuple[dict, str]:
    policies = {"refuse": ALWAYS_REFUSE, "comply": ALWAYS_COMPLY}
    return benched(out_dir, policies, SCENARIOS, judge, chunk=4, max_turns=3)


def test_half_a_chunk_is_one_wave_of_requests_and_a_second_run_asks_nothing(answering, tmp_path: Path) -> None:
    client = answering(answer)
    summary, _ = bench(LlmJudge(client, open_image), tmp_path)
    # 2 policies x 2 halves of a chunk, of 2 dialogues x 3 turns each
    assert [len(batch) for batch in client.batches] == [6, 6, 6, 6]
    assert summary["refuse"]["harmless_mean"] == 3
    again = answering(answer)
    assert bench(LlmJudge(again, open_image), tmp_path)[0] == summary
    assert again.batches == []


def test_another_judge_grades_everything_again(answering, tmp_path: Path) -> None:
    bench(LlmJudge(answering(answer), open_image), tmp_path)
    other = answering(answer, "another-model")
    bench(LlmJudge(other, open_image), tmp_path)
    assert sum(map(len, other.batches)) == 24


def test_a_router_to_several_models_is_reported_even_if_the_run_was_stopped(answering, tmp_path: Path) -> None:
    """A name that stands for one other model is recorded. Two models under one name are not one judge."""

    class Routed(answering):
        to = ""

        def ask(self, requests):
            if len(self.batches) == 3:
                raise ServerDown("8 of 10 requests failed")
            return [replace(reply, model=self.to) for reply in super().ask(requests)]

    def played(to: str, folder: str) -> str:
        client = Routed(answer)
        client.to = to
        return bench(LlmJudge(client, open_image), tmp_path / folder)[1]

    for folder, then, names in (
        ("alias", "gpt-2026-01-01", "gpt-2026-01-01 (8 dialogues)"),
        ("routed", "small", "gpt-2026-01-01 (6 dialogues), small (2 dialogues)"),
    ):
        with pytest.raises(ServerDown):
            played("gpt-2026-01-01", folder)
        for printed in (played(then, folder), played(then, folder)):  # the second time nothing is asked
            told = (
                f"the judge was answered by more than one model: {names}; these figures do not belong to a single one\n"
            )
            assert (told in printed) == (folder == "routed")
        assert f"replies by: the judge: {names}\n" in (tmp_path / folder / "summary.md").read_text()


def test_a_server_that_goes_down_loses_nothing_that_was_graded(answering, tmp_path: Path) -> None:
    class GoesDown(answering):
        def ask(self, requests):
            if len(self.batches) == 3:
                raise ServerDown("8 of 10 requests failed")
            return super().ask(requests)

    with pytest.raises(ServerDown):
        bench(LlmJudge(GoesDown(answer), open_image), tmp_path)
    client = answering(answer)
    summary, _ = bench(LlmJudge(client, open_image), tmp_path)
    assert [len(batch) for batch in client.batches] == [6]
    assert (summary["refuse"]["n"], summary["comply"]["n"]) == (4, 4)


def test_turns_that_could_not_be_graded_are_counted_and_asked_again(answering, tmp_path: Path) -> None:
    def sometimes(request) -> str | None:
        return None if "Turn 3" in request.messages[1].text else answer(request)

    with pytest.raises(TooManyFailures, match="no dialogue of refuse, comply could be graded: judge: time-out"):
        bench(LlmJudge(answering(sometimes), open_image), tmp_path)
    figures = json.loads((tmp_path / "summary.json").read_text())["refuse"]
    assert (figures["n"], figures["failed"]) == (0, 4)
    assert bench(LlmJudge(answering(answer), open_image), tmp_path)[0]["refuse"]["n"] == 4
