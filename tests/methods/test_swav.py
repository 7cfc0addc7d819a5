"""SwAV against Sinkhorn and swapped prediction written with loops."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss.swav_loss import sinkhorn
from numpy.typing import NDArray
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.errors import UserError
from ssbench.method import Batch
from ssbench.methods.clustering.swav import SwAV

Array = NDArray[np.float64]
SMALL = {"prototypes": 5, "out": 6, "hidden": 16, "local_crops": 2, "queue": 8}


def made(backbone: str = "vit-nano", size: int = 16, **settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build(backbone, size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return SwAV(encoder, SwAV.Settings(**{**SMALL, **settings}))


def batch(progress: float = 0.5, count: int = 4, size: int = 16, local: int = 2, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    sides = [size, size] + [size // 2] * local
    views = [torch.randn(count, 3, side, side, generator=generator) for side in sides]
    return Batch(views, torch.arange(count), None, generator, progress)


def embeddings(method: Any) -> list[Tensor]:
    """What the projector gives from now on, with gradients kept."""
    seen: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    method.projector.register_forward_hook(keep)
    return seen


def fill(method: Any, stored: Tensor) -> None:
    """Push vectors (2, n, out) into the two queues."""
    for queue, vectors in zip(method.queues, stored):
        queue.push(vectors)


def slow_codes(scores: Array, epsilon: float = 0.03, iterations: int = 3) -> Array:
    """(samples, prototypes) -> codes of the same shape: prototypes and samples are made equal in turn."""
    codes = np.exp(scores / epsilon)
    samples, prototypes = codes.shape
    for _ in range(iterations):
        for k in range(prototypes):
            codes[:, k] /= codes[:, k].sum() * prototypes
        for b in range(samples):
            codes[b] /= codes[b].sum() * samples
    return codes * samples


def unit(rows: Array) -> Array:
    return np.stack([row / np.sqrt(row @ row) for row in rows])


def slow_loss(z: Array, weight: Array, codes: list[Array], temperature: float = 0.1) -> float:
    """Mean over the two coded crops of the mean over the other crops; z (V, B, out) before normalisation."""
    total = 0.0
    for i in range(2):
        others = [v for v in range(len(z)) if v != i]
        for v in others:
            for b in range(z.shape[1]):
                scores = weight @ z[v, b] / np.sqrt(z[v, b] @ z[v, b]) / temperature
                log_softmax = scores - np.log(np.exp(scores).sum())
                total -= codes[i][b] @ log_softmax / (2 * len(others) * z.shape[1])
    return total


def codes_of(z: Array, weight: Array, queue: Array | None) -> list[Array]:
    codes = []
    for i in range(2):
        rows = unit(z[i]) if queue is None else np.concatenate([unit(z[i]), queue[i]])
        codes.append(slow_codes(rows @ weight.T)[: z.shape[1]])
    return codes


def gradient(function: Any, at: Array) -> Array:
    found = np.zeros_like(at)
    for place in np.ndindex(*at.shape):
        step = np.zeros_like(at)
        step[place] = 1e-6
        found[place] = (function(at + step) - function(at - step)) / 2e-6
    return found


def exact(method: Any, z: Tensor, views: int) -> tuple[Array, Array]:
    rows = z.detach().double().numpy()
    return rows.reshape(views, len(rows) // views, -1), method.prototypes.weight.detach().double().numpy()


def test_loss_and_its_gradients_equal_the_slow_formula_without_a_queue() -> None:
    method = made()
    seen = embeddings(method)
    loss = method.loss(batch(0.1))["swav"]
    loss.backward()
    z, weight = exact(method, seen[0], 4)
    codes = codes_of(z, weight, None)
    assert loss.shape == () and loss.item() == pytest.approx(slow_loss(z, weight, codes), abs=1e-5)
    assert seen[0].grad is not None
    by_z = gradient(lambda values: slow_loss(values, weight, codes), z)  # no gradient through the codes
    np.testing.assert_allclose(seen[0].grad.reshape(z.shape), by_z, atol=1e-5)
    by_weight = gradient(lambda values: slow_loss(z, values, codes), weight)
    np.testing.assert_allclose(method.prototypes.weight.grad, by_weight, atol=1e-5)


def test_loss_and_its_gradients_equal_the_slow_formula_with_a_queue() -> None:
    method = made()
    stored = F.normalize(torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(7)), dim=2)
    fill(method, stored)
    seen = embeddings(method)
    loss = method.loss(batch(0.15))["swav"]
    loss.backward()
    z, weight = exact(method, seen[0], 4)
    codes = codes_of(z, weight, stored.double().numpy())
    assert loss.item() == pytest.approx(slow_loss(z, weight, codes), abs=1e-5)
    assert loss.item() != pytest.approx(slow_loss(z, weight, codes_of(z, weight, None)), abs=1e-3)
    by_weight = gradient(lambda values: slow_loss(z, values, codes), weight)
    np.testing.assert_allclose(method.prototypes.weight.grad, by_weight, atol=1e-5)


@pytest.mark.parametrize(("progress", "full"), [(0.149, True), (0.9, False)])
def test_queue_rests_before_its_time_and_until_it_is_full(progress: float, full: bool) -> None:
    method = made()
    fill(method, F.normalize(torch.ones(2, 8 if full else 7, 6), dim=2))
    seen = embeddings(method)
    loss = method.loss(batch(progress))["swav"]
    z, weight = exact(method, seen[0], 4)
    assert loss.item() == pytest.approx(slow_loss(z, weight, codes_of(z, weight, None)), abs=1e-5)


def test_queue_holds_the_newest_full_size_embeddings_first() -> None:
    method = made(queue=6)
    seen = embeddings(method)
    for seed in (1, 2):
        method.loss(batch(seed=seed))
    old, new = (F.normalize(z.detach(), dim=1).reshape(4, 4, 6)[:2] for z in seen)
    held = torch.stack([queue.vectors for queue in method.queues])
    torch.testing.assert_close(held, torch.cat([new, old[:, :2]], 1))
    assert not held.requires_grad


def test_state_holds_the_queue_so_that_a_resumed_run_is_the_same() -> None:
    method, resumed = made(), made()
    for seed in (1, 2):
        method.loss(batch(seed=seed))
    state = method.state_dict()
    assert all(state[f"queues.{k}.vectors"].shape == (8, 6) and state[f"queues.{k}.vectors"].any() for k in range(2))
    resumed.load_state_dict(state)
    assert torch.equal(resumed.loss(batch(seed=3))["swav"], method.loss(batch(seed=3))["swav"])


def test_no_queue_and_no_local_crops_give_two_view_swav() -> None:
    method = made(queue=0, local_crops=0)
    seen = embeddings(method)
    loss = method.loss(batch(0.5, local=0))["swav"]
    z, weight = exact(method, seen[0], 2)
    assert loss.item() == pytest.approx(slow_loss(z, weight, codes_of(z, weight, None)), abs=1e-5)


def test_sinkhorn_codes_equal_the_slow_loop_and_sum_to_one() -> None:
    scores = torch.rand(12, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    codes = sinkhorn(scores, epsilon=0.03)
    np.testing.assert_allclose(codes, slow_codes(scores.double().numpy()), atol=1e-5)
    np.testing.assert_allclose(codes.sum(1), np.ones(12), atol=1e-5)


def test_sinkhorn_uses_all_prototypes_equally() -> None:
    scores = torch.rand(12, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scores[:, 0] = 1.0  # everything is nearest to the first prototype
    np.testing.assert_allclose(sinkhorn(scores, iterations=500).sum(0), np.full(4, 3.0), atol=1e-3)


def test_prototypes_rest_for_a_twentieth_of_the_budget() -> None:
    resting, moving = made(), made()
    resting.loss(batch(0.049))["swav"].backward()
    assert resting.prototypes.weight.grad is None and resting.projector.layers[0].weight.grad.any()
    moving.loss(batch(0.05))["swav"].backward()
    assert moving.prototypes.weight.grad.any()


def test_prototypes_are_unit_vectors_from_the_start_and_after_each_step() -> None:
    method = made()
    assert method.prototypes.bias is None
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(5))
    with torch.no_grad():
        method.prototypes.weight.mul_(3).add_(0.1)
    method.after_step(0.5)
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(5))


def test_loss_keeps_float32_under_autocast() -> None:
    method = made()
    seen = embeddings(method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method.loss(batch(0.1))["swav"]
    z, weight = exact(method, seen[0], 4)
    assert seen[0].dtype == torch.bfloat16
    assert loss.item() == pytest.approx(slow_loss(z, weight, codes_of(z, weight, None)), abs=1e-5)


def test_prototypes_that_are_all_alike_give_the_loss_of_guessing() -> None:
    method = made()
    method.prototypes.requires_grad_(False).weight.copy_(
        method.prototypes.weight[:1].expand_as(method.prototypes.weight)
    )
    assert method.loss(batch(0.1))["swav"].item() == pytest.approx(method.chance(4)["swav"], abs=1e-5)


def test_order_of_images_does_not_matter() -> None:
    given, order = batch(0.1), torch.tensor([2, 0, 3, 1])
    turned = Batch([view[order] for view in given.views], given.index[order], None, given.generator, 0.1)
    assert made().loss(turned)["swav"].item() == pytest.approx(made().loss(given)["swav"].item(), abs=1e-5)


def test_measures_tell_a_collapse_from_clusters_in_use() -> None:
    method = made().eval()
    images = batch().views[0]
    with torch.no_grad():
        method.prototypes.weight[:3] = F.normalize(method.projector(method.encoder.pooled(images)), dim=1)[:3]
    alive = method.measures(images, None)
    alike = method.measures(images[:1].expand(4, -1, -1, -1), None)
    assert alike["clusters_used"] == 0.25 < alive["clusters_used"] <= 1
    assert alike["cluster_entropy"] < alive["cluster_entropy"] <= 1


def test_views_are_two_full_and_some_half_size_crops() -> None:
    full, half = made(local_crops=3).views
    assert (full.count, full.size, half.count, half.size) == (2, 1.0, 3, 0.5)
    assert full.crop == (0.14, 1.0) and half.crop == (0.14, 0.4)


def test_crop_ranges_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match=r"swav\.local_min=0\.5 is above swav\.local_max=0\.4"):
        made(local_min=0.5)


@pytest.mark.parametrize("backbone", ["vit-nano", "resnet18"])
def test_finite_gradient_reaches_the_whole_encoder(backbone: str) -> None:
    method = made(backbone, 32)
    loss = method.loss(batch(count=2, size=32))["swav"]
    loss.backward()
    trained = [p for p in method.encoder.parameters() if p.requires_grad]
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert trained[0].grad is not None and trained[0].grad.any()
