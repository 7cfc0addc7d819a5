"""One rule for every grid of a penalty: decades, as many more as the choice needs, and quarters of one around it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
MOST = 4  # decades that a grid may grow


def search(
    decades: Sequence[float], solve: Callable[[float], T], score: Callable[[T], Any], finer: int = 4, least: float = 0
) -> dict[float, T]:
    """What `solve` gives at each exponent of ten that was tried, the smallest first; `score`, a
    number or a tuple of them, is larger where better.

    First the decades. While the best is the outermost and ahead of its neighbour, the grid grows by a decade there, at
    most `MOST` times; with a `least` above 0 scores are numbers and have to be ahead by more than that. Then `finer`
    steps a decade are tried on both sides of the best (the first of equals), up to the next decade.
    """
    found = {exponent: solve(exponent) for exponent in sorted(decades)}

    def best() -> float:
        return max(sorted(found), key=lambda exponent: score(found[exponent]))

    def ahead(one: float, other: float) -> bool:
        first, second = score(found[one]), score(found[other])
        return bool(first - second > least if least else first > second)

    for _ in range(MOST):
        first, *_, last = order = sorted(found) * (1 if len(found) > 1 else 2)
        if best() == last and ahead(last, order[-2]):
            outside = last + 1
        elif best() == first and ahead(first, order[1]):
            outside = first - 1
        else:
            break
        found[outside] = solve(outside)
    middle = best()
    for step in range(1 - finer, finer):
        exponent = middle + step / finer
        if exponent not in found:
            found[exponent] = solve(exponent)
    return dict(sorted(found.items()))
