"""TRAPS 20: for a policy of three tokens, all enumerated with their probabilities, against the exact gradient."""

import pytest
import torch
from torch import Tensor

from steer_lit.objective.grpo import grpo_loss

LOGITS = torch.tensor([0.7, -0.4, 0.1], dtype=torch.float64)
REFERENCE = torch.tensor([-0.3, 0.9, 0.2], dtype=torch.float64).log_softmax(0)


def exact_gradient(*, reverse: bool = False) -> Tensor:
    """Return the gradient with respect to the logits of KL(policy || reference), or of KL(reference || policy)."""
    logits = LOGITS.clone().requires_grad_()
    policy = logits.log_softmax(0)
    kl = (REFERENCE.exp() * (REFERENCE - policy)) if reverse else (policy.exp() * (policy - REFERENCE))
    return torch.autograd.grad(kl.sum(), logits)[0]


def expected_gradient(estimator: str, sampler: Tensor | None = None) -> Tensor:
    """Return the expected gradient of the loss over sampled tokens: one row per token, divided by 1 / probability.

    `sampler` are the log-probs of the policy that sampled; None for the present one.
    """
    logits = LOGITS.clone().requires_grad_()
    policy = logits.log_softmax(0)
    sampled = policy.detach() if sampler is None else sampler
    loss, _ = grpo_loss(
        policy[:, None],
        None if sampler is None else sampler[:, None],
        REFERENCE[:, None],
        torch.zeros(3, 1),
        torch.ones(3, 1),
        clip_low=0.9,
        clip_high=9.0,
        kl_coef=1.0,
        kl_estimator=estimator,
        denominator=(1.0 / sampled.exp())[:, None],
    )
    return torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("estimator", ["k2", "k1_reward"])
def test_trap_20_k2_and_k1_in_the_reward_have_the_exact_gradient(estimator: str) -> None:
    torch.testing.assert_close(expected_gradient(estimator), exact_gradient(), atol=1e-12, rtol=0.0)


def test_trap_20_k3_in_the_loss_has_the_gradient_of_the_other_direction() -> None:
    torch.testing.assert_close(expected_gradient("k3"), exact_gradient(reverse=True), atol=1e-12, rtol=0.0)
    assert (expected_gradient("k3") - exact_gradient()).abs().max() > 0.05  # its largest entry is about 0.3


def test_trap_20_once_the_policy_has_moved_only_k1_in_the_reward_keeps_its_gradient() -> None:
    """k3 and k2 have no ratio: each token's part of their gradient weighs 1 / ratio too much."""
    sampler = torch.tensor([0.2, 0.1, 0.4], dtype=torch.float64).log_softmax(0)
    torch.testing.assert_close(expected_gradient("k1_reward", sampler), exact_gradient(), atol=1e-12, rtol=0.0)
    logits = LOGITS.clone().requires_grad_()
    policy = logits.log_softmax(0)
    for estimator, pull in (("k3", 1 - (REFERENCE - policy).exp()), ("k2", policy - REFERENCE)):
        weighed = (sampler.exp() * pull.detach() * policy).sum()
        (by_hand,) = torch.autograd.grad(weighed, logits, retain_graph=True)
        torch.testing.assert_close(expected_gradient(estimator, sampler), by_hand, atol=1e-12, rtol=0.0)
        assert (by_hand - exact_gradient(reverse=estimator == "k3")).abs().max() > 0.05


def test_trap_20_k1_in_the_loss_would_have_none_and_is_refused() -> None:
    logits = LOGITS.clone().requires_grad_()
    policy = logits.log_softmax(0)
    (gradient,) = torch.autograd.grad((policy.detach().exp() * (policy - REFERENCE)).sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0.0)
    with pytest.raises(ValueError, match="kl_estimator='k1'"):
        expected_gradient("k1")
