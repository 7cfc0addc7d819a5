"""What a choice on the test split would have added."""

from collections.abc import Callable

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from ssbench.results.metrics import score
from ssbench.task import Bench
from ssbench.tasks.attentive_probe import AttentiveProbe
from ssbench.tasks.optimism import optimism
from ssbench.tasks.ridge import RidgeProbe

MakeBench = Callable[..., Bench]


def noisy() -> tuple[Tensor, Tensor]:
    """Maps (150, 3, 2, 2) that tell little of three classes, so that choices differ by chance."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (150,), generator=generator)
    return torch.randn(150, 3, 2, 2, generator=generator) + 0.1 * labels[:, None, None, None], labels


def test_it_is_how_far_the_best_is_ahead_and_what_is_not_finite_is_the_worst() -> None:
    truth = torch.tensor([0, 1, 0, 1])
    right, half, broken = torch.eye(2)[truth], torch.eye(2)[torch.zeros(4, dtype=torch.long)], torch.full((4, 2), 0.5)
    broken[0, 0] = torch.nan
    assert optimism([half, right, broken], truth, 0) == {"optimism": 50}
    assert optimism([half, right, broken], truth, 1) == {"optimism": 0}
    assert optimism([half, broken], truth, 1) == {"optimism": 50}


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
