"""What the cells of one command share: the store, the device, the data sets that are in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ssbench import data
from ssbench.data import Dataset
from ssbench.data.elsewhere import judged_on
from ssbench.data.inner import inner
from ssbench.data.leaks import Copied, copied
from ssbench.data.shares import shared
from ssbench.data.understood import sentence
from ssbench.errors import UserError, one_line
from ssbench.plan import Cell
from ssbench.registry import load
from ssbench.results.store import Store
from ssbench.spec import DataRef, DataSettings, Pretraining

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One cell and what it works on, opened once and handed down."""

    cell: Cell
    origin: Dataset  # what is pretrained on
    judged: Dataset  # what is evaluated
    cache: Path
    device: torch.device
    tell: Tell
    say: Tell = lambda text: None
    stop_collapsed: bool = False
    judge_every: int = 0

    @property
    def pretraining(self) -> Pretraining:
        return self.cell.spec.pretraining


@dataclass
class Workshop:
    """What is opened for one cell and kept for the next."""

    store: Store
    device: torch.device = field(default_factory=lambda: device("auto"))
    tell: Tell = lambda text: None
    say: Tell = lambda text: None  # what stays on the screen
    stop_collapsed: bool = False  # a pretraining ends where it looks collapsed, and its cells fail
    judge_every: int = 0  # steps between looks at a training besides the quarters; 0: no others
    _datasets: dict[tuple[str, str], Dataset] = field(default_factory=dict)
    _inner: dict[str, Dataset] = field(default_factory=dict)  # of trials
    _shared: dict[tuple[str, str, int], Dataset] = field(default_factory=dict)  # the last one
    _copied: dict[tuple[str, ...], Copied] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """However the device is named, float32 is float32 there: no TensorFloat-32 in products and convolutions."""
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False  # these two go together; fp32_precision must not be mixed with them

    def open(self, cell: Cell) -> Job:
        """A cell with its data sets in memory; raises UserError where they can't be read."""
        origin = self._dataset(cell, cell.pretrain_on, cell.spec.pretraining.data)
        judged = self._dataset(cell, cell.data, cell.spec.data)
        if share := cell.spec.pretraining.share:
            part = origin.ref.digest(), share, cell.spec.pretraining.seed
            if part not in self._shared:  # cells of one stand together
                self._shared = {part: shared(origin, share, cell.spec.pretraining.seed)}
            origin = self._shared[part]
        if cell.spec.test_on:
            size = {"image_size": judged.size}  # as the encoder sees what it is fitted on
            ref = cell.spec.test_on.model_copy(update={"settings": cell.spec.test_on.settings | size})
            other = self._dataset(cell, cell.test_on, ref, cell.data_settings.model_copy(update=size))
            judged = judged_on(judged, other, cell.test_on, load(cell.task).needs)
        if cell.spec.trial:
            key = cell.spec.data.digest()
            judged = self._inner[key] = self._inner.get(key) or inner(judged)
        said = self.tell, self.say, self.stop_collapsed, self.judge_every
        return Job(cell, origin, judged, self.store.cache, self.device, *said)

    def copied(self, job: Job) -> Copied:
        """How many test images of a cell are copies of what it trains and chooses on.

        That is fit and select, of what is pretrained on and of what is evaluated.
        """
        pair: tuple[str, ...] = job.origin.ref.digest(), f"{job.judged.ref.digest()}{job.cell.spec.test_on or ''}"
        pair = (*pair, "trial") if job.cell.spec.trial else pair
        if (p := job.pretraining).share and job.origin.ref != job.judged.ref:
            pair = (*pair, p.share, str(p.seed))
        if pair not in self._copied:
            self.tell(f"looking for copies in {job.cell.data}")
            found = {one.ref.digest(): one for one in (job.origin, job.judged)}.values()
            self._copied[pair] = copied(
                [part for one in found for part in (one.fit, one.select)], job.judged.test, pair
            )
        return self._copied[pair]

    def _dataset(self, cell: Cell, source: str, ref: DataRef, settings: DataSettings | None = None) -> Dataset:
        key = (source, ref.digest())
        if key not in self._datasets:
            self.tell(f"reading {source}")
            self._datasets[key] = data.load(source, settings or cell.data_settings, ref, self.tell)
            self.say(sentence(self._datasets[key]))
        return self._datasets[key]


def device(name: str) -> torch.device:
    """`auto` is the accelerator if there is one; raises UserError when the device is not there."""
    try:
        if name == "auto":
            return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
        torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} can't be used: {one_line(error)}; take auto or cpu") from None
