"""What every method and every task promises, as functions of its entry that raise where it is not kept.

The tests run them over all that is registered, `ssbench check` over a plugin's file. The first line of a function's
docstring is the promise.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F

from ssbench.data import Dataset, Split
from ssbench.data.sources.shapes import CLASSES, FACTORS, Scenes, draw
from ssbench.encoders.build import build
from ssbench.encoders.copies import trainable
from ssbench.encoders.encoder import Encoder
from ssbench.errors import Broken
from ssbench.features import Part
from ssbench.method import Method, same
from ssbench.recipes import RECIPES
from ssbench.registry import Entry, load
from ssbench.results import metrics
from ssbench.rng import derive
from ssbench.settings import make
from ssbench.spec import Budget, DataRef, Train
from ssbench.task import Bench, Outcome, Task
from ssbench.training.loop import Loop, Watcher, flops_a_step, loop, pretrain, total

SIZE = 16  # pixels of the images, which make 4 x 4 patches
TARGETS = ("label", "mask", "boxes", "factors", "depth")
RECIPE = Train(batch=16)
CPU = torch.device("cpu")

Promise = Callable[[Entry, Dataset], None]


def of_methods(entry: Entry) -> tuple[Promise, ...]:
    """What a method promises; raises UserError where its module breaks."""
    kind = load(entry)
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise Broken(f"{entry.target.rpartition(':')[2]} is no subclass of ssbench.Method")
    trained = (loss_is_sound, loss_is_sound_in_bf16, loss_repeats, training_resumes) if kind.trains else (is_control,)
    return settings_are_described, method_is_described, recipes_are_sound, gives_vectors, *trained, shows_and_measures


def of_tasks(entry: Entry) -> tuple[Promise, ...]:
    """What a task promises; raises UserError where its module breaks."""
    kind = load(entry)
    if not (isinstance(kind, type) and issubclass(kind, Task)):
        raise Broken(f"{entry.target.rpartition(':')[2]} is no subclass of ssbench.Task")
    return settings_are_described, task_is_described, predicts_all, opens_test_once, predictions_repeat, choice_is_blind


def tiny() -> Dataset:
    """200 drawn scenes of 16 px with every target: enough to run anything, too few to learn much."""
    train, test = draw("train", 160, SIZE), draw("test", 40, SIZE)

    def split(scenes: Scenes, index: slice) -> Split:
        targets = {name: torch.from_numpy(getattr(scenes, name)[index]) for name in TARGETS}
        shown = F.one_hot(targets["boxes"][..., 4].long() + 1, len(CLASSES) + 1).amax(1)[:, 1:]  # which objects
        targets["labels"] = shown.to(torch.uint8)
        targets["surface"] = targets["label"].roll(1)
        images = torch.from_numpy(scenes.images[index])
        return Split(images, tuple(str(i) for i in range(len(images))), targets)

    parts = split(train, slice(0, 120)), split(train, slice(120, 160)), split(test, slice(0, 40))
    ref = DataRef(name="tiny", fingerprint="0", settings={})
    how = "drawn to check contracts"
    return Dataset(ref, *parts, CLASSES, len(CLASSES) + 1, 255, (), how, factors=FACTORS, box_classes=CLASSES)


def assembled(entry: Entry, data: Dataset) -> Method:
    """The untrained method around a small ViT."""
    torch.manual_seed(0)
    kind = load(entry)
    settings = make(kind.Settings, entry.preset, entry.name)
    method: Method = kind(kind.make_encoder(_vit, data.fit.images, settings), settings, len(data.classes))
    return method


def _vit() -> Encoder:
    return build("vit-nano", size=SIZE, channels=3, mean=torch.full((3,), 0.5), std=torch.full((3,), 0.25))


def _running(entry: Entry, data: Dataset, precision: str = "float32") -> Loop:
    run = loop(assembled(entry, data), data.fit, RECIPE, 0, precision, CPU)
    run.method.train()
    return replace(run, log=1, save=0.0)


def _hold(kept: bool, otherwise: str) -> None:
    if not kept:
        raise Broken(otherwise)


def settings_are_described(entry: Entry, data: Dataset) -> None:
    """every setting says what it is and where its default comes from"""
    for key, field in load(entry).Settings.model_fields.items():
        extra = field.json_schema_extra
        source = extra.get("source") if isinstance(extra, dict) else None
        _hold(bool(field.description and source), f"Settings.{key} has no help or no source: declare it with setting()")


def method_is_described(entry: Entry, data: Dataset) -> None:
    """its line says family, summary, paper, and the source of a preset"""
    _hold(bool(entry.family and entry.summary), "its Entry has no family or no summary")
    _hold(bool(entry.paper or entry.control), "its Entry has no paper; a control needs none")
    _hold(bool(entry.source or not entry.preset), "its Entry fixes a preset and has no source for it")


def recipes_are_sound(entry: Entry, data: Dataset) -> None:
    """its recipes have names that --recipe takes, a source, and values that can be set"""
    kind = load(entry)
    for key, recipe in kind.recipes.items():
        name, _, backbone = key.partition("/")
        known = name in RECIPES and name != "shared" and backbone in ("", "vit", "conv")
        _hold(known, f"recipes has {key!r}: known are own, cifar and imagenet, with /vit or /conv where they differ")
        _hold(bool(recipe.source), f"its recipe {key} has no source")
        make(Train, recipe.train, f"recipes[{key}].train")
        make(kind.Settings, {**recipe.settings, **entry.preset}, f"recipes[{key}].settings")


def loss_is_sound(entry: Entry, data: Dataset) -> None:
    """the loss is finite named scalars, reaches the encoder, and keeps its state where a resumed run finds it"""
    flops_a_step(_running(entry, data))


def loss_is_sound_in_bf16(entry: Entry, data: Dataset) -> None:
    """the loss is finite in bf16, and its gradient reaches the encoder"""
    run = _running(entry, data, "bf16")
    loss = total(run.terms(0, 0.5))
    _hold(bool(loss.isfinite()), f"the loss is {float(loss.detach())} in bf16: leave autocast where numbers are large")
    loss.backward()
    gradients = [weight.grad for weight in run.method.encoder.parameters() if weight.grad is not None]
    _hold(bool(gradients), "no gradient reaches the encoder in bf16")
    finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
    _hold(finite, "a gradient is not finite in bf16: leave autocast where numbers are large")


def loss_repeats(entry: Entry, data: Dataset) -> None:
    """the same seed and step give the same loss"""
    first, second = (float(total(_running(entry, data).terms(3, 0.5)).detach()) for _ in range(2))
    _hold(first == second, f"the loss of the same seed and step is {first:.6g}, then {second:.6g}")


def training_resumes(entry: Entry, data: Dataset) -> None:
    """an interrupted training ends with the same weights"""
    budget, whole, parted = Budget(unit="steps", amount=4), _running(entry, data), _running(entry, data)

    def pull_the_plug(text: str) -> None:
        if text.startswith("step 2/"):
            raise KeyboardInterrupt

    with TemporaryDirectory() as folder:
        pretrain(whole, budget, Path(folder) / "whole")
        try:
            pretrain(parted, budget, Path(folder) / "part", Watcher(pull_the_plug))
        except KeyboardInterrupt:
            parted = _running(entry, data)
        done = pretrain(parted, budget, Path(folder) / "part")
    _hold(done.steps == 4 and len(done.log) == 4, f"a resumed training took {done.steps} steps instead of 4")
    other = parted.method.state_dict()
    changed = [name for name, value in whole.method.state_dict().items() if not same(value, other[name])]
    _hold(not changed, f"{', '.join(changed[:3])} ends otherwise after an interruption: something is not in its state")


def gives_vectors(entry: Entry, data: Dataset) -> None:
    """what is judged gives one vector and one map an image, whatever else is in the batch"""
    encoder = assembled(entry, data).judged()
    _hold(isinstance(encoder, Encoder), f"judged() gives {type(encoder).__name__}, not an Encoder")
    images = encoder.eval().normalise(data.test.images[:4])
    with torch.no_grad():
        vectors, fewer, maps = encoder.readings(images), encoder.readings(images[:2]), encoder.map(images)
    _hold(tuple(vectors) == encoder.poolings, f"vectors gives {', '.join(vectors)}, not {', '.join(encoder.poolings)}")
    for name, vector in vectors.items():
        width = encoder.dim if name == encoder.poolings[0] else vector.shape[-1]  # a pooling of its own has its own
        _hold(vector.shape == (4, width), f"{name} has shape {tuple(vector.shape)}, not (4, {width})")
        same = torch.allclose(fewer[name], vector[:2], atol=1e-5)
        _hold(same, f"{name} of an image depends on the others of its batch")
    _hold(maps.ndim == 4 and len(maps) == 4, f"the map has shape {tuple(maps.shape)}, not (4, D, h, w)")


@torch.no_grad()
def shows_and_measures(entry: Entry, data: Dataset) -> None:
    """what it pictures is in 0..1 with the image first, and what it measures is finite"""
    method = assembled(entry, data).eval()
    images = method.encoder.normalise(data.select.images[:6])
    panels = method.picture(images)
    if panels is not None:
        fits = panels.ndim == 5 and len(panels) == 6 and panels.shape[2:] == images.shape[1:]
        _hold(fits, f"picture gives {tuple(panels.shape)}, not (6, K, {', '.join(map(str, images.shape[1:]))})")
        _hold(float(panels.min()) >= 0 and float(panels.max()) <= 1, "picture leaves 0..1")
        shown = torch.allclose(panels[:, 0], data.select.images[:6] / 255, atol=1e-5)
        _hold(shown, "the first panel of picture is not the image")
    for objects in (None, data.select.targets["mask"][:6]):
        found = method.measures(images, objects)
        broken = [name for name, value in found.items() if not math.isfinite(value)]
        _hold(not broken, f"measures gives {', '.join(broken)} that is not finite: leave it out")


def is_control(entry: Entry, data: Dataset) -> None:
    """what does not train is a control"""
    _hold(bool(entry.control), "it declares trains = False, so its Entry needs control='floor'")


def task_is_described(entry: Entry, data: Dataset) -> None:
    """its line says summary and paper, and its metrics have a kind and a direction"""
    found = load(entry).metrics
    _hold(bool(entry.summary and entry.paper), "its Entry has no summary or no paper")
    _hold(bool(found), "it names no metrics; the first is the headline")
    for metric in found:
        known = metric.better in ("higher", "lower") and metric.kind in metrics.KINDS
        _hold(known, f"the metric {metric.name} is {metric.better}, {metric.kind}; kinds: {', '.join(metrics.KINDS)}")


def predicts_all(entry: Entry, data: Dataset) -> None:
    """it hands in a prediction for each test sample, what it chose, and its whole sweep"""
    found, kind = evaluated(entry, data), load(entry)
    _hold(kind.metrics[0].name in found.arrays, f"it hands in nothing for {kind.metrics[0].name}, its headline")
    _hold(bool(found.selected and found.sweep), "it hands in no selection or no sweep")
    for metric in [metric for metric in kind.metrics if metric.name in found.arrays]:  # not each is of each encoder
        arrays = found.arrays[metric.name]
        lengths = {name: len(value) for name, value in arrays.items()}
        _hold(set(lengths.values()) == {len(data.test)}, f"{metric.name}: {lengths} for {len(data.test)} test samples")
        score = metrics.score(metric.kind, arrays)
        _hold(math.isfinite(score), f"{metric.name} comes to {score}")


def opens_test_once(entry: Entry, data: Dataset) -> None:
    """it opens the test split once, with what it then says that it chose"""
    with TemporaryDirectory() as folder:
        table = bench(data, Path(folder))
        found = _task(entry).evaluate(table)
    _hold(table.selected is not None, "it never opens the test split")
    _hold(table.selected == found.selected, f"it opened the test split with {table.selected}, not {found.selected}")


def predictions_repeat(entry: Entry, data: Dataset) -> None:
    """the same seed gives the same predictions"""
    first, second = evaluated(entry, data), evaluated(entry, data)
    for metric, arrays in first.arrays.items():
        for name, value in arrays.items():
            same = (value == second.arrays[metric][name]).all()
            _hold(bool(same), f"{metric}'s {name} is another with the same seed: draw from bench.generator(name)")


def choice_is_blind(entry: Entry, data: Dataset) -> None:
    """what it chooses does not depend on the test split"""
    targets = {key: value.flip(0) for key, value in data.test.targets.items()}
    other = evaluated(entry, replace(data, test=replace(data.test, targets=targets)))
    found = evaluated(entry, data)
    _hold(found.selected == other.selected and found.sweep == other.sweep, "other test targets change what it chooses")


def _task(entry: Entry) -> Task:
    kind = load(entry)
    task: Task = kind(make(kind.Settings, entry.preset, entry.name))
    return task


def evaluated(entry: Entry, data: Dataset) -> Outcome:
    """What a task makes of the features of a small ViT."""
    with TemporaryDirectory() as folder:
        return _task(entry).evaluate(bench(data, Path(folder)))


def bench(data: Dataset, cache: Path) -> Bench:
    """What a task works with, around an untrained ViT."""
    torch.manual_seed(0)
    trunk = _vit()
    fit, select, test = (Part(trunk, getattr(data, role), cache, role) for role in ("fit", "select", "test"))

    def copy(drop_path: float) -> Encoder:
        return trainable(trunk, drop_path)

    return Bench(data.facts, (fit, select, test), copy, lambda name: derive(0, name), CPU, lambda text: None)
