"""What can be said of frozen features without labels: how many dimensions, how spread, how alike two views are.

Whether it predicts any score is what the study asks (`ssbench/results/ranks.py`).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from ssbench.features import Part
from ssbench.results.alike import cka
from ssbench.results.metrics import Array, Metric, influences
from ssbench.task import Bench, Outcome, Task, Work, choose

from . import spectra
from .clustering import kmeans
from .seen import by_block, in_views, numbers, spaced, spread

MOST = 2000  # images that anything is told of, evenly spaced: distances are between all of them
PAIRED = 1000  # images that are seen in two views, and as each block sees them
VIEWED, VIEWS = 200, 10  # images of LiDAR, and views of each; 1,000 and 50 in the paper
TEMPERATURES = 0.05, 0.1, 0.2, 0.5, 1.0, 2.0  # of which InfoNCE takes the best on select
KEPT, COORDINATES = 256, 64  # images and their leading principal coordinates, which tables of CKA are made of
WIDE = 512, 1024  # dimensions above which a jackknife has 5 groups, and none
ITERATIONS = 100  # of Lloyd's algorithm, at most

INFONCE = Metric("infonce", "nats", "higher", "mean")

Score = Callable[[NDArray[np.int64]], float]
SPECTRAL = {
    "effective-rank": spectra.effective_rank,
    "alpha-req": spectra.alpha,
    "nesum": spectra.nesum,
    "participation-ratio": spectra.participation,
}


class Diagnostics(Task):
    """Of the test images' features, the encoder's first pooling, in float64; of at most 2,000 images, evenly spaced.

    `rankme` is not centred; the next four are of the covariance's eigenvalues, `alpha-req` over ranks 10 to 100 or D.
    `lidar`, `alignment` and `infonce` are of augmented views (SimCLR's crop, flip and colour): 200 images in ten, 1,000
    in two. `alignment` and `uniformity` are of features at length 1, as published; `infonce`, a lower
    bound on the views' mutual information of at most log N, takes the mean off before, and the temperature that is best
    on select, of which the record has all.
    `learnability` and `intrinsic-dimension` are the two parts of CLID, after Lu et al. 2022, arXiv:2206.01251, apart
    since a sum of a share and a dimension goes by their units: k-means of features at length 1 into sqrt(N) clusters,
    of which each half of the images is told by the nearest image of the other half; and TwoNN without the largest tenth
    of ratios. `collapse-std` is 1 where features fill the sphere. Directions are what the papers claim. A number that
    is not defined, such as the slope of fewer than eleven dimensions, is left out. Raises RuntimeError where features
    are not finite. Nothing else is chosen; the sweep has the same of `select`.
    """

    needs = frozenset()
    metrics = (
        Metric("rankme", "", "higher", "mean"),
        *(Metric(name, "", "lower" if name == "alpha-req" else "higher", "mean") for name in SPECTRAL),
        Metric("lidar", "", "higher", "mean"),
        Metric("learnability", "%", "higher", "mean"),
        Metric("intrinsic-dimension", "", "higher", "mean"),
        Metric("alignment", "", "lower", "mean"),
        Metric("uniformity", "", "lower", "mean"),
        INFONCE,
        Metric("collapse-std", "", "higher", "mean"),
    )

    def work(self, bench: Bench) -> Work:
        seen = [2 * min(n, PAIRED) + VIEWS * min(n, VIEWED) for n in bench.sizes[1:]]
        return Work(sum(bench.sizes[1:]), changed=sum(seen) + min(bench.sizes[2], PAIRED))

    def evaluate(self, bench: Bench) -> Outcome:
        found, bounds = told(bench, bench.select, TEMPERATURES)
        tried = [(t, float(bound.mean())) for t, bound in bounds.items()]
        points = [{"temperature": t, "select_infonce": mean, "diverged": not math.isfinite(mean)} for t, mean in tried]
        best, at_edge = choose(
            points, INFONCE, ("temperature",), lambda i: {"value": bounds[tried[i][0]]}, "check the images"
        )
        temperature, most = tried[best]
        sweep = [{f"select_{name}": float(value.mean()) for name, value in found.items()} | {"select_infonce": most}]
        selected = {"pooling": bench.fit.poolings[0], "temperature": temperature, "at_edge": at_edge}
        test = bench.test(selected)
        outcome = Outcome(selected, sweep)
        found, bounds = told(bench, test, [temperature])
        for name, value in {**found, "infonce": bounds[temperature]}.items():
            outcome.add(name, value=torch.from_numpy(value))
        n, pairs = (min(len(test), most) for most in (MOST, PAIRED))
        known = {"n": n, "dimensions": test.pooled().shape[1], "alpha_ranks": list(spectra.RANKS)}
        outcome.details = known | {"infonce_n": pairs, "infonce_most": math.log(pairs), "infonce_sweep": points}
        *blocks, (last, final) = by_block(test.take(spaced(len(test), PAIRED))).items()
        profile = {block: cka(values, final) for block, values in [*blocks, (last, final)]} if blocks else {}
        if defined := {block: value for block, value in profile.items() if math.isfinite(value)}:
            outcome.details["profile"] = {"cka with the last block": defined}
        few = numbers(test)[spaced(len(test), KEPT).numpy()]
        outcome.arrays["kept"] = {"features": spectra.principal(few, COORDINATES).astype(np.float16)}
        return outcome


def told(bench: Bench, part: Part, temperatures: Sequence[float]) -> tuple[dict[str, Array], dict[float, Array]]:
    """Each number that is defined as a value an image (N,), whose mean it is; and so InfoNCE at each temperature."""
    bench.progress("diagnostics: features")
    rows, pairs, few = (spaced(len(part), most) for most in (MOST, PAIRED, VIEWED))
    x, units = spectra.compact(numbers(part)[rows.numpy()]), part.take(rows).units
    groups = 20 if x.shape[1] <= WIDE[0] else 5 if x.shape[1] <= WIDE[1] else 1
    placed = {name: (values, rows) for name, values in still(x, units, groups, bench.generator("halves")).items()}

    two = in_views(bench, part.take(pairs), 2)
    one, other = (spectra.unit(two[:, view]) for view in (0, 1))
    placed["alignment"] = spectra.alignment(one, other), pairs
    one, other = (spectra.unit(two[:, view] - two.mean((0, 1))) for view in (0, 1))
    bounds = {temperature: spectra.infonce(one, other, temperature) for temperature in temperatures}
    many = in_views(bench, part.take(few), VIEWS)
    placed["lidar"] = swayed(lambda i: spectra.lidar(many[i]), part.take(few).units, groups), few
    defined = {name: spread(*of, len(part)) for name, of in placed.items() if np.isfinite(of[0]).all()}
    return defined, {temperature: spread(bound, pairs, len(part)) for temperature, bound in bounds.items()}


def still(x: Array, units: NDArray[np.int64], groups: int, generator: torch.Generator) -> dict[str, Array]:
    """What features (N, D) of images with these `units` (N,) say without views, as values an image (N,)."""
    z = spectra.unit(x)
    distances, logs = spectra.squared(z), spectra.ratios(spectra.squared(x))
    potential = np.exp(-2 * distances)
    scores: dict[str, Score] = {
        "rankme": lambda i: spectra.rankme(spectra.eigenvalues(x[i].T @ x[i])),
        "uniformity": lambda i: spectra.uniformity(potential[np.ix_(i, i)]),
        "intrinsic-dimension": lambda i: spectra.two_nn(logs[i]),
        "collapse-std": lambda i: spectra.collapse(z[i]),
        **{name: covariance(x, of) for name, of in SPECTRAL.items()},
    }
    found = {name: swayed(score, units, groups) for name, score in scores.items()}
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    clusters = kmeans(z.astype(np.float32), max(round(math.sqrt(len(z))), 1), seed, ITERATIONS).labels_
    half = (torch.randperm(len(z), generator=generator) % 2).bool().numpy()
    return found | {"learnability": spectra.told_by_nearest(clusters, half, distances)}


def swayed(score: Score, units: NDArray[np.int64], groups: int) -> Array:
    """`influences`, as much wider as Student's t is than the normal law with an error of so few groups, 5 at times."""
    found = influences(score, units, groups)
    wider = float(stdtrit(groups - 1, 0.975) / ndtri(0.975)) if groups > 1 else 1.0
    return np.asarray(found.mean() + wider * (found - found.mean()))


def covariance(x: Array, of: Callable[[Array], float]) -> Score:
    """A number of the covariance's eigenvalues as one of positions."""
    return lambda i: of(spectra.eigenvalues(np.atleast_2d(np.cov(x[i].T, ddof=0))))
