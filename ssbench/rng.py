"""One seed in the spec; every purpose derives its own, so that a new consumer moves no other. Importing it is cheap."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, device


def derive(seed: int, purpose: str, step: int = 0) -> int:
    """A 63-bit seed for a named purpose (`init`, `order`, `views`, `masks`, a task's own) at one step."""
    digest = hashlib.sha256(f"{seed}|{purpose}|{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def onto(drawn: "Tensor", where: "device") -> "Tensor":
    """What was drawn on the CPU, so that it is the same everywhere, on another device, without waiting for that."""
    import torch  # this module is imported by what must start fast

    if where.type == "cuda" and drawn.device.type == "cpu" and not torch.compiler.is_compiling():
        return drawn.pin_memory().to(where, non_blocking=True)  # from other memory a copy waits
    return drawn.to(where)
