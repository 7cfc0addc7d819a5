"""Which weights a network has."""

import hashlib

from torch import nn


def weights_digest(network: nn.Module) -> str:
    """SHA-256 over the names and bytes of every weight and buffer, 16 digits."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
