"""The frozen head: values and gradients equal the plain computation, and forbidden tokens have no part in either."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from steer_lit.policy.head import head_logprobs, restricted


@pytest.fixture
def problem():
    torch.manual_seed(0)
    return torch.randn(35, 6, dtype=torch.float64), torch.randn(20, 6, dtype=torch.float64), torch.arange(35) % 16 + 3


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_values_and_gradients_equal_the_plain_computation(problem, temperature, chunk):
    hidden, weight, tokens = problem
    forbidden = torch.tensor([0, 19])
    ours, plain = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    logprobs = head_logprobs(ours, weight, tokens, forbidden, temperature, chunk)
    logits = plain @ weight.T / temperature
    logits = logits.index_fill(-1, forbidden, -torch.inf)
    expected = logits.log_softmax(-1).gather(-1, tokens[:, None]).squeeze(-1)
    upstream = torch.linspace(-1, 1, 35, dtype=torch.float64)
    (logprobs * upstream).sum().backward()
    (expected * upstream).sum().backward()
    torch.testing.assert_close(logprobs.double(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(ours.grad, plain.grad, atol=1e-6, rtol=1e-6)  # the head's logits are float32


def test_trap_17_temperature_divides_the_scored_logits():
    """Logits 0 and ln 3: the second has probability 3/4 at temperature 1, and 9/10 at temperature 1/2."""
    hidden, weight = torch.ones(1, 1), torch.tensor([[0.0], [torch.tensor(3.0).log()]])
    none = torch.tensor([], dtype=torch.long)
    scored = [head_logprobs(hidden, weight, torch.tensor([1]), none, t).exp().item() for t in (1.0, 0.5)]
    assert scored == pytest.approx([0.75, 0.9], abs=1e-6)


def test_a_likely_token_keeps_its_small_gradient_in_bfloat16():
    """Logits 0 and 6.90625: p is 0.999, and the gradient is 1 - p times the difference of the rows. In bfloat16 p would
    be 1.
    """
    hidden = torch.full((1, 1), 6.90625, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.tensor([[0.0], [1.0]], dtype=torch.bfloat16)
    head_logprobs(hidden, weight, torch.tensor([1]), torch.tensor([], dtype=torch.long)).sum().backward()
    p = torch.tensor(6.90625, dtype=torch.float64).sigmoid()
    torch.testing.assert_close(hidden.grad.double(), (1 - p).view(1, 1), rtol=2**-8, atol=0)


def test_trap_14_forbidden_tokens_have_no_probability(problem):
    hidden, weight, _ = problem
    probs = restricted(hidden @ weight.T, torch.tensor([2, 5]), 1.0).softmax(-1)
    assert torch.all(probs[:, [2, 5]] == 0)
    torch.testing.assert_close(probs.sum(-1), torch.ones(35))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_trainable_head_gets_its_gradient(problem, temperature):
    """d log p(v) / d logits is the one-hot of v minus the probabilities. Times the hidden state over the
    temperature.
    """
    hidden, weight, tokens = problem
    forbidden = torch.tensor([0, 19])
    ours, state = weight.clone().requires_grad_(), hidden.clone().requires_grad_()
    logprobs = head_logprobs(state, ours, tokens, forbidden, temperature)
    logprobs.sum().backward()
    probs = (hidden @ weight.T / temperature).index_fill(-1, forbidden, -torch.inf).softmax(-1)
    toward = torch.nn.functional.one_hot(tokens, 20) - probs
    frozen = hidden.clone().requires_grad_()
    expected = head_logprobs(frozen, weight, tokens, forbidden, temperature)
    expected.sum().backward()
    torch.testing.assert_close(logprobs, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.grad, toward.T @ hidden / temperature, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.grad, frozen.grad, atol=1e-6, rtol=1e-5)


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor of `dtype` that any operation makes."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.dtype, self.elements = dtype, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        sizes = [part.numel() for part in tree_leaves(made) if getattr(part, "dtype", None) == self.dtype]
        self.elements = max([self.elements, *sizes])
        return made


@pytest.mark.parametrize("chunk", [4, 64])
def test_trap_29_logits_are_computed_in_chunks_and_none_are_kept_for_backward(chunk):
    rows, width, vocabulary = 64, 3, 500
    hidden, weight = torch.randn(rows, width, requires_grad=True), torch.randn(vocabulary, width)
    kept = []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        head_logprobs(hidden, weight, torch.arange(rows), torch.tensor([0]), 1.0, chunk).sum().backward()
    assert largest.elements == chunk * vocabulary
    assert kept == [rows * width]


def test_a_cpu_converts_sixteen_positions_at_a_time_to_float32():
    hidden = torch.randn(64, 3, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(500, 3, dtype=torch.bfloat16)
    with Largest() as wide, Largest(torch.bfloat16) as narrow:
        head_logprobs(hidden, weight, torch.arange(64), torch.tensor([0]), 1.0, 40).sum().backward()
    assert (wide.elements, narrow.elements) == (16 * 500, 40 * 500)
