"""DeepCluster-v2 against spherical k-means and its loss written with loops."""

from math import log
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.errors import UserError
from ssbench.method import Batch
from ssbench.methods.clustering.deepcluster import DeepClusterV2
from ssbench.methods.parts.kmeans import assigned, kmeans

SMALL = {"prototypes": (3, 5, 4), "out": 6, "hidden": 16, "local_crops": 2}


def made(backbone: str = "vit-nano", size: int = 16, **settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build(backbone, size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    return DeepClusterV2(encoder, DeepClusterV2.Settings(**{**SMALL, **settings}))


def all_images(count: int = 20, size: int = 16) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(3)).to(torch.uint8)


def batch(index: tuple[int, ...] = (7, 2, 11, 5), size: int = 16, local: int = 2, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    sides = [size, size] + [size // 2] * local
    views = [torch.randn(len(index), 3, side, side, generator=generator) for side in sides]
    return Batch(views, torch.tensor(index), None, generator, 0.5)


def begun(**settings: Any) -> Any:
    method = made(**settings).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        method.before_epoch(0, all_images())
    return method.train()


def slow_kmeans(vectors: Tensor, centroids: Tensor, iterations: int) -> Tensor:
    """One vector and one cluster after the other, from given first centroids."""
    found = [centroid.clone() for centroid in centroids]
    for _ in range(iterations):
        nearest = [max(range(len(found)), key=lambda k: float(vector @ found[k])) for vector in vectors]
        for k in range(len(found)):
            own = [vector for vector, near in zip(vectors, nearest) if near == k]
            if own:
                mean = torch.stack(own).sum(0) / len(own)
                found[k] = mean / mean.square().sum().sqrt()
    return torch.stack(found)


def test_kmeans_is_that_of_loops() -> None:
    vectors = F.normalize(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    torch.manual_seed(5)
    first = vectors[torch.randperm(40)[:7]]
    torch.manual_seed(5)
    torch.testing.assert_close(kmeans(vectors, 7, 4), slow_kmeans(vectors, first, 4))


def test_kmeans_finds_far_groups_and_leaves_an_empty_cluster_where_it_is() -> None:
    groups = torch.eye(3).repeat_interleave(5, 0)
    found = kmeans(groups, 15, 3)  # every vector begins a cluster, and the first of those alike gets all
    assert found.isfinite().all() and torch.equal(found.sum(0), torch.full((3,), 5.0))
    assert all(len(assigned(groups, found)[k : k + 5].unique()) == 1 for k in (0, 5, 10))


def test_the_first_memory_holds_all_images_in_evaluation_mode() -> None:
    method = begun()
    with torch.no_grad():
        wanted = method.eval()._embedded([method.encoder.normalise(all_images())])
    torch.testing.assert_close(method.memory, torch.stack([wanted, wanted]))


def test_images_are_in_the_cluster_of_their_nearest_centroid_in_each_set() -> None:
    method = begun()
    assert method.clusters.shape == (3, 20) and method.prototypes.shape == (12, 6)
    for h, centroids in enumerate(method.prototypes.split((3, 5, 4))):
        for i in range(20):
            near = max(range(len(centroids)), key=lambda k: float(method.memory[h % 2, i] @ centroids[k]))
            assert method.clusters[h, i] == near
    torch.testing.assert_close(method.prototypes.norm(dim=1), torch.ones(12))


def test_loss_is_that_of_loops_over_sets_crops_and_images() -> None:
    method, given = begun(), batch()
    seen: list[Tensor] = []
    method.projector.register_forward_hook(lambda module, inputs, output: seen.append(output))
    loss = method.loss(given)["deepcluster"].item()
    crops, total = torch.cat(seen).double().unflatten(0, (4, 4)), 0.0  # (V, B, out)
    for h, centroids in enumerate(method.prototypes.double().split((3, 5, 4))):
        for crop in crops:
            for z, i in zip(crop, given.index.tolist()):
                scores = centroids @ z / z.square().sum().sqrt() / 0.1
                total -= (scores[method.clusters[h, i]] - scores.exp().sum().log()).item() / (3 * 4 * 4)
    assert loss == pytest.approx(total, rel=1e-5)


def test_the_memory_takes_the_full_size_crops_of_the_images_that_were_seen() -> None:
    method, given = begun(), batch()
    before = method.memory.clone()
    seen: list[Tensor] = []
    method.projector.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    method.loss(given)
    full = F.normalize(seen[0], dim=1).unflatten(0, (2, 4))
    torch.testing.assert_close(method.memory[:, given.index], full)
    rest = [i for i in range(20) if i not in given.index.tolist()]
    assert torch.equal(method.memory[:, rest], before[:, rest]) and not method.memory.requires_grad


def test_a_later_epoch_clusters_what_is_remembered() -> None:
    method = begun(prototypes=(3,))
    method.memory = F.normalize(torch.randn(2, 20, 6), dim=2)
    torch.manual_seed(6)
    wanted = kmeans(method.memory[0], 3, 10)
    torch.manual_seed(6)
    method.before_epoch(1, all_images())
    assert torch.equal(method.prototypes, wanted)


def test_centroids_are_not_trained() -> None:
    method = begun()
    method.loss(batch())["deepcluster"].backward()
    assert not method.prototypes.requires_grad and all(p.grad is not None for p in method.projector.parameters())


def test_state_holds_memory_and_clusters_so_that_a_resumed_run_is_the_same() -> None:
    method, resumed = begun(), made().train()
    method.loss(batch())
    resumed.load_state_dict(method.state_dict())
    assert torch.equal(resumed.memory, method.memory) and torch.equal(resumed.clusters, method.clusters)
    assert torch.equal(resumed.loss(batch(seed=2))["deepcluster"], method.loss(batch(seed=2))["deepcluster"])
    resumed.load_state_dict(made().state_dict())  # and back to none
    assert resumed.memory.shape == (2, 0, 6)


def test_without_clusters_the_loss_is_finite_and_nothing_is_remembered() -> None:
    method = made().train()
    assert method.loss(batch())["deepcluster"].isfinite() and method.memory.shape == (2, 0, 6)


def test_centroids_that_are_all_alike_give_the_loss_of_guessing() -> None:
    method = begun()
    method.prototypes.copy_(method.prototypes[:1].expand(12, -1))
    wanted = (log(3) + log(5) + log(4)) / 3
    assert method.loss(batch())["deepcluster"].item() == pytest.approx(wanted, abs=1e-5)
    assert method.chance(4)["deepcluster"] == pytest.approx(wanted)


def test_order_of_images_does_not_matter() -> None:
    given, order = batch(), torch.tensor([2, 0, 3, 1])
    turned = Batch([view[order] for view in given.views], given.index[order], None, given.generator, 0.5)
    assert begun().loss(turned)["deepcluster"].item() == pytest.approx(
        begun().loss(given)["deepcluster"].item(), abs=1e-5
    )


def test_more_clusters_than_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"deepcluster-v2\.prototypes=30 is more than the 20 training images"):
        begun(prototypes=(3, 30))


@pytest.mark.parametrize("backbone", ["vit-nano", "resnet18"])
def test_finite_gradient_reaches_the_whole_encoder(backbone: str) -> None:
    method = made(backbone, 32)
    method.loss(batch(size=32))["deepcluster"].backward()
    trained = [p for p in method.encoder.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert trained[0].grad is not None and trained[0].grad.any()
