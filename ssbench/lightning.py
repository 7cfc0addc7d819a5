"""Methods written as Lightning modules, as rows of ssbench: `Adapted`.

Nothing of Lightning is imported here, so that modules of `lightning.pytorch` and of `pytorch_lightning` do alike: what
is asked of one is its `training_step` and, where it has them, hooks by their names. Their order is that of
pytorch_lightning 2.6, loops/training_epoch_loop.py and loops/optimization/automatic.py.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.errors import Broken, UserError
from ssbench.method import Batch, Method, View, same

PLAIN = (bool, int, float, str, type(None))
UNKNOWN = 10**6  # steps of a training whose first one has yet to tell how many there will be
MOVED = 1e-4  # share of a gradient by which it must change to count as changed: a GPU adds in any order


class Backbone(nn.Module):
    """Normalised images (B, C, H, W) -> pooled vectors (B, D) of an encoder; `num_features` is D, as in timm."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def num_features(self) -> int:
        return self.encoder.dim

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder.pooled(images)


class Trainer(SimpleNamespace):
    """What a module finds as `self.trainer`, by the names of Lightning's; AttributeError says what it has."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no {name!r} in ssbench's stand-in for Lightning's trainer: {', '.join(vars(self))}")


class Idle:
    """What hooks get as the optimiser: the groups that the module's own would have, which nothing steps."""

    def __init__(self, configure: Callable[[], Any]) -> None:
        self.configure = configure

    @cached_property
    def param_groups(self) -> list[dict[str, Any]]:
        found = self.configure()
        while isinstance(found, Mapping | Sequence):  # an optimiser, or one in the forms of configure_optimizers
            found = found["optimizer"] if isinstance(found, Mapping) else found[0]
        groups: list[dict[str, Any]] = found.param_groups
        return groups


class Adapted(Method):
    """Subclass, and let `module` give somebody's Lightning module around `self.backbone()`.

    Data, budget, optimiser, rates and their schedule are ssbench's: of `configure_optimizers` only hooks see anything.
    Labels are all 0, so that a detached online probe of two classes or more runs; what they reach is not trained.
    Raises UserError for a module that optimises by hand, or whose parameters have no shape yet; Broken where labels
    reach the encoder.
    """

    net: Any

    def module(self) -> nn.Module:
        """The Lightning module, around `self.backbone()`."""
        raise NotImplementedError(f"{type(self).__name__} has no module(self) that gives its Lightning module")

    @property
    def views(self) -> list[View]:
        """SimCLR's two for CIFAR-10 (google-research/simclr, README.md and data_util.py)."""
        return [View(count=2, crop=(0.08, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), grey=0.2)]

    def batch(self, batch: Batch) -> Any:
        """What `training_step` gets: lightly's (views, labels, names), with indices (B,) as names."""
        return batch.views, batch.labels, batch.index

    def step(self, batch: Any, number: int) -> Any:
        """The loss, or a mapping with it as "loss", of what `batch` gave; batches are numbered from 0 in an epoch."""
        call = self.net.training_step
        try:
            inspect.signature(call).bind(batch, number)
        except TypeError:  # it may leave the number out
            return call(batch)
        return call(batch, number)

    def backbone(self) -> Backbone:
        """`self.encoder` as a module from images to vectors. A teacher is a deepcopy of it."""
        return Backbone(self.encoder)

    def build(self) -> None:
        self.encoder.train()  # copies of it too, whatever had been read before
        self.net = self.module()
        self._resting = [part for part in self.net.modules() if not part.training]
        if not getattr(self.net, "automatic_optimization", True) and type(self).step is Adapted.step:
            raise UserError(
                f"{type(self.net).__name__} optimises by hand (automatic_optimization=False), and ssbench has its own"
                f" optimiser: give {type(self).__name__} a step(self, batch, number) that returns the loss alone"
            )
        self._epoch = -1  # that has begun
        self._labelled: list[str] | None = None  # what labels reach; None until it is known
        self._seen: Batch | None = None
        self._idle = Idle(lambda: self.net.configure_optimizers())
        self.net.trainer = self._trainer = _trainer(self._idle)
        self.net.log = self.net.log_dict = lambda *_, **__: None
        self.net.all_gather = lambda data, **_: data
        self._hook("setup", "fit")
        for name in ("configure_model", "on_fit_start", "on_train_start"):
            self._hook(name)
        for name, weight in self.net.named_parameters():
            if nn.parameter.is_lazy(weight):
                raise UserError(f"{type(self.net).__name__}.{name} has no shape yet: give its layer its width")
        self._born = _kept(self.net)

    def _hook(self, name: str, *words: Any) -> Any:
        hook = getattr(self.net, name, None)
        return hook(*words) if hook else None

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        self._seen = batch if self._labelled is None else None
        labels = torch.zeros_like(batch.index) if batch.labels is None else batch.labels
        if getattr(self.net, "device", labels.device) != labels.device:
            self.net.to(labels.device)  # it was moved already, but Lightning's `self.device` has not heard of it
        times = _times(batch)
        if batch.epoch != self._epoch and self._epoch >= 0:
            vars(self._trainer).update(times | {"current_epoch": self._epoch})  # the one that ends
            self._hook("on_train_epoch_end")
        vars(self._trainer).update(times)
        if batch.epoch != self._epoch:
            self._epoch = batch.epoch
            self._hook("on_train_epoch_start")
        theirs, number = self.batch(replace(batch, labels=labels)), batch.step % batch.batches
        for name in ("on_before_batch_transfer", "on_after_batch_transfer"):
            theirs = self._hook(name, theirs, 0) if hasattr(self.net, name) else theirs
        self._hook("on_train_batch_start", theirs, number)
        found = self.step(theirs, number)
        outputs = {**found} if isinstance(found, Mapping) else {"loss": found}
        loss = outputs.get("loss")
        if not isinstance(loss, Tensor):
            raise Broken(f"{type(self.net).__name__}.training_step gives no loss but {type(found).__name__}")
        outputs = {name: value.detach() if isinstance(value, Tensor) else value for name, value in outputs.items()}
        self._last = outputs, theirs, number
        self._hook("on_before_zero_grad", self._idle)
        return {"loss": loss.reshape(()) if loss.numel() == 1 else loss}

    def before_step(self, progress: float) -> None:
        for name in self._labelled or ():
            self.get_parameter(name).grad = None  # it would count in the norm that is clipped
        self._hook("on_after_backward")
        self._hook("on_before_optimizer_step", self._idle)

    def after_step(self, progress: float) -> None:
        self._trainer.global_step += 1
        self._hook("on_train_batch_end", *self._last)
        del self._last

    def before_epoch(self, epoch: int, images: Tensor) -> None:
        """Before the first, find what labels reach, on a batch that was counted; Broken where it is the encoder."""
        if self._seen is None:
            return
        labelled = [] if self.supervised else self._reached(self._seen)
        reached = [name for name in labelled if name.startswith("encoder.")]
        if reached:
            raise Broken(
                f"labels, which are all 0, reach the encoder ({reached[0]}) through {type(self.net).__name__}."
                f"training_step: leave them out, detach what they judge, or set supervised = True"
            )
        self._labelled, self._seen = labelled, None

    def _reached(self, batch: Batch) -> list[str]:
        """Names of the parameters whose gradient depends on the labels; the state is put back."""
        names, weights = zip(*((name, weight) for name, weight in self.named_parameters() if weight.requires_grad))
        state, found = deepcopy(self.state_dict()), []
        self.train()
        with torch.enable_grad():
            for labels in (torch.zeros_like(batch.index), torch.arange(len(batch.index)).to(batch.index) % 2):
                torch.manual_seed(0)
                loss = self.loss(replace(batch, labels=labels))["loss"]
                found.append(torch.autograd.grad(loss, weights, allow_unused=True))
                self.load_state_dict(state)
        pairs = [(name, a, b) for name, a, b in zip(names, *found) if a is not None and b is not None]
        return [name for name, a, b in pairs if (a - b).norm() > MOVED * a.norm()]

    def train(self, mode: bool = True) -> "Adapted":
        """As always, but what the module put into evaluation mode stays there (pytorch_lightning 2.2, CHANGELOG.md)."""
        super().train(mode)
        for part in self._resting if mode else ():
            part.training = False
        return self

    def get_extra_state(self) -> dict[str, Any]:
        """What has changed since the module was built: some of what it holds, it may never have set to anything."""
        born = self._born
        kept = {
            path: {name: value for name, value in own.items() if not same(value, born.get(path, {}).get(name, same))}
            for path, own in _kept(self.net).items()
        }
        return {
            "epoch": self._epoch,
            "labelled": self._labelled,
            "kept": {path: own for path, own in kept.items() if own},
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._epoch, self._labelled = state["epoch"], state["labelled"]
        for kept in (self._born, state["kept"]):
            _keep(self.net, kept, self.encoder.mean.device)


def _trainer(idle: Idle) -> Trainer:
    """The trainer as it is before the first step, which tells how many there will be."""
    return Trainer(
        current_epoch=0,
        global_step=0,
        world_size=1,
        num_devices=1,
        global_rank=0,
        local_rank=0,
        is_global_zero=True,
        training=True,
        validating=False,
        sanity_checking=False,
        accumulate_grad_batches=1,
        gradient_clip_val=None,
        gradient_clip_algorithm=None,
        strategy=SimpleNamespace(_lightning_optimizers=idle),
        optimizers=idle,
        lr_scheduler_configs=[],
        logger=None,
        loggers=[],
        callbacks=[],
        datamodule=None,
        progress_bar_callback=None,
    )


def _times(batch: Batch) -> dict[str, int]:
    """Where a step stands, and how many there will be by its share of the budget: exact but for a budget of seconds."""
    steps = max(round(batch.step / batch.progress), batch.step + 1) if batch.progress else UNKNOWN
    return {
        "current_epoch": batch.epoch,
        "global_step": batch.step,
        "num_training_batches": batch.batches,
        "estimated_stepping_batches": steps,
        "max_steps": steps,
        "max_epochs": math.ceil(steps / batch.batches),
    }


def _kept(net: nn.Module) -> dict[str, dict[str, Any]]:
    """What modules, and the plain objects in them, keep beside parameters and persistent buffers, by path and name."""
    internal = _internal(net)
    shared = {one.untyped_storage().data_ptr() for one in (*net.parameters(), *net.buffers())} - {0}
    found = {}
    for path, holder in _holders(net):
        own = {name: value for name, value in vars(holder).items() if _is_plain(value, shared)}
        if isinstance(holder, nn.Module):
            own |= {name: holder.get_buffer(name) for name in holder._non_persistent_buffers_set}
        found[path] = {name: _copied(value) for name, value in own.items() if name not in internal}
    return found


def _keep(net: nn.Module, kept: dict[str, dict[str, Any]], device: torch.device) -> None:
    """Put back what `_kept` gave; tensors where those are that they stand for, else on `device`."""
    holders = dict(_holders(net))
    for path, own in kept.items():
        for name, value in own.items():
            holder = holders[path]
            place = holder._buffers if name in getattr(holder, "_buffers", ()) else vars(holder)
            there = place.get(name)
            place[name] = _copied(value, there.device if isinstance(there, Tensor) else device)


def _holders(net: nn.Module) -> Iterator[tuple[str, Any]]:
    """Each module, and each object of a plain class that is an attribute of one, with its path."""
    for path, module in net.named_modules():
        yield path, module
        for name, value in vars(module).items():
            other = isinstance(value, type | ModuleType | Tensor | nn.Module | Mapping | Sequence | Trainer)
            if hasattr(value, "__dict__") and not other and not inspect.isroutine(value):
                yield f"{path}:{name}", value


def _internal(net: nn.Module) -> set[str]:
    """Names that modules have of torch and of Lightning."""
    base = next((kind for kind in type(net).__mro__ if kind.__name__ == "LightningModule"), nn.Module)
    return {*vars(base()), "trainer"}


def _is_plain(value: object, shared: set[int]) -> bool:
    """Whether a value can be kept: plain, a tensor that is no other name of a registered one, or made of those."""
    if isinstance(value, Tensor):
        return value.untyped_storage().data_ptr() not in shared and not (value.is_leaf and value.requires_grad)
    if type(value) is dict:
        return all(type(key) in PLAIN and _is_plain(one, shared) for key, one in value.items())
    if type(value) in (list, tuple):
        return all(_is_plain(one, shared) for one in value)  # type: ignore[attr-defined]
    return type(value) in PLAIN


def _copied(value: Any, device: torch.device | None = None) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to(device or value.device, copy=True)
    if isinstance(value, dict):
        return {key: _copied(one, device) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(one, device) for one in value)
    return value
