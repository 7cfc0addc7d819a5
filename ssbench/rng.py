"""One seed in the spec; every purpose derives its own, so that a new consumer moves no other. No torch."""

import hashlib


def derive(seed: int, purpose: str, step: int = 0) -> int:
    """A 63-bit seed for a named purpose (`init`, `order`, `views`, `masks`, a task's own) at one step."""
    digest = hashlib.sha256(f"{seed}|{purpose}|{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
