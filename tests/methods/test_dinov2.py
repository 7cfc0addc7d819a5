"""DINOv2 against its terms written with loops; its masks, balanced targets and teacher."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from timm.layers.drop import DropPath
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.errors import UserError
from ssbench.method import Batch
from ssbench.methods.distillation.dinov2 import DINOv2, hide

Array = NDArray[np.float64]
SMALL = {"prototypes": 5, "hidden": 16, "bottleneck": 6, "local_crops": 2, "drop_path": 0}
BATCH, PATCHES = 4, 16


def made(backbone: str = "vit-nano", **settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build(backbone, size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    method = DINOv2(encoder, DINOv2.Settings(**{**SMALL, **settings})).train()
    with torch.no_grad():  # else all that it says is nearly alike
        for weight in (*method.head.layers.parameters(), method.mask_token):
            weight.add_(torch.randn_like(weight) / 2)
    return method


def batch(local: int = 2, seed: int = 1, progress: float = 0.5) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    sides = [16, 16] + [8] * local
    views = [torch.randn(BATCH, 3, side, side, generator=generator) for side in sides]
    return Batch(views, torch.arange(BATCH), None, torch.Generator().manual_seed(seed), progress)


def drawn(seed: int = 1) -> tuple[list[int], Tensor]:
    """Which of the full-size crops a batch hides patches of, and which patches."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(2 * BATCH, generator=generator)
    return order[:BATCH].tolist(), hide(BATCH, (4, 4), generator)


def numbers(tensor: Tensor) -> Array:
    found: Array = tensor.detach().double().numpy()
    return found


def slow_codes(logits: Array, temperature: float = 0.07) -> Array:
    """Rows (samples, prototypes): prototypes and samples are made equal in turn, three times."""
    codes = np.exp(logits / temperature)
    for _ in range(3):
        for k in range(codes.shape[1]):
            codes[:, k] /= codes[:, k].sum()
        for b in range(codes.shape[0]):
            codes[b] /= codes[b].sum()
    return codes


def surprise(code: Array, logits: Array) -> float:
    scaled = logits / 0.1
    return float(-(code @ (scaled - np.log(np.exp(scaled).sum()))))


def slow(method: Any, given: Batch, local: int) -> dict[str, float]:
    """Each full-size crop goes through the networks by itself."""
    large = torch.cat(given.views[:2])
    masked, hidden = drawn()
    vectors, patches, taught, patch_taught = [], [], [], []
    student, teacher = method.encoder, method.teacher.encoder
    for i, crop in enumerate(large):
        seen = teacher.tokens(crop[None])[0]
        taught.append(method.teacher.parts[1](seen.mean(0, keepdim=True))[0])
        if i in masked:
            places = hidden[masked.index(i)]
            tokens = student.sequence_with_masks(crop[None], places[None], method.mask_token).patches[0]
        else:
            tokens = student.tokens(crop[None])[0]
        vectors.append(tokens.mean(0))
    for i, places in zip(masked, hidden):  # in the order in which they are balanced
        crop = large[i : i + 1]
        tokens = student.sequence_with_masks(crop, places[None], method.mask_token).patches[0]
        patches += [method.head(tokens[place][None])[0] for place in places]
        patch_taught += [method.teacher.parts[1](teacher.tokens(crop)[0, place][None])[0] for place in places]
    said = [method.head(torch.stack(vectors)).unflatten(0, (2, BATCH))]
    said += [method.head(student.pooled(view))[None] for view in given.views[2:]]
    views = numbers(torch.cat(said))
    codes = slow_codes(numbers(torch.stack(taught))).reshape(2, BATCH, -1)
    pairs = [(t, v) for t in range(2) for v in range(2 + local) if t != v]
    dino = [surprise(codes[t, b], views[v, b]) for t, v in pairs for b in range(BATCH)]
    patch_codes = slow_codes(numbers(torch.stack(patch_taught)))
    ibot = 0.0
    for i in range(BATCH):  # of each masked crop the mean over its hidden patches; the mean over all crops
        rows = range(i * hidden.shape[1], (i + 1) * hidden.shape[1])
        each = [surprise(patch_codes[row], numbers(patches[row])) for row in rows]
        ibot += sum(each) / len(each) / (2 * BATCH)
    koleo = 0.0
    for crop in numbers(torch.stack(vectors)).reshape(2, BATCH, -1):
        unit = [row / np.sqrt(row @ row) for row in crop]
        for i, row in enumerate(unit):
            nearest = min(math.dist(row, other) for j, other in enumerate(unit) if j != i)
            koleo -= 0.1 * math.log(nearest) / BATCH
    return {"dino": sum(dino) / len(dino), "ibot": ibot, "koleo": koleo}


@pytest.mark.parametrize("local", [0, 2])
def test_terms_are_those_of_loops(local: int) -> None:
    method = made(local_crops=local)
    found = method.loss(batch(local))
    wanted = slow(method, batch(local), local)
    assert {name: term.item() for name, term in found.items()} == pytest.approx(wanted, rel=1e-4)


def test_weights_scale_the_terms() -> None:
    plain, weighted = made().loss(batch()), made(ibot=0.5, koleo=0).loss(batch())
    assert weighted["dino"].item() == pytest.approx(plain["dino"].item())
    assert weighted["ibot"].item() == pytest.approx(plain["ibot"].item() / 2) and weighted["koleo"].item() == 0


def test_no_gradient_reaches_the_teacher_and_the_mask_token_gets_one() -> None:
    method = made()
    sum(method.loss(batch()).values()).backward()
    assert all(weight.grad is None for weight in method.teacher.parameters())
    assert method.mask_token.grad is not None and method.mask_token.grad.any()


def test_targets_use_all_prototypes_equally_and_each_is_a_distribution() -> None:
    method, large = made(iterations=50), torch.cat(batch().views[:2])
    codes, patch_codes = method._taught(large, drawn()[1], 0.5)
    for one in (codes, patch_codes):
        torch.testing.assert_close(one.sum(1), torch.ones(len(one)))
        torch.testing.assert_close(one.sum(0), torch.full((5,), len(one) / 5), rtol=0.02, atol=0)


def test_what_is_told_alike_gives_the_loss_of_guessing() -> None:
    method = made()
    for head in (method.head, method.teacher.parts[1]):
        head.last_layer.weight_v.data.copy_(head.last_layer.weight_v.data[:1].expand(5, -1))
    found, guessed = method.loss(batch()), method.chance(BATCH)
    assert {name: found[name].item() for name in guessed} == pytest.approx(guessed, rel=1e-5)


@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (3, 7), (2, 2)])
def test_masks_hide_the_same_number_of_different_patches_within_the_ratios(grid: tuple[int, int]) -> None:
    for seed in range(20):
        hidden = hide(6, grid, torch.Generator().manual_seed(seed))
        patches = grid[0] * grid[1]
        assert max(int(0.1 * patches), 1) <= hidden.shape[1] <= max(patches // 2, 1)
        assert all(len(set(places)) == len(places) and max(places) < patches for places in hidden.tolist())


def test_masks_are_blocks() -> None:
    def neighbours(hidden: Tensor) -> float:
        """Share of the hidden patches whose right neighbour is hidden too."""
        mask = torch.zeros(len(hidden), 196).scatter_(1, hidden, 1).unflatten(1, (14, 14))
        return float((mask[:, :, 1:] * mask[:, :, :-1]).sum() / mask[:, :, :-1].sum())

    blocks = [hide(64, (14, 14), torch.Generator().manual_seed(seed)) for seed in range(5)]
    scattered = [torch.rand(64, 196).argsort(1)[:, : hidden.shape[1]] for hidden in blocks]
    assert all(neighbours(one) > 1.4 * neighbours(other) for one, other in zip(blocks, scattered))


def test_the_last_layer_alone_rests_at_first() -> None:
    method = made(freeze=0.1)
    for progress, moves in ((0.099, False), (0.1, True)):
        method.zero_grad()
        sum(method.loss(batch()).values()).backward()
        method.before_step(progress)
        assert (method.head.last_layer.weight_v.grad is not None) == moves
        assert method.head.layers[0].weight.grad is not None


def test_the_teacher_is_judged_and_follows() -> None:
    method = made(momentum=0.9)
    assert method.judged() is method.teacher.encoder
    teacher, student = method.teacher.parts[1].layers[0].weight, method.head.layers[0].weight
    wanted = 0.95 * teacher + 0.05 * student
    method.after_step(0.5)
    torch.testing.assert_close(teacher, wanted)


def test_a_conv_net_is_refused_and_so_are_crop_ranges_that_cannot_be() -> None:
    with pytest.raises(UserError, match="dinov2 needs patch tokens that can be hidden"):
        made("resnet18")
    with pytest.raises(UserError, match=r"dinov2\.local_min=0\.5 is above dinov2\.local_max=0\.32"):
        made(local_min=0.5)


def test_lengths_of_prototypes_are_learned_and_start_at_one() -> None:
    last = made().head.last_layer
    assert last.weight_g.requires_grad and (last.weight_g == 1).all()


def dropped(module: Any) -> list[float]:
    return [part.drop_prob for part in module.modules() if isinstance(part, DropPath)]


def test_all_blocks_are_skipped_with_the_same_chance_and_in_the_student_alone() -> None:
    method, rates = made(drop_path=0.2), list[tuple[str, list[float]]]()
    for name, one in (("student", method.encoder), ("teacher", method.teacher.encoder)):
        block = one.trunk.blocks[0]
        block.register_forward_pre_hook(lambda _, __, name=name, one=one: rates.append((name, dropped(one))))
    method.loss(batch())
    assert {name for name, _ in rates} == {"student", "teacher"}
    for name, found in rates:  # two places in each of three blocks
        assert found == (pytest.approx([0.2] * 6) if name == "student" else [])
    assert not dropped(method.encoder), "other parts of a mixture would skip blocks, too"
