"""How far predictions are from what is hidden: one number a patch, in float32."""

import torch.nn.functional as F
from torch import Tensor, nn


class Regression(nn.Module):
    """The part that targets of real numbers share: how far off a prediction is, by `distance`."""

    choices = 0

    def __init__(self, p: float, beta: float) -> None:
        super().__init__()
        self.p, self.beta = p, beta

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return distance(prediction, target, self.p, self.beta)


def distance(prediction: Tensor, target: Tensor, p: float, beta: float) -> Tensor:
    """Mean over a patch's values of |difference|^p, (B, h, d) -> (B, h); 2 is MAE's, 1 SimMIM's.

    With beta above 0, the smooth L1 of I-JEPA (1) and data2vec (2) instead: squared below beta, linear above.
    """
    prediction, target = prediction.float(), target.float()
    if beta > 0:
        return F.smooth_l1_loss(prediction, target, beta=beta, reduction="none").mean(-1)
    return (prediction - target).abs().pow(p).mean(-1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in nats of each patch: logits (B, h, K) against codes (B, h) or probabilities (B, h, K)."""
    logits = logits.float()
    if target.ndim == logits.ndim:
        return -(target * logits.log_softmax(-1)).sum(-1)
    return F.cross_entropy(logits.transpose(1, 2), target, reduction="none")


def ranking(expected: Tensor, cost: Tensor) -> Tensor:
    """How badly `expected` (B, h) orders the patches of an image by their `cost` (B, h): HPM's pairwise cross-entropy.

    Over ordered pairs with different costs; HPM, models_mae_learn_loss.py. The costs are taken as they are.
    """
    cost = cost.detach()
    harder = cost[:, :, None] - cost[:, None, :]  # (B, h, h)
    margin = expected.float()[:, :, None] - expected.float()[:, None, :]
    entropy = F.binary_cross_entropy_with_logits(margin, (harder > 0).float(), reduction="none")
    pairs = (harder != 0).float()
    return (entropy * pairs).sum() / pairs.sum().clamp(min=1)
