"""Teachers: copies of what learns that follow it as a moving average and get no gradient."""

from copy import deepcopy
from math import cos, pi

import torch
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder


class Teacher(nn.Module):
    """An encoder's copy and those of the heads behind it; the first of `parts` is the encoder's.

    Batch norms keep statistics of their own, of what the teacher sees (facebookresearch/moco-v3, moco/builder.py).
    """

    def __init__(self, encoder: Encoder, *heads: nn.Module) -> None:
        super().__init__()
        self._students = (encoder, *heads)  # a tuple: they are registered elsewhere
        self.parts = nn.ModuleList(deepcopy(part).requires_grad_(False) for part in self._students)

    @property
    def encoder(self) -> Encoder:
        found = self.parts[0]
        assert isinstance(found, Encoder)
        return found

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) -> their pooled vectors, through all heads."""
        found = self.encoder.pooled(images)
        for head in list(self.parts)[1:]:
            found = head(found)
        return found

    def follow(self, momentum: float) -> None:
        """teacher = momentum * teacher + (1 - momentum) * student."""
        for teacher, student in zip(self.parts, self._students):
            follow(teacher, student, momentum)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher's weights towards the student's: teacher = momentum * teacher + (1 - momentum) * student."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)


def cosine(start: float, end: float, progress: float) -> float:
    """From `start` to `end` by half a cosine, `progress` in 0..1: the momentum's schedule of BYOL and DINO."""
    return end - (end - start) * (cos(pi * progress) + 1) / 2
