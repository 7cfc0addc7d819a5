"""What every registered method must do. A new one is tested here the day it is added."""

import pytest

from ssbench.contracts import CPU, RECIPE, Promise, assembled, of_methods
from ssbench.data import Dataset
from ssbench.registry import entries, load
from ssbench.training.loop import loop, total

METHODS = {name: entry for name, entry in entries("methods").items() if entry.owner == "ssbench"}
PROMISES = [(name, promise) for name, entry in METHODS.items() for promise in of_methods(entry)]


@pytest.mark.parametrize(
    ("name", "promise"), PROMISES, ids=[f"{name}-{promise.__name__}" for name, promise in PROMISES]
)
def test_it_keeps_its_promises(name: str, promise: Promise, tiny: Dataset) -> None:
    promise(METHODS[name], tiny)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", [name for name, entry in METHODS.items() if load(entry).trains])
def test_its_gradient_reaches_nearly_all_of_the_encoder(name: str, precision: str, tiny: Dataset) -> None:
    run = loop(assembled(METHODS[name], tiny), tiny.fit, RECIPE, 0, precision, CPU)
    total(run.terms(step=0, progress=0.5)).backward()
    moved = [
        p.grad is not None and bool(p.grad.abs().sum() > 0) for p in run.method.encoder.parameters() if p.requires_grad
    ]
    assert sum(moved) > 0.9 * len(moved)


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].control])
def test_a_ceiling_sees_labels_and_a_floor_does_not(name: str) -> None:
    assert load(METHODS[name]).supervised == (METHODS[name].control == "ceiling")
