import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssbench.contracts import assembled
from ssbench.data import Dataset
from ssbench.encoders.build import build
from ssbench.errors import Broken, UserError
from ssbench.method import Batch, Method
from ssbench.registry import entries
from ssbench.spec import Budget, Train
from ssbench.training.loop import Trained, Watcher, flops_a_step, loop, pretrain, resident, total_steps
from ssbench.training.optimisers import rate

CPU = torch.device("cpu")


class Shrink(Method):
    """Drive the pooled vector to zero: a loss whose minimum is known."""

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"square": self.encoder.pooled(batch.views[0]).square().mean(), "none": batch.views[0].sum() * 0}


def method(kind: type[Method] = Shrink) -> Method:
    torch.manual_seed(0)
    return kind(build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3)), kind.Settings())


def test_the_rate_warms_up_in_a_line_and_falls_as_half_a_cosine() -> None:
    assert [rate(p, 0.2) for p in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert rate(0.0, 0.0) == 1


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("steps=7", 7),
        ("samples=1000", 15),
        ("epochs=2", 2 * (1000 // 64)),
        ("flops=1e6", 10),
        ("samples=1", 1),
        ("seconds=3", None),
    ],
)
def test_budgets_become_steps(text: str, steps: int | None) -> None:
    assert total_steps(Budget.parse(text), images=1000, batch=64, flops_a_step=1e5) == steps


def test_training_lowers_the_loss_and_counts_what_it_spent(tiny: Dataset, tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = loop(method(), tiny.fit, Train(batch=16), 0, "float32", CPU)
    said: list[str] = []
    done = pretrain(run, Budget(unit="samples", amount=1600), tmp_path / "part", Watcher(said.append))
    assert (done.steps, done.images, done.views) == (100, 1600, 1)
    assert done.log[-1]["square"] < 0.1 * done.log[0]["square"] and done.log[-1]["none"] == 0
    assert "step 100/100" in said[-1] and "images/s" in said[-1]
    again = pretrain(run, Budget(unit="samples", amount=1600), tmp_path / "part", Watcher(said.append))
    assert again.log == done.log and again.steps == 100, "what was trained, but not written yet, is not trained again"


def test_a_budget_of_seconds_ends_on_time(tiny: Dataset, tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = loop(method(), tiny.fit, Train(batch=16), 0, "float32", CPU)
    done = pretrain(run, Budget(unit="seconds", amount=0.5), tmp_path / "part")
    assert 0.5 <= done.seconds < 2 and done.steps > 1


def test_an_epoch_sees_each_image_at_most_once_and_every_epoch_has_its_own_order(tiny: Dataset) -> None:
    run = loop(method(), tiny.fit, Train(batch=16), 0, "float32", CPU)
    steps = len(tiny.fit) // 16
    epochs = [torch.cat([run.batch(epoch * steps + i, 0.0).index for i in range(steps)]) for epoch in range(2)]
    assert all(len(epoch.unique()) == steps * 16 for epoch in epochs)
    assert not torch.equal(*epochs)


def test_flops_are_those_of_the_matrix_products_and_the_count_changes_nothing(tiny: Dataset) -> None:
    run = loop(method(), tiny.fit, Train(batch=16), 0, "float32", CPU)
    before = {key: value.clone() for key, value in run.method.state_dict().items()}
    counted = flops_a_step(run)
    tokens, width, depth, patch = 17, 96, 3, 3 * 4 * 4
    block = 2 * tokens * width * 12 * width + 2 * 2 * tokens * tokens * width  # products with weights, then attention
    forward = 16 * (depth * block + 2 * 16 * patch * width)
    assert (
        2.7 * forward < counted < 3.6 * forward
    )  # backward is twice forward; fused attention computes its scores again
    assert all(torch.equal(value, before[key]) for key, value in run.method.state_dict().items())


def test_flops_are_the_mean_over_the_budget_with_the_work_after_a_step(tiny: Dataset) -> None:
    class Scheduled(Shrink):
        def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
            if batch.progress >= 0.5:
                torch.ones(100, 200) @ torch.ones(200, 300)
            return super().loss(batch)

        def after_step(self, progress: float) -> None:
            if progress < 0.25:
                torch.ones(10, 20) @ torch.ones(20, 30)

    def counted(kind: type[Method]) -> float:
        return flops_a_step(loop(method(kind), tiny.fit, Train(batch=16), 0, "float32", CPU))

    assert counted(Scheduled) - counted(Shrink) == (2 * 100 * 200 * 300) / 2 + (2 * 10 * 20 * 30) / 4


class Listed(Shrink):
    def loss(self, batch: Batch) -> Any:
        return [*super().loss(batch).values()]


class Empty(Shrink):
    def loss(self, batch: Batch) -> Any:
        return {}


class Number(Shrink):
    def loss(self, batch: Batch) -> Any:
        return {"square": 1.0}


class Unreduced(Shrink):
    def loss(self, batch: Batch) -> Any:
        return {"square": self.encoder.pooled(batch.views[0]).square()}


class NotANumber(Shrink):
    def loss(self, batch: Batch) -> Any:
        return {"square": self.encoder.pooled(batch.views[0]).mean() * math.nan}


class Detached(Shrink):
    def build(self) -> None:
        self.head = torch.nn.Linear(self.encoder.dim, 1)

    def loss(self, batch: Batch) -> Any:
        with torch.no_grad():
            pooled = self.encoder.pooled(batch.views[0])
        return {"square": self.head(pooled).square().mean()}


class Constant(Shrink):
    def loss(self, batch: Batch) -> Any:
        return {"zero": batch.views[0].sum() * 0}


class Remembers(Shrink):
    """Keeps earlier vectors as an attribute, or as a buffer that is in no state, as lightly's memory bank is."""

    persistent = False
    bank: torch.Tensor

    def build(self) -> None:
        self.register_buffer("bank", torch.ones(self.encoder.dim), persistent=self.persistent)

    def loss(self, batch: Batch) -> Any:
        pooled = self.encoder.pooled(batch.views[0])
        loss = (pooled - self.bank).square().mean()
        self.bank = pooled.detach().mean(0)
        return {"square": loss}


class Grows(Remembers):
    persistent = True

    def loss(self, batch: Batch) -> Any:
        pooled = self.encoder.pooled(batch.views[0])
        self.bank = torch.cat([self.bank, pooled.detach().mean(0)])
        return {"square": pooled.square().mean()}


class Dreams(Shrink):
    def loss(self, batch: Batch) -> Any:
        return {"square": self.encoder.pooled(batch.views[0]).square().mean() * random.random()}


class Viewless(Shrink):
    @property
    def views(self) -> Any:
        return [0.2, 1.0]


class Uncalled(Shrink):
    def views(self) -> Any:  # type: ignore[override]
        return []


BROKEN: list[tuple[type[Method], str]] = [
    (Listed, r"^Listed.loss gives a list, not a dict of named scalar tensors$"),
    (Empty, r"^Empty.loss gives an empty dict, not a dict of named scalar tensors$"),
    (Number, r"^Number.loss gives a float as 'square', not a dict of named scalar tensors$"),
    (Unreduced, r"^Unreduced.loss gives a tensor of shape \(16, 96\) as 'square', not a dict of named scalar tensors$"),
    (NotANumber, r"^NotANumber.loss gives nan as 'square' before anything is trained$"),
    (Detached, r"^no gradient of Detached.loss reaches the encoder, which would stay as it is$"),
    (Constant, r"^no gradient of Constant.loss reaches the encoder"),
    (Remembers, r"^Remembers.loss gives another 'square' \(.*\) after its state is put back: it keeps some outside of"),
    (Grows, r"^the state of Grows can't be put back, so no interrupted run could go on: size mismatch for bank"),
    (Dreams, r"^Dreams.loss gives another 'square' .* or draws numbers from elsewhere than torch"),
    (Viewless, r"^Viewless.views is no list of View: float$"),
    (Uncalled, r"^Uncalled.views is no list of View: method$"),
]


@pytest.mark.parametrize(("kind", "text"), BROKEN, ids=[kind.__name__ for kind, _ in BROKEN])
def test_a_broken_promise_is_named_before_anything_is_trained(
    tiny: Dataset, tmp_path: Path, kind: type[Method], text: str
) -> None:
    run = loop(method(kind), tiny.fit, Train(batch=16), 0, "float32", CPU)
    with pytest.raises(Broken, match=text):
        pretrain(run, Budget(unit="steps", amount=2), tmp_path / "part")


def test_a_buffer_that_is_in_the_state_may_remember(tiny: Dataset) -> None:
    class Keeps(Remembers):
        persistent = True

    assert flops_a_step(loop(method(Keeps), tiny.fit, Train(batch=16), 0, "float32", CPU)) > 0


@pytest.mark.parametrize(("steps", "taken"), [(8, [0, 2, 4, 6, 8]), (6, [0, 2, 3, 5, 6]), (2, [0, 1, 2]), (1, [0, 1])])
def test_it_is_looked_at_at_each_quarter(
    tiny: Dataset,
    tmp_path: Path,
    steps: int,
    taken: list[int],
) -> None:
    run, at = loop(method(), tiny.fit, Train(batch=16), 0, "float32", CPU), list[int]()
    done = pretrain(run, Budget(unit="steps", amount=steps), tmp_path / "part", Watcher(look=looking(at)))
    assert at == taken == [row["step"] for row in done.health]
    assert all(row["found"] == row["step"] and 0 <= row["clipped"] <= 1 for row in done.health)


def looking(at: list[int]) -> Callable[[int, float], dict[str, float]]:
    """A look that keeps the steps that it was taken at."""

    def look(step: int, progress: float) -> dict[str, float]:
        at.append(step)
        return {"found": step}

    return look


@pytest.mark.parametrize(("clip", "share"), [(1e-9, 1.0), (1e9, 0.0), (0, 0.0)])
def test_the_share_of_clipped_gradients_is_watched(tiny: Dataset, tmp_path: Path, clip: float, share: float) -> None:
    run = loop(method(), tiny.fit, Train(batch=16, clip=clip), 0, "float32", CPU)
    done = pretrain(run, Budget(unit="steps", amount=4), tmp_path / "part", Watcher(look=lambda step, at: {}))
    assert [row["clipped"] for row in done.health] == [0, *[share] * 4]


def test_time_for_looking_is_no_part_of_a_budget_of_seconds(tiny: Dataset, tmp_path: Path) -> None:
    run, at = loop(method(), tiny.fit, Train(batch=16), 0, "float32", CPU), list[int]()

    def slow(step: int, progress: float) -> dict[str, float]:
        at.append(step)
        time.sleep(0.5)
        return {}

    done = pretrain(run, Budget(unit="seconds", amount=1.2), tmp_path / "part", Watcher(look=slow))
    assert len(at) == 5 and at[0] == 0 and at[1] > 0 and at[-1] == done.steps > 3 and done.seconds < 2


@pytest.mark.parametrize("broken_at", [2, 4, 5])
def test_an_interrupted_training_misses_no_look(tiny: Dataset, tmp_path: Path, broken_at: int) -> None:
    budget, at = Budget(unit="steps", amount=8), list[int]()

    def pull_the_plug(text: str) -> None:
        if text.startswith(f"step {broken_at}/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run = replace(loop(method(), tiny.fit, Train(batch=16), 0, "float32", CPU), log=1, save=0.0)
        pretrain(run, budget, tmp_path / "part", Watcher(pull_the_plug, looking(at)))
    run = replace(loop(method(), tiny.fit, Train(batch=16), 0, "float32", CPU), log=1, save=0.0)
    done = pretrain(run, budget, tmp_path / "part", Watcher(look=looking(at)))
    assert [row["step"] for row in done.health] == [0, 2, 4, 6, 8]
    assert sorted(set(at)) == [0, 2, 4, 6, 8]  # one taken after the last checkpoint is taken again


@pytest.mark.parametrize("left", [{"method": {"w": torch.zeros(1)}}, {"method": None}, {}], ids=str)
def test_what_other_code_left_of_a_run_is_named(tiny: Dataset, tmp_path: Path, left: dict[str, Any]) -> None:
    file = tmp_path / "part"
    torch.save(left, file)
    run = loop(method(), tiny.fit, Train(batch=16), 0, "float32", CPU)
    with pytest.raises(RuntimeError, match=r"part: the interrupted run left there does not fit .* remove the file"):
        pretrain(run, Budget(unit="steps", amount=2), file)
    assert file.exists()


@pytest.mark.parametrize("kept", [0, 10, 500])
def test_what_is_cut_off_of_a_run_is_dropped_and_the_run_starts_again(
    tiny: Dataset, tmp_path: Path, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / f"part{kept}"
    torch.save({"method": {"w": torch.zeros(1000)}}, file)
    file.write_bytes(file.read_bytes()[:kept])
    run = loop(method(), tiny.fit, Train(batch=16), 0, "float32", CPU)
    assert pretrain(run, Budget(unit="steps", amount=2), file).steps == 2
    assert f"{file} can't be read and is made again" in caplog.text


def test_a_loss_that_is_not_finite_stops_the_run_by_name(tiny: Dataset, tmp_path) -> None:  # type: ignore[no-untyped-def]
    class Broken(Shrink):
        def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
            late = math.inf if batch.progress == 0.5 else 0.0
            return {"fine": self.encoder.pooled(batch.views[0]).mean(), "broken": torch.tensor(late)}

    run = loop(method(Broken), tiny.fit, Train(batch=16), 0, "float32", CPU)
    with pytest.raises(RuntimeError, match="the loss term broken is not finite at step 50"):
        pretrain(run, Budget(unit="steps", amount=60), tmp_path / "part")


def test_more_images_a_step_than_there_are_is_refused(tiny: Dataset) -> None:
    with pytest.raises(UserError, match=r"train.batch=512 is more than the 120 training images"):
        loop(method(), tiny.fit, Train(batch=512), 0, "float32", CPU)


def test_bf16_trains_too(tiny: Dataset, tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = loop(method(), tiny.fit, Train(batch=16), 0, "bf16", CPU)
    done = pretrain(run, Budget(unit="steps", amount=100), tmp_path / "part")
    assert done.log[-1]["square"] < 0.2 * done.log[0]["square"]


@pytest.mark.parametrize("name", ["simclr", "swav", "ibot"])
def test_the_count_leaves_queues_centres_and_statistics_as_they_were(name: str, tiny: Dataset) -> None:
    made = assembled(entries("methods")[name], tiny)
    before = {key: value.clone() for key, value in made.state_dict().items()}
    flops_a_step(loop(made, tiny.fit, Train(batch=16), 0, "float32", CPU))
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())


def test_state_that_only_a_later_step_uses_is_found_missing(tiny: Dataset) -> None:
    class Late(Shrink):
        def build(self) -> None:
            self.seen = 0

        def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
            self.seen += 1
            return {"square": super().loss(batch)["square"] * (1 + self.seen * (batch.progress > 0.5))}

    with pytest.raises(Broken, match=r"Late\.loss gives another 'square'"):
        flops_a_step(loop(method(Late), tiny.fit, Train(batch=16), 0, "float32", CPU))


def test_state_that_no_checkpoint_can_hold_is_refused(tiny: Dataset) -> None:
    class Strange(Shrink):
        def get_extra_state(self) -> object:
            return Strange

        def set_extra_state(self, state: object) -> None: ...

    with pytest.raises(Broken, match="the state of Strange can't be put back"):
        flops_a_step(loop(method(Strange), tiny.fit, Train(batch=16), 0, "float32", CPU))


def test_what_guessing_costs_is_checked_before_anything_is_trained(tiny: Dataset) -> None:
    class Silent(Shrink):
        def chance(self, images: int) -> dict[str, float]:
            return None  # type: ignore[return-value]

    with pytest.raises(Broken, match=r"Silent\.chance gives None"):
        flops_a_step(loop(method(Silent), tiny.fit, Train(batch=16), 0, "float32", CPU))


def test_images_stay_off_a_device_that_they_would_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(10, 3, 8, 8, dtype=torch.uint8)
    for free, fits in ((4 * images.nbytes, True), (images.nbytes, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
        moved: list[Tensor] = []
        monkeypatch.setattr(Tensor, "to", lambda self, *to, moved=moved: moved.append(self) or self)
        resident(images, torch.device("cuda"))
        assert bool(moved) == fits


def test_every_so_many_steps_it_is_looked_at_too(tiny: Dataset, tmp_path: Path) -> None:
    run, at = loop(method(), tiny.fit, Train(batch=16), 0, "float32", CPU), list[int]()
    pretrain(run, Budget(unit="steps", amount=8), tmp_path / "part", Watcher(look=looking(at), every=3))
    assert at == [0, 2, 3, 4, 6, 8]


@pytest.mark.parametrize("broken_at", [0, 2, 5])
def test_readings_and_looks_are_noted_as_they_come(tiny: Dataset, tmp_path: Path, broken_at: int) -> None:
    budget, noted = Budget(unit="steps", amount=6), list[tuple[str, dict[str, float]]]()

    def pull_the_plug(text: str) -> None:
        if text.startswith(f"step {broken_at}/"):
            raise KeyboardInterrupt

    def watched(tell: Callable[[str], None] = lambda text: None) -> Trained:
        noted.clear()
        run = replace(loop(method(), tiny.fit, Train(batch=16), 0, "float32", CPU), log=1, save=0.0)
        watcher = Watcher(tell, looking([]), 1, lambda of, point: noted.append((of, point)))
        return pretrain(run, budget, tmp_path / "part", watcher)

    if broken_at:
        with pytest.raises(KeyboardInterrupt):
            watched(pull_the_plug)
        assert noted[-1][0] == "loss" and noted[-1][1]["step"] == broken_at
    done = watched()
    assert [point for of, point in noted if of == "loss"] == done.log and len(done.log) == 6
    assert [point for of, point in noted if of == "health"] == done.health and len(done.health) == 7
