"""Patch nearest neighbours: a place copies what the places most like it have (CAPI, eval_segmentation.py)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .maps import CHUNK, confusion, pixels, places, tile

QUERIES = 256  # places a product with the bank


class Bank(NamedTuple):
    """Directions of places and the classes of their pixels."""

    features: Tensor  # (M, D)
    labels: Tensor  # (M, L) uint8, ignored ones the number after the last class
    classes: int

    @classmethod
    def of(cls, maps: Tensor, truth: Tensor, classes: int, most: int, generator: torch.Generator) -> "Bank":
        """At most `most` places by chance, none that is all ignored."""
        labels = pixels(truth, maps.shape[-2:])
        kept = (labels != classes).any(1).nonzero()[:, 0]
        index = kept[torch.randperm(len(kept), generator=generator)[:most].sort().values.to(kept.device)]
        return cls(F.normalize(places(maps)[index], dim=1), labels[index], classes)

    def vote(self, query: Tensor, ks: Sequence[int]) -> Tensor:
        """For each k what most of the k nearest by cosine have at each pixel, (K, Q, L) uint8; the smallest of equals.

        Ignored pixels have no vote; where nobody has one, all pixels of the k vote.
        """
        most, found = min(max(ks), len(self.features)), []
        index = (F.normalize(query, dim=1) @ self.features.T).topk(most, dim=1).indices  # (Q, most), nearest first
        voters = self.labels[index].long()  # (Q, most, L)
        for k in ks:
            tally = query.new_zeros(len(query), self.classes + 1, voters.shape[2])
            tally.scatter_add_(1, voters[:, :k], torch.ones_like(voters[:, :k], dtype=tally.dtype))
            votes = tally[:, : self.classes]  # (Q, C, L)
            silent = votes.sum(1) == 0  # (Q, L)
            found.append(votes.argmax(1).where(~silent, votes.sum(2).argmax(1)[:, None]).to(torch.uint8))
        return torch.stack(found)

    def tables(self, maps: Tensor, truth: Tensor, ks: Sequence[int]) -> Tensor:
        """Counts of (truth, predicted) pixels for each k and image, (K, N, C, C)."""
        (h, w), (rows, columns) = maps.shape[-2:], tile(truth, maps.shape[-2:])
        counts = []
        for some, wanted in zip(maps.split(CHUNK), truth.split(CHUNK)):
            found = torch.cat([self.vote(chunk, ks) for chunk in places(some).split(QUERIES)], 1)
            fitted = found.view(-1, h, w, rows, columns).transpose(2, 3).reshape(-1, 1, h * rows, w * columns)
            copied = F.interpolate(fitted, truth.shape[-2:]).view(len(ks), *wanted.shape)
            counts.append(torch.stack([confusion(one, wanted, self.classes) for one in copied]))
        return torch.cat(counts, 1)
