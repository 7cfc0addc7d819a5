"""Embeddings of earlier batches, newest first."""

import torch
from torch import Tensor, nn


class Queue(nn.Module):
    """The last `size` vectors (size, dim) that were pushed; zeros until it is full."""

    vectors: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(size, dim))
        self.count = 0  # of vectors in it, known to the host, which must not wait for the device to ask

    @property
    def full(self) -> bool:
        return 0 < len(self.vectors) == self.count

    @torch.no_grad()
    def push(self, newest: Tensor) -> None:
        """Put vectors (B, dim) in front; the oldest fall out. What was read before stays as it was."""
        size = len(self.vectors)
        self.vectors = torch.cat([newest.detach()[:size], self.vectors[: max(size - len(newest), 0)]])
        self.count = min(self.count + len(newest), size)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.count)

    def set_extra_state(self, state: Tensor) -> None:
        self.count = int(state)
