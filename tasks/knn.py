"""k nearest neighbours: training features vote, each weighted by its similarity (Wu et al. 2018, arXiv:1805.01978)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.features import Part
from ssbench.results.metrics import Metric
from ssbench.settings import Settings as Base
from ssbench.settings import setting
from ssbench.task import Bench, Outcome, Task, Work

from .classes import BESIDE, classified

OTHERS = (10, 100, 200)  # scored beside the headline's k; with 20 they are the grid of DINO's eval_knn.py
POOLINGS = ("mean", "cls")  # those that are not the headline's, where the encoder has them, stand beside it
CLASS_MEAN = "class-mean"
CHUNK = 256  # queries a product


class KNN(Task):
    """Score of a class: the sum of exp(cosine / temperature) over those of the k nearest that are of it.

    Nothing is chosen: the headline's k is fixed, and its vector is of the encoder's first pooling. The bank is `fit`
    for `select`, and both of them for the test. Beside the vote stands the class whose mean, of the bank's features of
    unit length, is nearest by cosine.
    """

    class Settings(Base):
        k: int = setting(20, "neighbours of the headline", source="DINO, eval_knn.py: usually best", ge=1)
        temperature: float = setting(0.07, "divides the cosines", source="DINO, eval_knn.py", gt=0)

    metrics = (
        Metric("top1", "%", "higher", "accuracy"),
        *BESIDE,
        *(Metric(f"top1@{k}", "%", "higher", "accuracy") for k in OTHERS),
        *(Metric(f"top1@{pooling}", "%", "higher", "accuracy") for pooling in POOLINGS),
        Metric(f"top1@{CLASS_MEAN}", "%", "higher", "accuracy"),
    )

    def work(self, bench: Bench) -> Work:
        fit, select, test = bench.sizes
        return Work(fit + select + test, gflops=2e-9 * bench.fit.dim * (select * fit + 2 * test * (fit + select)))

    def evaluate(self, bench: Bench) -> Outcome:
        s, ks = self.settings, sorted({self.settings.k, *OTHERS})
        classes = len(bench.data.classes)
        bank, labels = unit(bench.fit), bench.fit.target("label")  # (N, D), (N,)
        extra, truth = unit(bench.select), bench.select.target("label")
        found = votes(extra, bank, labels, classes, ks, s.temperature)
        sweep = [{"k": k, "select_top1": 100 * (found[k].argmax(1) == truth).float().mean().item()} for k in ks]
        selected = {"k": s.k, "temperature": s.temperature, "pooling": bench.fit.poolings[0], "refit": "fit+select"}

        test = bench.test(selected)
        bank, labels = torch.cat([bank, extra]), torch.cat([labels, truth])
        tested = unit(test)
        found = votes(tested, bank, labels, classes, ks, s.temperature)
        outcome = Outcome(selected, sweep, details={"bank": len(bank)})
        classified(outcome, bench, found[s.k], test.target("label"))
        for k in OTHERS:
            outcome.add(f"top1@{k}", predicted=found[k].argmax(1), truth=test.target("label"))
        nearest = nearest_mean(tested, bank, labels, classes)
        outcome.add(f"top1@{CLASS_MEAN}", predicted=nearest, truth=test.target("label"))
        for pooling in [one for one in bench.fit.poolings[1:] if one in POOLINGS]:
            bank = torch.cat([unit(bench.fit, pooling), unit(bench.select, pooling)])
            other = votes(unit(test, pooling), bank, labels, classes, (s.k,), s.temperature)[s.k]
            outcome.add(f"top1@{pooling}", predicted=other.argmax(1), truth=test.target("label"))
        return outcome


def unit(part: Part, pooling: str | None = None) -> Tensor:
    """Features (N, D) of unit length."""
    return F.normalize(part.pooled(pooling), dim=1)


def nearest_mean(query: Tensor, bank: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The class (Q,) whose mean in a bank (N, D) with labels (N,) is nearest to each query (Q, D) by cosine."""
    means = F.normalize(bank.new_zeros(classes, bank.shape[1]).index_add_(0, labels, bank), dim=1)
    missing = labels.bincount(minlength=classes) == 0
    return (query @ means.T).masked_fill(missing, -torch.inf).argmax(1)


def votes(
    query: Tensor, bank: Tensor, labels: Tensor, classes: int, ks: Sequence[int], temperature: float
) -> dict[int, Tensor]:
    """For each k the votes (Q, C) on each query (Q, D) of a bank (N, D) with labels (N,), both of unit length.

    A k above N is N.
    """
    chunks = [_vote(chunk, bank, labels, classes, ks, temperature) for chunk in query.split(CHUNK)]
    return {k: torch.cat([chunk[k] for chunk in chunks]) for k in ks}


def _vote(
    query: Tensor, bank: Tensor, labels: Tensor, classes: int, ks: Sequence[int], temperature: float
) -> dict[int, Tensor]:
    cosine, index = (query @ bank.T).topk(min(max(ks), len(bank)), dim=1)  # (B, K), nearest first
    weight = ((cosine - cosine[:, :1]) / temperature).exp()  # relative to the nearest, so that not all underflow
    tally, found, counted = query.new_zeros(len(query), classes), {}, 0
    for k in sorted(ks):  # the k nearest are the fewer nearest and some more
        tally.scatter_add_(1, labels[index[:, counted:k]], weight[:, counted:k])
        found[k], counted = tally.clone(), k
    return found
