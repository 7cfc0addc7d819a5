"""Heads trained together are heads trained alone, as good as logistic regression, and chosen without the test split."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ssbench.encoders.encoder import Encoder
from ssbench.results.metrics import score
from ssbench.task import Bench
from ssbench.tasks.joint import train
from ssbench.tasks.linear_probe import LinearProbe
from ssbench.training.optimisers import rate

MakeBench = Callable[..., Bench]
GRID = list(product((1e-3, 3e-2), (0.0, 1e-2, 1.0)))


def alone(
    x: Tensor, y: Tensor, classes: int, lr: float, decay: float, epochs: int, sizes: int, order: Any
) -> nn.Linear:
    """One head under torch.optim.AdamW."""
    head = nn.Linear(x.shape[1], classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    groups = [{"params": [head.weight], "weight_decay": decay}, {"params": [head.bias], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step / (epochs * sizes), 0.05))
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=order).tensor_split(sizes):
            optimiser.zero_grad()
            F.cross_entropy(head(x[index]), y[index]).backward()
            optimiser.step()
            schedule.step()
    return head


def test_heads_trained_together_equal_each_under_torchs_adamw(make_bench: MakeBench) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 100, 6, generator=generator)
    labels = torch.randint(4, (100,), generator=generator)
    table = make_bench(features[0, :, :, None, None], {"label": labels}, (100, 0, 0))
    settings = LinearProbe.Settings(epochs=20, batch=40)  # three batches: 34, 33 and 33
    for x in features:
        heads = train(F.pad(x, (0, 1), value=1.0), labels, 4, GRID, settings, table)
        assert heads.shape == (7, 4, len(GRID))
        for g, (lr, decay) in enumerate(GRID):
            one = alone(x, labels, 4, lr, decay, 20, 3, table.generator("probe"))
            torch.testing.assert_close(heads[:-1, :, g].T, one.weight, atol=1e-5, rtol=0)
            torch.testing.assert_close(heads[-1, :, g], one.bias, atol=1e-5, rtol=0)


def test_it_reaches_the_best_possible_classifier_and_logistic_regression(make_bench: MakeBench) -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 16, generator=generator) * 0.6
    labels = torch.randint(5, (10000,), generator=generator)
    x = centres[labels] + torch.randn(10000, 16, generator=generator)
    table = make_bench(x[..., None, None], {"label": labels}, (2000, 4000, 4000))
    reached = score("accuracy", LinearProbe(LinearProbe.Settings()).evaluate(table).arrays["top1"])
    nearest = torch.cdist(x[6000:], centres).argmin(1)  # nothing does better on round classes of one width
    assert reached >= 100 * (nearest == labels[6000:]).float().mean() - 1.5
    assert reached >= of_logistic_regression(x, labels, (2000, 6000)) - 0.5


def test_it_reaches_logistic_regression_on_digits(make_bench: MakeBench, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits
    table = make_bench(images, {"label": labels}, (1000, 200, 597))
    reached = score("accuracy", LinearProbe(LinearProbe.Settings()).evaluate(table).arrays["top1"])
    assert reached >= of_logistic_regression(images.flatten(1), labels, (1000, 1200)) - 0.5


def of_logistic_regression(x: Tensor, labels: Tensor, ends: tuple[int, int]) -> float:
    """Test accuracy in % of scikit-learn's, its C chosen on `select`; `ends` are those of `fit` and `select`."""
    fit, select, test = slice(ends[0]), slice(*ends), slice(ends[1], None)
    x = (x - x[fit].mean(0)) / (x[fit].std(0) + 1e-6)
    oracles = [LogisticRegression(C=c, max_iter=1000).fit(x[fit], labels[fit]) for c in (1e-2, 1e-1, 1)]
    best = max(oracles, key=lambda oracle: oracle.score(x[select], labels[select]))
    return float(100 * best.score(x[test], labels[test]))


def test_the_sweep_has_every_point_of_the_grid_and_the_choice_is_its_first_best(
    make_bench: MakeBench, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    settings = LinearProbe.Settings(epochs=3, batch=20)
    found = LinearProbe(settings).evaluate(make_bench(images, {"label": labels}, (300, 100, 100)))
    points = [(row["pooling"], row["lr"], row["weight_decay"]) for row in found.sweep]
    assert points == list(product(("mean", "cls", "cls+mean"), settings.lrs, settings.weight_decays))
    scores = [row["select_top1"] for row in found.sweep]
    assert found.sweep[scores.index(max(scores))].items() <= found.selected.items()
    assert len(set(scores)) > 3


def test_the_choice_ignores_the_test_split_which_opens_once(
    make_bench: MakeBench, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    settings = LinearProbe.Settings(epochs=5)
    other, order = labels.clone(), torch.randperm(100, generator=torch.Generator().manual_seed(0))
    other[400:500] = labels[400:500][order]
    tables = [make_bench(images, {"label": y}, (300, 100, 100)) for y in (labels, other)]
    first, second = (LinearProbe(settings).evaluate(table) for table in tables)
    assert first.selected == second.selected and first.sweep == second.sweep
    assert score("accuracy", first.arrays["top1"]) > score("accuracy", second.arrays["top1"]) + 30
    with pytest.raises(RuntimeError, match="opened twice"):
        LinearProbe(settings).evaluate(tables[0])


class Halves(Encoder):
    """The class vector has one half of what tells classes apart and the mean, which is wider, the other."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), torch.zeros(64), torch.ones(64))

    @property
    def poolings(self) -> tuple[str, ...]:
        return ("cls", "mean")

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        return {"cls": images.flatten(1)[:, :24], "mean": images.flatten(1)[:, 24:]}


def test_optimism_is_what_a_choice_on_test_would_have_added(make_bench: MakeBench) -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(90, 3, 4, 4, generator=generator), torch.randint(3, (90,), generator=generator)

    def run(lrs: tuple[float, ...]) -> tuple[float, float]:
        found = LinearProbe(LinearProbe.Settings(lrs=lrs, weight_decays=(0.0,), epochs=3)).evaluate(
            make_bench(images, {"label": labels}, (40, 20, 30))
        )
        return score("accuracy", found.arrays["top1"]), found.details["optimism"]

    lrs = (1e-4, 1e-2, 0.3, 3.0)
    chosen, optimism = run(lrs)
    alone = [run((lr,)) for lr in lrs]
    best = max(top1 + more for top1, more in alone)  # of the poolings, for each rate
    assert optimism == pytest.approx(best - chosen, abs=1e-4) and optimism > 0


def test_class_vector_and_mean_side_by_side_are_a_pooling_of_their_own_width(
    make_bench: MakeBench, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    settings = LinearProbe.Settings(epochs=20, lrs=(1e-2,), weight_decays=(0,))
    found = LinearProbe(settings).evaluate(make_bench(images, {"label": labels}, (1000, 200, 500), Halves()))
    scores = {row["pooling"]: row["select_top1"] for row in found.sweep}
    assert list(scores) == ["cls", "mean", "cls+mean"] and found.selected["pooling"] == "cls+mean"
    assert score("accuracy", found.arrays["top1"]) > 90 and scores["cls+mean"] > scores["mean"] + 1


def test_many_classes_take_no_table_of_images_by_classes(make_bench: MakeBench) -> None:
    count, classes = 4000, 1000
    features, labels = torch.randn(count, 2, generator=torch.Generator().manual_seed(0)), torch.arange(count) % classes
    table = make_bench(features[..., None, None], {"label": labels}, (count, 0, 0))
    settings = LinearProbe.Settings(epochs=1, batch=50)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        train(features, labels, classes, [(1e-3, 0.0)], settings, table)
    assert max(event.cpu_memory_usage for event in seen.events()) < 4 * count * classes / 10


def test_features_are_standardised_by_fit_alone(make_bench: MakeBench, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits
    scaled = images * torch.logspace(-1, 3, 64)[:, None, None] + 1
    moved = images.clone()
    moved[500:600] += 1000  # `select`: nothing is fitted to it
    settings = LinearProbe.Settings(epochs=20, lrs=(1e-2,), weight_decays=(0,))
    tables = [make_bench(x, {"label": labels}, (500, 100, 300)) for x in (images, scaled, moved)]
    plain, other, same = (LinearProbe(settings).evaluate(table).arrays["top1"]["predicted"] for table in tables)
    assert (plain == other).mean() > 0.99
    np.testing.assert_array_equal(plain, same)


def test_a_head_that_diverges_counts_as_zero_and_leaves_the_others_alone(
    make_bench: MakeBench, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    runs = []
    for lrs in ((1e-2,), (1e38, 1e-2)):
        settings = LinearProbe.Settings(lrs=lrs, weight_decays=(1e-2,), epochs=10)
        runs.append(LinearProbe(settings).evaluate(make_bench(images, {"label": labels}, (300, 100, 100))))
    assert [(row["diverged"], row["select_top1"] > 0) for row in runs[1].sweep] == [(True, False), (False, True)] * 3
    np.testing.assert_array_equal(*(run.arrays["top1"]["predicted"] for run in runs))
    with pytest.raises(RuntimeError, match=r"lower linear-probe\.lrs"):
        LinearProbe(settings).evaluate(make_bench(images * torch.nan, {"label": labels}, (300, 100, 100)))


@pytest.mark.parametrize(
    ("lrs", "edge"), [((1e-6, 1e-2, 1e-7), True), ((1e-2, 9e-3), False), ((1e-6, 1e-2, 1e38), False)]
)
def test_a_choice_at_the_edge_of_the_grid_says_so(
    make_bench: MakeBench, digits: tuple[Tensor, Tensor], lrs: tuple[float, ...], edge: bool
) -> None:
    images, labels = digits
    settings = LinearProbe.Settings(lrs=lrs, weight_decays=(0, 1e-3), epochs=20)
    found = LinearProbe(settings).evaluate(make_bench(images, {"label": labels}, (300, 100, 100)))
    assert found.selected["lr"] == 1e-2 and found.selected["at_edge"] is edge
