import math
from typing import Any

import pytest
import torch
from torch import Tensor

from steer_lit.objective.grpo import SUMS, grpo_loss

SETTINGS: dict[str, Any] = {"clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.1, "kl_estimator": "k3", "denominator": 1.0}
NAN = float("nan")


def loss_of(logprobs: Tensor, old: Any, ref: Any, weight: Tensor, mask: Tensor, **changed: Any) -> tuple:
    return grpo_loss(logprobs, old, ref, weight, mask, **{**SETTINGS, **changed})


def batch(rows: int = 4, length: int = 5) -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(5)
    uniform = torch.rand(5, rows, length, dtype=torch.float64, generator=numbers)
    logprobs, old, ref = -2 * uniform[:3]
    return {"logprobs": logprobs, "old": old, "ref": ref, "weight": 2 * uniform[3] - 1, "mask": uniform[4] < 0.7}


@pytest.mark.parametrize("estimator", ["k3", "k2", "k1_reward"])
def test_trap_18_at_step_0_the_kl_is_zero_and_the_ratio_one(estimator: str) -> None:
    data = batch()
    logprobs = data["logprobs"].requires_grad_()
    loss, stats = loss_of(
        logprobs, None, data["logprobs"].detach(), data["weight"], data["mask"], kl_estimator=estimator
    )
    means = stats.means()
    assert (means["kl"], means["kl_loss"], means["ratio"], means["ratio_max"]) == (0.0, 0.0, 1.0, 1.0)
    assert means["clip_share"] == 0.0
    # The ratio is one and still carries the policy gradient: -A at each counted token, and nothing from the KL.
    (gradient,) = torch.autograd.grad(loss, logprobs)
    torch.testing.assert_close(gradient, -data["weight"] * data["mask"], atol=1e-12, rtol=0.0)


def test_the_clip_by_hand() -> None:
    # Ratios 2 and 0.5 with advantages 1, -1, 1 and -2, clip 0.8..1.3:
    # min(2, 1.3), min(-2, -1.3), min(0.5, 0.8), min(-1.0, -1.6).
    logprobs = torch.tensor([[0.5, 0.5, 0.25, 0.25]]).log().requires_grad_()
    old = torch.tensor([[0.25, 0.25, 0.5, 0.5]]).log()
    weight = torch.tensor([[1.0, -1.0, 1.0, -2.0]])
    loss, stats = loss_of(logprobs, old, None, weight, torch.ones(1, 4), clip_high=0.3, kl_coef=0.0)
    assert loss.item() == pytest.approx(-(1.3 - 2.0 + 0.5 - 1.6), abs=1e-6)
    assert stats.means() == pytest.approx(
        {
            "policy_loss": 1.8,
            "kl_loss": 0.0,
            "kl": 0.0,
            "nll": 3 * math.log(2) / 2,
            "ratio": 1.25,
            "ratio_max": 2.0,
            "clip_share": 0.5,
        },
        abs=1e-6,
    )
    assert not stats.sums.requires_grad  # kept, it would hold on to every micro-batch's graph
    # A clipped token has no gradient; an unclipped one has -A * ratio.
    (gradient,) = torch.autograd.grad(loss, logprobs)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 2.0, -0.5, 0.0]]), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(
    ("estimator", "kl_loss", "policy_loss"),
    [
        ("k3", 0.1 * (math.log(2) - 0.5), -3.0),  # x = log 2: exp(-x) - 1 + x = 1/2 - 1 + log 2
        ("k2", 0.1 * math.log(2) ** 2 / 2, -3.0),
        ("k1_reward", 0.0, -(3.0 - 0.1 * math.log(2))),  # the advantage of 3 is reduced by it
    ],
)
def test_the_kl_by_hand(estimator: str, kl_loss: float, policy_loss: float) -> None:
    logprobs, ref = torch.tensor([[0.5]]).log(), torch.tensor([[0.25]]).log()
    loss, stats = loss_of(logprobs, None, ref, torch.tensor([[3.0]]), torch.ones(1, 1), kl_estimator=estimator)
    means = stats.means()
    assert means["kl_loss"] == pytest.approx(kl_loss, abs=1e-6)
    assert means["policy_loss"] == pytest.approx(policy_loss, abs=1e-6)
    assert loss.item() == pytest.approx(kl_loss + policy_loss, abs=1e-6)
    assert means["kl"] == pytest.approx(math.log(2) - 0.5, abs=1e-6)  # k3 is logged, whichever estimator is trained on


@pytest.mark.parametrize("estimator", ["k3", "k2", "k1_reward"])
def test_trap_25_a_failed_row_reaches_neither_loss_nor_kl_nor_counts_nor_gradient(estimator: str) -> None:
    data = batch()
    spoiled = {name: tensor.clone() for name, tensor in data.items()}
    spoiled["mask"][1] = False
    for name in ("logprobs", "old", "ref", "weight"):
        spoiled[name][1] = NAN
    kept = [0, 2, 3]
    results = []
    for source, rows in ((spoiled, [0, 1, 2, 3]), (data, kept)):
        logprobs = source["logprobs"][rows].requires_grad_()
        rest = (source[name][rows] for name in ("old", "ref", "weight", "mask"))
        loss, stats = loss_of(logprobs, *rest, kl_estimator=estimator)
        results.append((loss, stats.means(), torch.autograd.grad(loss, logprobs)[0]))
    (loss, means, gradient), (expected_loss, expected_means, expected_gradient) = results
    assert loss.item() == pytest.approx(expected_loss.item(), abs=1e-12)
    assert means == pytest.approx(expected_means, abs=1e-12)
    torch.testing.assert_close(gradient[kept], expected_gradient, atol=1e-12, rtol=0.0)
    assert torch.equal(gradient[1], torch.zeros_like(gradient[1]))


def test_the_loss_waits_for_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = batch()
    stats = loss_of(*(data[name] for name in ("logprobs", "old", "ref", "weight", "mask")))[1]
    means, waits, tolist = stats.means(), [], Tensor.tolist
    for name in ("item", "__float__"):
        monkeypatch.setattr(Tensor, name, lambda tensor: pytest.fail("waits for one number"))
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: waits.append(tensor.shape) or tolist(tensor))
    assert stats.means() == means
    assert waits == [(len(SUMS) + 1,)]


def test_a_micro_batch_of_failed_rows_has_a_loss_of_zero() -> None:
    empty = torch.full((2, 3), NAN, requires_grad=True)
    loss, stats = loss_of(empty, None, empty.detach(), empty.detach(), torch.zeros(2, 3))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(empty.grad, torch.zeros(2, 3))
    means = stats.means()
    assert means.pop("policy_loss") == means.pop("kl_loss") == 0.0
    assert all(map(math.isnan, means.values()))  # a mean of nothing is not 0


def test_a_micro_batch_without_tokens_changes_no_mean() -> None:
    data = batch()
    names = ("logprobs", "old", "ref", "weight")
    some = loss_of(*(data[name] for name in names), data["mask"])[1]
    none = loss_of(*(data[name] for name in names), torch.zeros_like(data["mask"]))[1]
    assert (some + none).means() == (none + some).means() == some.means()


def test_a_kl_without_a_reference_is_refused() -> None:
    data = batch()
    with pytest.raises(ValueError, match=r"kl_coef=0\.1 needs ref_logprobs"):
        loss_of(data["logprobs"], None, None, data["weight"], data["mask"])
