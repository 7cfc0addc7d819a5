"""What two views of one image must agree on, beside the reconstruction of the first. A pair is a module with

    forward(first: Seen, view (B, C, H, W), images, encoder, teacher) -> scalar
    choices                                           that a cross-entropy is over; 0: the images of the batch

where `first` is what the encoder made of the visible patches of `images`, and `view` is another view of the same
images. `teacher` is the moving average of the encoder; it sees whole images. Optional:
`follow(momentum)`, after a step. What a part names as keyword-only arguments is as in `targets.py`.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.teacher import follow

from .architectures import Seen
from .objective import cross_entropy
from .online import HIDDEN, STUDENT, Centred, Heads, copy_of

TEMPERATURE = 0.07  # of InfoNCE; CMAE, heads/cmae_head.py
OUT = 128  # of the projector


class Pair(Protocol):
    """As above."""

    choices: int

    def __call__(self, first: Seen, view: Tensor, images: Tensor, encoder: Encoder, teacher: Encoder) -> Tensor: ...


@runtime_checkable
class Follows(Protocol):
    """A part with a moving average of its own."""

    def follow(self, momentum: float) -> None: ...


def mlp(width: int, out: int) -> nn.Module:
    """Two layers with batch norm between them, as CMAE's projector and predictor (necks/nonlinear_neck.py)."""
    return nn.Sequential(nn.Linear(width, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, out))


class InfoNCE(nn.Module):
    """The masked view finds the whole other view among those of the batch (CMAE, Huang et al. 2022, arXiv:2207.13532).

    Projector and predictor on the mean of the encoder's tokens stand in for CMAE's feature decoder. There the term is
    multiplied by twice the temperature, which is `pair_weight=0.14`.
    """

    choices = 0

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.project, self.predict = mlp(encoder.dim, OUT), mlp(OUT, OUT)
        self.teacher_project = copy_of(mlp(encoder.dim, OUT), self.project)

    def forward(self, first: Seen, view: Tensor, images: Tensor, encoder: Encoder, teacher: Encoder) -> Tensor:
        query = F.normalize(self.predict(self.project(first.patches.mean(1))).float(), dim=1)  # (B, OUT)
        with torch.no_grad():
            key = F.normalize(self.teacher_project(teacher.pooled(view)).float(), dim=1)
        with torch.autocast(view.device.type, enabled=False):
            return F.cross_entropy(query @ key.T / TEMPERATURE, torch.arange(len(query), device=query.device))

    def follow(self, momentum: float) -> None:
        follow(self.teacher_project, self.project, momentum)


class DINO(nn.Module):
    """Each view's class token predicts the teacher's of the other view (Caron et al. 2021; iBOT's second term).

    The first view is seen masked by the student, the other one whole: iBOT masks each with probability one half.
    Without a class token, the mean patch token.
    """

    def __init__(self, encoder: Encoder, *, heads: Heads) -> None:
        super().__init__()
        self.heads, self.centred = heads, Centred(heads)
        self.choices = len(self.centred.centre)

    def forward(self, first: Seen, view: Tensor, images: Tensor, encoder: Encoder, teacher: Encoder) -> Tensor:
        students = [_summary(encoder, *tokens) for tokens in (first[:2], encoder.sequence(view))]
        with torch.no_grad():
            teachers = [_summary(teacher, *teacher.sequence(x)) for x in (view, images)]  # each across from its student
        target = self.centred(torch.stack(teachers))  # (2, B, K)
        return cross_entropy(self.heads.student(torch.stack(students)) / STUDENT, target).mean()


def _summary(encoder: Encoder, prefix: Tensor, patches: Tensor) -> Tensor:
    return prefix[:, 0] if "cls" in encoder.poolings else patches.mean(1)  # (B, D)


PAIRS: dict[str, Callable[..., Pair] | None] = {"none": None, "infonce": InfoNCE, "dino": DINO}
