"""Logistic regression by L-BFGS (Liu and Nocedal 1989), for classes, shares of classes or several labels a sample."""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Link = Literal["softmax", "sigmoid"]
MEMORY = 10  # steps that L-BFGS remembers, as in torch and scikit-learn


@dataclass(frozen=True)
class Solved:
    """A head (D + 1, C), the bias last; how many steps it took, and the largest slope of its loss that is left."""

    head: Tensor
    iterations: int
    gradient: float

    def scores(self, features: Tensor) -> Tensor:
        """Features (N, D) -> (N, C)."""
        return features @ self.head[:-1] + self.head[-1]


@dataclass
class Path:
    """Heads for several penalties; each starts from the solved one whose penalty is nearest, the first at zero.

    `features` (M, D), best of mean 0, and `targets` (M, C): counts or shares of classes, a row of zeros teaching
    nothing (softmax), or 0 and 1 for each label (sigmoid). Penalised is half the penalty times the squared weights,
    beside the mean loss over what is counted; biases are not. Scikit-learn's C multiplies the sum of losses instead:
    its equal is the penalty 1 / (C * M).

    L-BFGS works in the eigenvectors of the features, each divided by the root of an upper bound of its curvature
    (Boehning 1992), which changes nothing but the number of steps. It ends when no slope is larger than `tolerance`.
    """

    features: Tensor
    targets: Tensor
    link: Link = "softmax"
    iterations: int = 1000
    tolerance: float = 1e-6
    solved: dict[float, Solved] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.targets = self.targets.to(self.features.dtype)
        self.total = self.targets.sum().clamp(min=1) if self.link == "softmax" else len(self.targets)
        second = self.features.T @ self.features / len(self.features)
        values, self.basis = torch.linalg.eigh(second.double())  # in float32 it may not converge
        bound = 0.25 if self.link == "sigmoid" else 1 / self.targets.shape[1]
        self.curvature, self.basis = bound * values.clamp(min=0).to(second), self.basis.to(second)
        self.rotated = self.features @ self.basis  # (M, D)
        self.wanted = self.targets.T.contiguous()  # (C, M): samples innermost, several times as fast a softmax

    def at(self, penalty: float) -> Solved:
        """The head for one penalty, above 0."""
        if penalty not in self.solved:
            self.solved[penalty] = self._solve(penalty)
        return self.solved[penalty]

    def _solve(self, penalty: float) -> Solved:
        x, y = self.rotated, self.wanted
        scale = F.pad((self.curvature + penalty).rsqrt(), (0, 1), value=1.0)[:, None]  # (D + 1, 1)
        head = self._start(penalty).div_(scale)
        seen = y.sum(0)
        slope = torch.zeros_like(head)

        def loss() -> Tensor:
            weight, bias = (head * scale)[:-1], head[-1]
            scores = torch.addmm(bias[:, None], weight.T, x.T)  # (C, M)
            if self.link == "softmax":
                log = scores.log_softmax(0)
                value, wrong = -(y * log).sum(), log.exp().mul_(seen).sub_(y)
            else:
                value, wrong = F.softplus(scores).sum() - (y * scores).sum(), scores.sigmoid().sub_(y)
            wrong /= self.total
            slope[:-1], slope[-1] = (wrong @ x).T + penalty * weight, wrong.sum(1)
            head.grad = slope * scale
            return value / self.total + penalty / 2 * weight.square().sum()

        optimiser = torch.optim.LBFGS(
            [head],
            max_iter=self.iterations,
            max_eval=2 * self.iterations,
            history_size=MEMORY,
            tolerance_grad=self.tolerance * min(scale.min().item(), 1.0),
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )
        optimiser.step(loss)
        loss()
        weight = self.basis @ (head * scale)[:-1]
        steps = optimiser.state[head]["n_iter"]
        return Solved(torch.cat([weight, head[-1:]]), steps, slope.abs().max().item())

    def _start(self, penalty: float) -> Tensor:
        if not self.solved:
            return self.features.new_zeros(self.features.shape[1] + 1, self.targets.shape[1])
        nearest = min(self.solved, key=lambda other: max(other / penalty, penalty / other))
        head = self.solved[nearest].head
        return torch.cat([self.basis.T @ head[:-1], head[-1:]])
