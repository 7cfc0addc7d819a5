"""Which blocks and poolings tasks see: those of the network, its own vector first, a chosen block alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from ssbench.data import Dataset
from ssbench.encoders.encoder import OWN, Encoder
from ssbench.features import LAST, Part
from ssbench.results.metrics import score
from ssbench.task import Bench
from ssbench.tasks.finetune import Finetune, Network, train
from ssbench.tasks.knn import KNN
from ssbench.tasks.linear_probe import STACK, LinearProbe, side_by_side, vectors_of

MakeBench = Callable[..., Bench]
QUICK = LinearProbe.Settings(lrs=(3e-2,), weight_decays=(0,), epochs=30, blocks=LAST)


def trunk(**options: Any) -> Any:
    torch.manual_seed(0)
    more = {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 6, "num_heads": 2} | options
    return timm.create_model("vit_tiny_patch16_224", num_classes=0, **more)


def vit(**options: Any) -> Encoder:
    return Encoder(trunk(**options), torch.full((3,), 0.5), torch.full((3,), 0.25), 16)


def blocks_of(part: Part) -> list[str]:
    return list(dict.fromkeys(block for _, block, _ in vectors_of(part, LAST)))


@torch.no_grad()
def test_each_reading_is_timms_normalised_output_of_that_block(tiny: Dataset, tmp_path: Path) -> None:
    encoder = vit(reg_tokens=2)
    part = Part(encoder.eval(), tiny.select, tmp_path, "k")
    x = encoder.normalise(tiny.select.images)
    found = encoder.trunk.forward_intermediates(
        x, norm=True, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
    )
    expected: dict[str, Tensor] = {}
    for block, (patches, prefix) in enumerate(found[-LAST:], 6 - LAST + 1):
        at = "" if block == 6 else f"@{block}"
        expected |= {f"mean{at}": patches.mean(1), f"cls{at}": prefix[:, 0]}
    assert part.readings == ("mean", "cls", "mean@5", "cls@5", "mean@4", "cls@4", "mean@3", "cls@3")
    assert {*part.readings} == expected.keys()
    for name, vector in expected.items():
        torch.testing.assert_close(part.pooled(name), vector, rtol=1e-4, atol=1e-5)
    assert torch.equal(part.pooled(), part.pooled("mean"))


def test_the_probe_tries_every_reading_and_the_class_tokens_of_all_blocks(tiny: Dataset, tmp_path: Path) -> None:
    part = Part(vit(), tiny.select, tmp_path, "k")
    sources = vectors_of(part, LAST)
    names = ["last", "last-1", "last-2", "last-3"]
    each = [(pooling, block) for block in names for pooling in ("mean", "cls", "cls+mean")]
    assert [(pooling, block) for pooling, block, _ in sources] == [*each, (STACK, "last 4")]
    assert {name for _, _, used in sources for name in used} == {*part.readings}
    tokens = [part.pooled(name) for name in ("cls", "cls@5", "cls@4", "cls@3")]
    assert torch.equal(side_by_side(part, sources[-1][2]), torch.cat(tokens, 1))


def test_fewer_blocks_are_tried_where_fewer_are_asked_for(tiny: Dataset, tmp_path: Path) -> None:
    part = Part(vit(), tiny.select, tmp_path, "k")
    blocks = [block for _, block, _ in vectors_of(part, 2)]
    assert list(dict.fromkeys(blocks)) == ["last", "last-1", "last 4"]  # DINO's class tokens are of four


def test_a_shallow_network_has_as_many_blocks_as_it_has(tiny: Dataset, tmp_path: Path) -> None:
    assert blocks_of(Part(vit(depth=2), tiny.select, tmp_path, "k")) == ["last", "last-1", "last 2"]
    assert blocks_of(Part(vit(depth=1), tiny.select, tmp_path, "one")) == ["last"]


@pytest.mark.parametrize("block", [2, -1, 6])
@torch.no_grad()
def test_a_block_that_is_chosen_is_read_alone(block: int, tiny: Dataset, tmp_path: Path) -> None:
    encoder = vit().read(block=block).eval()
    part = Part(encoder, tiny.select, tmp_path, "k")
    assert part.readings == ("mean", "cls") and blocks_of(part) == ["last"]
    x = encoder.normalise(tiny.select.images)
    (patches,) = encoder.trunk.forward_intermediates(
        x, indices=[block - 1 if block > 0 else 5], norm=True, output_fmt="NLC", intermediates_only=True
    )
    torch.testing.assert_close(part.pooled("mean"), patches.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(part.map().flatten(2).mean(2), patches.mean(1), rtol=1e-4, atol=1e-5)


class Times(nn.Module):
    """Writes the product of the first two values of a token into its third."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :2], x[..., :1] * x[..., 1:2], x[..., 3:]], -1)


class Wipes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0 * x


def test_the_block_that_alone_tells_classes_apart_is_chosen(make_bench: MakeBench) -> None:
    """An exclusive or of two values is linear in their product alone, which the last block wipes out."""
    built = trunk(embed_dim=8, depth=3, num_heads=1, class_token=False, global_pool="avg")
    built.blocks = nn.Sequential(nn.Identity(), Times(), Wipes())
    built.norm = built.fc_norm = nn.Identity()
    nn.init.zeros_(built.pos_embed)
    nn.init.zeros_(built.patch_embed.proj.weight)
    nn.init.zeros_(built.patch_embed.proj.bias)
    with torch.no_grad():
        for channel in (0, 1):
            built.patch_embed.proj.weight[channel, channel] = 1 / 16
    encoder = Encoder(built, torch.full((3,), 0.5), torch.full((3,), 0.5), 16)
    bits = torch.randint(2, (400, 2), generator=torch.Generator().manual_seed(0))
    images = torch.zeros(400, 3, 16, 16, dtype=torch.uint8)
    images[:, :2] = (255 * bits)[:, :, None, None].to(torch.uint8)
    labels = bits[:, 0] ^ bits[:, 1]
    found = LinearProbe(QUICK).evaluate(make_bench(images, {"label": labels}, (200, 100, 100), encoder))
    assert (found.selected["block"], found.selected["pooling"]) == ("last-1", "mean")
    assert score("accuracy", found.arrays["top1"]) == 100
    scores = {row["block"]: row["select_top1"] for row in found.sweep}
    assert [*scores] == ["last", "last-1", "last-2"] and scores["last-1"] == 100
    assert max(scores["last"], scores["last-2"]) < 80
    alone = LinearProbe(QUICK).evaluate(make_bench(images, {"label": labels}, (200, 100, 100), encoder.read(block=2)))
    assert alone.selected["block"] == "last" and score("accuracy", alone.arrays["top1"]) == 100


class Bright(Encoder):
    """The trunk is left out: a layer on the mean colour tells bright from dark."""

    extra: nn.Linear

    def __init__(self, inner: Encoder) -> None:
        super().__init__(inner.trunk, inner.mean, inner.std)
        self.extra = nn.Linear(3, 7)

    @property
    def dim(self) -> int:
        return 7

    def pooled(self, images: Tensor) -> Tensor:
        found: Tensor = self.extra(images.mean((2, 3)))
        return found


@pytest.fixture
def bright() -> Bright:
    """The trunk gives the same for every image."""
    inner = vit(depth=2)
    nn.init.zeros_(inner.trunk.norm.weight)
    torch.manual_seed(1)
    return Bright(inner)


def pictures(make_bench: MakeBench, encoder: Encoder) -> Bench:
    """Of four levels of brightness."""
    labels = torch.arange(240) % 4
    noise = torch.randint(-20, 20, (240, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    images = (40 + 60 * labels[:, None, None, None] + noise).to(torch.uint8)
    return make_bench(images, {"label": labels}, (160, 40, 40), encoder)


def test_a_vector_of_ones_own_counts_in_knn(bright: Bright, make_bench: MakeBench) -> None:
    found = KNN(KNN.Settings()).evaluate(pictures(make_bench, bright))
    assert found.selected["pooling"] == OWN and score("accuracy", found.arrays["top1"]) == 100


def test_a_vector_of_ones_own_is_tried_first_by_the_probe(bright: Bright, make_bench: MakeBench) -> None:
    found = LinearProbe(QUICK).evaluate(pictures(make_bench, bright))
    assert [row["pooling"] for row in found.sweep][:3] == [OWN, "mean", "cls"]
    assert (found.selected["pooling"], found.selected["block"]) == (OWN, "last")
    assert score("accuracy", found.arrays["top1"]) == 100
    assert all(row["select_top1"] < 50 for row in found.sweep if row["pooling"] != OWN)


def test_what_a_vector_of_ones_own_learns_with_is_fine_tuned(bright: Bright, make_bench: MakeBench) -> None:
    groups = Network(bright, 4).groups(1e-2, 0.5, 0.05)
    own = {id(weight) for weight in bright.extra.parameters()}
    peaks = {group["peak"] for group in groups for weight in group["params"] if id(weight) in own}
    assert peaks == {1e-2} and own <= {id(weight) for group in groups for weight in group["params"]}
    counted = [id(weight) for group in groups for weight in group["params"]]
    assert len(counted) == len({*counted})
    table = pictures(make_bench, bright)
    before = bright.extra.weight.clone()
    network = train(table, 0.05, Finetune.Settings(batch=16))
    assert not torch.allclose(network.encoder.extra.weight, before, atol=1e-2)
    assert torch.equal(bright.extra.weight, before)  # a copy learns
    found = Finetune(Finetune.Settings(batch=16, lrs=(0.05,), epochs=8)).evaluate(table)
    assert score("accuracy", found.arrays["top1"]) > 90
