"""Less to pretrain on: parts of `fit` that are nested and fixed by hash. No torch to parse."""

import re
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from ssbench.errors import UserError

if TYPE_CHECKING:
    from ssbench.data import Dataset


def parse(text: str) -> str:
    """`5%` of the images; all of them are the empty string. Raises UserError."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)%", text.strip())
    if not found or not 0 < float(found[1]) <= 100:
        raise UserError(f"--share {text}: expected a share of the images to pretrain on, such as 10%")
    share = f"{float(found[1]):g}%"
    return "" if share == "100%" else share


def shared(data: "Dataset", share: str, draw: int) -> "Dataset":
    """With a part of `fit` alone: the first of all in the order of the SHA-256 of the draw and their keys.

    So what a smaller share has of one draw, a larger one has too. Labels are not looked at.
    """
    order = sorted(range(len(data.fit)), key=lambda at: sha256(f"share|{draw}|{data.fit.keys[at]}".encode()).digest())
    count = max(round(float(share.rstrip("%")) / 100 * len(order)), 1)
    return replace(data, fit=data.fit.take(sorted(order[:count])))
