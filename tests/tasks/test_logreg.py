"""Logistic regression is scikit-learn's at every C, for classes, shares and several labels, and knows what it knows."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ssbench.results.bootstrap import interval
from ssbench.results.metrics import score
from ssbench.task import Bench, Outcome
from ssbench.tasks.classes import one_hot, prior
from ssbench.tasks.closed_form import standardised
from ssbench.tasks.lbfgs import Path
from ssbench.tasks.logreg import Logreg, coefficient

MakeBench = Callable[..., Bench]
SIZES = (2000, 500, 1500)


def gaussians(samples: int = 4000, dim: int = 16, width: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, D) of round classes, labels, and what of each class is likely, in logits: nothing knows more."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, dim, generator=generator) * 0.6
    labels = torch.randint(5, (samples,), generator=generator)
    x = centres[labels] + width * torch.randn(samples, dim, generator=generator)
    return x, labels, -torch.cdist(x, centres).square() / 2 / width**2


def run(make_bench: MakeBench, x: Tensor, labels: Tensor, sizes: tuple[int, int, int] = SIZES) -> Outcome:
    return Logreg(Logreg.Settings()).evaluate(make_bench(x[..., None, None], {"label": labels}, sizes))


@pytest.mark.parametrize("c", [1e-3, 1.0, 100.0])
def test_heads_are_those_of_scikit_learn(c: float, digits: tuple[Tensor, Tensor]) -> None:
    x, labels = standardised(digits[0].flatten(1))[0][:600], digits[1][:600]
    found = Path(x, one_hot(labels, 10)).at(coefficient(c, 600))
    oracle = LogisticRegression(C=c, tol=1e-8, max_iter=20000).fit(x.numpy(), labels.numpy())
    wanted = oracle.predict_proba(x.numpy())
    np.testing.assert_allclose(found.scores(x).softmax(1), wanted, atol=2e-4)
    np.testing.assert_allclose(found.head[:-1].T, oracle.coef_, atol=1e-2 * abs(oracle.coef_).max())
    assert found.gradient <= 1e-6


def test_one_head_a_label_is_scikit_learns_binary_regression() -> None:
    x, _, logits = gaussians(500)
    labels = (logits > logits.median(0).values).to(torch.uint8)
    x = standardised(x)[0]
    found = Path(x, labels, "sigmoid").at(coefficient(0.5, 500)).scores(x).sigmoid()
    for at in range(5):
        oracle = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit(x.numpy(), labels[:, at].numpy())
        np.testing.assert_allclose(found[:, at], oracle.predict_proba(x.numpy())[:, 1], atol=1e-4)


def test_counts_of_classes_are_as_many_samples_and_no_counts_are_none() -> None:
    x, labels, _ = gaussians(300)
    y = one_hot(labels, 5)
    weights = torch.arange(300) % 4  # some 0
    counted = Path(x.double(), y * weights[:, None]).at(1e-2).head
    repeated = x.double().repeat_interleave(weights, 0), y.repeat_interleave(weights, 0)
    torch.testing.assert_close(counted, Path(*repeated).at(1e-2).head, atol=1e-4, rtol=0)


def test_a_warm_start_ends_where_a_cold_one_does_and_takes_fewer_steps() -> None:
    x, labels, _ = gaussians(1000)
    warm, cold = (Path(standardised(x)[0], one_hot(labels, 5)) for _ in range(2))
    warm.at(1.2e-3)
    first, second = warm.at(1e-3), cold.at(1e-3)
    torch.testing.assert_close(first.head, second.head, atol=1e-3, rtol=0)
    assert first.iterations < second.iterations


def test_it_is_the_best_possible_classifier_and_as_sure_as_it_may_be(make_bench: MakeBench) -> None:
    x, labels, logits = gaussians(9000)
    found = run(make_bench, x, labels, (4000, 1000, 4000))
    best, truth = logits[5000:], labels[5000:]
    reached = score("accuracy", found.arrays["top1"])
    assert reached == pytest.approx(100 * (best.argmax(1) == truth).double().mean().item(), abs=1.0)
    nll = F.cross_entropy(best.double(), truth)
    assert score("mean", found.arrays["nll"]) == pytest.approx(nll.item(), abs=0.02)
    assert score("ece", found.arrays["ece"]) < 3
    bits = (-prior(labels[:5000], 5).log()[truth].mean() - nll).item() / np.log(2)  # of the true posterior
    assert bits - 0.05 < score("mean", found.arrays["v-information"]) < bits + 0.02
    assert found.details["refit"]["converged"] and not found.selected["at_edge"]


def test_a_planted_feature_is_all_the_information(make_bench: MakeBench) -> None:
    x, labels, _ = gaussians()
    found = run(make_bench, torch.cat([x, 10 * one_hot(labels, 5).float()], 1), labels)
    assert score("accuracy", found.arrays["top1"]) == 100
    assert score("mean", found.arrays["v-information"]) == pytest.approx(np.log2(5), abs=0.02)


def test_shuffled_labels_are_chance_and_have_no_information(make_bench: MakeBench) -> None:
    x, labels, _ = gaussians()
    shuffled = labels[torch.randperm(4000, generator=torch.Generator().manual_seed(1))]
    found = run(make_bench, x, shuffled)
    low, high = interval("accuracy", found.arrays["top1"])
    assert low <= 20 <= high
    assert score("mean", found.arrays["v-information"]) < 0.01


def test_constant_features_say_the_most_frequent_class(make_bench: MakeBench) -> None:
    labels = torch.arange(400) % 4 % 3  # class 0 is half
    found = run(make_bench, torch.ones(400, 6), labels, (200, 100, 100))
    assert (found.arrays["top1"]["predicted"] == 0).all()
    assert score("mean", found.arrays["v-information"]) == pytest.approx(0, abs=1e-6)
    assert score("mean", found.arrays["nll"]) == pytest.approx(found.arrays["nll"]["constant"].mean(), abs=1e-6)


def test_it_reaches_scikit_learn_on_digits_refitted_on_fit_and_select(
    make_bench: MakeBench, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    found = run(make_bench, images.flatten(1), labels, (800, 300, 600))
    x, tested = standardised(images[:1100].flatten(1), images[1100:1700].flatten(1))
    oracle = LogisticRegression(C=found.selected["C"], tol=1e-8, max_iter=5000).fit(x.numpy(), labels[:1100].numpy())
    same = found.arrays["top1"]["predicted"] == oracle.predict(tested.numpy())
    assert same.mean() >= 0.998
    assert found.details["refit"]["coefficient"] == pytest.approx(1 / (found.selected["C"] * 1100))


def test_a_class_that_is_not_in_fit_does_no_harm(make_bench: MakeBench) -> None:
    x, labels, _ = gaussians()
    labels[:2500] %= 4
    found = run(make_bench, x, labels)
    assert all(np.isfinite(found.arrays[name]["value"]).all() for name in ("nll", "v-information"))
