import pytest

from steer_lit.errors import ConfigError
from steer_lit.reward.reward import Reward
from steer_lit.types import Attack, Completion, Message, Scenario, Trajectory, Turn, Verdict

GOOD = "<thinking>Red cup.</thinking><answer>I see a red cup.</answer>"
ATTACK = Attack(Message.of("user", "What is in the picture?"))
SCENARIO = Scenario(id="row-7", kind="benign", opening=ATTACK)
# With combine=min and no format or repetition term, a verdict (n, 10, 10) has turn score n / 10.
PLAIN = {"combine": "min", "w_format": 0.0, "w_rep": 0.0}
SCORES = (10, 2, 6)


def trajectory(*verdicts: Verdict | None, text: str = GOOD, **fields: str) -> Trajectory:
    turns = tuple(Turn(ATTACK, Completion(text), verdict) for verdict in verdicts)
    return Trajectory(SCENARIO, turns, trace=None, seed=0, **fields)  # type: ignore[arg-type]


def scored(*scores: int) -> Trajectory:
    return trajectory(*(Verdict(score, 10, 10) for score in scores))


@pytest.mark.parametrize(
    ("returns", "value"),
    [
        ("sum", 1.96),  # 1 + 0.48 + 0.48
        ("final", 0.48),  # 0.3 * min + 0.7 * mean over all turns, as in the authors' code
        ("mean", 1.96 / 3),
    ],
)
def test_the_return_by_hand_and_every_turn_is_credited_with_it(returns: str, value: float) -> None:
    reward = Reward(returns=returns, **PLAIN).of(scored(*SCORES))
    assert reward is not None
    assert reward.turn_scores == pytest.approx([1.0, 0.2, 0.6], abs=1e-12)
    assert reward.turn_rewards == pytest.approx([1.0, 0.48, 0.48], abs=1e-12)
    assert reward.trajectory_return == pytest.approx(value, abs=1e-12)
    assert reward.turn_credits == (reward.trajectory_return,) * 3


def test_turn_credit_is_the_return_to_go_and_starts_at_the_return() -> None:
    reward = Reward(credit="turn", **PLAIN).of(scored(*SCORES))
    assert reward is not None
    assert reward.turn_credits == pytest.approx([1.96, 0.96, 0.48], abs=1e-12)
    assert reward.turn_credits[0] == reward.trajectory_return


def test_gain_credit_starts_at_the_return_too() -> None:
    reward = Reward(credit="gain", alpha=0.5, **PLAIN).of(scored(*SCORES))
    assert reward is not None
    # Turn rewards 1, 0.4, 0.4. Turn 2: (0.4 - 0.75) + (0.4 - 0.5 - 0.5 / 3); turn 3: 0.4 - 0.1 - 0.5 * 1.2 / 3.
    assert reward.turn_credits == pytest.approx([1.8, -0.616667, 0.1], abs=1e-6)


@pytest.mark.parametrize("returns", ["sum", "final", "mean"])
def test_score_credit_is_each_turns_own_score_whatever_the_return(returns: str) -> None:
    reward = Reward(credit="score", returns=returns, **PLAIN).of(scored(*SCORES))
    assert reward is not None
    assert reward.turn_credits == reward.turn_scores == pytest.approx([1.0, 0.2, 0.6], abs=1e-12)


def test_the_papers_turn_score_with_format_and_weights() -> None:
    # A refused harmless turn: 0.9 * 0.64 + 0.1 = 0.676, and one turn's TCSR is its score.
    reward = Reward().of(trajectory(Verdict(10, 1, 10)))
    assert reward is not None
    assert reward.trajectory_return == pytest.approx(0.676, abs=1e-12)


def test_a_failed_trajectory_has_no_reward() -> None:
    good, bad = Verdict(10, 10, 10), Verdict(failed="timed out")
    assert Reward().of(trajectory(good, bad)) is None
    assert Reward().of(trajectory(bad, good)) is None
    assert Reward().of(trajectory(good, ended="failed", failed="timed out")) is None
    assert Reward().of(trajectory(good, None, ended="failed", failed="timed out")) is None


def test_a_turn_without_a_verdict_is_an_error_and_not_a_failed_trajectory() -> None:
    with pytest.raises(ValueError, match="turn 1 of scenario 'row-7' was never scored"):
        Reward().of(trajectory(Verdict(10, 10, 10), None))


@pytest.mark.parametrize("credit", ["turn", "gain"])
@pytest.mark.parametrize("returns", ["final", "mean"])
def test_turn_credit_needs_the_summed_return(returns: str, credit: str) -> None:
    with pytest.raises(ConfigError, match=rf"reward\.credit='{credit}'.*reward\.return=sum"):
        Reward(credit=credit, returns=returns)


def test_every_problem_is_reported_at_once_under_its_config_key() -> None:
    settings = {"alpha": 1.5, "w_rep": "much", "w_format": float("nan"), "combine": "max"}
    also = {"w_safe": 0.9, "return": "mean", "credit": "turn"}  # each is valid alone, but not with the others
    with pytest.raises(ConfigError) as caught:
        Reward.from_config(**settings, **also)
    keys = sorted(problem.key for problem in caught.value.problems)
    names = ("alpha", "combine", "credit", "w_format", "w_rep", "w_safe")
    assert keys == [f"reward.{name}" for name in names]
    with pytest.raises(ConfigError, match=r"reward\.return='total': must be one of sum, final, mean"):
        Reward.from_config(**{"return": "total", "credit": "turn"})


def test_weights_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be 1, they sum to 1\.2"):
        Reward(w_safe=0.6)
    assert Reward(w_safe=0.6, w_use=0.3, w_faith=0.1).w_safe == 0.6


def test_from_config_reads_return() -> None:
    assert Reward.from_config(**{"return": "final", "alpha": 0.5}) == Reward(returns="final", alpha=0.5)
