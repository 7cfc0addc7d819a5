from pathlib import Path

import torch

from ssbench.data import Dataset
from ssbench.encoders.build import build
from ssbench.encoders.encoder import Encoder
from ssbench.features import Part, represent


def encoder(name: str = "vit-nano") -> Encoder:
    torch.manual_seed(0)
    return build(name, size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))


def test_features_are_one_pass_in_evaluation_mode_without_gradient(tiny: Dataset) -> None:
    net = encoder("resnet18").train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    found = represent(net, tiny.fit.images, net.vectors)["mean"]
    assert not found.requires_grad and found.shape == (120, net.dim)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())  # batch norm has not moved
    alone = represent(net, tiny.fit.images[:1], net.vectors)["mean"]
    torch.testing.assert_close(alone, found[:1], atol=1e-5, rtol=1e-4)


def test_a_part_computes_its_features_once(tiny: Dataset, tmp_path: Path) -> None:
    net = encoder()
    first = Part(net, tiny.fit, tmp_path, "k").pooled()
    assert [file.name for file in tmp_path.iterdir()] == ["k-readings.safetensors"]
    torch.nn.init.zeros_(net.trunk.patch_embed.proj.weight)  # a second pass would show
    assert torch.equal(Part(net, tiny.fit, tmp_path, "k").pooled(), first)
    assert not torch.equal(Part(net, tiny.fit, tmp_path, "other").pooled(), first)


def test_training_and_test_images_go_through_the_same_function(tiny: Dataset, tmp_path: Path) -> None:
    net = encoder()
    fit, test = Part(net, tiny.fit, tmp_path, "fit"), Part(net, tiny.fit, tmp_path, "test")
    for pooling in fit.poolings:
        assert torch.equal(fit.pooled(pooling), test.pooled(pooling))
    assert torch.equal(fit.map(), test.map())


def test_pooled_is_the_mean_of_the_map(tiny: Dataset, tmp_path: Path) -> None:
    part = Part(encoder(), tiny.fit, tmp_path, "k")
    torch.testing.assert_close(part.map().mean((2, 3)), part.pooled(), atol=1e-5, rtol=1e-4)


def test_some_samples_have_the_features_and_targets_that_all_of_them_have(tmp_path: Path, tiny: Dataset) -> None:
    part = Part(encoder(), tiny.fit, tmp_path, "k")
    rows = torch.tensor([5, 2, 9])
    some = part.take(rows).take(torch.tensor([2, 0]))
    assert len(some) == 2
    assert torch.equal(some.pooled(), part.pooled()[[9, 5]])
    assert torch.equal(some.map(), part.map()[[9, 5]])
    assert torch.equal(some.target("label"), part.target("label")[[9, 5]])
    assert torch.equal(some.images, tiny.fit.images[[9, 5]])


def test_changed_images_have_their_own_features_and_the_same_targets(tmp_path: Path, tiny: Dataset) -> None:
    net = encoder()
    part = Part(net, tiny.fit, tmp_path, "k").take(torch.arange(8))
    dark = part.changed(part.images // 2)
    assert torch.equal(dark.pooled(), represent(net, part.images // 2, lambda seen: {"v": net.pooled(seen)})["v"])
    assert torch.equal(dark.target("label"), part.target("label"))
    assert not [*tmp_path.iterdir()]


def test_vectors_of_all_blocks_are_those_of_readings_and_more(tmp_path: Path, tiny: Dataset) -> None:
    part = Part(encoder(), tiny.fit, tmp_path, "k")
    found = part.vectors(part.depth)
    assert len({name.partition("@")[2] for name in found}) == part.depth
    assert all(torch.allclose(found[name], part.pooled(name)) for name in part.readings)
