"""MoCo v3 against its loss written with loops, its teacher, and its frozen patches."""

from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssbench.encoders.build import build
from ssbench.encoders.copies import trainable
from ssbench.method import Batch
from ssbench.methods.contrastive.moco_v3 import MoCoV3, infonce


def made(backbone: str = "vit-nano", size: int = 16, **settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build(backbone, size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return MoCoV3(encoder, MoCoV3.Settings(**{"hidden": 16, "out": 8, **settings}))


def batch(count: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(count, 3, 16, 16, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(count), None, generator, 0.5)


def slow(q: Tensor, k: Tensor, temperature: float) -> float:
    """Chen et al. 2021, equation 1, mean over queries: the keys of the batch are positives and negatives."""
    total = 0.0
    for i in range(len(q)):
        scores = [exp((q[i] @ key / (q[i].norm() * key.norm())).item() / temperature) for key in k]
        total -= log(scores[i] / sum(scores))
    return total / len(q)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_the_loss_is_that_of_loops_both_ways_round_times_twice_the_temperature(temperature: float) -> None:
    method, given = made(temperature=temperature).train(), batch()
    said = [method._predicted(view) for view in given.views]
    taught = [method.teacher(view) for view in given.views]
    wanted = 2 * temperature * (slow(said[0], taught[1], temperature) + slow(said[1], taught[0], temperature))
    assert method.loss(given)["moco"].item() == pytest.approx(wanted, rel=1e-5)


def test_the_gradient_of_queries_is_that_of_finite_differences_and_keys_have_theirs() -> None:
    q, k = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    found = torch.autograd.grad(infonce(q, k, 0.3), [q, k])
    for at in [(0, 0), (1, 2), (3, 4)]:
        step = torch.zeros_like(q)
        step[at] = 1e-5
        differences = [
            (slow(q + step, k, 0.3) - slow(q - step, k, 0.3)) / 2e-5,
            (slow(q, k + step, 0.3) - slow(q, k - step, 0.3)) / 2e-5,
        ]
        assert [one[at].item() for one in found] == pytest.approx(differences, abs=1e-5)


def test_equal_images_give_the_loss_of_guessing() -> None:
    method = made().eval()  # batch norm would blow the rounding of equal rows up
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(5, 3, 16, 16)
    same = Batch([image, image], torch.arange(5), None, torch.Generator(), 0.5)
    assert method.loss(same)["moco"].item() == pytest.approx(method.chance(5)["moco"], abs=1e-5)
    assert method.chance(5)["moco"] == pytest.approx(2 * (2 * 0.2) * log(5))


def test_views_may_be_swapped_and_images_permuted() -> None:
    method, given = made().train(), batch()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    whole = method.loss(given)["moco"].item()
    for views in (given.views[::-1], [view[order] for view in given.views]):
        turned = Batch(views, given.index, None, given.generator, 0.5)
        assert method.loss(turned)["moco"].item() == pytest.approx(whole, rel=1e-5)


def test_no_gradient_reaches_the_teacher_whose_momentum_rises_to_one() -> None:
    method = made(momentum=0.9).train()
    method.loss(batch())["moco"].backward()
    assert all(weight.grad is None for weight in method.teacher.parameters())
    assert all(weight.grad is not None for weight in method.predictor.parameters())
    teacher, student = method.teacher.parts[1][0].weight, method.projector[0].weight
    for progress, momentum in ((0.0, 0.9), (0.5, 0.95), (1.0, 1.0)):
        with torch.no_grad():
            student.add_(1)
        wanted = momentum * teacher + (1 - momentum) * student
        method.after_step(progress)
        torch.testing.assert_close(teacher, wanted)


def test_a_vits_patch_embedding_rests_in_pretraining_alone() -> None:
    method = made()
    method.loss(batch())["moco"].backward()
    assert all(weight.grad is None for weight in method.encoder.trunk.patch_embed.parameters())
    named = {weight for group in method.groups(0.05) for weight in group["params"]}
    assert not named & set(method.encoder.trunk.patch_embed.parameters())
    assert all(weight.requires_grad for weight in trainable(method.encoder).trunk.patch_embed.parameters())
    assert all(weight.requires_grad for weight in made(frozen_patches=False).encoder.trunk.patch_embed.parameters())


def test_heads_are_those_of_the_backbones_kind() -> None:
    vit, conv = made(), made("resnet18", 32)
    assert [sum(isinstance(part, nn.Linear) for part in one.projector) for one in (vit, conv)] == [3, 2]
    assert isinstance(vit.predictor[-1], nn.BatchNorm1d) and isinstance(conv.predictor[-1], nn.Linear)
    assert not vit.projector[-1].affine and not conv.projector[-1].affine
    linear = [part for one in (vit, conv) for head in (one.projector, one.predictor) for part in head]
    assert all(part.bias is None for part in linear if isinstance(part, nn.Linear))
    assert all(weight.requires_grad for weight in conv.encoder.parameters())


def test_the_second_view_alone_is_solarised() -> None:
    first, second = made(blur=1.0).views
    assert (first.solarise, second.solarise) == (0, 0.2) and (first.blur, second.blur) == (1, 0.1)
