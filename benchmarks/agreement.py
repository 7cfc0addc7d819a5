"""k-NN and linear probe beside scikit-learn's on the very same features of a pretrained encoder.

    python benchmarks/agreement.py METHOD DATASET BUDGET [RESULTS]

The encoder comes from the results' cache if it is there, or is trained.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from ssbench.line import bench
from ssbench.plan import Suite, cells
from ssbench.registry import load
from ssbench.results.store import Store
from ssbench.training.trained import trained_encoder
from ssbench.workshop import Workshop


def main(method: str, dataset: str, budget: str, results: str = "results") -> None:
    asked = Suite(method=(method,), task=("knn", "linear-probe"), dataset=(dataset,), seeds=(0,), budget=budget)
    knn, probe = (cell for cell in cells(asked) if cell.method.name == method)
    shop = Workshop(Store(Path(results)), torch.device("cpu"), lambda text: None)
    encoder, *_ = trained_encoder(shop.open(knn))
    parts = bench(shop.open(knn), encoder)
    test = parts.test({})
    bank = torch.cat([parts.fit.pooled(), parts.select.pooled()]).double().numpy()  # (N, D)
    labels = torch.cat([parts.fit.target("label"), parts.select.target("label")]).numpy()
    truth, queries = test.target("label").numpy(), test.pooled().double().numpy()

    ours = (
        load(knn.task)(load(knn.task).Settings()).evaluate(bench(shop.open(knn), encoder)).arrays["top1"]["predicted"]
    )
    near = KNeighborsClassifier(20, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    votes = near.fit(bank, labels).predict(queries)
    print(f"k-NN, k = 20: {int((votes != ours).sum())} of {len(votes)} votes differ from scikit-learn's")

    found = load(probe.task)(load(probe.task).Settings()).evaluate(bench(shop.open(probe), encoder))
    score = 100 * float((found.arrays["top1"]["predicted"] == truth).mean())
    fit, select = parts.fit.pooled().double().numpy(), parts.select.pooled().double().numpy()
    mean, std = fit.mean(0), fit.std(0) + 1e-6
    best: tuple[float, float, float] = (0.0, 0.0, 0.0)
    for c in 10.0 ** np.arange(-3, 3):
        model = LogisticRegression(C=c, max_iter=2000).fit((fit - mean) / std, parts.fit.target("label").numpy())
        chosen = 100 * model.score((select - mean) / std, parts.select.target("label").numpy())
        best = max(best, (chosen, 100 * model.score((queries - mean) / std, truth), c))
    print(f"linear probe {score:.2f} %; scikit-learn's logistic regression {best[1]:.2f} % at C = {best[2]:g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
