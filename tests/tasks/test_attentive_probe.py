"""The attentive probe is CAPI's layers, and finds the one place that tells the class."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.results.bootstrap import interval
from ssbench.results.metrics import score
from ssbench.task import Bench, Outcome
from ssbench.tasks.attentive_probe import AttentiveProbe, heads, logits, started
from ssbench.tasks.ridge import RidgeProbe

MakeBench = Callable[..., Bench]
SIZES = (600, 200, 400)
QUICK = AttentiveProbe.Settings(lrs=(3e-3, 1e-2), weight_decays=(5e-4,), epochs=30, batch=64)


def hidden() -> tuple[Tensor, Tensor]:
    """Maps (1200, 8, 4, 4) of noise and, in a place by chance, one of four classes, marked by the first dimension."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(1200) % 4
    maps, place = torch.randn(1200, 8, 16, generator=generator), torch.randint(16, (1200,), generator=generator)
    maps[:, 0] = 0.1 * maps[:, 0]
    maps[torch.arange(1200), 0, place] = 5
    maps[torch.arange(1200), 1:5, place] = 2 * F.one_hot(labels, 4).float()
    return maps.view(1200, 8, 4, 4), labels


def probed(table: Bench) -> Outcome:
    return AttentiveProbe(QUICK).evaluate(table)


def test_the_place_that_tells_the_class_is_found_where_the_mean_is_noise(make_bench: MakeBench) -> None:
    maps, labels = hidden()
    found = score("accuracy", probed(make_bench(maps, {"label": labels}, SIZES)).arrays["top1"])
    mean = RidgeProbe(RidgeProbe.Settings()).evaluate(
        make_bench(maps.mean((2, 3), keepdim=True), {"label": labels}, SIZES)
    )
    assert found > 95 and score("accuracy", mean.arrays["top1"]) < found - 20


def test_shuffled_labels_are_chance(make_bench: MakeBench) -> None:
    maps, labels = hidden()
    shuffled = labels[torch.randperm(1200, generator=torch.Generator().manual_seed(1))]
    low, high = interval("accuracy", probed(make_bench(maps, {"label": shuffled}, SIZES)).arrays["top1"])
    assert low <= 25 <= high


@pytest.mark.parametrize("dim", [128, 384])
def test_scores_are_those_of_keys_and_values_of_every_place(dim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    two = [{k: 20 * v for k, v in started(dim, 5, generator).items()} for _ in range(2)]
    for one in two:
        one["value bias"] += 0.3
    maps = torch.randn(3, dim, 2, 3, generator=generator)
    found = logits({name: torch.cat([one[name] for one in two]) for name in two[0]}, maps)
    x = maps.flatten(2).mT  # (B, P, D)

    def split(y: Tensor) -> Tensor:
        return y.unflatten(-1, (dim // 64, 64)).transpose(1, 2)  # (B, H, P, 64)

    for one, scores in zip(two, found):
        query = split(one["query"][0].expand(3, 1, dim))
        key, value = split(x @ one["key"][0].T + 7), split(x @ one["value"][0].T + one["value bias"][0])
        pooled = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(1)
        torch.testing.assert_close(scores, pooled @ one["linear"][0] + one["linear bias"][0], rtol=1e-3, atol=1e-3)


def test_heads_divide_the_width() -> None:
    widths = (8, 96, 100, 192, 320, 384, 768, 1000)
    assert [heads(dim) for dim in widths] == [1, 1, 1, 3, 5, 6, 12, 10]


@pytest.mark.parametrize(
    ("lrs", "epochs", "tried", "best"),
    [((3e-4, 1e-3), 30, [3e-3, 9e-3], 3e-3), ((1.0, 3.0), 10, [1 / 3], 1.0)],
)
def test_a_grid_that_ends_at_the_best_rate_grows_beyond_it_until_it_does_not(
    lrs: tuple[float, ...], epochs: int, tried: list[float], best: float, make_bench: MakeBench
) -> None:
    maps, labels = hidden()
    few = AttentiveProbe.Settings(lrs=lrs, epochs=epochs, batch=64)
    found = AttentiveProbe(few).evaluate(make_bench(maps, {"label": labels}, SIZES))
    assert [row["lr"] for row in found.sweep] == pytest.approx([*lrs, *tried])
    assert found.selected["lr"] == pytest.approx(best) and not found.selected["at_edge"]


def test_what_is_not_finite_is_refused(make_bench: MakeBench) -> None:
    maps, labels = hidden()
    maps[0, 0, 0, 0] = torch.nan
    with pytest.raises(RuntimeError, match="not finite"):
        probed(make_bench(maps, {"label": labels}, SIZES))
