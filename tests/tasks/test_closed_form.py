"""Ridge heads are scikit-learn's, and samples left out in closed form are those left out one by one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as Oracle
from sklearn.linear_model import RidgeClassifier
from torch import Tensor

from ssbench.results.bootstrap import interval
from ssbench.results.metrics import score
from ssbench.task import Bench
from ssbench.tasks.classes import one_hot
from ssbench.tasks.closed_form import Ridge, apply, standardised
from ssbench.tasks.ridge import RidgeProbe

MakeBench = Callable[..., Bench]
SHAPES = [(60, 12), (12, 60)]


def problem(samples: int, dim: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, dim, generator=generator, dtype=torch.float64) + 3
    return x, x[:, :2] @ torch.randn(2, 4, generator=generator, dtype=torch.float64) - 5


@pytest.mark.parametrize(("samples", "dim"), SHAPES)
@pytest.mark.parametrize("penalty", [1e-2, 1.0, 1e3])
def test_heads_are_those_of_scikit_learn(samples: int, dim: int, penalty: float) -> None:
    x, y = problem(samples, dim)
    head, oracle = Ridge(x, y).head(penalty), Oracle(alpha=penalty).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(head[:-1].T, oracle.coef_, atol=1e-8)
    np.testing.assert_allclose(head[-1], oracle.intercept_, atol=1e-8)


def test_each_column_may_have_its_own_penalty() -> None:
    x, y = problem(60, 12)
    penalties = torch.tensor([0.1, 1, 10, 100], dtype=torch.float64)
    ridge = Ridge(x, y)
    for at, penalty in enumerate(penalties.tolist()):
        torch.testing.assert_close(ridge.head(penalties)[:, at], ridge.head(penalty)[:, at])


@pytest.mark.parametrize(("samples", "dim"), SHAPES)
@pytest.mark.parametrize("penalty", [1e-2, 1.0, 1e3])
def test_left_out_is_what_scikit_learn_says_of_each_sample_by_the_others(
    samples: int, dim: int, penalty: float
) -> None:
    x, y = problem(samples, dim)
    found = Ridge(x, y).left_out(penalty)
    for at in range(samples):
        others = np.arange(samples) != at
        oracle = Oracle(alpha=penalty).fit(x[others].numpy(), y[others].numpy())
        np.testing.assert_allclose(found[at][None], oracle.predict(x[at : at + 1].numpy()), atol=1e-7)


def test_constant_dimensions_are_zero_and_what_is_not_finite_is_refused() -> None:
    x = torch.randn(50, 3) * torch.tensor([1e-3, 1e3, 0]) + 0.1
    found, other = standardised(x, torch.ones(2, 3))
    torch.testing.assert_close(found.std(0, correction=0), torch.tensor([1.0, 1, 0], dtype=torch.float64))
    assert (other[:, 2] == 0).all()
    with pytest.raises(RuntimeError, match="not finite"):
        standardised(x * torch.nan)


def test_the_task_is_scikit_learns_classifier_at_the_penalty_that_it_chose(
    make_bench: MakeBench, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    found = RidgeProbe(RidgeProbe.Settings()).evaluate(make_bench(images, {"label": labels}, (800, 300, 600)))
    x, tested = standardised(images[:1100].flatten(1), images[1100:1700].flatten(1))
    oracle = RidgeClassifier(alpha=found.selected["penalty"]).fit(x.numpy(), labels[:1100].numpy())
    np.testing.assert_array_equal(found.arrays["top1"]["predicted"], oracle.predict(tested.numpy()))
    best = max(point["select_top1"] for point in found.sweep)
    assert found.selected["select_top1"] == best and score("accuracy", found.arrays["top1"]) > 90


def gaussians(samples: int = 4000, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features of round classes, labels, and the class of the nearest centre: nothing does better."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, 16, generator=generator) * 0.6
    labels = torch.randint(5, (samples,), generator=generator)
    x = centres[labels] + torch.randn(samples, 16, generator=generator)
    return x[..., None, None], labels, torch.cdist(x, centres).argmin(1)


def test_it_comes_near_the_best_possible_classifier(make_bench: MakeBench) -> None:
    x, labels, nearest = gaussians(9000)
    found = RidgeProbe(RidgeProbe.Settings()).evaluate(make_bench(x, {"label": labels}, (4000, 1000, 4000)))
    bayes = 100 * (nearest[5000:] == labels[5000:]).double().mean().item()
    assert bayes - 3 < score("accuracy", found.arrays["top1"]) < bayes + 1  # least squares masks classes a little


def test_a_planted_feature_is_found_and_shuffled_labels_are_chance(make_bench: MakeBench) -> None:
    x, labels, _ = gaussians()
    planted = torch.cat([x, 10 * one_hot(labels, 5).float()[..., None, None]], 1)
    generator = torch.Generator().manual_seed(1)
    shuffled = labels[torch.randperm(4000, generator=generator)]
    sizes = (2000, 500, 1500)
    found = RidgeProbe(RidgeProbe.Settings()).evaluate(make_bench(planted, {"label": labels}, sizes))
    assert score("accuracy", found.arrays["top1"]) == 100
    chance = RidgeProbe(RidgeProbe.Settings()).evaluate(make_bench(x, {"label": shuffled}, sizes)).arrays["top1"]
    low, high = interval("accuracy", chance)
    assert low <= 20 <= high


def test_constant_features_say_the_most_frequent_class(make_bench: MakeBench) -> None:
    labels = torch.arange(400) % 4 % 3  # class 0 is half
    table = make_bench(torch.ones(400, 6, 1, 1), {"label": labels}, (200, 100, 100))
    found = RidgeProbe(RidgeProbe.Settings()).evaluate(table)
    assert (found.arrays["top1"]["predicted"] == 0).all() and not found.selected["at_edge"]


def test_apply_adds_the_bias() -> None:
    head = torch.tensor([[1.0], [2.0], [3.0]])
    assert apply(head, torch.tensor([[1.0, 1.0]])).item() == 6
