"""Numbers and several labels from features: scikit-learn's heads and scores, and answers that are known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, f1_score, r2_score
from torch import Tensor

from ssbench.errors import UserError
from ssbench.results.metrics import score
from ssbench.task import Bench, Outcome
from ssbench.tasks.closed_form import standardised
from ssbench.tasks.multi_label import MultiLabel
from ssbench.tasks.regression import Regression

MakeBench = Callable[..., Bench]
SIZES = (600, 200, 400)


def features(samples: int = 1200, dim: int = 10) -> Tensor:
    return torch.randn(samples, dim, generator=torch.Generator().manual_seed(0))


def regressed(make_bench: MakeBench, x: Tensor, y: Tensor, names: str, *circular: str) -> Outcome:
    table = make_bench(x[..., None, None], {"factors": y}, SIZES)
    table.data = replace(table.data, factors=tuple(names.split()))
    return Regression(Regression.Settings(circular=circular)).evaluate(table)


def test_regression_is_scikit_learns_ridge_and_its_r2(make_bench: MakeBench) -> None:
    x = features()
    noise = torch.randn(1200, 2, generator=torch.Generator().manual_seed(1))
    y = torch.stack([x[:, 0] + x[:, 1], 100 * x[:, 2]], 1) + noise * torch.tensor([1, 10])
    found = regressed(make_bench, x, y, "one two")
    known, tested = standardised(x[:800], x[800:])
    wanted = np.stack(
        [
            Ridge(alpha=found.selected["penalty"][name]).fit(known.numpy(), y[:800, at].numpy()).predict(tested.numpy())
            for at, name in enumerate(("one", "two"))
        ],
        1,
    )
    np.testing.assert_allclose(found.arrays["r2"]["predicted"].astype(float), wanted, atol=1e-5)
    assert score("r2", found.arrays["r2"]) == pytest.approx(r2_score(y[800:], wanted))
    r2 = [*found.details["profile"]["R2 by factor"].values()]
    np.testing.assert_allclose(r2, r2_score(y[800:], wanted, multioutput="raw_values"))
    assert r2 == pytest.approx([2 / 3, 0.99], abs=0.04)  # the variance that is not noise
    mae = np.mean(np.abs(y[800:].numpy() - wanted) / y[:600].double().numpy().std(0))
    assert score("mean", found.arrays["mae"]) == pytest.approx(mae)


def test_numbers_that_features_do_not_have_are_not_told(make_bench: MakeBench) -> None:
    y = torch.randn(1200, 1, generator=torch.Generator().manual_seed(1))
    for x in (features(), torch.ones(1200, 4)):
        found = regressed(make_bench, x, y, "number")
        assert score("r2", found.arrays["r2"]) == pytest.approx(0, abs=0.03)
        mae = found.arrays["mae"]
        assert score("mean", mae) == pytest.approx(mae["constant"].mean(), rel=0.03)


def test_what_is_not_known_is_left_out(make_bench: MakeBench) -> None:
    x = features()
    y = x[:, :2] @ torch.tensor([[1.0, 0.5], [0, 1]])
    y[::3, 1] = torch.nan
    found = regressed(make_bench, x, y, "all some")
    assert score("r2", found.arrays["r2"]) > 0.999 and score("mean", found.arrays["mae"]) < 0.02
    with pytest.raises(RuntimeError, match="not known of any"):
        regressed(make_bench, x, y * torch.nan, "all some")


def test_a_circular_factor_is_its_cosine_and_sine(make_bench: MakeBench) -> None:
    turns = torch.rand(1200, generator=torch.Generator().manual_seed(0))
    angle = 2 * torch.pi * turns
    x = torch.stack([angle.cos(), angle.sin()], 1)
    found = regressed(make_bench, x, torch.stack([turns, turns], 1), "hue x", "hue:1")
    r2 = found.details["profile"]["R2 by factor"]
    assert [*r2] == ["hue cos", "hue sin", "x"] and r2["hue cos"] > 0.999 and r2["hue sin"] > 0.999 and r2["x"] < 0.7
    with pytest.raises(UserError, match="expected NAME:PERIOD"):
        regressed(make_bench, x, turns[:, None], "hue", "hue")
    with pytest.raises(UserError, match="no factor tilt here, but hue, x"):
        regressed(make_bench, x, torch.stack([turns, turns], 1), "hue x", "tilt:1")
    regressed(make_bench, x, turns[:, None], "x", "hue:1")  # the default waits for such a factor


def labelled(make_bench: MakeBench, x: Tensor, labels: Tensor) -> Outcome:
    table = make_bench(x[..., None, None], {"labels": labels.to(torch.uint8)}, SIZES)
    table.data = replace(table.data, classes=tuple(f"c{at}" for at in range(labels.shape[1])))
    return MultiLabel(MultiLabel.Settings()).evaluate(table)


def test_several_labels_are_told_as_by_scikit_learn(make_bench: MakeBench) -> None:
    x = features()
    noise = torch.randn(1200, 3, generator=torch.Generator().manual_seed(1))
    labels = (x[:, :3] + noise > torch.tensor([0, 0.5, 2.0])).int()
    found = labelled(make_bench, x, labels)
    known, tested = standardised(x[:800], x[800:])
    oracle = [
        LogisticRegression(C=found.selected["C"], tol=1e-8, max_iter=5000).fit(known.numpy(), labels[:800, at].numpy())
        for at in range(3)
    ]
    scores = np.stack([one.decision_function(tested.numpy()) for one in oracle], 1)
    np.testing.assert_allclose(found.arrays["map"]["scores"].astype(float), scores, atol=1e-3)
    truth = labels[800:].numpy()
    assert score("ap", found.arrays["map"]) == pytest.approx(100 * average_precision_score(truth, scores), abs=0.01)
    assert score("f1-labels", found.arrays["macro-f1"]) == pytest.approx(
        100 * f1_score(truth, scores > 0, average="macro"), abs=0.2
    )
    assert not found.selected["at_edge"] and found.details["refit"]["converged"]


def test_planted_labels_are_all_told_and_constant_features_tell_none(make_bench: MakeBench) -> None:
    labels = (features(1200, 3) > 0.5).int()
    found = labelled(make_bench, torch.cat([features(), labels], 1), labels)
    assert score("ap", found.arrays["map"]) > 99.99 and score("f1-labels", found.arrays["macro-f1"]) > 99.9
    constant = labelled(make_bench, torch.ones(1200, 4), labels).arrays["map"]
    assert score("ap", constant) == pytest.approx(100 * labels[800:].double().mean().item())


def test_a_label_that_nobody_has_does_no_harm(make_bench: MakeBench) -> None:
    labels = (features(1200, 3) > 0.5).int()
    labels[:, 1] = 0
    found = labelled(make_bench, features(), labels)
    assert [*found.details["profile"]["average precision by label"]] == ["c0", "c2"]
    assert np.isfinite(found.arrays["map"]["scores"]).all()
