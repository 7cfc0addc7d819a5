"""The data of a trial: all of it lies in the training data, so that what is chosen among trials never saw the test."""

from dataclasses import replace

from ssbench.data import Dataset, Split
from ssbench.data.splits import SELECT, Row, places
from ssbench.errors import UserError


def inner(whole: Dataset) -> Dataset:
    """`whole` judged by its `select`; a fixed tenth of its `fit` chooses, by rule 2 (`splits.py`), and the rest trains.

    Raises UserError where `fit` is too small for that.
    """
    at = places([Row(key, _classes(whole.fit, i), _group(whole.fit, i)) for i, key in enumerate(whole.fit.keys)])
    chosen, kept = (
        [i for i, place in enumerate(at) if place in SELECT],
        [i for i, p in enumerate(at) if p not in SELECT],
    )
    if not (chosen and kept):
        raise UserError(f"{whole.ref.name} is too small to be tuned on: {len(at)} images of fit can't be split again")
    how = f"of a trial: test is select, select is a fixed tenth of fit; {whole.roles}"
    return replace(whole, fit=whole.fit.take(kept), select=whole.fit.take(chosen), test=whole.select, roles=how)


def _classes(split: Split, i: int) -> tuple[int, ...]:
    if "label" in split.targets:
        return (int(split.targets["label"][i]),)
    return tuple(split.targets["labels"][i].nonzero().flatten().tolist()) if "labels" in split.targets else ()


def _group(split: Split, i: int) -> str:
    return split.groups[i] if split.groups else ""
