"""Probes beside scikit-learn's on the very same features: how well they agree, and the ratio of their times.

    python benchmarks/probes.py [SAMPLES] [DIM] [CLASSES]

Features are drawn: round classes in a space whose directions have unequal spreads, as those of an encoder have. Both
sides do the same work: votes of 20 neighbours; ridge for 41 penalties; logistic regression for seven C; and 28 heads of
the linear probe at once beside logistic regression at as many C, and beside as many heads trained for as many epochs by
stochastic gradients, the best of each chosen on a fifth of the
samples. Seconds are of the processor; set OMP_NUM_THREADS=1.
"""

import sys
from collections.abc import Callable
from itertools import product
from time import process_time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from ssbench.tasks import linear_probe
from ssbench.tasks.classes import one_hot
from ssbench.tasks.closed_form import Ridge, apply, standardised
from ssbench.tasks.knn import votes
from ssbench.tasks.lbfgs import Path

C, PENALTY, TEST = 0.01, 100.0, 1000
FEW = 2  # of scikit-learn's heads by stochastic gradients that are timed for all
Answers = tuple[NDArray[np.int64], float]  # classes of the test samples, and seconds of the processor


def drawn(samples: int, dim: int, classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Standardised features and labels to learn from, and as many as TEST to be asked about."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (samples + TEST,), generator=generator)
    centres = torch.randn(classes, dim, generator=generator) * 0.25
    mixed = torch.randn(dim, dim, generator=generator) * torch.logspace(0, -1.5, dim)[:, None]
    x = (centres[labels] + torch.randn(len(labels), dim, generator=generator)) @ mixed
    fit, test = standardised(x[:samples], x[samples:])
    return fit, labels[:samples], test, labels[samples:]


def timed(answer: Callable[[], Any]) -> Answers:
    began = process_time()
    found = np.asarray(answer())
    return found, process_time() - began


def knn(x: Tensor, y: Tensor, test: Tensor, classes: int) -> tuple[Answers, Answers]:
    near = KNeighborsClassifier(20, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    return (
        timed(lambda: votes(F.normalize(test), F.normalize(x), y, classes, (20,), 0.07)[20].argmax(1)),
        timed(lambda: near.fit(x.numpy(), y.numpy()).predict(test.numpy())),
    )


def ridge(x: Tensor, y: Tensor, test: Tensor, classes: int) -> tuple[Answers, Answers]:
    """All of 41 penalties against as many fits of scikit-learn's."""
    penalties = PENALTY * 10 ** (np.arange(-20, 21) / 4)

    def ours() -> Tensor:
        solved = Ridge(x, one_hot(y, classes))
        return torch.stack([apply(solved.head(float(one)), test).argmax(1) for one in penalties])[20]

    def theirs() -> Any:
        return [RidgeClassifier(alpha=one).fit(x.numpy(), y.numpy()).predict(test.numpy()) for one in penalties][20]

    return timed(ours), timed(theirs)


def logreg(x: Tensor, y: Tensor, test: Tensor, classes: int) -> tuple[Answers, Answers]:
    """A path of seven C, the middle one asked, to the same slope."""
    cs = C * 10.0 ** np.arange(-3, 4)

    def ours() -> Tensor:
        path = Path(x, one_hot(y, classes), tolerance=1e-5)
        return [path.at(1 / (float(c) * len(x))) for c in cs][3].scores(test).argmax(1)

    def theirs() -> Any:
        models = [LogisticRegression(C=c, tol=1e-5, max_iter=1000) for c in cs]
        return [model.fit(x.numpy(), y.numpy()).predict(test.numpy()) for model in models][3]

    return timed(ours), timed(theirs)


def probe(x: Tensor, y: Tensor, test: Tensor, classes: int) -> tuple[Answers, ...]:
    """28 heads at once; on both sides the one that is best on the last fifth, which it was not trained on."""
    held = len(x) // 5
    x, y, chosen_on, wanted = x[:-held], y[:-held], x[-held:], y[-held:]
    settings = linear_probe.LinearProbe.Settings()
    grid = list(product(settings.lrs, settings.weight_decays))
    bench: Any = SimpleNamespace(generator=lambda name: torch.Generator().manual_seed(0), progress=lambda text: None)

    def ours() -> Tensor:
        padded = [F.pad(one.float(), (0, 1), value=1.0) for one in (x, chosen_on, test)]
        heads = linear_probe.train(padded[0], y, classes, grid, settings, bench)
        right = (linear_probe.apply(heads, padded[1]) == wanted[:, None]).float().mean(0)
        return linear_probe.apply(heads, padded[2])[:, right.argmax()]

    def theirs(models: list[Any]) -> Any:
        fitted = [model.fit(x.numpy(), y.numpy()) for model in models]
        return max(fitted, key=lambda model: model.score(chosen_on.numpy(), wanted.numpy())).predict(test.numpy())

    solved = [LogisticRegression(C=c, max_iter=1000) for c in np.logspace(-4, 3, len(grid))]
    stepped = [SGDClassifier("log_loss", alpha=a, max_iter=100, tol=None) for a in np.logspace(-4, -1, FEW)]
    answers, seconds = timed(lambda: theirs(stepped))
    return timed(ours), timed(lambda: theirs(solved)), (answers, seconds * len(grid) / FEW)


def main(samples: int = 5000, dim: int = 192, classes: int = 10) -> None:
    x, y, test, truth = drawn(samples, dim, classes)
    print(f"{samples} x {dim}, {classes} classes, {torch.get_num_threads()} threads\n")
    print("| probe | top1 % | scikit-learn % | same answers % | s | scikit-learn s | times as fast |")
    print("|---|---|---|---|---|---|---|")
    for name, of in {"knn": knn, "ridge": ridge, "logreg": logreg, "linear-probe": probe}.items():
        (ours, seconds), *others = of(x, y, test, classes)
        for theirs, taken in others:
            right = [100 * (found == truth.numpy()).mean() for found in (ours, theirs)]
            same = 100 * (ours == theirs).mean()
            row = f"{right[0]:.1f} | {right[1]:.1f} | {same:.1f} | {seconds:.2f} | {taken:.2f} | {taken / seconds:.1f}"
            print(f"| {name} | {row} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
