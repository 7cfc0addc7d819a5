"""Clustering: do the classes stand out as k-means clusters where nobody says what they are (Caron et al. 2018)?"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

from ssbench.features import Part
from ssbench.results.metrics import Metric, influences
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work

PASSES = 40  # of Lloyd's algorithm until it stands still, about: 11 to 22 on digits, 34 to 111 on shapes
Agreement = Callable[[NDArray[Any], NDArray[Any]], float]
OVER = 5  # times as many clusters as classes, beside the headline
AGREEMENTS: dict[str, Agreement] = {
    "nmi": normalized_mutual_info_score,  # arithmetic mean of the two entropies
    "ari": adjusted_rand_score,
    "ami": adjusted_mutual_info_score,
}


class Clustering(Task):
    """k-means of `fit`, as many clusters as classes; each test image goes to the nearest centre.

    Features are of the encoder's first pooling and of unit length. The restart with the least inertia on `fit` is
    taken, so that no label has a say. `accuracy` is under the best one-to-one map of clusters to classes, found on
    the test images themselves, as usual. In `majority` each of five times as many clusters says the class that most
    of its images in `fit` have: purity, but with the classes of a cluster learned apart from what is judged, so that
    few test images do not flatter. Raises RuntimeError where the features are not finite.
    """

    class Settings(Base):
        restarts: int = setting(10, "k-means++ starts, the best by inertia", source="project: a few seconds", ge=1)
        iterations: int = setting(300, "of Lloyd's algorithm, at most", source="scikit-learn, KMeans", ge=1)

    metrics = (
        Metric("nmi", "", "higher", "mean"),
        Metric("ari", "", "higher", "mean"),
        Metric("ami", "", "higher", "mean"),
        Metric("accuracy", "%", "higher", "accuracy"),
        Metric("majority", "%", "higher", "accuracy"),
    )
    settings: Settings

    def work(self, bench: Bench) -> Work:
        """Two FLOPs a dimension for each sample and centre in each pass."""
        passes = PASSES * (self.settings.restarts + OVER) * len(bench.data.classes)
        return Work(sum(bench.sizes), gflops=2e-9 * bench.sizes[0] * bench.fit.dim * passes)

    def evaluate(self, bench: Bench) -> Outcome:
        s, classes = self.settings, len(bench.data.classes)
        fit, select, truth = unit(bench.fit), unit(bench.select), labels(bench.select)
        seeds = torch.randint(2**31 - 1, (s.restarts,), generator=bench.generator("kmeans")).tolist()
        found = [kmeans(fit, classes, seed, s.iterations) for seed in seeds]
        sweep: list[dict[str, Any]] = [
            {
                "restart": restart,
                "inertia": float(one.inertia_),
                "iterations": int(one.n_iter_),
                "select_nmi": float(AGREEMENTS["nmi"](truth, one.predict(select))),
            }
            for restart, one in enumerate(found)
        ]
        best = min(range(len(sweep)), key=lambda i: sweep[i]["inertia"])
        selected = {**sweep[best], "k": int(found[best].n_clusters), "pooling": bench.fit.poolings[0], "refit": "none"}
        many = kmeans(fit, OVER * classes, seeds[0], s.iterations)
        said = majority(many.labels_, labels(bench.fit), many.n_clusters)  # (K,)

        test = bench.test(selected)
        features, truth = unit(test), labels(test)
        clusters = found[best].predict(features)
        used = {"clusters_used": len(np.unique(clusters)), "majority_clusters": int(many.n_clusters)}
        outcome = Outcome(selected, sweep, details=used)
        for name, agreement in AGREEMENTS.items():

            def agreed(index: NDArray[np.int64], agreement: Agreement = agreement) -> float:
                return float(agreement(truth[index], clusters[index]))

            value = influences(agreed, test.units)
            outcome.add(name, value=torch.from_numpy(value), constant=torch.zeros(len(truth)))
        matched = match(clusters, truth, classes)[clusters]
        for name, predicted in {"accuracy": matched, "majority": said[many.predict(features)]}.items():
            outcome.add(name, predicted=torch.from_numpy(predicted), truth=torch.from_numpy(truth))
        return outcome


def unit(part: Part) -> NDArray[np.float32]:
    """Features (N, D) of unit length."""
    return np.asarray(F.normalize(part.pooled(), dim=1).cpu().numpy())


def labels(part: Part) -> NDArray[np.int64]:
    """Classes, (N,)."""
    return np.asarray(part.target("label").cpu().numpy())


def kmeans(features: NDArray[np.float32], clusters: int, seed: int, iterations: int) -> Any:
    """scikit-learn's KMeans, fitted; of fewer clusters where there are fewer samples. Raises RuntimeError."""
    if not np.isfinite(features).all():
        raise RuntimeError("the features are not finite")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct samples than clusters: `clusters_used`
        return KMeans(min(clusters, len(features)), n_init=1, max_iter=iterations, random_state=seed).fit(features)


def match(clusters: NDArray[np.integer[Any]], truth: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """The class of each cluster, (classes,), under the one-to-one map that is right most often (Kuhn 1955)."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (clusters, truth), 1)
    return np.asarray(linear_sum_assignment(table, maximize=True)[1])


def majority(clusters: NDArray[np.integer[Any]], truth: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The class that most samples of each cluster have, (count,); the smallest of equals."""
    table = np.zeros((count, int(truth.max()) + 1), np.int64)
    np.add.at(table, (clusters, truth), 1)
    return np.asarray(table.argmax(1))
