"""What a choice on the test split would have added."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score
from torch import Tensor

from ssbench.encoders.encoder import Encoder
from ssbench.results.metrics import Metric, score
from ssbench.task import Bench, Task, optimism
from ssbench.tasks.attentive_probe import AttentiveProbe
from ssbench.tasks.closed_form import standardised
from ssbench.tasks.dense_regression import DenseRegression
from ssbench.tasks.detection import Detection
from ssbench.tasks.finetune import Finetune
from ssbench.tasks.logreg import Logreg
from ssbench.tasks.multi_label import MultiLabel
from ssbench.tasks.regression import Regression
from ssbench.tasks.ridge import RidgeProbe
from ssbench.tasks.segmentation import Segmentation
from ssbench.tasks.segmentation_finetune import SegmentationFinetune

MakeBench = Callable[..., Bench]
SIZES = (60, 40, 50)


def noisy() -> tuple[Tensor, Tensor]:
    """Maps (150, 3, 2, 2) that tell little of three classes, so that choices differ by chance."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (150,), generator=generator)
    return torch.randn(150, 3, 2, 2, generator=generator) + 0.1 * labels[:, None, None, None], labels


def seen(labels: Tensor) -> Tensor:
    """Images (N, 3, 16, 16) that tell a little of labels."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(-90, 90, (len(labels), 3, 16, 16), generator=generator)
    return (120 + 8 * labels[:, None, None, None] + noise).to(torch.uint8)


def a_bench(task: Task, make_bench: MakeBench, encoder: Encoder) -> Bench:
    """Noisy targets of every kind; a network sees images, and what is frozen sees its features."""
    maps, labels = noisy()
    masks = labels.to(torch.uint8)[:, None, None].repeat(1, 16, 16)
    masks[:, :5] = 0
    box = torch.tensor([2, 2, 12, 12])[None].repeat(150, 1) + 2 * labels[:, None]
    boxes = torch.cat([box, torch.zeros(150, 1, dtype=torch.long)], 1)[:, None]
    generator = torch.Generator().manual_seed(2)
    depth = F.interpolate(maps.sum(1, keepdim=True), (16, 16))[:, 0] + torch.randn(150, 16, 16, generator=generator)
    factors = maps.flatten(1).sum(1, keepdim=True) + 3 * torch.randn(150, 1, generator=generator)
    targets = {"label": labels, "mask": masks, "boxes": boxes, "depth": depth, "factors": factors}
    whole = isinstance(task, Finetune | SegmentationFinetune | Detection)
    made = make_bench(seen(labels), targets, SIZES, encoder) if whole else make_bench(maps, targets, SIZES)
    made.data = replace(made.data, factors=("one",), box_classes=("kind",))
    return made


RATES = (1e-3, 4e-3, 1.6e-2)
TASKS = {  # a task, and where it chooses
    "finetune": (Finetune(Finetune.Settings(epochs=2, batch=20, lrs=RATES)), "training"),
    "segmentation-finetune": (SegmentationFinetune(SegmentationFinetune.Settings(epochs=2, lrs=RATES)), "training"),
    "detection": (Detection(Detection.Settings(lrs=(4e-3, 1.6e-2), steps=30)), "training"),
    "segmentation": (Segmentation(Segmentation.Settings(decades=(-3,), shifts=(0, 0.5, 1, 1.5))), "heads"),
    "dense-regression": (DenseRegression(DenseRegression.Settings(decades=(0, 2, 4))), "dense_regression"),
    "regression": (Regression(Regression.Settings(decades=(0, 1, 2, 3))), "regression"),
}


@pytest.mark.parametrize("name", TASKS)
def test_it_is_what_the_best_of_all_choices_would_have_scored(
    name: str, make_bench: MakeBench, untrained: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task, where), headline = TASKS[name], TASKS[name][0].metrics[0]
    sign, points = -1 if headline.better == "lower" else 1, set[int]()

    def run(at: int) -> tuple[float, float]:
        """With the point `at` of the sweep as the choice: what it scores, and how far it is said to be behind."""

        def forced(sweep: list[dict[str, Any]], *_: object) -> tuple[int, bool]:
            points.add(len(sweep))
            return at, False

        with monkeypatch.context() as patch:
            patch.setattr(f"ssbench.tasks.{where}.choose", forced)
            outcome = task.evaluate(a_bench(task, make_bench, untrained))
        return sign * score(headline.kind, outcome.arrays[headline.name]), outcome.details["optimism"]

    first = run(0)
    reached, said = zip(first, *map(run, range(1, *points)))
    assert list(said) == pytest.approx([max(reached) - one for one in reached], abs=1e-5)
    assert max(reached) > min(reached)


def test_what_diverged_is_not_asked_and_lower_may_be_better() -> None:
    values = {0: 3.0, 2: 2.0, 3: 4.0}
    sweep = [{"diverged": False}, {"diverged": True}, {"diverged": False}, {"diverged": False}]
    for better, ahead in (("higher", 1), ("lower", 1)):
        metric = Metric("it", "", better, "mean")  # type: ignore[arg-type]
        assert optimism(sweep, metric, 0, lambda i: {"value": np.array([values[i]])}) == {"optimism": ahead}
    assert optimism(sweep, metric, 2, lambda i: {"value": np.array([values[i]])}) == {"optimism": 0}


def test_logistic_regression_compares_the_heads_that_select_was_shown(make_bench: MakeBench) -> None:
    maps, labels = noisy()
    x, tested = standardised(maps.flatten(1)[:60], maps.flatten(1)[100:])
    found = Logreg(Logreg.Settings()).evaluate(make_bench(maps, {"label": labels}, SIZES))
    heads = {point["C"]: LogisticRegression(C=point["C"], tol=1e-8, max_iter=9999) for point in found.sweep}
    for head in heads.values():
        head.fit(x.numpy(), labels[:60].numpy())
    reached = {c: 100 * head.score(tested.numpy(), labels[100:].numpy()) for c, head in heads.items()}
    expected = max(reached.values()) - reached[found.selected["C"]]
    assert found.details["optimism"] == pytest.approx(expected, abs=1e-6) and expected > 0


def test_so_do_several_labels(make_bench: MakeBench) -> None:
    maps, labels = noisy()
    each = F.one_hot(labels).to(torch.uint8)
    x, tested = standardised(maps.flatten(1)[:60], maps.flatten(1)[100:])
    table = make_bench(maps, {"labels": each}, SIZES)
    table.data = replace(table.data, classes=("a", "b", "c"))
    found = MultiLabel(MultiLabel.Settings()).evaluate(table)
    reached = {}
    for c in [point["C"] for point in found.sweep]:
        heads = [LogisticRegression(C=c, tol=1e-8, max_iter=9999).fit(x.numpy(), one[:60].numpy()) for one in each.T]
        scores = np.stack([head.decision_function(tested.numpy()) for head in heads], 1)
        reached[c] = 100 * average_precision_score(each[100:].numpy(), scores)
    expected = max(reached.values()) - reached[found.selected["C"]]
    assert found.details["optimism"] == pytest.approx(expected, abs=1e-3) and expected > 0


def test_ridge_compares_the_heads_that_are_fitted_again_on_fit_and_select(make_bench: MakeBench) -> None:
    images, labels = noisy()
    found = RidgeProbe(RidgeProbe.Settings()).evaluate(make_bench(images, {"label": labels}, (60, 40, 50)))
    x = images.flatten(1).double()
    x = (x - x[:100].mean(0)) / x[:100].std(0, correction=0)
    wanted, answer = torch.nn.functional.one_hot(labels).double().numpy(), labels[100:].numpy()
    fitted = [Ridge(alpha=point["penalty"]).fit(x[:100].numpy(), wanted[:100]) for point in found.sweep]
    reached = [100 * float((one.predict(x[100:].numpy()).argmax(1) == answer).mean()) for one in fitted]
    chosen = score("accuracy", found.arrays["top1"])
    assert found.details["optimism"] == pytest.approx(max(reached) - chosen, abs=1e-6) and max(reached) > chosen


def test_the_attentive_probe_compares_all_that_it_trained(make_bench: MakeBench) -> None:
    images, labels = noisy()

    def run(*lrs: float) -> tuple[float, float, list[float]]:
        settings = AttentiveProbe.Settings(lrs=lrs, weight_decays=(0.0,), epochs=3, batch=60)
        found = AttentiveProbe(settings).evaluate(make_bench(images, {"label": labels}, (60, 40, 50)))
        return score("accuracy", found.arrays["top1"]), found.details["optimism"], [row["lr"] for row in found.sweep]

    chosen, more, tried = run(1e-3, 1e-2, 0.1)
    alone = [run(lr)[0] for lr in tried]
    assert len(tried) >= 3 and more == pytest.approx(max(alone) - chosen, abs=1e-6)
