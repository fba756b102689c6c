"""Groups in the engine: an opening is read once and its cache is copied. Log-probs still equal one full
forward pass.
"""

import pytest
import torch

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.policy.lora import LoraSettings
from steer_lit.rollout.engine import SampledPolicy, SampledSession
from steer_lit.rollout.play import play
from steer_lit.types import Attack, ImageRef, Message, Scenario, Verdict
from tests.policies import ending_at_every, redrawn, small_policy

KNIFE = ImageRef("mini://knife?colour=red&x=20&y=31&size=60&bg=3")
BALL = ImageRef("mini://ball?colour=blue&x=10&y=5&size=50&bg=0")
TOLERANCE = 1e-5


def scenario(name, *messages, system=None):
    opening, *scripted = (Attack(message) for message in messages)
    return Scenario(name, "benign", opening, tuple(scripted), system)


BOTH = scenario(
    "both", Message.of("user", KNIFE, "What is it?"), Message.of("user", "And ", BALL, "?"), Message.of("user", "Why?")
)
LATE = scenario(
    "late", Message.of("user", "Hello there, I have a question"), Message.of("user", KNIFE), Message.of("user", "!")
)
TEXT = scenario("text", Message.of("user", "Hi"), Message.of("user", "A much longer question than the others ask"))
# Three groups whose rows are not adjacent. TEXT's dialogues have one turn less than the others.
ROWS = (BOTH, TEXT, BOTH, LATE, TEXT, BOTH, LATE)
SEEDS = (10, 11, 12, 13, 14, 15, 16)


def load(quantize="none", **lora):
    policy = small_policy(quantize=quantize, lora=LoraSettings(r=4, alpha=8, **lora))
    return ending_at_every(redrawn(policy), 8)


@pytest.fixture(scope="module")
def qwen():
    return load()


def roll(qwen, scenarios=ROWS, seeds=SEEDS, tutor=None, side_by_side=None):
    policy = SampledPolicy(qwen, max_new_tokens=12, temperature=3.0)
    settings = {"max_turns": 4, "stop_when_truncated": False, "side_by_side": side_by_side}
    return play(scenarios, seeds, policy, ScriptedAttacker(), tutor, **settings)


def assert_scored_as_sampled(qwen, trajectory):
    with torch.no_grad():
        full = qwen.logprobs(qwen.collate([trajectory.trace]), 3.0)[0]
    torch.testing.assert_close(torch.tensor(trajectory.trace.logprobs), full, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_trap_12_groups_with_a_second_picture_match_full_forward(quantize):
    """Pictures in turns 1 and 2, a first picture in turn 2, and no picture. Rows have many lengths."""
    policy = load(quantize)
    trajectories = roll(policy)
    assert [len(trajectory.turns) for trajectory in trajectories] == [3, 2, 3, 3, 2, 3, 3]
    assert len({len(turn.completion.token_ids) for row in trajectories for turn in row.turns}) > 4
    for trajectory in trajectories:
        assert_scored_as_sampled(policy, trajectory)


@pytest.mark.parametrize(("side_by_side", "openings"), [(None, 3), (5, 3), (1, 7)])
def test_an_opening_is_read_once_for_its_group(qwen, monkeypatch, side_by_side, openings):
    """Later members copy it too, as long as a dialogue with the same opening is still going on."""
    read, step = [], SampledSession.step

    def watched(self, embeds, positions, counts):
        read.extend(row for row in counts if not self.rows[row].turns and self.rows[row].cached == 0)
        return step(self, embeds, positions, counts)

    monkeypatch.setattr(SampledSession, "step", watched)
    together = roll(qwen, side_by_side=side_by_side)
    assert len(read) == len(set(read)) == openings
    alone = [roll(qwen, [row], [seed])[0] for row, seed in zip(ROWS, SEEDS, strict=True)]
    assert [row.trace.token_ids for row in together] == [row.trace.token_ids for row in alone]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(
            torch.tensor(one.trace.logprobs), torch.tensor(other.trace.logprobs), atol=TOLERANCE, rtol=0
        )


def test_rows_that_differ_only_in_the_picture_or_the_system_prompt_share_nothing(qwen):
    rows = [
        scenario("knife", Message.of("user", KNIFE, "What?")),
        scenario("ball", Message.of("user", BALL, "What?")),
        scenario("brief", Message.of("user", KNIFE, "What?"), system="Be brief."),
    ]
    knife, ball, brief = roll(qwen, rows, (7, 7, 7))
    prompts = [row.trace.token_ids[: row.trace.turn_ids.index(0)] for row in (knife, ball, brief)]
    assert prompts[0] == prompts[1] != prompts[2]  # both pictures have the same size
    for trajectory in (knife, ball, brief):
        assert_scored_as_sampled(qwen, trajectory)


def test_members_of_a_group_do_not_share_what_they_append(qwen):
    """The cache is copied, not shared: appending to one row does not change another."""
    rows = roll(qwen, [BOTH] * 4, (1, 2, 3, 1))
    assert rows[0].trace == rows[3].trace
    assert len({row.trace.token_ids for row in rows}) == 3
    for trajectory in rows:
        assert_scored_as_sampled(qwen, trajectory)


class ServedTutor:
    client = None

    def score(self, dialogues):
        return [Verdict(5, 5, 5)] * len(dialogues)


@pytest.mark.parametrize("side_by_side", [None, 3])
def test_the_same_is_sampled_while_a_server_judges(qwen, side_by_side):
    """Members of a group are no longer in step. Dialogues that are being judged keep their places."""
    together, apart = roll(qwen), roll(qwen, tutor=ServedTutor(), side_by_side=side_by_side)
    assert [row.trace.token_ids for row in apart] == [row.trace.token_ids for row in together]
    for trajectory in apart:
        assert_scored_as_sampled(qwen, trajectory)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("k_proj", "down_proj")])
def test_trap_30_a_session_uses_the_adapter_as_it_is_when_it_opens(targets):
    """Cached keys, merged adapter weights and picture features must all be newer than the last update."""
    policy = load(targets=targets)
    before = roll(policy)
    with torch.no_grad():
        for parameter in policy.adapter_parameters().values():
            parameter.mul_(-2.0)
    after = roll(policy)
    assert [row.trace.token_ids for row in after] != [row.trace.token_ids for row in before]
    for trajectory in after:
        assert_scored_as_sampled(policy, trajectory)
