"""Tokens that are learned while they are predicted: iBOT's from a projection head, CAPI's from a clustering."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.teacher import follow

from ..parts.heads import Prototypes
from .objective import cross_entropy

HIDDEN, BOTTLENECK = 256, 64  # of projection heads, for small trunks; DINO has 2048 and 256 for a width of 384
STUDENT, CENTRE = 0.1, 0.9  # temperature, and the centre's momentum (iBOT, main_ibot.py)
FIRST, TEACHER, WARMUP = 0.04, 0.07, 0.3  # the teacher's: README.md's; 30 epochs of main_ibot.py's 100
CODING, CLUSTERING, ITERATIONS = 0.06, 0.12, 3  # CAPI, default_pretrain_config.yaml


M = TypeVar("M", bound=nn.Module)


def copy_of(made: M, student: M) -> M:
    """`made`, of the student's kind, with the student's weights and without gradients."""
    made.load_state_dict(student.state_dict())
    return made.requires_grad_(False)


class Heads(nn.Module):
    """One projection head for class and patch tokens, and its moving average (iBOT, README.md: --shared_head true).

    Every part that names `heads` gets the same. The teacher's temperature rises linearly (iBOT, main_ibot.py).
    """

    temperature: Tensor

    def __init__(self, encoder: Encoder, *, prototypes: int) -> None:
        super().__init__()
        self.student = Prototypes(encoder.dim, HIDDEN, BOTTLENECK, prototypes)
        self.teacher = copy_of(Prototypes(encoder.dim, HIDDEN, BOTTLENECK, prototypes), self.student)
        self.register_buffer("temperature", torch.tensor(FIRST))  # of the teacher; state, so that a run can go on

    def follow(self, momentum: float, progress: float) -> None:
        follow(self.teacher, self.student, momentum)
        self.temperature.fill_(FIRST + (TEACHER - FIRST) * min(progress / WARMUP, 1))


class Centred(nn.Module):
    """The teacher's prototypes as probabilities: the centre of earlier batches taken off, then sharpened (DINO)."""

    centre: Tensor

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads
        self.register_buffer("centre", torch.zeros(heads.student.last_layer.out_features))

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., K)."""
        logits = self.heads.teacher(tokens)
        shares = ((logits - self.centre) / self.heads.temperature).softmax(-1)
        if self.training:
            self.centre.lerp_(logits.flatten(0, -2).mean(0), 1 - CENTRE)
        return shares


class IBOT(nn.Module):
    """The teacher's projected token, sharpened and centred (Zhou et al. 2021, arXiv:2111.07832, main_ibot.py).

    The head is the class token's, where `mim.pair=dino` predicts that; the centre is the patches' own.
    """

    taught = True
    out = None

    def __init__(self, encoder: Encoder, *, heads: Heads) -> None:
        super().__init__()
        self.heads, self.centred = heads, Centred(heads)
        self.choices = len(self.centred.centre)

    @torch.no_grad()
    def forward(self, images: Tensor, teacher: Encoder | None) -> tuple[Tensor, dict[str, Tensor]]:
        assert teacher is not None
        return self.centred(teacher.tokens(images)), {}  # (B, N, K)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(self.heads.student(prediction) / STUDENT, target)


class CAPI(nn.Module):
    """The cluster of the teacher's token, equally used at each place (Darcet et al. 2025, arXiv:2502.08769, model.py).

    Clusters are learned by predicting their own balanced assignment, which no other part gets a gradient from.
    """

    taught = True
    out = None

    def __init__(self, encoder: Encoder, *, clusters: int) -> None:
        super().__init__()
        self.choices = clusters
        self.clusters = nn.Linear(encoder.dim, clusters)
        # tokens are unit vectors and temperatures low, so that codes are sharp from the start
        nn.init.normal_(self.clusters.weight)
        nn.init.zeros_(self.clusters.bias)
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(encoder.dim, clusters, bias=False))
        nn.init.ones_(self.head.parametrizations.weight.original0)  # the length of each row

    def forward(self, images: Tensor, teacher: Encoder | None) -> tuple[Tensor, dict[str, Tensor]]:
        assert teacher is not None
        with torch.no_grad():
            tokens = F.normalize(teacher.tokens(images).float(), dim=-1)  # (B, N, D)
        with torch.autocast(images.device.type, enabled=False):
            logits = self.clusters(tokens)  # (B, N, K)
        codes = sinkhorn(logits.detach() / CODING, ITERATIONS)
        return codes, {"clustering": cross_entropy(logits / CLUSTERING, codes).mean()}

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(prediction.device.type, enabled=False):
            return cross_entropy(self.head(F.normalize(prediction.float(), dim=-1)) / CLUSTERING, target)


def sinkhorn(logits: Tensor, iterations: int) -> Tensor:
    """Assignments (B, N, K) in which, at each place over the batch, clusters are used equally and rows sum to 1."""
    scores = logits.float()
    for _ in range(iterations):
        scores = scores - scores.logsumexp(0, keepdim=True)  # each cluster at each place, over the images
        scores = scores.log_softmax(-1)  # each token, over the clusters
    return scores.exp()
