"""DINO against its loss written with loops; its centre, temperatures, frozen layer and teacher."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from timm.layers.drop import DropPath
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.errors import UserError
from ssbench.method import Batch
from ssbench.methods.distillation.dino import DINO
from ssbench.methods.distillation.prototypes import usage

SMALL = {"prototypes": 5, "hidden": 16, "bottleneck": 6, "local_crops": 2, "drop_path": 0, "teacher_last": 0.07}
Rows = list[list[float]]


def made(backbone: str = "vit-nano", **settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build(backbone, size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    method = DINO(encoder, DINO.Settings(**{**SMALL, **settings})).train()
    with torch.no_grad():  # else all that it says is nearly alike
        for weight in method.head.layers.parameters():
            weight.add_(torch.randn_like(weight) / 2)
    return method


def batch(progress: float = 0.5, count: int = 4, local: int = 2, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    sides = [16, 16] + [8] * local
    views = [torch.randn(count, 3, side, side, generator=generator) for side in sides]
    return Batch(views, torch.arange(count), None, generator, progress)


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def slow(students: list[Rows], teachers: list[Rows], centre: list[float], temperature: float) -> float:
    """Caron et al. 2021, algorithm 1 and equation 3; V student crops, 2 teacher crops, each (B, K)."""
    losses = []
    for t, teacher in enumerate(teachers):
        for v, student in enumerate(students):
            if t == v:
                continue
            for said, taught in zip(student, teacher):
                target = softmax([k - c for k, c in zip(taught, centre)], temperature)
                losses.append(-sum(q * math.log(p) for q, p in zip(target, softmax(said, 0.1))))
    return sum(losses) / len(losses)


def seen(method: Any, given: Batch) -> tuple[list[Tensor], list[Tensor]]:
    students = [method.head(method.encoder.pooled(view)) for view in given.views]
    return students, [method.teacher(view) for view in given.views[:2]]


def rows(crops: list[Tensor]) -> list[Rows]:
    return [crop.double().tolist() for crop in crops]


@pytest.mark.parametrize("local", [0, 2])
def test_the_loss_is_that_of_loops_over_pairs_of_different_crops(local: int) -> None:
    method, given = made(local_crops=local), batch(local=local)
    method.criterion.center.copy_(torch.linspace(-1, 1, 5))
    students, teachers = seen(method, given)
    wanted = slow(rows(students), rows(teachers), torch.linspace(-1, 1, 5).tolist(), 0.07)
    assert method.loss(given)["dino"].item() == pytest.approx(wanted, rel=1e-4)


def test_its_gradient_is_that_of_targets_that_are_constant() -> None:
    method, given = made(), batch()
    students, teachers = seen(method, given)
    students = [crop.detach().requires_grad_() for crop in students]
    method.criterion(teachers, students, teacher_temp=0.07).backward()
    for v, crop in enumerate(students):  # of cross-entropies: what is said minus what is taught
        targets = [(taught / 0.07).softmax(1) for t, taught in enumerate(teachers) if t != v]
        said = (crop.detach() / 0.1).softmax(1)
        wanted = sum((said - target for target in targets), torch.zeros(4, 5)) / 0.1 / (6 * 4)  # 6 pairs
        torch.testing.assert_close(crop.grad, wanted, atol=1e-6, rtol=1e-4)


def test_no_gradient_reaches_the_teacher_and_all_of_the_head_gets_one() -> None:
    method = made()
    method.loss(batch())["dino"].backward()
    assert all(weight.grad is None for weight in method.teacher.parameters())
    assert all(weight.grad is not None for weight in method.head.parameters() if weight.requires_grad)


def test_full_crops_may_be_swapped_and_images_permuted() -> None:
    given, order = batch(), torch.tensor([3, 1, 0, 2])
    whole = made().loss(given)["dino"].item()
    swapped = [given.views[i] for i in (1, 0, 3, 2)]
    for views in (swapped, [view[order] for view in given.views]):
        other = made().loss(Batch(views, given.index, None, given.generator, 0.5))["dino"].item()
        assert other == pytest.approx(whole, rel=1e-5)


def test_the_centre_follows_the_teachers_outputs_after_they_are_used() -> None:
    method, centre = made(), torch.zeros(5)
    for seed in (1, 2):
        given = batch(seed=seed)
        students, teachers = seen(method, given)
        wanted = slow(rows(students), rows(teachers), centre.tolist(), 0.07)
        assert method.loss(given)["dino"].item() == pytest.approx(wanted, rel=1e-4)
        centre = 0.9 * centre + 0.1 * torch.cat(teachers).mean(0)
        torch.testing.assert_close(method.criterion.center.flatten(), centre)
    assert "criterion.center" in method.state_dict()


@pytest.mark.parametrize(("progress", "wanted"), [(0, 0.04), (0.15, 0.055), (0.3, 0.07), (1, 0.07)])
def test_the_teachers_temperature_rises_over_the_warm_up(progress: float, wanted: float) -> None:
    method, given = made(), batch(progress)
    assert method._temperature(progress) == pytest.approx(wanted)
    students, teachers = seen(method, given)
    assert method.loss(given)["dino"].item() == pytest.approx(
        slow(rows(students), rows(teachers), [0.0] * 5, wanted), rel=1e-4
    )


def test_the_last_layer_alone_rests_at_first_and_its_rows_are_unit_vectors() -> None:
    method = made(freeze=0.1)
    for progress, moves in ((0.099, False), (0.1, True)):
        method.zero_grad()
        method.loss(batch())["dino"].backward()
        method.before_step(progress)
        assert (method.head.last_layer.weight_v.grad is not None) == moves
        assert method.head.layers[0].weight.grad is not None
    assert not method.head.last_layer.weight_g.requires_grad
    torch.testing.assert_close(method.head.last_layer.weight.norm(dim=1), torch.ones(5))


def test_what_is_told_alike_gives_the_loss_of_guessing() -> None:
    method = made()
    for head in (method.head, method.teacher.parts[1]):
        head.last_layer.weight_v.data.copy_(head.last_layer.weight_v.data[:1].expand(5, -1))
    assert method.loss(batch())["dino"].item() == pytest.approx(method.chance(4)["dino"], rel=1e-5)


def dropped(module: Any) -> Iterator[float]:
    return (part.drop_prob for part in module.modules() if isinstance(part, DropPath))


def test_blocks_are_skipped_in_the_student_alone() -> None:
    method, rates = made(drop_path=0.2), list[list[float]]()
    for one in (method.encoder, method.teacher.encoder):
        one.trunk.blocks[0].register_forward_pre_hook(lambda *_, one=one: rates.append([*dropped(one)]))
    method.loss(batch())
    student, small, teacher = rates
    assert student == small == pytest.approx([0.1, 0.1, 0.2, 0.2]) and not teacher
    assert not [*dropped(method.encoder)], "other parts of a mixture would skip blocks, too"


def test_the_teacher_is_judged_and_follows_with_a_momentum_that_rises_to_one() -> None:
    method = made(momentum=0.9)
    assert method.judged() is method.teacher.encoder
    teacher, student = method.teacher.encoder.trunk.cls_token, method.encoder.trunk.cls_token
    assert torch.equal(teacher, student)
    for progress, momentum in ((0.0, 0.9), (0.5, 0.95), (1.0, 1.0)):
        with torch.no_grad():
            student.add_(1)
        wanted = momentum * teacher + (1 - momentum) * student
        method.after_step(progress)
        torch.testing.assert_close(teacher, wanted)


def test_loss_keeps_float32_under_autocast() -> None:
    method, given = made(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        students, teachers = seen(method, given)
        found = method.loss(given)["dino"]
    assert found.dtype == students[0].dtype == torch.float32
    assert found.item() == pytest.approx(slow(rows(students), rows(teachers), [0.0] * 5, 0.07), rel=2e-2)


def test_crops_are_two_large_ones_and_small_ones_and_the_second_alone_is_solarised() -> None:
    first, second, small = made(blur=1.0, local_crops=3).views
    assert [(view.count, view.size) for view in (first, second, small)] == [(1, 1), (1, 1), (3, 0.5)]
    assert [view.crop for view in (first, second, small)] == [(0.4, 1), (0.4, 1), (0.14, 0.4)]
    assert [view.solarise for view in (first, second, small)] == [0, 0.2, 0]
    assert [view.blur for view in (first, second, small)] == [1, 0.1, 0.5]


def test_crop_ranges_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match=r"dino\.local_min=0\.5 is above dino\.local_max=0\.4"):
        made(local_min=0.5)


@pytest.mark.parametrize(
    ("shares", "entropy", "used"),
    [(torch.full((4, 4), 0.25), 1, 1), (torch.eye(4), 0, 1), (torch.eye(4)[[1, 1, 1]], 0, 0.25)],
)
def test_usage_tells_guessing_from_choosing_and_from_one_choice(shares: Tensor, entropy: float, used: float) -> None:
    found = usage(shares)
    assert found == {"teacher entropy": pytest.approx(entropy), "prototypes in use": pytest.approx(used)}


def test_a_conv_net_gets_a_finite_gradient() -> None:
    method = made("resnet18", drop_path=0.1)
    method.loss(batch())["dino"].backward()
    grads = [weight.grad for weight in method.encoder.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)
