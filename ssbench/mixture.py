"""One encoder trained on the weighted sum of several methods' losses."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.errors import UserError
from ssbench.method import Batch, Cached, Method, View
from ssbench.registry import Entry, load
from ssbench.settings import Settings as Base
from ssbench.settings import make, setting


class Mixture(Method):
    """The sum of the parts' terms, each times its part's weight; heads, teachers and queues are each part's own.

    Views that are equal are made once and seen by all that want them. Masks are those that each part would draw alone.
    The first part leads: its recipe is the mixture's, and the network that it judges is judged.
    """

    entries: tuple[Entry, ...] = ()

    class Settings(Base):
        weights: dict[str, float] = setting({}, "factor of each part's loss", source="project: 1")
        parts: dict[str, dict[str, Any]] = setting({}, "settings and version of each part", source="the parts' own")

    settings: Settings

    def build(self) -> None:
        for name, weight in self.settings.weights.items():
            if not weight > 0:
                raise UserError(f"mix.{name}={weight:g}: a weight is above zero; leave the method out instead")
        parts = {}
        for entry in self.entries:
            kind, free = load(entry), [(name, p) for name, p in self.encoder.named_parameters() if p.requires_grad]
            parts[entry.name] = kind(
                self.encoder, make(kind.Settings, self.settings.parts[entry.name]["settings"], entry.name), self.classes
            )
            if held := [name for name, parameter in free if not parameter.requires_grad]:
                raise UserError(
                    f"{entry.name} holds {held[0]} of the encoder still, which other parts train: change that in its"
                    f" settings (ssbench describe {entry.name})"
                )
        self.parts = nn.ModuleDict(parts)

    def each(self) -> list[tuple[str, Method]]:
        return [(name, part) for name, part in self.parts.items() if isinstance(part, Method)]

    @property
    def views(self) -> list[View]:
        """Each different view as often as the part that wants most of it."""
        wanted: dict[View, int] = {}
        for _, part in self.each():
            for view, count in _counted(part.views).items():
                wanted[view] = max(wanted.get(view, 0), count)
        return [view for view, count in wanted.items() for _ in range(count)]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        terms, made = dict[str, Tensor](), self.views
        for name, part in self.each():
            seen = _places(part.views, made)
            generator = torch.Generator().manual_seed(batch.generator.initial_seed())
            own = replace(
                batch,
                views=[batch.views[at] for at in seen],
                boxes=[batch.boxes[at] for at in seen] if batch.boxes else [],
                labels=batch.labels if part.supervised else None,
                generator=generator,
            )
            weight = self.settings.weights[name]
            terms |= {f"{name}.{term}": weight * value for term, value in part.loss(own).items()}
        return terms

    def prepare(self, images: Tensor, cached: Cached) -> None:
        for _, part in self.each():
            part.prepare(images, cached)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Those of the parts; what several have, such as the encoder, is in the first one's alone."""
        found, taken = [], set[int]()
        for _, part in self.each():
            for group in part.groups(weight_decay):
                fresh = [weight for weight in group["params"] if id(weight) not in taken]
                taken |= {id(weight) for weight in fresh}
                found += [{**group, "params": fresh}] if fresh else []
        return found

    def before_epoch(self, epoch: int, images: Tensor) -> None:
        for _, part in self.each():
            part.before_epoch(epoch, images)

    def before_step(self, progress: float) -> None:
        for _, part in self.each():
            part.before_step(progress)

    def after_step(self, progress: float) -> None:
        for _, part in self.each():
            part.after_step(progress)

    def judged(self) -> Encoder:
        return self.each()[0][1].judged()

    def chance(self, images: int) -> dict[str, float]:
        weights = self.settings.weights
        return {f"{name}.{k}": weights[name] * v for name, part in self.each() for k, v in part.chance(images).items()}

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        found = [(name, part.measures(images, objects)) for name, part in self.each()]
        return {f"{name}.{key}": value for name, measured in found for key, value in measured.items()}

    def picture(self, images: Tensor) -> Tensor | None:
        drawn = (part.picture(images) for _, part in self.each())
        return next((panels for panels in drawn if panels is not None), None)


def _counted(views: list[View]) -> dict[View, int]:
    """How many of each view are wanted, whatever its `count` says."""
    counts: dict[View, int] = {}
    for view in views:
        one = replace(view, count=1)
        counts[one] = counts.get(one, 0) + view.count
    return counts


def _places(wanted: list[View], made: list[View]) -> list[int]:
    """Where each of the wanted views stands among those that are made: the n-th of a kind is the n-th made."""
    places, used = [], dict[View, int]()
    for kind in (replace(view, count=1) for view in wanted for _ in range(view.count)):
        places.append([place for place, one in enumerate(made) if one == kind][used.get(kind, 0)])
        used[kind] = used.get(kind, 0) + 1
    return places


def mixed(entries: tuple[Entry, ...]) -> type[Mixture]:
    """The class of a mixture of these methods; raises UserError where one can't be part of any."""
    kinds = {entry.name: load(entry) for entry in entries}
    for entry in entries:
        kind = kinds[entry.name]
        if not kind.trains or "make_encoder" in vars(kind):
            raise UserError(f"{entry.name} can't be mixed: it trains nothing, or a network of its own")
    known = {"entries": entries, "supervised": any(kind.supervised for kind in kinds.values())}
    return type("Mixture", (Mixture,), {**known, "recipes": kinds[entries[0].name].recipes, "__doc__": Mixture.__doc__})
