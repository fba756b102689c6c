"""The sampling engine on `tiny` in float32: its log-probs equal those of one full forward pass, row by row."""

from collections import Counter
from random import Random

import pytest
import torch

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.errors import SteerError
from steer_lit.rollout import engine
from steer_lit.rollout.cache import TurnCache
from steer_lit.rollout.engine import SampledPolicy, SampledSession
from steer_lit.rollout.play import play
from steer_lit.rollout.sampling import drawn
from steer_lit.rollout.seeds import stable_hash
from steer_lit.types import Attack, ImageRef, Message, Scenario
from tests.policies import ending_at_every, redrawn, small_policy
from tests.pretended_gpu import GPU, pretended_gpu

KNIFE = ImageRef("mini://knife?colour=red&x=20&y=31&size=60&bg=3")
BALL = ImageRef("mini://ball?colour=blue&x=10&y=5&size=50&bg=0")
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def qwen():
    return redrawn(small_policy())


def scenario(name, opening, *scripted):
    return Scenario(name, "benign", Attack(opening), tuple(Attack(message) for message in scripted))


SCENARIOS = (
    scenario("picture", Message.of("user", KNIFE, "What is it?"), Message.of("user", "Why?")),
    scenario("text", Message.of("user", "Hi"), Message.of("user", "A much longer question than the others ask here")),
    scenario("late", Message.of("user", "Hello there"), Message.of("user", "Now: ", BALL), Message.of("user", "!")),
    scenario("two", Message.of("user", KNIFE, BALL, "Which?"), Message.of("user", "Sure?"), Message.of("user", "Ok")),
)
SEEDS = (11, 22, 33, 44)


def roll(qwen, scenarios=SCENARIOS, seeds=SEEDS, max_new_tokens=7, temperature=1.0, **settings):
    policy = SampledPolicy(qwen, max_new_tokens=max_new_tokens, temperature=temperature)
    settings = {"max_turns": 4, "stop_when_truncated": False} | settings
    return play(scenarios, seeds, policy, ScriptedAttacker(), None, **settings)


def answered(session, asked):
    """Ask the questions and sample until all are answered."""
    answers = session.reply(asked)
    while len(answers) < len(asked):
        answers |= session.reply({})
    return answers


def scored(qwen, traces, temperature=1.0):
    with torch.no_grad():
        return qwen.logprobs(qwen.collate(traces), temperature)


@pytest.mark.usefixtures("packs")
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_trap_12_cached_turns_match_full_forward(qwen, temperature):
    """Rows of different lengths: a picture in turn 1, a picture in a later turn, two at once, none at all."""
    traces = [trajectory.trace for trajectory in roll(qwen, temperature=temperature)]
    assert len({len(trace.token_ids) for trace in traces}) > 1
    for trace in traces:
        full = scored(qwen, [trace], temperature)[0]
        torch.testing.assert_close(torch.tensor(trace.logprobs), full, atol=TOLERANCE, rtol=0)


def test_a_cache_that_may_outgrow_the_gpu_is_told_of_with_what_would_fit(qwen, monkeypatch):
    assert SampledPolicy(qwen, max_new_tokens=1000).cache_shortage(10**9, 10) is None  # on a CPU
    with pretended_gpu():
        policy = SampledPolicy(small_policy(device="cuda:0"), max_new_tokens=100)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2_000_000, 8_000_000))  # free, all
        # A token takes 2 layers x 2 heads x 32 numbers x 4 bytes, for its key and for its value: 1,024 bytes.
        assert policy.cache_shortage(6, 3) is None
        said = policy.cache_shortage(7, 3)
    assert said.startswith("7 dialogues side by side, each with 300 tokens of answers")
    assert said.endswith("lower hardware.side_by_side or rollout.max_new_tokens; at most 6 dialogues would fit")


@pytest.fixture
def hasty(qwen):
    parts = qwen.parts
    yield ending_at_every(qwen, 8)
    qwen.parts = parts


def test_a_gpu_samples_what_a_cpu_samples(hasty):
    """No tensor may stay on the CPU. Dialogues begin and end while others go on."""

    def played(qwen):
        rolled = roll(qwen, SCENARIOS * 3, range(12), max_new_tokens=40, temperature=3.0, side_by_side=5)
        return [row.trace for row in rolled]

    on_cpu = played(hasty)
    with pretended_gpu():
        on_gpu = played(ending_at_every(redrawn(small_policy(device=str(GPU))), 8))
    assert [trace.token_ids for trace in on_gpu] == [trace.token_ids for trace in on_cpu]
    for here, its in zip(on_cpu, on_gpu, strict=True):
        torch.testing.assert_close(torch.tensor(its.logprobs), torch.tensor(here.logprobs), atol=1e-4, rtol=0)


@pytest.mark.usefixtures("packs")
@pytest.mark.parametrize("side_by_side", [None, 7, 1])
def test_trap_12_dialogues_that_come_and_go_leave_the_shared_cache_right(hasty, monkeypatch, side_by_side):
    """Some questions are read while other rows are in the middle of an answer. Some dialogues take the place of an
    ended one.
    """
    done = Counter()

    def watch(name):
        method = getattr(TurnCache, name)

        def watched(self, given, *more):
            if name == "append":
                done["rows"] = max(done["rows"], len(given))
                done["read beside answers"] += max(given) > 1 and len(given) > sum(map(bool, given))
            done["added"] += given if name == "add" else 0
            done[name] += 1
            return method(self, given, *more)

        monkeypatch.setattr(TurnCache, name, watched)

    for name in ("append", "add", "keep"):
        watch(name)
    trajectories = roll(hasty, SCENARIOS * 5, range(20), max_new_tokens=40, temperature=3.0, side_by_side=side_by_side)
    assert done["rows"] == (side_by_side or 20)
    assert done["added"] == 20 if side_by_side is None else side_by_side <= done["added"] < 20
    assert (done["read beside answers"] > 3) == (side_by_side != 1)
    assert (done["keep"] > 0) == (side_by_side != 1)
    lengths = {len(turn.completion.token_ids) for trajectory in trajectories for turn in trajectory.turns}
    assert len(lengths) > 4
    for trajectory in trajectories:
        full = scored(hasty, [trajectory.trace], 3.0)[0]
        torch.testing.assert_close(torch.tensor(trajectory.trace.logprobs), full, atol=TOLERANCE, rtol=0)


def test_a_long_question_among_short_ones_is_read_apart(hasty, monkeypatch):
    """Together they would take a mask of rows x longest question x columns. What is sampled stays the same."""
    masks, append = [], TurnCache.append

    def watched(self, counts):
        new = append(self, counts)
        if max(counts) > 1:
            masks.append(new.mask.shape)
        return new

    monkeypatch.setattr(TurnCache, "append", watched)
    long = scenario("long", Message.of("user", "word " * 300), Message.of("user", "word " * 200))
    given = (hasty, (*SCENARIOS, long, *SCENARIOS), range(9), 12, 3.0)
    whole = [row.trace for row in roll(*given)]
    assert len(masks) < 10  # as if there were no limit
    masks.clear()
    monkeypatch.setattr(engine, "READ_AT_ONCE", 50_000)
    for part, trace in zip(roll(*given), whole, strict=True):
        assert part.trace.token_ids == trace.token_ids
        torch.testing.assert_close(torch.tensor(part.trace.logprobs), torch.tensor(trace.logprobs), atol=1e-5, rtol=0)
    assert all(rows == 1 or rows * queries * columns < 2 * 50_000 for rows, _, queries, columns in masks)
    assert [rows for rows, _, queries, _ in masks if queries > 300] == [1, 1]
    assert any(rows > 2 for rows, *_ in masks)


def test_short_questions_after_long_dialogues_are_read_apart(qwen, monkeypatch):
    """The mask also covers what is in the cache: two questions of 10 tokens take 2 x 10 x 1,000 entries."""
    session = SampledPolicy(qwen, max_new_tokens=4).open(SCENARIOS[:2], SEEDS[:2])
    for row in session.rows:
        row.built.prompt([1] * 1000, ())
        row.cached = 990
    for limit, parts in ((20_000, [[0, 1]]), (19_999, [[0], [1]])):
        monkeypatch.setattr(engine, "READ_AT_ONCE", limit)
        assert session._parts([0, 1]) == parts


def test_no_token_is_padded_or_read_twice(hasty, monkeypatch):
    """Every token of a dialogue passes through the model once, except the last sampled one. A cache row has
    no padding.
    """
    read, step = [], SampledSession.step

    def watched(self, embeds, positions, counts):
        read.append((len(embeds), sum(counts.values())))
        return step(self, embeds, positions, counts)

    monkeypatch.setattr(SampledSession, "step", watched)
    policy = SampledPolicy(hasty, max_new_tokens=40, temperature=3.0)
    session = policy.open(SCENARIOS, SEEDS)
    answered(session, {row: scenario.opening.message for row, scenario in enumerate(SCENARIOS)})
    answered(session, {row: SCENARIOS[row].scripted[0].message for row in (1, 2, 3)})
    held = dict(zip(session.places.dialogues, session.cache.lengths, strict=True))
    lengths = [len(session.end(row).token_ids) for row in range(4)]
    assert len(set(lengths)) == 4
    assert held == {row: length - 1 for row, length in enumerate(lengths)}
    assert all(tokens == counted for tokens, counted in read)
    assert sum(tokens for tokens, _ in read) == sum(lengths) - len(lengths)


def test_trap_02_sampled_ids_are_kept_where_encoding_their_text_gives_others(qwen):
    """At this temperature ids are sampled that the tokenizer would not produce. The trace holds them unchanged."""
    changed = 0
    for trajectory in roll(qwen, max_new_tokens=20, temperature=50.0):
        trace = trajectory.trace
        for turn_idx, turn in enumerate(trajectory.turns):
            kept = [t for t, at in zip(trace.token_ids, trace.turn_ids, strict=True) if at == turn_idx]
            assert tuple(kept) == turn.completion.token_ids
            changed += SampledPolicy(qwen, max_new_tokens=1).renderer.encode(turn.completion.text) != kept
    assert changed > 0


def test_trap_01_a_cut_completion_that_goes_on_is_closed_like_any_other(qwen):
    """The benchmark continues after the token limit. The following tokens must still match the template."""
    end, closed = qwen.tokenizer.convert_tokens_to_ids("<|im_end|>"), 0
    for trajectory in roll(qwen, max_new_tokens=3):
        trace = trajectory.trace
        placed = [i for i, token in enumerate(trace.token_ids) if token == end and trace.turn_ids[i] < 0]
        cut = sum(turn.completion.finish == "length" for turn in trajectory.turns[:-1])
        assert len(placed) == 1 + len(trajectory.turns) + cut  # system, user turns, cut completions that went on
        closed += cut
    assert closed > 0


@pytest.mark.parametrize("draw", [0.0, 1.0 - 2**-53])  # the second rounds to 1 in float32
def test_the_smallest_and_largest_draw_give_a_token_of_nonzero_probability(qwen, monkeypatch, draw):
    monkeypatch.setattr("random.Random.random", lambda self: draw)
    for trajectory in roll(qwen, max_new_tokens=3):
        assert all(turn.completion.token_ids for turn in trajectory.turns)
        assert torch.tensor(trajectory.trace.logprobs).isfinite().all()


def test_the_largest_draw_gives_the_last_token_of_nonzero_probability():
    logits = torch.tensor([[3.0, 1.0, -torch.inf], [3.0, -torch.inf, 1.0]])
    tokens, logprobs = drawn(logits, [1.0 - 2**-53] * 2)
    assert tokens.tolist() == [1, 2]
    assert logprobs.tolist() == pytest.approx([-2.126928] * 2)  # -log(1 + e^2)


def test_every_turn_of_a_dialogue_has_draws_of_its_own(qwen, monkeypatch):
    """With those of the turn before, a policy would tend to say the same again."""
    first = []

    def noted(logits, draws):
        first.append(draws)
        return drawn(logits, draws)

    monkeypatch.setattr("steer_lit.rollout.engine.drawn", noted)
    roll(qwen, SCENARIOS[2:3], (33,), max_new_tokens=1)
    assert first == [[Random(stable_hash(33, turn)).random()] for turn in range(3)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_logits_raise_an_error(qwen, monkeypatch, temperature):
    """Otherwise the first token would be taken. Here it is an end token, so a broken policy would be graded
    as silent.
    """
    logits = type(qwen).logits
    monkeypatch.setattr(type(qwen), "logits", lambda *given: logits(*given) * torch.nan)
    with pytest.raises(SteerError, match=r"is not a number\. Its weights or its adapter's are too large"):
        roll(qwen, max_new_tokens=3, temperature=temperature)


def test_a_token_of_probability_zero_is_never_drawn(qwen, monkeypatch):
    """A GPU's parallel cumulative sum can increase by one last bit over tokens with probability zero."""
    cumsum, beyond = torch.Tensor.cumsum, []

    def stepping(values, dim):
        total = cumsum(values, dim)
        if not values.is_floating_point():
            return total
        (zeros,) = (values[0] == 0).nonzero(as_tuple=True)
        beyond.append(int(zeros[-1]))
        total[:, beyond[-1] :] = total[:, -1:].nextafter(torch.full_like(total[:, -1:], torch.inf))
        return total

    monkeypatch.setattr(torch.Tensor, "cumsum", stepping)
    monkeypatch.setattr("random.Random.random", lambda self: 1.0 - 2**-53)
    for trajectory in roll(qwen, max_new_tokens=3):
        assert beyond[0] not in trajectory.turns[0].completion.token_ids
        assert torch.tensor(trajectory.trace.logprobs).isfinite().all()


@pytest.mark.usefixtures("packs")
def test_trap_15_padded_rows_equal_unpadded_ones(qwen):
    traces = [trajectory.trace for trajectory in roll(qwen)]
    together = scored(qwen, traces)
    for row, trace in enumerate(traces):
        alone = scored(qwen, [trace])[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, atol=TOLERANCE, rtol=0)
        assert torch.all(together[row, len(alone) :] == 0)


def test_rollouts_leave_global_random_state_alone(qwen):
    before = torch.get_rng_state()
    roll(qwen)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.usefixtures("packs")
def test_trap_10_generation_leaves_nothing_behind(qwen):
    """Scoring gives the same before and after a rollout with other pictures."""
    trace = roll(qwen)[1].trace
    first = scored(qwen, [trace])
    roll(qwen, seeds=(5, 6, 7, 8))
    assert torch.equal(first, scored(qwen, [trace]))


def test_trap_08_either_end_token_ends_a_turn(qwen):
    """Both of Qwen's end tokens stop sampling. The sampled one is kept once, at the end of the completion."""
    ends = set()
    for seed in range(40):
        for trajectory in roll(qwen, seeds=[seed * 4 + i for i in range(4)], max_new_tokens=60, temperature=3.0):
            for turn in trajectory.turns:
                ids = turn.completion.token_ids
                assert not set(ids[:-1]) & set(qwen.eos_ids)
                assert (ids[-1] in qwen.eos_ids) == (turn.completion.finish == "stop")
                ends |= {ids[-1]} & set(qwen.eos_ids)
        if ends == set(qwen.eos_ids):
            return
    pytest.fail(f"only {ends} of {qwen.eos_ids} were ever sampled")


def test_trap_09_a_truncated_turn_ends_its_dialogue_consistently(qwen):
    for trajectory in roll(qwen, max_new_tokens=3, stop_when_truncated=True):
        finishes = [turn.completion.finish for turn in trajectory.turns]
        assert "length" not in finishes[:-1]
        assert (trajectory.ended == "truncated") == (finishes[-1] == "length")
        trace = trajectory.trace
        sampled = [token for turn in trajectory.turns for token in turn.completion.token_ids]
        assert [t for t, turn in zip(trace.token_ids, trace.turn_ids, strict=True) if turn >= 0] == sampled
        assert trace.sampled_tokens == len(sampled)
        assert max(trace.turn_ids) == len(trajectory.turns) - 1


def test_trap_14_the_policy_cannot_sample_pictures_or_message_starts(qwen):
    never = {qwen.tokenizer.convert_tokens_to_ids(t) for t in ("<|image_pad|>", "<|im_start|>", "<|vision_start|>")}
    for trajectory in roll(qwen, max_new_tokens=40, temperature=50.0):
        assert not never & {token for turn in trajectory.turns for token in turn.completion.token_ids}


@pytest.mark.usefixtures("packs")
def test_trap_18_no_dropout_no_drift_at_step_zero(qwen):
    """In train mode, the policy's log-probs equal the reference's: ratio 1 and KL 0."""
    trace = roll(qwen)[0].trace
    qwen.freeze_reference()
    batch = qwen.collate([trace])
    qwen.train()
    try:
        policy = qwen.logprobs(batch).detach()
        with qwen.reference():
            reference = qwen.logprobs(batch)
        assert qwen.training
    finally:
        qwen.eval()
    assert torch.equal(policy, reference)


def test_trap_19_the_adapter_comes_back_from_the_reference_even_on_errors(qwen):
    qwen.freeze_reference()
    name, parameter = next(iter(qwen.adapter_parameters().items()))
    with torch.no_grad():
        parameter += 1
    after = parameter.detach().clone()

    def fail_inside_reference():
        with qwen.reference():
            assert torch.equal(parameter, qwen.reference_state[name])
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_inside_reference()
    assert torch.equal(parameter, after)
    assert parameter.requires_grad
    with torch.no_grad():
        parameter -= 1


def test_a_reference_of_another_type_computes_in_the_adapters_own(qwen):
    """Such a reference comes from a checkpoint of a run whose LoRA matrices had another type."""
    qwen.freeze_reference({name: p.detach().bfloat16() for name, p in qwen.adapter_parameters().items()})
    with qwen.reference():
        assert {p.dtype for p in qwen.adapter_parameters().values()} == {torch.float32}
    qwen.freeze_reference()


def test_an_ended_dialogue_stays_ended(qwen):
    session = SampledPolicy(qwen, max_new_tokens=2).open(SCENARIOS, SEEDS)
    answered(session, {row: scenario.opening.message for row, scenario in enumerate(SCENARIOS)})
    assert len(session.end(0).token_ids) > 2
    with pytest.raises(ValueError, match="dialogue 0 has ended"):
        session.reply({0: Message.of("user", "again")})


def test_a_dialogue_that_is_being_answered_is_asked_nothing_else(hasty):
    session = SampledPolicy(hasty, max_new_tokens=40, temperature=3.0).open(SCENARIOS * 3, range(12))
    answers = session.reply(dict.fromkeys(range(12), SCENARIOS[1].opening.message))
    waiting = next(row for row in range(12) if row not in answers)
    with pytest.raises(ValueError, match=f"dialogue {waiting} is being answered"):
        session.reply({waiting: SCENARIOS[1].opening.message})


def test_the_cache_shrinks_after_a_long_dialogue_has_ended(hasty):
    session = SampledPolicy(hasty, max_new_tokens=4, temperature=3.0).open([SCENARIOS[1]] * 2, range(2))
    answered(session, {0: Message.of("user", "word " * 300), 1: SCENARIOS[1].opening.message})
    assert session.cache.capacity > 300
    session.end(0)
    answered(session, {1: SCENARIOS[1].scripted[0].message})
    assert session.cache.capacity <= 128
    assert {tuple(keys.shape[::2]) for keys in session.cache.keys} == {(1, session.cache.capacity)}


def test_no_dialogue_waits_for_the_slowest(hasty):
    """Answers differ in length. A finished dialogue is asked again while others are in the middle of an answer."""
    rows = [SCENARIOS[1]] * 12
    session = SampledPolicy(hasty, max_new_tokens=40, temperature=3.0).open(rows, range(12))
    opening, following = SCENARIOS[1].attacks
    turns, rounds = Counter(), [session.reply(dict.fromkeys(range(12), opening.message))]
    while rounds[-1]:
        turns.update(rounds[-1].keys())
        rounds.append(session.reply({row: following.message for row in rounds[-1] if turns[row] == 1}))
    assert turns == Counter(dict.fromkeys(range(12), 2))
    first = {row: at for at, answers in reversed(list(enumerate(rounds))) for row in answers}
    second = {row: at for at, answers in enumerate(rounds) for row in answers}
    assert min(second.values()) < max(first.values())
    assert 3 <= len(rounds[0]) < 12


def test_greedy_takes_the_likeliest_token(qwen):
    trace = roll(qwen, temperature=0.0)[1].trace
    assert trace == roll(qwen, seeds=(9, 9, 9, 9), temperature=0.0)[1].trace
    batch = qwen.collate([trace])
    with torch.no_grad():
        hidden = qwen.hidden(qwen.embed(batch.input_ids, batch.images), batch.position_ids)
        best = qwen.logits(hidden[0, :-1]).argmax(-1)
    mask = batch.completion_mask[0, 1:]
    assert torch.equal(best[mask], batch.input_ids[0, 1:][mask])
    torch.testing.assert_close(torch.tensor(trace.logprobs), scored(qwen, [trace])[0], atol=TOLERANCE, rtol=0)


def test_no_dialogue_exceeds_the_context_length(hasty, monkeypatch):
    """The last answer is cut at the context length. If no token is left, there is no answer, and the reason
    is given.
    """
    config = hasty.base.config.text_config
    free = roll(hasty, SCENARIOS * 3, range(12), max_new_tokens=40, temperature=3.0)
    lengths = sorted(len(trajectory.trace.token_ids) for trajectory in free)
    limit = lengths[len(lengths) // 2]
    monkeypatch.setattr(config, "max_position_embeddings", limit)
    held = roll(hasty, SCENARIOS * 3, range(12), max_new_tokens=40, temperature=3.0)
    unanswered = []
    for before, after in zip(free, held, strict=True):
        tokens = len(after.trace.token_ids)
        assert tokens <= limit
        assert after.trace.token_ids == before.trace.token_ids[:tokens]
        torch.testing.assert_close(
            torch.tensor(after.trace.logprobs), scored(hasty, [after.trace], 3.0)[0], atol=TOLERANCE, rtol=0
        )
        for turn in after.turns:
            assert (turn.completion.failed is None) == bool(turn.completion.token_ids)
            if turn.completion.failed is not None:
                unanswered.append(turn.completion)
    assert any(len(trajectory.trace.token_ids) == limit for trajectory in held)
    assert unanswered
    assert unanswered[0].finish == "length"
    assert f"tokens, model=tiny reads {limit}: allow fewer turns" in unanswered[0].failed


def test_an_opening_may_take_all_of_the_context_but_one_token(qwen, monkeypatch):
    text = SCENARIOS[1:2]
    prompt = roll(qwen, text, (22,), max_turns=1)[0].trace.turn_ids.index(0)
    for limit, answer in ((prompt, 0), (prompt + 1, 1)):
        monkeypatch.setattr(qwen.base.config.text_config, "max_position_embeddings", limit)
        (played,) = roll(qwen, text, (22,), max_turns=1)
        assert played.turns[0].completion.failed is None or answer == 0
        assert len(played.turns[0].completion.token_ids) == answer


def test_a_dialogue_whose_opening_is_too_long_is_not_played(qwen, monkeypatch):
    monkeypatch.setattr(qwen.base.config.text_config, "max_position_embeddings", 10)
    played = roll(qwen, stop_when_truncated=True)
    assert all(trajectory.ended == "failed" and "model=tiny reads 10" in trajectory.failed for trajectory in played)
    assert all(trajectory.trace.token_ids == () for trajectory in played)
