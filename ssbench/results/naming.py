"""How tables and what stands in them are called, and told apart where they would be called the same. No torch."""

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any


def canonical(value: Any) -> str:
    """One spelling for one value that JSON has."""
    return json.dumps(value, sort_keys=True)


def digest(value: Any) -> str:
    """Six hexadecimal digits that tell slugs apart."""
    return sha256(canonical(value).encode()).hexdigest()[:6]


def slugged(text: str) -> str:
    """Lower-case letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:150].strip("-")  # it becomes a file's name


def differing(variants: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys that every variant has and in which they are not all alike, by name."""
    found = [*variants]
    shared = sorted(set.intersection(*({*variant} for variant in found))) if found else []
    return [key for key in shared if len({canonical(variant[key]) for variant in found}) > 1]


def labels(variants: list[dict[str, Any]]) -> list[str]:
    """` [key=value, ...]` for each variant, with what tells it from the others. Empty when there is one.

    The keys that all have and that differ do where they can: what only some have follows from those as a rule. Else
    each shows every key that is not alike in all, but none that it lacks; the last resort names that too, as unset.
    """
    known = sorted({key for variant in variants for key in variant})
    unlike = [key for key in known if len({canonical(variant.get(key)) for variant in variants}) > 1]
    shared = differing(variants)
    tries = (
        [[f"{key}={variant[key]}" for key in shared] for variant in variants],
        [[f"{key}={variant[key]}" for key in unlike if key in variant] for variant in variants],
        [[f"{key}={variant.get(key, 'unset')}" for key in unlike] for variant in variants],
    )
    texts = [[", ".join(parts) for parts in one] for one in tries]
    best = next((one for one in texts if len({*one}) == len(one)), texts[-1])
    return [f" [{text}]" if text else "" for text in best]
