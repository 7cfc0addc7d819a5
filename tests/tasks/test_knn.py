"""Nearest neighbours vote as scikit-learn's do, to the last vote."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from torch import Tensor, nn

from ssbench.data import Split
from ssbench.encoders.encoder import Encoder
from ssbench.method import Method
from ssbench.results.metrics import score
from ssbench.task import Bench
from ssbench.tasks import knn
from ssbench.tasks.knn import KNN, nearest_mean, votes
from ssbench.training.diagnostics import measure

MakeBench = Callable[..., Bench]


def winners(*words: Any) -> dict[int, torch.Tensor]:
    """The class that wins each vote of a bank on queries, both of any length."""
    query, bank, *more = words
    return {k: found.argmax(1) for k, found in votes(F.normalize(query), F.normalize(bank), *more).items()}


def of_sklearn(query: Tensor, bank: Tensor, labels: Tensor, k: int, temperature: float) -> NDArray[np.int64]:
    def weights(distance: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.exp((1 - distance) / temperature))

    oracle = KNeighborsClassifier(k, metric="cosine", weights=weights).fit(bank.double().numpy(), labels.numpy())
    return oracle.predict(query.double().numpy())


def random(count: int, seed: int) -> Tensor:
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.02, 0.07, 1.0])
def test_votes_equal_scikit_learn_on_random_features(temperature: float) -> None:
    query, bank = random(300, 0), random(500, 1)
    labels = torch.randint(7, (500,), generator=torch.Generator().manual_seed(2))
    found = winners(query, bank, labels, 7, (1, 10, 200), temperature)
    for k, classes in found.items():
        np.testing.assert_array_equal(classes, of_sklearn(query, bank, labels, k, temperature))


def test_the_task_equals_scikit_learn_on_digits_with_fit_and_select_as_the_bank(
    make_bench: MakeBench, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    table = make_bench(images, {"label": labels}, (1000, 200, 500))
    found = KNN(KNN.Settings()).evaluate(table)
    x = images.flatten(1)
    for name, k in {"top1": 20, "top1@10": 10, "top1@100": 100, "top1@200": 200}.items():
        oracle = of_sklearn(x[1200:1700], x[:1200], labels[:1200], k, 0.07)
        np.testing.assert_array_equal(found.arrays[name]["predicted"], oracle)
        np.testing.assert_array_equal(found.arrays[name]["truth"], labels[1200:1700])
    assert score("accuracy", found.arrays["top1"]) > 95
    oracle = of_sklearn(x[1000:1200], x[:1000], labels[:1000], 20, 0.07)
    expected = 100 * (oracle == labels[1000:1200].numpy()).mean()
    assert {row["k"]: row["select_top1"] for row in found.sweep}[20] == pytest.approx(expected, abs=1e-4)
    assert found.selected == {"k": 20, "temperature": 0.07, "pooling": "mean", "refit": "fit+select"}


def test_a_vote_counted_by_hand() -> None:
    bank = torch.tensor([[1.0, 0.0], [3.0, 4.0], [30.0, 40.0], [0.0, 1.0]])  # cosines to (1, 0): 1, 0.6, 0.6, 0
    labels, query = torch.tensor([0, 1, 1, 0]), torch.tensor([[2.0, 0.0]])
    # at temperature 1: e^1 = 2.72 for class 0 against 2 e^0.6 = 3.64 for class 1, and with all four 3.72 against 3.64
    assert {k: v.item() for k, v in winners(query, bank, labels, 2, (1, 3, 4), 1.0).items()} == {1: 0, 3: 1, 4: 0}
    # at temperature 0.1: e^10 = 22026 against 2 e^6 = 807
    assert winners(query, bank, labels, 2, (3,), 0.1)[3].item() == 0


def test_the_smallest_class_wins_a_tie() -> None:
    bank = torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 1.0]])
    assert winners(torch.tensor([[1.0, 0.0]]), bank, torch.tensor([2, 1, 3]), 4, (3,), 0.07)[3].item() == 1


def test_far_neighbours_still_vote_at_a_small_temperature() -> None:
    bank = torch.tensor([[-1.0, 0.1], [-1.0, 0.0]])  # cosines near -1: exp(-1 / 0.001) is zero in float32
    assert winners(torch.tensor([[1.0, 0.0]]), bank, torch.tensor([1, 0]), 2, (2,), 0.001)[2].item() == 1


def test_a_k_above_the_bank_is_the_whole_bank() -> None:
    query, bank, labels = random(50, 0), random(30, 1), torch.arange(30) % 3
    found = winners(query, bank, labels, 3, (30, 200), 0.07)
    np.testing.assert_array_equal(found[200], found[30])


@pytest.mark.parametrize("chunk", [1, 7])
def test_the_size_of_chunks_changes_no_vote(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    query, bank, labels = random(100, 0), random(200, 1), torch.arange(200) % 5
    whole = winners(query, bank, labels, 5, (10, 20), 0.07)
    monkeypatch.setattr(knn, "CHUNK", chunk)
    for k, classes in winners(query, bank, labels, 5, (10, 20), 0.07).items():
        np.testing.assert_array_equal(classes, whole[k])


def test_the_headline_is_the_vote_of_the_set_k(make_bench: MakeBench, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits
    found = KNN(KNN.Settings(k=1)).evaluate(make_bench(images, {"label": labels}, (200, 100, 100)))
    oracle = of_sklearn(images[300:400].flatten(1), images[:300].flatten(1), labels[:300], 1, 0.07)
    np.testing.assert_array_equal(found.arrays["top1"]["predicted"], oracle)


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")  # some pixels of digits are always 0
def test_the_nearest_class_mean_is_scikit_learns(make_bench: MakeBench, digits: tuple[Tensor, Tensor]) -> None:
    """Among means of unit length the nearest by cosine is the nearest by distance."""
    images, labels = digits
    found = KNN(KNN.Settings()).evaluate(make_bench(images, {"label": labels}, (200, 100, 1000)))
    x = F.normalize(images.flatten(1)).double().numpy()
    oracle = NearestCentroid().fit(x[:300], labels[:300].numpy())
    oracle.centroids_ /= np.linalg.norm(oracle.centroids_, axis=1, keepdims=True)
    np.testing.assert_array_equal(found.arrays["top1@class-mean"]["predicted"], oracle.predict(x[300:1300]))


def test_a_class_without_a_mean_is_never_the_nearest() -> None:
    query, bank = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert nearest_mean(query, bank, torch.tensor([0, 2]), 4).tolist() == [2]


class ClassVector(Encoder):
    """Has a class vector and no mean."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), torch.zeros(64), torch.ones(64))

    @property
    def poolings(self) -> tuple[str, ...]:
        return ("cls",)

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        return {"cls": images.flatten(1)}


def test_the_first_pooling_is_the_headlines_and_the_other_stands_beside_it(
    make_bench: MakeBench, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits
    both = KNN(KNN.Settings()).evaluate(make_bench(images, {"label": labels}, (200, 100, 100)))
    np.testing.assert_array_equal(both.arrays["top1"]["predicted"], both.arrays["top1@cls"]["predicted"])
    table = make_bench(images, {"label": labels}, (200, 100, 100), ClassVector())
    alone = KNN(KNN.Settings()).evaluate(table)
    assert alone.selected["pooling"] == "cls" and not {"top1@cls", "top1@mean"} & alone.arrays.keys()
    np.testing.assert_array_equal(both.arrays["top1"]["predicted"], alone.arrays["top1"]["predicted"])
    encoder = ClassVector()
    torch.testing.assert_close(encoder.pooled(images), images.flatten(1))
    select = Split(images[:50], tuple(map(str, range(50))))
    assert 1 < measure(Method(encoder, Method.Settings()), select, seed=0, ignore_index=255)["rankme"] <= 50


def test_a_test_split_of_one_class_has_no_area_under_a_curve(make_bench: MakeBench) -> None:
    labels = torch.tensor([0] * 30 + [1] * 10 + [0, 1] * 5 + [0] * 20)
    features = torch.randn(70, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    for end, has in ((69, False), (70, True)):
        labels[end - 1] = int(has)
        found = KNN(KNN.Settings()).evaluate(make_bench(features, {"label": labels}, (40, 10, 20)))
        assert ("auroc" in found.arrays) == has
