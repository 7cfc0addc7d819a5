"""The one training loop: a straight line. Views are made on the device, terms are read every `log` steps.

All randomness of a step is derived from the seed and the step's number, so an interrupted run goes on as if it had not
been.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ssbench.data import Split
from ssbench.errors import Broken, UserError
from ssbench.method import Batch, Method, View
from ssbench.results.store import drop, replacing
from ssbench.rng import derive, onto
from ssbench.spec import Budget, Train
from ssbench.training import optimisers
from ssbench.training.views import cut

IN_MEMORY = 2 * 2**30  # bytes of images that a device keeps beside the network
LOG = 50  # steps between readings of the loss: each one waits for the device
SAVE = 30.0  # seconds between checkpoints
COUNTED = (1 / 8, 3 / 8, 5 / 8, 7 / 8)  # shares of the budget at which FLOPs are counted
LOOKS = (0.0, 0.25, 0.5, 0.75)  # shares of the budget at which it is looked at; the end is another
Look = Callable[[int, float], dict[str, float]]  # at a step and a share of the budget; gives numbers for the log
Note = Callable[[Literal["loss", "health"], dict[str, float]], None]


@dataclass(frozen=True)
class Watcher:
    """Who is told how a training goes. Nothing of it changes what is trained."""

    tell: Callable[[str], None] = lambda text: None  # a line at each reading of the loss
    look: Look | None = None  # at quarters of the budget; it must leave the method as it is
    every: int = 0  # steps between looks besides the quarters; 0: no others
    note: Note = lambda of, point: None  # each reading and each look, what an interrupted run had included

    def again(self, log: list[dict[str, float]], health: list[dict[str, float]]) -> None:
        """Note what an interrupted run had."""
        for point in log:
            self.note("loss", point)
        for point in health:
            self.note("health", point)

    def due(self, step: int, before: float, progress: float) -> bool:
        """Whether to look now; `before` is the progress at the step before."""
        often = self.every > 0 and step > 0 and step % self.every == 0
        return self.look is not None and (often or any(before < share <= progress for share in LOOKS))

    def looked(self, step: int, progress: float, clipped: float) -> list[dict[str, float]]:
        """What is seen at a step, with the share of gradients that were clipped since the last look; none: no look."""
        found = [{"step": step, "clipped": clipped, **self.look(step, progress)}] if self.look else []
        for point in found:
            self.note("health", point)
        return found


@dataclass(frozen=True)
class Trained:
    """What a pretraining cost and how it went. It is cached as JSON: a new field needs a default."""

    steps: int
    images: int
    views: float
    seconds: float
    gflops: float
    log: list[dict[str, float]]
    prepare_seconds: float = 0.0
    measures: dict[str, float] = field(default_factory=dict)
    warning: str = ""
    health: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Loop:
    """What every step needs and none changes."""

    method: Method
    images: Tensor  # uint8 (N, C, L, L), on the device unless they are more than memory should hold
    whole: Tensor  # the same at the size that is judged, uint8 (N, C, S, S)
    labels: Tensor | None
    recipe: Train
    seed: int
    autocast: torch.dtype | None
    device: torch.device
    log: int = LOG
    save: float = SAVE

    def batch(self, step: int, progress: float) -> Batch:
        """The views of one step. Each epoch is one shuffle; its last part, less than a batch, is left out."""
        count, size = len(self.images), self.recipe.batch
        batches = count // size
        epoch, at = divmod(step, batches)
        index = _shuffle(count, derive(self.seed, "order", epoch))[at * size : (at + 1) * size]
        pixels = onto(self.images[onto(index, self.images.device)], self.device).float() / 255  # (B, C, S, S)
        encoder = self.method.encoder
        numbered = [view for view in self.method.views for _ in range(view.count)]
        made = [
            cut(view, pixels, derive(self.seed, f"views{k}", step), encoder.patch or 1, self.whole.shape[-1])
            for k, view in enumerate(numbered)
        ]
        views, boxes = [encoder.normalise(pixels) for pixels, _ in made], [onto(box, self.device) for _, box in made]
        masks = torch.Generator().manual_seed(derive(self.seed, "masks", step))
        index = onto(index, self.device)
        labels = self.labels[index] if self.labels is not None else None
        return Batch(views, index, labels, masks, progress, step, epoch, batches, boxes)

    def begin(self, step: int) -> None:
        """Before the first step of each epoch."""
        epoch, at = divmod(step, len(self.images) // self.recipe.batch)
        if at == 0:
            with undisturbed(self.method, derive(self.seed, "epoch", epoch)):
                self.method.before_epoch(epoch, self.whole)

    def terms(self, step: int, progress: float) -> dict[str, Tensor]:
        """The loss terms of one step, under the autocast asked for and the step's own seed (dropout, drop path)."""
        torch.manual_seed(derive(self.seed, "network", step))
        batch = self.batch(step, progress)
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            return self.method.loss(batch)


@lru_cache(maxsize=1)
def _shuffle(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def loop(method: Method, split: Split, recipe: Train, seed: int, precision: str, device: torch.device) -> Loop:
    """Put the method and the images on the device; raises UserError when there are fewer images than a batch."""
    if len(split) < recipe.batch:
        text = f"train.batch={recipe.batch} is more than the {len(split)} training images"
        raise UserError(f"{text}: --set train.batch={max(2, len(split) // 2)}, or less")
    labels = split.targets["label"].to(device) if method.supervised else None
    autocast = torch.bfloat16 if precision == "bf16" else None
    method = method.to(device)
    return Loop(method, resident(split.crops, device), split.images, labels, recipe, seed, autocast, device)


def resident(images: Tensor, device: torch.device) -> Tensor:
    """Images on the device where they leave it room, at most half of what is free; else where they are."""
    room = IN_MEMORY
    if device.type == "cuda":  # what torch keeps for later use is free too
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        room = min(room, (torch.cuda.mem_get_info(device)[0] + kept) // 2)
    return images.to(device) if images.nbytes <= room else images


def total_steps(budget: Budget, images: int, batch: int, flops_a_step: float) -> int | None:
    """How many steps a budget allows, at least one; None where only the clock can tell."""
    steps = {
        "steps": budget.amount,
        "samples": budget.amount / batch,
        "epochs": budget.amount * (images // batch),
        "flops": budget.amount / flops_a_step,
    }
    return max(1, math.floor(steps[budget.unit])) if budget.unit in steps else None


def flops_a_step(run: Loop) -> float:
    """FLOPs of a step with its backward pass and `after_step`, 2 a multiply-add, by torch's counter.

    They are the mean over a step in each quarter of the budget, since what a step computes may follow a schedule. The
    method is left as it was. Raises Broken unless the terms are named scalars, their gradient reaches the encoder, and
    the loss is the same once the state is put back.
    """
    method = run.method
    _check_views(method)
    _check_chance(method, run.recipe.batch)
    state, seen = deepcopy(method.state_dict()), list[dict[str, float]]()
    with FlopCounterMode(display=False) as counter:
        for step, progress in enumerate(COUNTED):
            terms = _checked(run.terms(step, progress), method)
            seen.append(_values(terms))
            loss = total(terms)
            if loss.requires_grad:
                loss.backward()
            method.before_step(progress)
            method.after_step(progress)
    reached = any(weight.grad is not None for part in (method.encoder, method.judged()) for weight in part.parameters())
    method.zero_grad(set_to_none=True)
    if not reached:
        raise Broken(f"no gradient of {type(method).__name__}.loss reaches the encoder, which would stay as it is")
    _put_back(run, state, seen)
    return float(counter.get_total_flops()) / len(COUNTED)


def _check_views(method: Method) -> None:
    views: object = method.views
    found = views if isinstance(views, list | tuple) else [views]
    if not found or not all(isinstance(view, View) for view in found) or found is not views:
        held = ", ".join(dict.fromkeys(type(view).__name__ for view in found)) or "empty"
        raise Broken(f"{type(method).__name__}.views is no list of View: {held}")


def _check_chance(method: Method, images: int) -> None:
    found: object = method.chance(images)
    values = found.values() if isinstance(found, dict) else [math.nan]
    if not all(isinstance(value, float | int) and math.isfinite(value) for value in values):
        raise Broken(f"{type(method).__name__}.chance gives {found!r}, not a dict of named finite numbers")


def _checked(terms: object, method: Method) -> dict[str, Tensor]:
    """What a loss gave; raises Broken unless it is named, finite scalars."""
    loss = f"{type(method).__name__}.loss"
    if not isinstance(terms, dict) or not terms:
        came = "an empty dict" if isinstance(terms, dict) else f"a {type(terms).__name__}"
        raise Broken(f"{loss} gives {came}, not a dict of named scalar tensors")
    for name, term in terms.items():
        if not isinstance(name, str) or not isinstance(term, Tensor) or term.ndim:
            came = f"a tensor of shape {tuple(term.shape)}" if isinstance(term, Tensor) else f"a {type(term).__name__}"
            raise Broken(f"{loss} gives {came} as {name!r}, not a dict of named scalar tensors")
        if not term.isfinite():
            raise Broken(f"{loss} gives {float(term.detach())} as {name!r} before anything is trained")
    return terms


def _put_back(run: Loop, state: dict[str, Any], seen: list[dict[str, float]]) -> None:
    """Load the state from before the counted steps; raises Broken unless they then give again what they gave.

    Afterwards the state is that from before.
    """
    name = type(run.method).__name__
    try:
        more = BytesIO()  # what a checkpoint can hold of what is no tensor
        torch.save({key: value for key, value in state.items() if not isinstance(value, Tensor)}, more)
        torch.load(BytesIO(more.getvalue()), weights_only=True)
        run.method.load_state_dict(state)
    except Exception as error:  # a method's own state may fail in any way
        what = str(error).splitlines()[-1].strip()
        raise Broken(f"the state of {name} can't be put back, so no interrupted run could go on: {what}") from error
    close = 1e-4 if run.autocast is None else 1e-2  # atomic additions of a GPU differ by less
    for step, (progress, first) in enumerate(zip(COUNTED, seen)):
        again = _values(run.terms(step, progress))
        run.method.after_step(progress)
        changed = [key for key in first if not math.isclose(first[key], again.get(key, math.nan), rel_tol=close)]
        if changed:
            term, then = first[changed[0]], again.get(changed[0], math.nan)
            raise Broken(
                f"{name}.loss gives another {changed[0]!r} ({term:.6g}, then {then:.6g}) after its state is put back:"
                " it keeps some outside of parameters, persistent buffers and extra state, or draws numbers from"
                " elsewhere than torch; an interrupted run would end otherwise"
            )
    run.method.load_state_dict(state)


def _values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(term.detach()) for name, term in terms.items()}


@contextmanager
def undisturbed(method: Method, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradient, random numbers from `seed`; afterwards modes and random state are as they were."""
    where = method.encoder.mean.device
    modes = {module: module.training for module in method.modules()}
    with torch.random.fork_rng([where] if where.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        method.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack([term.float() for term in terms.values()]).sum()


def pretrain(run: Loop, budget: Budget, checkpoint: Path, watcher: Watcher = Watcher()) -> Trained:
    """Train the method for the budget. `checkpoint` is where an interrupted run left off; it stays, for what is
    made of it still has to be written."""
    method, recipe = run.method.train(), run.recipe
    flops = flops_a_step(run)
    steps = total_steps(budget, len(run.images), recipe.batch, flops)
    optimiser = optimisers.optimiser(method.groups(recipe.weight_decay), recipe)
    step, spent, log, health, before = _resume(checkpoint, method, optimiser)
    watcher.again(log, health)
    started = saved = time.perf_counter()
    sums, cut = dict[str, Tensor](), torch.zeros((), device=run.device)  # `cut`: steps whose gradient was clipped
    seen = step  # steps before the last look
    while True:
        if steps is None and run.device.type != "cpu":
            torch.accelerator.synchronize()  # a budget of seconds is of the device's, which the host runs ahead of
        elapsed = spent + time.perf_counter() - started
        progress = step / steps if steps else elapsed / budget.amount
        if progress >= 1:
            break
        if watcher.due(step, before, progress):
            clipped, stopped = float(cut) / max(step - seen, 1), time.perf_counter()  # the former waits for the device
            health += watcher.looked(step, progress, clipped)
            cut, seen = torch.zeros_like(cut), step
            started += time.perf_counter() - stopped  # the clock of the budget stands still
        before = progress
        optimisers.schedule(optimiser, recipe, progress)
        run.begin(step)
        terms = run.terms(step, progress)
        total(terms).backward()
        method.before_step(progress)
        cut += optimisers.clip([*method.parameters()], recipe)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        method.after_step(progress)
        step += 1
        sums = {name: sums.get(name, 0) + term.detach() for name, term in terms.items()}
        if step % run.log == 0 or step == steps:
            log.append(_read(sums, step, 1 + (step - 1) % run.log))
            watcher.note("loss", log[-1])
            sums = {}
            watcher.tell(_line(log[-1], step, steps, progress, elapsed, recipe.batch))
            if time.perf_counter() - saved > run.save:
                _save(
                    checkpoint, method, optimiser, (step, spent + time.perf_counter() - started, log, health, progress)
                )
                saved = time.perf_counter()
    if sums:  # a budget of seconds ends between two readings
        log.append(_read(sums, step, 1 + (step - 1) % run.log))
        watcher.note("loss", log[-1])
    elapsed = spent + time.perf_counter() - started  # once more: reading the terms has waited for the device
    _save(checkpoint, method, optimiser, (step, elapsed, log, health, 1.0))
    health += watcher.looked(step, 1.0, float(cut) / max(step - seen, 1))
    views = sum(view.count for view in method.views)
    return Trained(step, step * recipe.batch, views, elapsed, flops * step / 1e9, log, health=health)


def _read(sums: dict[str, Tensor], step: int, count: int) -> dict[str, float]:
    """Mean of each term since the last reading; raises RuntimeError when one is not finite."""
    values = {name: float(value) / count for name, value in sums.items()}
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise RuntimeError(f"the loss term {broken[0]} is not finite at step {step}: lower train.lr or train.clip")
    return {"step": step, **values}


def _line(terms: dict[str, float], step: int, steps: int | None, progress: float, elapsed: float, batch: int) -> str:
    loss = " ".join(f"{name} {value:.3f}" for name, value in terms.items() if name != "step")
    left = elapsed * (1 - progress) / progress if progress else 0
    return f"step {step}/{steps or '?'}  {loss}  {step * batch / max(elapsed, 1e-9):.0f} images/s  {left:.0f} s left"


# steps done, seconds spent, the log, how it fared, and the progress that the last step had: what is looked at is known
Story = tuple[int, float, list[dict[str, float]], list[dict[str, float]], float]


def _save(file: Path, method: Method, optimiser: torch.optim.Optimizer, story: Story) -> None:
    with replacing(file) as path:
        torch.save({"method": method.state_dict(), "optimiser": optimiser.state_dict(), "story": story}, path)


def _resume(file: Path, method: Method, optimiser: torch.optim.Optimizer) -> Story:
    """How far an interrupted training came; a progress of -1 where there is none. Raises RuntimeError."""
    nothing: Story = 0, 0.0, [], [], -1.0
    if not file.exists():
        return nothing
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # what is cut off fails in many ways
        drop(file, error)
        return nothing
    try:
        method.load_state_dict(state["method"])
        optimiser.load_state_dict(state["optimiser"])
        story: Story = state["story"]
        return story
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # what is of other code fails in any way
        text = "the interrupted run left there does not fit this code: remove the file, and the run starts again"
        raise RuntimeError(f"{file}: {text}") from error
