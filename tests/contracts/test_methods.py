"""What every registered method must do. A new one is tested here the day it is added."""

import math

import pytest
import torch

from ssbench.data import Dataset
from ssbench.encoders.encoder import Encoder, build
from ssbench.method import Method
from ssbench.registry import entries, load
from ssbench.settings import make
from ssbench.spec import Budget, Train
from ssbench.training.loop import Loop, loop, pretrain, total

METHODS = {name: entry for name, entry in entries("methods").items() if entry.owner == "ssbench"}
TRAINED = [name for name, entry in METHODS.items() if load(entry).trains]
RECIPE = Train(batch=16)


def assembled(name: str, data: Dataset) -> Method:
    torch.manual_seed(0)
    entry = METHODS[name]
    kind = load(entry)

    def default() -> Encoder:
        return build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))

    settings = make(kind.Settings, entry.preset, name)
    return kind(kind.make_encoder(default, data.fit.images), settings, len(data.classes))


def running(name: str, data: Dataset, precision: str = "float32") -> Loop:
    return loop(assembled(name, data), data.fit, RECIPE, seed=0, precision=precision, device=torch.device("cpu"))


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_says_what_it_is_and_where_its_default_comes_from(name: str) -> None:
    for key, field in load(METHODS[name]).Settings.model_fields.items():
        assert field.description, key
        assert isinstance(field.json_schema_extra, dict) and field.json_schema_extra["source"], key


@pytest.mark.parametrize("name", METHODS)
def test_the_contents_page_says_what_it_is(name: str) -> None:
    entry = METHODS[name]
    assert entry.family and entry.summary
    assert entry.paper or entry.control
    assert entry.source or not entry.preset


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_is_finite_and_its_gradient_reaches_the_encoder(name: str, precision: str, tiny: Dataset) -> None:
    run = running(name, tiny, precision)
    terms = run.terms(step=0, progress=0.5)
    assert terms and all(term.ndim == 0 and term.isfinite() for term in terms.values())
    total(terms).backward()
    moved = [
        p.grad is not None and bool(p.grad.abs().sum() > 0) for p in run.method.encoder.parameters() if p.requires_grad
    ]
    assert sum(moved) > 0.9 * len(moved)


@pytest.mark.parametrize("name", TRAINED)
def test_the_same_seed_and_step_give_the_same_loss(name: str, tiny: Dataset) -> None:
    first, second = (total(running(name, tiny).terms(step=3, progress=0.5)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", TRAINED)
def test_an_interrupted_training_ends_with_the_same_weights(name: str, tiny: Dataset, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    budget = Budget(unit="steps", amount=6)
    whole = running(name, tiny)
    pretrain(whole, budget, tmp_path / "whole", lambda text: None)
    monkeypatch.setattr("ssbench.training.loop.SAVE", 0.0)
    monkeypatch.setattr("ssbench.training.loop.LOG", 1)
    broken = running(name, tiny)

    def pull_the_plug(text: str) -> None:
        if text.startswith("step 4/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(broken, budget, tmp_path / "part", pull_the_plug)
    assert (tmp_path / "part").exists()
    resumed = running(name, tiny)
    done = pretrain(resumed, budget, tmp_path / "part", lambda text: None)
    assert done.steps == 6 and [line["step"] for line in done.log] == [1, 2, 3, 4, 5, 6]
    for (key, a), b in zip(whole.method.state_dict().items(), resumed.method.state_dict().values()):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", METHODS)
def test_what_is_judged_gives_one_vector_an_image(name: str, tiny: Dataset) -> None:
    encoder = assembled(name, tiny).judged().eval()
    images = encoder.normalise(tiny.test.images[:4])
    vectors = encoder.vectors(images)
    assert tuple(vectors) == encoder.poolings
    assert all(vector.shape == (4, encoder.dim) for vector in vectors.values())
    assert torch.equal(encoder.vectors(images[:2])["mean"], vectors["mean"][:2]) or torch.allclose(
        encoder.vectors(images[:2])["mean"], vectors["mean"][:2], atol=1e-5
    )
    assert encoder.map(images).shape[0] == 4 and encoder.map(images).ndim == 4


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_what_it_shows_and_measures_is_in_range(name: str, tiny: Dataset) -> None:
    method = assembled(name, tiny).eval()
    images = method.encoder.normalise(tiny.select.images[:6])
    panels = method.picture(images)
    if panels is not None:
        assert panels.shape[0] == 6 and panels.shape[2:] == images.shape[1:]
        assert panels.min() >= 0 and panels.max() <= 1
        torch.testing.assert_close(panels[:, 0], tiny.select.images[:6] / 255, atol=1e-5, rtol=0)
    for objects in (None, tiny.select.targets["mask"][:6]):
        assert all(math.isfinite(value) for value in method.measures(images, objects).values())


@pytest.mark.parametrize("name", [name for name in METHODS if name not in TRAINED])
def test_a_method_that_does_not_train_is_a_control(name: str) -> None:
    assert METHODS[name].control


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].control])
def test_a_ceiling_sees_labels_and_a_floor_does_not(name: str) -> None:
    assert load(METHODS[name]).supervised == (METHODS[name].control == "ceiling")
