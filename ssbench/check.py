"""Everything that can be wrong with a command, before anything is trained or written, and what it will cost."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from ssbench.data.needs import refuse_copies, refuse_targets
from ssbench.encoders.encoder import Encoder
from ssbench.errors import NotApplicable, UserError, one_line
from ssbench.features import represent
from ssbench.line import bench
from ssbench.method import Method
from ssbench.plan import Cell
from ssbench.registry import Entry, load, own_line
from ssbench.settings import make
from ssbench.task import Work
from ssbench.training.loop import Loop, flops_a_step, total, total_steps
from ssbench.training.trained import assemble
from ssbench.training.views import side_of
from ssbench.windows import Windowed, misfit
from ssbench.workshop import Job, Workshop

LOOKED_AT = 8  # images that show whether features are alive
TIMED = 256  # images of a timed forward pass
PRODUCT = 128, 1024  # rows and columns of a timed product, about those of a step of a probe
ALIKE = 1e-6  # of the largest feature: rounding


def check(cells: list[Cell], shop: Workshop) -> None:
    """Raises UserError for the first thing that is wrong with any cell.

    A method that fails in another way, such as a plugin's, is left to `execute`, which records its cells as failed.
    """
    seen = set()
    for cell in cells:
        job = shop.open(cell)
        refuse_targets(cell.task.name, load(cell.task).needs, cell.data, job.judged, cell.data_settings)
        if not cell.spec.trial:  # whose test is select
            refuse_copies(shop.copied(job), len(job.judged.test), cell.test_on or cell.data, cell.data_settings)
        channels = job.judged.fit.images.shape[1], job.origin.fit.images.shape[1]
        if channels[0] not in (1, channels[1]):  # grey is seen by each channel
            raise UserError(f"{cell.data} has {channels[0]} channels and {cell.pretrain_on} has {channels[1]}")
        window = _window(cell)
        pretraining = job.pretraining.model_copy(update={"seed": 0}).digest()
        key = pretraining, job.judged.size, str(cell.spec.reading), window
        if key not in seen:
            seen.add(key)
            try:
                method, run = assemble(job)
                encoder = method.judged()
                _try_channels(encoder, job)
                _try_sizes(encoder, job)
                if run is not None:
                    _try_views(method, job)
                encoder.read(**cell.spec.reading)
                if said := misfit(encoder, job.judged.size, window):
                    name = job.pretraining.backbone
                    raise UserError(f"{cell.task.name}.window={window}: {name} can't be read in such windows: {said}")
                if cell.spec.pretraining.init and cell.spec.pretraining.budget is None:
                    _try_features(encoder, job)
            except UserError:
                raise
            except Exception:  # what does not apply or fails: its cells meet it again
                continue


def _window(cell: Cell) -> int:
    """The windows that its task reads maps of, 0 of those that read no such."""
    settings = make(load(cell.task).Settings, cell.spec.task_settings, cell.task.name)
    return settings.window if isinstance(settings, Windowed) else 0


def _try_channels(encoder: Encoder, job: Job) -> None:
    """Grey images are seen by each channel of an encoder; raises UserError for others than it takes."""
    wanted, has = encoder.mean.shape[1], job.judged.fit.images.shape[1]
    if has not in (1, wanted):
        name = job.pretraining.backbone
        raise UserError(f"{name} takes images of {wanted} channels, and those of {job.cell.data} have {has}")


def _try_features(encoder: Encoder, job: Job) -> None:
    """A few images through a given encoder; raises UserError where its features are dead."""
    images = job.judged.select.images[:: max(len(job.judged.select) // LOOKED_AT, 1)][:LOOKED_AT]
    for name, found in represent(encoder.to(job.device), images, encoder.readings).items():
        spread = (found - found[:1]).abs().max()
        dead = {
            "not finite": not found.isfinite().all(),
            "all zero": not found.any(),
            "the same for every image": spread <= ALIKE * found.abs().max(),
        }
        if said := next((what for what, so in dead.items() if so), ""):
            raise UserError(
                f"{job.pretraining.backbone}: its features ({name}) are {said} on {len(found)} images of "
                f"{job.cell.data}: its weights are not what they should be, or its mean, deviation or size are others"
            )


def _try_sizes(encoder: Encoder, job: Job) -> None:
    """Raises UserError where the backbone can't take the images of the data."""
    for size in sorted({job.judged.size, job.origin.size}):
        if said := refusal(encoder, size, job.cell.method):
            raise UserError(f"{job.pretraining.backbone} can't take images of {size} px ({said}); set data.image_size")


def _try_views(method: Method, job: Job) -> None:
    """Raises UserError where the backbone can't take a view of the method's, which may be smaller than the images."""
    for size in sorted({side_of(view, job.origin.size, method.encoder.patch or 1) for view in method.views}):
        if said := refusal(method.encoder, size, job.cell.method):
            name, backbone = job.cell.method.name, job.pretraining.backbone
            raise UserError(
                f"{name} has views of {size} px, which {backbone} can't take beside images of {job.origin.size} px "
                f"({said}); take a backbone whose image size is not fixed, such as vit-nano"
            )


def refusal(encoder: Encoder, size: int, *methods: Entry) -> str:
    """What an encoder says of one blank image of a size that it can't take, in one line; empty where it takes it.

    Raises what arises in a method's own file, which is no backbone's fault.
    """
    blank = encoder.mean.new_zeros(1, encoder.mean.shape[1], size, size)
    try:
        represent(encoder, blank, encoder.readings)
    except NotApplicable:
        return ""
    except Exception as error:  # timm's networks refuse sizes in ways of their own
        if own_line(error, methods):
            raise
        return one_line(error)
    return ""


def estimate(job: Job) -> float:
    """Seconds that a cell's pretraining will take, from three timed steps after one. Raises as `assemble` does."""
    try:
        method, run = assemble(job)
    except NotApplicable:
        return 0.0
    budget = job.pretraining.budget
    if run is None or budget is None:
        return 0.0
    method.train()
    flops = flops_a_step(run)  # whatever the budget: it says what is wrong with the method
    if budget.unit == "seconds":
        return budget.amount
    times = [_timed_step(run, step) for step in range(4)]
    return (total_steps(budget, len(run.images), run.recipe.batch, flops) or 0) * sum(times[1:]) / 3


def task_seconds(job: Job, seen: set[str]) -> float:
    """Seconds that a cell's task will take, from what it counts, a timed forward pass and a timed product.

    Features that a pretraining in `seen` has made already cost nothing; it is added. Raises as `assemble` does.
    """
    encoder = assemble(job)[0].judged().to(job.device)
    task = load(job.cell.task)(make(load(job.cell.task).Settings, job.cell.spec.task_settings, job.cell.task.name))
    work: Work = task.work(bench(job, encoder))
    images = job.judged.fit.images[:TIMED]
    forward = _timed(lambda: represent(encoder, images, lambda seen: {"v": encoder.pooled(seen)})) / len(images)
    some = torch.ones(*PRODUCT, device=job.device)
    product = _timed(lambda: float((some.T @ some)[0, 0])) / (2e-9 * PRODUCT[0] * PRODUCT[1] ** 2)  # s a GFLOP
    key = job.pretraining.digest() + job.judged.ref.digest() + str(work.forward > 0)
    fresh = 0 if key in seen else work.forward
    seen.add(key)
    return (fresh + work.changed + 3 * work.trained) * forward + work.gflops * product


def _timed(of: Callable[[], object]) -> float:
    of()
    started = time.perf_counter()
    of()
    return time.perf_counter() - started


def _timed_step(run: Loop, step: int) -> float:
    started = time.perf_counter()
    loss: Tensor = total(run.terms(step, 0.5))
    loss.backward()
    loss.item()
    return time.perf_counter() - started
