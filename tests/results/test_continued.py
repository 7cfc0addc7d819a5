"""Whether going on from given weights helped: by known differences, with the interval that the test gives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from ssbench.results.continued import EXPLAINED
from ssbench.results.metrics import score
from ssbench.results.record import Costs, Score
from ssbench.results.stats import UNTESTED, Difference, difference, runs
from ssbench.results.store import Store
from ssbench.results.table import build
from ssbench.spec import Budget, DataRef

from .records import UNTRAINED, done, spec

DIGITS = DataRef(name="digits", fingerprint="f0", settings={"image_size": 32})
INIT, OTHER = "file:a.pth@0123456789abcdef", "file:b.pth@0123456789abcdef"
CONTROLS = {"random-init": "floor", "raw-pixels": "floor", "supervised": "ceiling"}
SAMPLES = 400
Better = Literal["higher", "lower"]


def accuracy(value: float, seed: int) -> dict[str, NDArray[Any]]:
    """Predictions of which `value` % are right, the same test samples for all and a few of them this seed's own."""
    correct = np.arange(SAMPLES) < round(SAMPLES * value / 100)
    correct[-1 - seed] = True
    return {"predicted": correct.astype(np.int64), "truth": np.ones(SAMPLES, np.int64)}


def put(
    store: Store,
    method: str,
    values: Sequence[float],
    *,
    init: str = INIT,
    backbone: str = INIT,
    task: str = "knn",
    size: int = 32,
    better: Better = "higher",
    patch: int = 0,
) -> None:
    """A record a seed; an accuracy in %, or a mean loss where lower is better."""
    training: dict[str, Any] = {} if method in UNTRAINED else {"budget": Budget(unit="steps", amount=2), "train": {}}
    data = DIGITS.model_copy(update={"settings": {"image_size": size}})
    for seed, value in enumerate(values):
        of = spec(
            method, seed, task, data, init=init, backbone=backbone, backbone_settings={"patch": patch}, **training
        )
        noise = np.random.default_rng(seed).normal(0, 0.1, SAMPLES)
        arrays = accuracy(value, seed) if better == "higher" else {"value": value + noise}
        kind, unit = ("accuracy", "%") if better == "higher" else ("mean", "")
        found = Score(
            value=score(kind, arrays),  # type: ignore[arg-type]
            low=0,
            high=0,
            unit=unit,
            better=better,
            kind=kind,  # type: ignore[arg-type]
            samples=SAMPLES,
        )
        record = done(of, "score", found, costs=Costs(parameters=1000), data={"size": size})
        store.write(record, {"score": arrays})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With the encoder as given, 60 % right."""
    made = Store(tmp_path)
    put(made, "given", (60, 60, 60))
    return made


def notes(store: Store) -> list[str]:
    """What is said of going on."""
    return [note for table in build(store, CONTROLS) for note in table.notes if "continued" in note]


def numbers(*values: float) -> Difference:
    """The difference of a row to the encoder as given, straight from the predictions."""
    one, other = (
        runs("accuracy", "higher", {seed: accuracy(value, seed) for seed, value in enumerate(found)})
        for found in (values, (60, 60, 60))
    )
    made = difference(one, other)
    assert made is not None
    return made


def test_a_clear_gain_is_better_a_clear_loss_is_worse_and_none_is_not_told_apart(store: Store) -> None:
    values = {"gains": (80, 81, 82), "loses": (40, 41, 42), "stays": (60, 61, 59)}
    for method, found in values.items():
        put(store, method, found)
    gains, loses, stays, explained = notes(store)
    low, high = numbers(*values["gains"]).interval()
    assert gains == f"gains, continued: better in knn, by 21.0 points ({low:.1f} to {high:.1f})"
    low, high = numbers(*values["loses"]).interval()
    assert loses == f"loses, continued: WORSE in knn, by 19.0 points ({-high:.1f} to {-low:.1f})"
    assert stays.startswith("stays, continued: not told apart in knn, +0.0 points (-")
    assert explained == EXPLAINED


def test_each_column_is_said_and_those_that_were_not_run_are_left_out(store: Store) -> None:
    put(store, "given", (60, 60, 60), task="linear-probe")
    put(store, "mim", (80, 81, 82))
    put(store, "mim", (40, 41, 42), task="linear-probe")
    put(store, "mim", (40, 41, 42), task="finetune")
    (said, _) = notes(store)
    assert said.startswith("mim, continued: better in knn, by ") and "; WORSE in linear-probe, by " in said
    assert "finetune" not in said


def test_controls_come_last(store: Store) -> None:
    for method in ("supervised", "zeta"):
        put(store, method, (80, 81, 82))
    assert [note.split(",")[0] for note in notes(store)[:2]] == ["zeta", "supervised"]


def test_where_lower_is_better_less_is_better(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "given", (2.0, 2.0, 2.0), better="lower")
    put(store, "mim", (1.0, 1.1, 1.2), better="lower")
    (said, _) = notes(store)
    assert said.startswith("mim, continued: better in knn, by 0.900 (0.") and "points" not in said


def test_too_few_seeds_are_said(store: Store) -> None:
    put(store, "mim", (80, 81))
    assert notes(store) == [f"mim, continued: knn can't be told: {UNTESTED} in one of the two", EXPLAINED]


def test_no_word_of_it_where_nothing_went_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "given", (60, 60, 60))
    put(store, "random-init", (40, 41, 42), init="")
    put(store, "mim", (80, 81, 82), init="", backbone="vit-nano")
    assert not notes(store)


def test_without_the_encoder_as_given_nothing_is_said(tmp_path: Path) -> None:
    put(Store(tmp_path), "mim", (80, 81, 82))
    assert not notes(Store(tmp_path))


def test_it_is_compared_to_its_own_start_at_its_own_size_and_patch(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for size, patch, value in ((16, 0, 10), (32, 4, 20), (32, 0, 60), (64, 0, 90)):
        put(store, "given", (value, value, value), size=size, patch=patch)
    put(store, "given", (99, 99, 99), init=OTHER, backbone=OTHER)
    put(store, "mim", (80, 81, 82))
    (said, _) = notes(store)
    assert said.startswith("mim, continued: better in knn, by 21.0 points (")


@pytest.mark.parametrize("values", [(80, 81, 82), (60, 66, 63), (61, 61, 61), (59, 60, 70)])
def test_the_interval_holds_what_the_test_does_not_reject_on_a_grid(values: tuple[float, ...]) -> None:
    found = numbers(*values)
    grid = np.linspace(found.mean - 60, found.mean + 60, 1201)
    p = np.array([found.above(least) for least in grid])
    kept = grid[(p > 0.025) & (p < 0.975)]
    assert found.interval() == pytest.approx((kept[0], kept[-1]), abs=0.1)
    low, high = found.interval()
    assert low < found.mean < high and (low > 0) == (found.above() < 0.025)


def test_without_noise_of_test_samples_the_interval_is_welchs() -> None:
    from scipy.stats import ttest_ind

    one, other = [3.0, 4.5, 5.0], [2.0, 2.5, 1.0]
    tested = ttest_ind(one, other, equal_var=False)
    interval = tested.confidence_interval(0.95)
    error = float(np.sqrt(np.var(one, ddof=1) / 3 + np.var(other, ddof=1) / 3))
    found = Difference(float(np.mean(one) - np.mean(other)), error, float(tested.df), 0.0)
    assert found.interval() == pytest.approx((interval.low, interval.high), abs=1e-6)


@pytest.mark.parametrize("shared", [0.0, 0.01, 3.0, 1e4])
@pytest.mark.parametrize("freedom", [2.0, 50.0])
def test_the_interval_is_found_whichever_error_is_the_larger(freedom: float, shared: float) -> None:
    found = Difference(5.0, 1.0, freedom, shared)
    low, high = found.interval()
    assert found.above(low) == pytest.approx(0.025, abs=1e-6) and found.above(high) == pytest.approx(0.975, abs=1e-6)
