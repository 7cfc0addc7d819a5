"""Looking at a method without disturbing it: numbers that need no task, and the frame in which it is looked at."""

import math
from contextlib import suppress

import torch
from torch import Tensor

from ssbench.data import Split
from ssbench.errors import NotApplicable, one_line, warn
from ssbench.features import represent
from ssbench.method import Method
from ssbench.rng import derive
from ssbench.training.loop import undisturbed

MEASURED = 64  # images that a method's own measures see
WATCHED = 256  # images that are looked at along the training
JUDGED = 1024  # held-out images whose classes are told by their neighbours then
NEIGHBOURS, TEMPERATURE = 20, 0.07  # DINO, eval_knn.py
EARLY = 0.25  # share of the budget before which nothing is called a collapse: many nets start with alike features
# Of the runs that results/ held when these were set, the loss of all that learned ended below 0.85 of chance, that of
# all whose prototypes had become alike above 0.91; features had a RankMe of 3.6 and more, and 1 is one direction.
NEAR_CHANCE, FLAT = 0.9, 2.0
LEAST = 8  # images whose rank says something: that of N images is at most N


def measure(method: Method, select: Split, seed: int, ignore_index: int, most: int = MEASURED) -> dict[str, float]:
    """RankMe of the judged encoder on all of `select`, if there are LEAST, then the method's own; only what is finite.

    The method sees at most `most` images, evenly spaced, and their masks (B, S, S) where the data has some, with
    ignored pixels as background. Where it fails, its measures are left out with a word.
    """
    with undisturbed(method, derive(seed, "measures")):
        vectors = _vectors(method, select)
    found = {} if vectors is None or len(vectors) < LEAST else {"rankme": rankme(vectors)}
    return _finite(found | _own(method, select, seed, ignore_index, most))


def _own(method: Method, select: Split, seed: int, ignore_index: int, most: int) -> dict[str, float]:
    """A method's own measures; none, with a word, where they fail."""
    with undisturbed(method, derive(seed, "measures")):
        where = method.encoder.mean.device
        index = torch.linspace(0, len(select) - 1, min(len(select), most)).long()
        images = method.encoder.normalise(select.images[index].to(where))  # (B, C, S, S)
        objects = select.targets["mask"][index].to(where) if "mask" in select.targets else None
        if objects is not None:
            objects = objects.masked_fill(objects == ignore_index, 0)
        try:
            return {name: float(value) for name, value in method.measures(images, objects).items()}
        except Exception as error:  # a plugin may fail in any way, and what was trained is worth more
            warn(f"{type(method).__name__}.measures is left out: {type(error).__name__}: {one_line(error)}")
            return {}


def _vectors(method: Method, split: Split) -> Tensor | None:
    """What the judged encoder makes of images, (N, D); None where it has no vector of one."""
    encoder = method.judged()
    with suppress(NotApplicable):
        return represent(encoder, split.images, lambda images: {"pooled": encoder.pooled(images)})["pooled"]
    return None


def _finite(found: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if math.isfinite(value)}


def watch(method: Method, select: Split, seed: int, ignore_index: int, most: int = MEASURED) -> dict[str, float]:
    """How a method fares along its training: spread and RankMe of a few held-out images' vectors, and its measures.

    `deviation` is that of the unit vectors' dimensions times the root of their number: 1 where they point everywhere,
    0 where all are one (SimSiam, Chen & He 2020, arXiv:2011.10566, section 4.1). `select_knn`, where images have a
    class each: how many of `select`, in %, their neighbours there tell. The method sees no label.
    """
    judged = _spaced(select, JUDGED if "label" in select.targets else WATCHED)
    few = torch.linspace(0, len(judged) - 1, min(len(judged), WATCHED)).long()  # of them
    found = dict[str, float]()
    with undisturbed(method, derive(seed, "measures")):
        vectors = _vectors(method, judged)
    if vectors is not None:
        unit = torch.nn.functional.normalize(vectors[few], dim=1)
        found |= {"rankme": rankme(vectors[few])} if len(few) >= LEAST else {}
        found["deviation"] = float(unit.std(0).mean() * unit.shape[1] ** 0.5)
        if "label" in select.targets and len(select) > NEIGHBOURS:
            found["select_knn"] = told_by_others(vectors, judged.targets["label"].to(vectors.device))
    return _finite(_own(method, judged.take(few.tolist()), seed, ignore_index, most) | found)


def _spaced(split: Split, most: int) -> Split:
    """At most so many samples, evenly spaced."""
    return split.take(torch.linspace(0, len(split) - 1, min(len(split), most)).long().unique().tolist())


def told_by_others(vectors: Tensor, labels: Tensor) -> float:
    """How many of some vectors (N, D), in %, their nearest others give their label (N,), by the vote of the task `knn`.

    NaN where some are not finite.
    """
    if not vectors.isfinite().all():
        return math.nan
    unit = torch.nn.functional.normalize(vectors.float(), dim=1)
    cosine, nearest = (unit @ unit.T).fill_diagonal_(-math.inf).topk(NEIGHBOURS)
    votes = unit.new_zeros(len(unit), int(labels.max()) + 1)
    votes.scatter_add_(1, labels[nearest], (cosine / TEMPERATURE).exp())
    return float((votes.argmax(1) == labels).double().mean() * 100)


def collapsing(watched: dict[str, float], progress: float) -> str:
    """Why a method looks collapsed at a `progress` of 0..1, empty where it does not."""
    if progress < EARLY or watched.get("rankme", math.inf) >= FLAT:
        return ""
    return f"features of held-out images are all but one direction (RankMe {watched['rankme']:.1f})"


def warning(log: list[dict[str, float]], chance: dict[str, float], measures: dict[str, float]) -> str:
    """Why a trained method is to be taken for collapsed or all but untrained, in one line; empty where it is not.

    `log` holds the terms of the loss, of which those that `chance` knows are judged together, at the last reading.
    """
    known = chance.keys() & log[-1].keys() if log else set()
    ended, guessed = sum(log[-1][name] for name in known), sum(chance[name] for name in known)
    said = []
    if ended > NEAR_CHANCE * guessed:
        said.append(f"its loss ended at {ended:.2f}, and telling all images alike gives {guessed:.2f}")
    if measures.get("rankme", math.inf) < FLAT:
        said.append(f"its features are all but one direction (RankMe {measures['rankme']:.1f})")
    return "collapsed or hardly trained: " + "; ".join(said) if said else ""


def rankme(features: Tensor) -> float:
    """Effective rank of features (N, D), uncentred: 1 to min(N, D), NaN when they are all zero or not finite.

    The exponential of the entropy of the singular values' shares (RankMe, Garrido et al. 2023, arXiv:2210.02885).
    """
    values = features.detach().cpu().double()  # not every accelerator has float64
    if not values.isfinite().all():
        return math.nan
    singular = torch.linalg.svdvals(values)  # (min(N, D),)
    p = singular / singular.sum() + 1e-7
    return float((-(p * p.log()).sum()).exp())
