"""Clusters and rankings score as scikit-learn says, as perfect, empty and shuffled features must."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    average_precision_score,
    normalized_mutual_info_score,
)
from torch import Tensor

from ssbench.errors import NotApplicable
from ssbench.results.bootstrap import GROUP, interval
from ssbench.results.metrics import floor, score
from ssbench.task import Bench, Outcome
from ssbench.tasks.clustering import Clustering, kmeans, match, unit
from ssbench.tasks.retrieval import Retrieval, by_chance, judged

MakeBench = Callable[..., Bench]
LABELS = torch.arange(400) % 4
ONE_HOT = F.one_hot(LABELS, 4).float()[:, :, None, None]
SIZES = (200, 80, 120)


def clustered(table: Bench) -> Outcome:
    return Clustering(Clustering.Settings(restarts=3)).evaluate(table)


def retrieved(table: Bench) -> Outcome:
    return Retrieval(Retrieval.Settings()).evaluate(table)


def means(found: Outcome) -> dict[str, float]:
    kinds = {metric.name: metric.kind for metric in (*Clustering.metrics, *Retrieval.metrics)}
    return {name: score(kinds[name], arrays) for name, arrays in found.arrays.items()}


def test_perfect_features_are_clustered_and_retrieved_perfectly(make_bench: MakeBench) -> None:
    found = means(clustered(make_bench(ONE_HOT, {"label": LABELS}, SIZES)))
    assert found == pytest.approx({"nmi": 1, "ari": 1, "ami": 1, "accuracy": 100, "majority": 100})
    found = means(retrieved(make_bench(ONE_HOT, {"label": LABELS}, SIZES)))
    assert found == pytest.approx(dict.fromkeys(found, 100))


def test_constant_features_are_one_cluster_and_a_random_order(make_bench: MakeBench) -> None:
    table = make_bench(torch.ones(400, 4, 1, 1), {"label": LABELS}, SIZES)
    assert means(clustered(table)) == pytest.approx({"nmi": 0, "ari": 0, "ami": 0, "accuracy": 25, "majority": 25})
    table = make_bench(torch.ones(400, 4, 1, 1), {"label": LABELS.sort().values.roll(7)}, SIZES)
    arrays = retrieved(table).arrays["map"]
    assert score("mean", arrays) == pytest.approx(floor("mean", arrays), abs=3)


def test_shuffled_labels_are_at_chance(make_bench: MakeBench) -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(400, 8, 1, 1, generator=generator)
    labels = LABELS[torch.randperm(400, generator=generator)]
    found = means(clustered(make_bench(features, {"label": labels}, SIZES)))
    assert abs(found["ari"]) < 0.05 and abs(found["ami"]) < 0.05 and abs(found["majority"] - 25) < 12
    arrays = retrieved(make_bench(features, {"label": labels}, SIZES)).arrays["map"]
    assert score("mean", arrays) == pytest.approx(floor("mean", arrays), abs=2)


def test_clusters_of_digits_score_as_scikit_learn_says(make_bench: MakeBench, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits
    table = make_bench(images, {"label": labels}, (600, 200, 300))
    found = clustered(table)
    seeds = torch.randint(2**31 - 1, (3,), generator=table.generator("kmeans")).tolist()
    clusters = kmeans(unit(table.fit), 10, seeds[found.selected["restart"]], 300).predict(unit(table._test))
    truth, got = labels[800:1100].numpy(), means(found)
    assert got["nmi"] == pytest.approx(normalized_mutual_info_score(truth, clusters))
    assert got["ari"] == pytest.approx(adjusted_rand_score(truth, clusters))
    assert got["ami"] == pytest.approx(adjusted_mutual_info_score(truth, clusters))
    assert found.selected["inertia"] == min(row["inertia"] for row in found.sweep) and got["nmi"] > 0.6
    assert 60 < got["accuracy"] <= got["majority"]


def test_the_best_map_of_clusters_is_one_to_one() -> None:
    clusters, truth = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 0, 1, 1, 2])
    assert match(clusters, truth, 3).tolist() == [0, 1, 2]  # three right, and one of two that both want class 1


def test_fewer_images_than_clusters_are_a_cluster_each(make_bench: MakeBench) -> None:
    found = clustered(make_bench(ONE_HOT, {"label": LABELS}, (3, 10, 20)))
    assert found.selected["k"] == 3


def test_average_precision_is_scikit_learns_without_the_query(
    make_bench: MakeBench, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    table = make_bench(images, {"label": labels}, (50, 50, 300))
    arrays = retrieved(table).arrays
    values, first = arrays["map"]["value"], arrays["r@1"]["value"]
    x, truth = F.normalize(images[100:400].flatten(1), dim=1).double().numpy(), labels[100:400].numpy()
    for query in range(300):
        others = np.arange(300) != query
        expected = 100 * average_precision_score(truth[others] == truth[query], x[others] @ x[query])
        assert values[query] == pytest.approx(expected, abs=0.05)
        nearest = truth[others][(x[others] @ x[query]).argmax()]
        assert (first[query] == 100) == (nearest == truth[query])


def test_a_random_order_scores_its_expectation() -> None:
    truth, generator = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]), torch.Generator().manual_seed(0)
    draws = []
    for _ in range(20000):
        hit = (truth[1:][torch.randperm(12, generator=generator)] == 0).double()
        precision = (hit.cumsum(0) / torch.arange(1, 13) * hit).sum() / 2
        draws.append([precision, hit[:1].any(), hit[:5].any(), hit[:10].any()])
    torch.testing.assert_close(100 * torch.tensor(draws).double().mean(0), by_chance(truth)[0], atol=1, rtol=0)


def test_queries_without_another_of_their_class_are_left_out(make_bench: MakeBench) -> None:
    labels = torch.cat([LABELS[:40], torch.arange(20).clamp(max=10)])  # ten classes of one test image, one of ten
    features = F.one_hot(labels, 11).float()[:, :, None, None]
    found = retrieved(make_bench(features, {"label": labels}, (20, 20, 20)))
    assert found.details["queries"] == 10 and means(found)["map"] == pytest.approx(100)
    values, valid = torch.tensor([1.0, 2, 4, 9, 0, 0]), torch.tensor([True] * 4 + [False] * 2)
    assert judged(values, valid).mean().item() == pytest.approx(4)
    error = judged(values, valid).std(correction=0) / 6**0.5
    assert error.item() == pytest.approx((values[:4].std(correction=0) / 4**0.5).item())


def test_a_test_set_of_single_images_says_so(make_bench: MakeBench) -> None:
    labels = torch.cat([torch.zeros(20).long(), torch.arange(20)])
    with pytest.raises(NotApplicable, match="no class has two test images"):
        retrieved(make_bench(torch.rand(40, 4, 1, 1), {"label": labels}, (10, 10, 20)))


def test_scores_that_are_no_sum_know_groups(make_bench: MakeBench) -> None:
    """Each group in a row: dealt out by position, every group would sum to the same."""
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(400) // 20
    features = ONE_HOT + 1.5 * torch.randn(20, 4, 1, 1, generator=generator)[group]
    table = make_bench(features, {"label": LABELS}, SIZES)
    table._test._split = replace(table._test._split, groups=tuple(map(str, group[-120:].tolist())))
    value = clustered(table).arrays["nmi"]["value"]
    low, high = interval("mean", {"value": value, GROUP: group[-120:].numpy()})
    assert low < value.mean() - 0.02 and high > value.mean() + 0.02
