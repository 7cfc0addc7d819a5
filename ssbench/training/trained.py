"""The pretrained encoder of a cell: found in the cache, or made now by the loop."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssbench import code
from ssbench.encoders.build import build
from ssbench.encoders.encoder import Encoder
from ssbench.encoders.names import trunk_of
from ssbench.encoders.weights import weights_digest
from ssbench.errors import Broken, NotApplicable, UserError
from ssbench.method import Method
from ssbench.registry import load
from ssbench.results.provenance import commit, environment
from ssbench.results.store import drop, read_tensors, write_bytes, write_tensors
from ssbench.rng import derive
from ssbench.settings import Settings, make
from ssbench.spec import Pretraining, Train
from ssbench.training import artifacts, diagnostics, pictures, steplog
from ssbench.training.loop import Loop, Trained, Watcher, loop, pretrain
from ssbench.workshop import Job

PIECE = 64  # images whose pixels are counted at once


def assemble(job: Job) -> tuple[Method, Loop | None]:
    """The untrained method around its encoder, and its training loop if it trains.

    Raises UserError, NotApplicable, Broken, and whatever a plugin's `build` does.
    """
    spec, method = job.pretraining, _untrained(job)
    if not method.trains:
        return method.to(job.device), None
    recipe = make(Train, spec.train or {}, "train")
    return method, loop(method, job.origin.fit, recipe, spec.seed, spec.precision, job.device)


def _untrained(job: Job) -> Method:
    spec, kind = job.pretraining, load(job.cell.method)
    if kind.supervised and "label" not in job.origin.targets:
        raise NotApplicable(f"{job.cell.pretrain_on} has no labels")
    torch.manual_seed(derive(spec.seed, "init"))
    settings = make(kind.Settings, spec.settings, spec.method)
    method: Method = kind(new_encoder(job, settings), settings, len(job.origin.classes))
    judged = method.judged()
    if not isinstance(judged, Encoder):
        raise Broken(f"{kind.__name__}.judged() gives {type(judged).__name__}, not an Encoder")
    return method


def new_encoder(job: Job, settings: Settings) -> Encoder:
    """An encoder fitted to the pretraining data, with random weights or those it starts from; raises UserError."""
    spec, images, given = job.pretraining, job.origin.fit.images, job.cell.given
    patch = int(spec.backbone_settings["patch"])
    if given is None:
        trunk_of(spec.backbone)  # a control that builds no network stands under no false name either

    def default() -> Encoder:
        if given is not None:
            return given.encoder(job.origin.size, patch, trained=bool(spec.init))[0]
        mean, std = pixel_statistics(images)
        return build(spec.backbone, size=job.origin.size, channels=images.shape[1], mean=mean, std=std, patch=patch)

    return load(job.cell.method).make_encoder(default, images, settings)


@lru_cache(maxsize=2)  # every cell and its check ask for those of the same images
def pixel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, (C,), in 0..1, of 5,000 to 9,999 uint8 images (N, C, S, S), evenly spaced."""
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)  # of each value in each channel
    for piece in images[:: max(len(images) // 5000, 1)].split(PIECE):
        counts += torch.stack([channel.flatten().bincount(minlength=256) for channel in piece.unbind(1)])
    values, total = torch.arange(256).double() / 255, counts.sum(1)
    mean = (counts * values).sum(1) / total
    variance = (counts * (values - mean[:, None]).square()).sum(1) / (total - 1)
    return mean.float(), variance.sqrt().float().clamp(min=1e-3)


def trained_encoder(job: Job) -> tuple[Encoder, Trained, dict[str, Any]]:
    """The pretrained encoder of a cell, trained now or found in the cache, how it went, and what made what where.

    What is found goes into the network that the method judges before training, whatever its shape.
    """
    made_by = code.of_encoder(job.pretraining, job.cell.method)
    weights = _weights(job.cache, job.pretraining, made_by)
    story = weights.with_suffix(".json")
    as_given = job.pretraining.budget is None and job.pretraining.init  # its weights are where they come from
    told = _told(story)
    kept = read_tensors(weights, str(job.device)) if told and not as_given else None
    if told and (kept or as_given):
        encoder = _untrained(job).judged().to(job.device)
        done, made = told
        try:
            if kept:
                encoder.load_state_dict(kept)
        except RuntimeError as error:  # weights of code that built another network under this name
            drop(weights, error)
        else:
            return encoder, done, made | {"built": encoder.summary(job.origin.size)}
    method, run = assemble(job)
    done = Trained(0, 0, 0, 0, 0, []) if run is None else _train(job, run, weights.with_suffix(".partial"))
    most = min(diagnostics.MEASURED, run.recipe.batch) if run else diagnostics.MEASURED  # what training had room for
    found = diagnostics.measure(method, job.origin.select, job.pretraining.seed, job.origin.ignore_index, most)
    warning = diagnostics.warning(done.log, method.chance(run.recipe.batch), found) if run else ""
    origin = _origin(job)
    lacks = [*origin["missing"], *origin["misshaped"]] if as_given else []
    if lacks:
        warning = f"its file has not {', '.join(lacks[:3])} ({len(lacks)} in all), which are as they start"
    done = replace(done, measures=found, warning=warning)
    encoder = method.judged()
    made = {**commit(), **environment(job.device), "code": made_by, "weights": weights_digest(encoder)}
    made |= {"given": origin} if origin else {}
    made |= {"built": encoder.summary(job.origin.size), "pooling": encoder.poolings[0]}
    if not as_given:
        write_tensors(weights, encoder.state_dict())
    architecture = encoder.architecture and asdict(encoder.architecture)
    told_now = {"trained": asdict(done), "made": made, "architecture": architecture}
    write_bytes(story, json.dumps(told_now).encode())
    weights.with_suffix(".partial").unlink(missing_ok=True)
    return encoder, done, made


def _origin(job: Job) -> dict[str, Any]:
    """Of weights that were given: whose they are, the world they were trained in, and how they fit the network."""
    given, spec = job.cell.given, job.pretraining
    if given is None or not spec.init:
        return {}
    matched = given.encoder(job.origin.size, int(spec.backbone_settings["patch"]))[1]
    world = {"layout": given.layout, "size": given.size, "mean": list(given.mean), "std": list(given.std)}
    return {"name": given.name, **world, **asdict(matched)}


def _told(story: Path) -> tuple[Trained, dict[str, Any]] | None:
    """How a training went and what made it where; None where nothing is, or a cut off file, which is dropped."""
    try:
        told = json.loads(story.read_bytes()) if story.exists() else None
        return (Trained(**told["trained"]), told["made"]) if told else None
    except (ValueError, KeyError, TypeError) as error:
        drop(story, error)
        return None


def _train(job: Job, run: Loop, checkpoint: Path) -> Trained:
    """What the method must learn first, then the training itself, with pictures along the way.

    Raises no UserError. `checkpoint` stays until the encoder is written.
    """
    spec, method = job.pretraining, run.method
    assert spec.budget is not None
    job.tell("preparing")
    images = job.origin.fit.images
    owner = f"{spec.owner} {code.of_method(job.cell.method)}"
    of_what = spec.data.digest() + (f" {spec.share} {spec.seed}" if spec.share else "")
    try:
        seconds = artifacts.prepare(method, images, job.cache / "artifacts", owner, of_what, spec.seed)
        method.to(job.device)  # artifacts come on the CPU
        log = steplog.begin(steplog.file_of(job.cache, spec), spec)
        watcher = Watcher(job.tell, partial(_look, job, run, []), job.judge_every, log)
        done = pretrain(run, spec.budget, checkpoint, watcher)
    except UserError as error:  # too late to refuse the command: the other cells go on
        raise RuntimeError(str(error)) from error
    return replace(done, prepare_seconds=seconds)


def _look(job: Job, run: Loop, warned: list[str], step: int, progress: float) -> dict[str, float]:
    """A picture, and how it fares. A collapse is said once, and raises RuntimeError where that is to stop it."""
    spec, method = job.pretraining, run.method
    shown = job.origin.select.images[: pictures.IMAGES]
    pictures.keep(method, shown, picture_folder(job.cache, spec), spec.seed, step)
    most = min(diagnostics.MEASURED, run.recipe.batch)
    found = diagnostics.watch(method, job.origin.select, spec.seed, job.origin.ignore_index, most)
    if job.judge_every and "select_knn" in found:
        told = f"neighbours tell the class of {found['select_knn']:.1f} % of held-out images"
        job.say(f"{spec.method}, seed {spec.seed}: step {step}: {told}")
    if said := diagnostics.collapsing(found, progress):
        if job.stop_collapsed:
            raise RuntimeError(f"collapsed at step {step}: {said}")
        if progress < 1 and not warned:  # at the end the record's warning says it
            warned.append(said)
            job.say(f"{spec.method}, seed {spec.seed}: it looks collapsed at step {step}: {said}")
    return found


def pictured(job: Job) -> list[Path]:
    """The pictures of a cell's pretraining in the order of their steps; trained now where it or they are missing."""
    folder = picture_folder(job.cache, job.pretraining)
    if not pictures.of(folder):  # a cache from before there were pictures has the encoder alone
        made_by = code.of_encoder(job.pretraining, job.cell.method)
        _weights(job.cache, job.pretraining, made_by).unlink(missing_ok=True)
    trained_encoder(job)
    return pictures.of(folder)


def forget(cache: Path, pretrainings: Iterable[Pretraining]) -> None:
    """Drop their cached encoders and pictures, and all artifacts and features: a rerun makes them anew."""
    for folder in ("artifacts", "features"):
        for file in (cache / folder).glob("[!.]*"):  # what begins with a dot is being written
            file.unlink(missing_ok=True)
    for spec in pretrainings:
        for file in (cache / "encoders").glob(f"{spec.digest()}.*"):
            file.unlink(missing_ok=True)
        shutil.rmtree(picture_folder(cache, spec), ignore_errors=True)


def picture_folder(cache: Path, spec: Pretraining) -> Path:
    """Where the pictures of a pretraining lie, a file a step."""
    return cache / "pictures" / spec.digest()


def _weights(cache: Path, spec: Pretraining, made_by: str) -> Path:
    return cache / "encoders" / f"{spec.digest()}.{made_by}.safetensors"
