"""A Lightning module gives, through the adapter, the loss and the gradients that the method itself would."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from ssbench import contracts
from ssbench.data import Dataset
from ssbench.encoders.encoder import Encoder
from ssbench.errors import Broken, UserError
from ssbench.lightning import Adapted
from ssbench.method import Batch
from ssbench.registry import Entry
from ssbench.settings import Settings
from ssbench.spec import Budget
from ssbench.teacher import Teacher
from ssbench.training.loop import flops_a_step, pretrain, total


class Pairs(LightningModule):
    """Views of an image are near each other; a probe on detached features learns labels beside."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(backbone.num_features, 8)
        self.probe = nn.Linear(backbone.num_features, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        (first, second), labels, _ = batch
        one, other = self.backbone(first), self.backbone(second)
        self.log("seen", len(first), prog_bar=True, sync_dist=True)
        self.log_dict({"epoch": self.current_epoch, "step": self.global_step})
        loss = near(self.head(one), self.head(other))
        return loss + F.cross_entropy(self.probe(one.detach()), labels)


class Momentum(Pairs):
    """A teacher that follows after each step, faster at the end, by a number that is no tensor."""

    def __init__(self, backbone: Any) -> None:
        super().__init__(backbone)
        self.teacher = deepcopy(backbone).requires_grad_(False)

    def on_train_start(self) -> None:
        self.pace, self.last = 0.5, 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        first, second = batch[0]
        return {"loss": near(self.backbone(first), self.teacher(second)), "pace": self.pace}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert outputs["pace"] == self.pace and not outputs["loss"].requires_grad and len(batch[0]) == 2
        if self.trainer.global_step > self.last:
            with torch.no_grad():
                for teacher, student in zip(self.teacher.parameters(), self.backbone.parameters()):
                    teacher.lerp_(student, 1 - self.pace)
        self.last = self.trainer.global_step
        self.pace = 0.5 + 0.5 * self.last / self.trainer.estimated_stepping_batches


class Supervising(Pairs):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self.probe(self.backbone(batch[0][0])), batch[1])


class Queue(Pairs):
    """Remembers what it saw in a buffer that no checkpoint of its own would hold."""

    def __init__(self, backbone: Any) -> None:
        super().__init__(backbone)
        self.queue: Tensor
        self.register_buffer("queue", torch.zeros(backbone.num_features), persistent=False)

    def training_step(self, batch: Any) -> Any:  # type: ignore[override]
        found = self.backbone(batch[0][0])
        loss = near(found, self.queue.expand_as(found).clone())
        self.queue += found.detach().mean(0)
        return loss[None]


def near(one: Tensor, other: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(one.float(), other.float()).mean()


def adapted(encoder: Encoder, made: Callable[[Any], nn.Module], **own: Any) -> Adapted:
    torch.manual_seed(0)
    kind = type("Theirs", (Adapted,), {"module": lambda self: made(self.backbone()), **own})
    return kind(encoder, Settings())


def given(step: int = 0, progress: float = 0.0, batches: int = 5) -> Batch:
    views = list(torch.randn(2, 6, 3, 16, 16, generator=torch.Generator().manual_seed(step)))
    return Batch(views, torch.arange(6), None, torch.Generator(), progress, step, step // batches, batches)


def entry_of(monkeypatch: pytest.MonkeyPatch, made: Callable[[Any], nn.Module]) -> Entry:
    kind = type("Theirs", (Adapted,), {"module": lambda self: made(self.backbone()), "__module__": "ssbench.lightning"})
    monkeypatch.setattr("ssbench.lightning.Theirs", kind, raising=False)
    return Entry("ssbench.lightning:Theirs", "tests", "summary", "paper", name="theirs", owner="tests")


def test_loss_and_gradient_are_those_of_the_method_itself(untrained: Encoder) -> None:
    method, batch = adapted(untrained, Pairs), given()
    vectors = [untrained.pooled(view) for view in batch.views]
    ours = near(*map(method.net.head, vectors))
    weights = [weight for weight in untrained.parameters() if weight.requires_grad]
    expected = torch.autograd.grad(ours, weights, allow_unused=True)
    probe = F.cross_entropy(method.net.probe(untrained.pooled(batch.views[0])), torch.zeros(6).long())
    loss = method.loss(batch)["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(ours.item() + probe.item())
    for weight, gradient in zip(weights, expected, strict=True):
        assert (weight.grad is None) == (gradient is None)
        assert weight.grad is None or torch.allclose(weight.grad, gradient, atol=1e-6)


@pytest.mark.parametrize("made", [Momentum, Queue])
def test_a_lightning_module_keeps_what_methods_promise(
    made: type[Pairs], tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = entry_of(monkeypatch, made)
    for promise in contracts.of_methods(entry):
        promise(entry, tiny)


def test_an_online_probe_is_not_trained_and_counts_in_no_norm(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = contracts._running(entry_of(monkeypatch, Pairs), tiny)
    assert isinstance(run.method, Adapted)
    before = deepcopy(run.method.net.state_dict())
    pretrain(run, Budget(unit="steps", amount=2), tmp_path / "checkpoint")
    after = run.method.net.state_dict()
    assert torch.equal(before["probe.weight"], after["probe.weight"])
    assert not torch.equal(before["head.weight"], after["head.weight"])
    total(run.terms(2, 0.5)).backward()
    run.method.before_step(0.5)
    assert run.method.net.probe.weight.grad is None and run.method.net.head.weight.grad is not None


def test_labels_that_reach_the_encoder_are_refused(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = contracts._running(entry_of(monkeypatch, Supervising), tiny)
    with pytest.raises(Broken, match=r"labels, which are all 0, reach the encoder \(encoder\..*set supervised = True"):
        pretrain(run, Budget(unit="steps", amount=2), tmp_path / "checkpoint")
    run = contracts._running(entry_of(monkeypatch, Pairs), tiny)
    kept = deepcopy(run.method.state_dict())
    flops_a_step(run)
    run.begin(0)
    now = run.method.state_dict()
    assert all(torch.equal(kept[name], now[name]) for name in kept if isinstance(kept[name], Tensor))


def test_a_teacher_follows_in_on_train_batch_end(untrained: Encoder) -> None:
    method = adapted(untrained, Momentum)
    ours = Teacher(untrained)
    with torch.no_grad():
        for weight in untrained.parameters():
            weight.add_(torch.randn_like(weight))
    for step, momentum in ((0, 0.5), (1, 0.5), (2, 0.75)):
        method.loss(given(step, step / 4))
        method.after_step(step / 4)
        ours.follow(momentum)
        for their, own in zip(method.net.teacher.encoder.parameters(), ours.encoder.parameters(), strict=True):
            assert torch.allclose(their, own, atol=1e-5)


def test_the_trainer_tells_where_training_stands(untrained: Encoder) -> None:
    heard: list[Any] = []

    class Hooks(Pairs):
        def on_train_epoch_start(self) -> None:
            heard.append(("start", self.current_epoch))

        def on_train_epoch_end(self) -> None:
            heard.append(("end", self.current_epoch, self.global_step))

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [[view * 0 for view in batch[0]], *batch[1:]]

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert not any(view.any() for view in batch[0])
            heard.append((batch_idx, self.trainer.max_epochs, self.trainer.estimated_stepping_batches))
            return super().training_step(batch, batch_idx)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            optimizer.param_groups[0]["weight_decay"] = 0.5
            heard.append(optimizer.param_groups[0]["name"])

        def configure_optimizers(self) -> Any:
            optimiser = torch.optim.SGD([{"params": self.head.parameters(), "name": "head"}], lr=1.0)
            return [optimiser], [torch.optim.lr_scheduler.StepLR(optimiser, self.trainer.max_epochs or 1)]

    method = adapted(untrained, Hooks)
    for step in (4, 5):
        method.loss(given(step, step / 20))["loss"].backward()
        method.before_step(step / 20)
        method.after_step(step / 20)
    assert heard == [("start", 0), (4, 4, 20), "head", ("end", 0, 5), ("start", 1), (0, 4, 20), "head"]
    assert method.net.trainer.world_size == 1 and method.net.logger is None
    with pytest.raises(
        AttributeError, match="no 'train_dataloader' in ssbench's stand-in for Lightning's trainer: cur"
    ):
        _ = method.net.trainer.train_dataloader


def test_what_optimises_by_hand_is_refused_unless_the_loss_is_asked_for_alone(untrained: Encoder) -> None:
    def by_hand(backbone: Any) -> nn.Module:
        module = Pairs(backbone)
        module.automatic_optimization = False
        return module

    with pytest.raises(UserError, match=r"Pairs optimises by hand .* give Theirs a step\(self, batch, number\)"):
        adapted(untrained, by_hand)
    method = adapted(
        untrained, by_hand, step=lambda self, batch, number: {"loss": near(*map(self.net.backbone, batch[0]))}
    )
    assert method.loss(given())["loss"].ndim == 0


def test_lazy_parameters_and_a_step_without_loss_are_refused(untrained: Encoder) -> None:
    class Lazy(Pairs):
        def __init__(self, backbone: Any) -> None:
            super().__init__(backbone)
            self.late = nn.LazyLinear(3)

    with pytest.raises(UserError, match=r"Lazy\.late\.weight has no shape yet: give its layer its width"):
        adapted(untrained, Lazy)

    class Skips(Pairs):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None

    with pytest.raises(Broken, match=r"Skips.training_step gives no loss but NoneType"):
        adapted(untrained, Skips).loss(given())


def test_parameters_made_in_a_step_are_refused(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Grows(Pairs):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if not hasattr(self, "late"):
                self.late = nn.Linear(8, 8)
            return super().training_step(batch, batch_idx)

    with pytest.raises(Broken, match="the state of Theirs can't be put back"):
        flops_a_step(contracts._running(entry_of(monkeypatch, Grows), tiny))


def test_the_module_hears_on_which_device_it_is(untrained: Encoder) -> None:
    method = adapted(untrained, Pairs)
    method.net._device = torch.device("meta")
    method.loss(given())
    assert method.net.device == torch.device("cpu")


def test_what_was_put_into_evaluation_mode_stays_there(untrained: Encoder) -> None:
    class Frozen(Momentum):
        def __init__(self, backbone: Any) -> None:
            super().__init__(backbone)
            self.teacher.eval()

    method = adapted(untrained.eval(), Frozen).train()
    assert method.encoder.training and not method.net.teacher.training
    assert not method.eval().encoder.training and method.train().encoder.training


def test_a_supervised_module_gets_the_labels(untrained: Encoder) -> None:
    method = adapted(untrained, Supervising, supervised=True)
    labels = torch.tensor([1, 0, 2, 1, 0, 2])
    expected = F.cross_entropy(method.net.probe(untrained.pooled(given().views[0])), labels)
    assert method.loss(replace(given(), labels=labels))["loss"].item() == pytest.approx(expected.item())


def test_state_that_is_no_tensor_is_put_back_and_other_names_of_weights_are_left(untrained: Encoder) -> None:
    class Counter:
        count = 0

    class Keeps(Pairs):
        def __init__(self, backbone: Any) -> None:
            super().__init__(backbone)
            self.counter, self.weights, self.seen = Counter(), [*self.head.parameters()], [torch.zeros(2)]
            self.counter.count = 1

    method = adapted(untrained, Keeps)
    assert method.get_extra_state()["kept"] == {}
    method.net.counter.count, method.net.seen = 7, [torch.ones(2)]
    state = deepcopy(method.state_dict())
    method.net.counter.count, method.net.seen = 9, []
    method.load_state_dict(state)
    assert method.net.counter.count == 7 and method.net.seen[0].tolist() == [1, 1]
    assert method.net.weights[0] is method.net.head.weight
    other = adapted(untrained, Keeps)
    other.load_state_dict(state)
    assert other.net.counter.count == 7


PLUGIN = """
from pytorch_lightning import LightningModule
from ssbench import Entry
from ssbench.lightning import Adapted
class Manual(LightningModule):
    automatic_optimization = False
class Theirs(Adapted):
    def module(self):
        return Manual()
METHODS = {"theirs": Entry("Theirs", family="tests", summary="by hand", paper="none")}
"""


def test_a_command_says_in_one_line_what_is_refused(
    ssbench: Callable[..., "CompletedProcess[str]"], tmp_path: Path
) -> None:
    (tmp_path / "theirs.py").write_text(PLUGIN)
    words = "--plugin theirs.py --method theirs --dataset digits --task knn --budget steps=2 --seeds 0 --device cpu"
    ran = ssbench("run", *words.split(), cwd=tmp_path)
    assert ran.returncode == 2 and ran.stderr.splitlines()[-1].startswith("ssbench: Manual optimises by hand")
