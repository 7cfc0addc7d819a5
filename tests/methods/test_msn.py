"""MSN against its loss written with loops and against lightly's; dropped patches, prototypes and teacher."""

import math
from typing import Any

import pytest
import torch
from lightly.loss import MSNLoss
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.errors import UserError
from ssbench.method import Batch
from ssbench.methods.distillation.msn import MSN

SMALL = {"prototypes": 5, "hidden": 16, "out": 6, "focal_crops": 2}
Rows = list[list[float]]


def made(backbone: str = "vit-nano", **settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build(backbone, size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return MSN(encoder, MSN.Settings(**{**SMALL, **settings})).train()


def batch(focal: int = 2, count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(1)
    sides = [16, 16] + [8] * focal
    views = [torch.randn(count, 3, side, side, generator=generator) for side in sides]
    return Batch(views, torch.arange(count), None, torch.Generator().manual_seed(1), 0.5)


def seen(method: Any, given: Batch) -> tuple[Tensor, Tensor]:
    """Embeddings of the anchors, the first of which is not dropped from, and of the targets."""
    target, anchor, *focal = given.views
    z = [method.projector(method.encoder.pooled(anchor))]
    z += [method.projector(method.encoder.pooled(torch.cat(focal)))] if focal else []
    return torch.cat(z), method.teacher(target)


def shares(z: Tensor, prototypes: Tensor) -> Rows:
    found = []
    for row in z.double().tolist():
        cosines = [
            sum(a * b for a, b in zip(row, other)) / math.hypot(*row) / math.hypot(*other)
            for other in prototypes.double().tolist()
        ]
        powers = [math.exp(cosine / 0.1) for cosine in cosines]
        found.append([power / sum(powers) for power in powers])
    return found


def balanced(codes: Rows, iterations: int) -> Rows:
    """Prototypes and images are made equal in turn."""
    for _ in range(iterations):
        sums = [sum(column) for column in zip(*codes)]
        codes = [[code / total for code, total in zip(row, sums)] for row in codes]
        codes = [[code / sum(row) for code in row] for row in codes]
    return codes


def slow(anchors: Rows, targets: Rows, iterations: int) -> dict[str, float]:
    """Assran et al. 2022, equation 1 and section 3, and its Sinkhorn; anchors (A * B), targets (B)."""
    sharp = [[share ** (1 / 0.25) for share in row] for row in targets]
    codes = balanced([[share / sum(row) for share in row] for row in sharp], iterations)
    losses = [-sum(q * math.log(p) for q, p in zip(codes[i % len(codes)], said)) for i, said in enumerate(anchors)]
    mean = [sum(column) / len(anchors) for column in zip(*anchors)]
    entropy = -sum(p * math.log(p) for p in mean)
    return {"msn": sum(losses) / len(losses), "me-max": math.log(len(mean)) - entropy}


@pytest.mark.parametrize("focal", [0, 2])
@pytest.mark.parametrize("iterations", [0, 3])
def test_terms_are_those_of_loops(focal: int, iterations: int) -> None:
    method = made(focal_crops=focal, iterations=iterations, drop=0)
    z, target = seen(method, batch(focal))
    wanted = slow(shares(z, method.prototypes), shares(target, method.prototypes), iterations)
    found = {name: term.item() for name, term in method.loss(batch(focal)).items()}
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_value_and_gradients_are_those_of_lightly() -> None:
    method = made(drop=0, memax=2.0)
    sum(method.loss(batch()).values()).backward()
    found = {name: weight.grad.clone() for name, weight in method.named_parameters() if weight.grad is not None}
    method.zero_grad()
    z, target = seen(method, batch())
    loss = MSNLoss(temperature=0.1, sinkhorn_iterations=3, regularization_weight=2.0)(z, target, method.prototypes)
    loss.backward()
    assert found
    for name, weight in method.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(found[name], weight.grad, atol=1e-5, rtol=1e-3)


def test_no_gradient_reaches_the_teacher_and_prototypes_learn_without_decay() -> None:
    method = made()
    sum(method.loss(batch()).values()).backward()
    assert all(weight.grad is None for weight in method.teacher.parameters())
    assert method.prototypes.grad is not None and method.prototypes.grad.any()
    decays = {id(weight): group["weight_decay"] for group in method.groups(0.1) for weight in group["params"]}
    assert decays[id(method.prototypes)] == 0 and decays[id(method.projector.layers[0].weight)] == 0.1


def test_images_may_be_permuted() -> None:
    given, order = batch(), torch.tensor([3, 1, 0, 2])
    other = Batch([view[order] for view in given.views], given.index, None, given.generator, 0.5)
    whole, turned = made(drop=0).loss(given), made(drop=0).loss(other)
    assert {k: v.item() for k, v in turned.items()} == pytest.approx({k: v.item() for k, v in whole.items()}, abs=1e-5)


def test_a_share_of_the_patches_of_each_image_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    method, kept = made(drop=0.3), []
    sequence = method.encoder.sequence

    def keeping(images: Tensor, keep: Tensor) -> Any:
        kept.append(keep)
        return sequence(images, keep)

    monkeypatch.setattr(method.encoder, "sequence", keeping)
    method._dropped(batch().views[0], torch.Generator().manual_seed(1))
    (keep,) = kept
    assert keep.shape == (4, 11)  # of 16
    assert all(len(set(places)) == 11 for places in keep.tolist()) and len(set(map(tuple, keep.tolist()))) == 4


def test_dropping_no_patches_gives_the_pooled_vector() -> None:
    method, images = made(drop=0), batch().views[0]
    vectors = method._dropped(images, torch.Generator())
    torch.testing.assert_close(vectors, method.encoder.pooled(images), atol=1e-5, rtol=1e-5)


def test_targets_use_all_prototypes_equally_and_each_is_a_distribution() -> None:
    method = made(iterations=50)
    codes = method._codes(torch.randn(20, 6, generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(codes.sum(1), torch.ones(20))
    torch.testing.assert_close(codes.sum(0), torch.full((5,), 4.0), rtol=0.05, atol=0)


def test_what_is_told_alike_gives_the_loss_of_guessing() -> None:
    method = made()
    method.prototypes.data.copy_(method.prototypes.data[:1].expand(5, -1))
    found = {name: term.item() for name, term in method.loss(batch()).items()}
    assert found == pytest.approx(method.chance(4), abs=1e-5)


def test_the_teacher_is_judged_and_follows_with_a_momentum_that_rises_by_a_line() -> None:
    method = made(momentum=0.9)
    assert method.judged() is method.teacher.encoder
    teacher, student = method.teacher.encoder.trunk.cls_token, method.encoder.trunk.cls_token
    assert torch.equal(teacher, student)
    for progress, momentum in ((0.0, 0.9), (0.5, 0.94), (1.0, 0.98)):
        with torch.no_grad():
            student.add_(1)
        wanted = momentum * teacher + (1 - momentum) * student
        method.after_step(progress)
        torch.testing.assert_close(teacher, wanted)


def test_low_temperatures_and_bf16_stay_finite() -> None:
    method = made(temperature=0.01, sharpen=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = torch.stack(list(method.loss(batch()).values())).sum()
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert all(weight.grad.isfinite().all() for weight in method.parameters() if weight.grad is not None)


def test_a_conv_net_is_refused_and_so_are_crop_ranges_that_cannot_be() -> None:
    with pytest.raises(UserError, match="msn needs patch tokens that can be dropped"):
        made("resnet18")
    with pytest.raises(UserError, match=r"msn\.focal_min=0\.5 is above msn\.focal_max=0\.3"):
        made(focal_min=0.5)
