"""Every block is read, and the one that tells classes is found."""

from collections.abc import Callable

import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.results.metrics import score
from ssbench.task import Bench, Outcome
from ssbench.tasks.layers import Layers, vectors_of

MakeBench = Callable[..., Bench]
SIZES = (200, 100, 100)


class Blocks(Encoder):
    """Five blocks that give noise as mean and class vectors; the class vector of block 2 tells the class."""

    def __init__(self, planted: int = 2) -> None:
        super().__init__(nn.Identity(), torch.zeros(8), torch.ones(8))
        self.planted = planted

    @property
    def poolings(self) -> tuple[str, ...]:
        return ("mean", "cls")

    @property
    def dim(self) -> int:
        return 4

    @property
    def depth(self) -> int:
        return 5

    def readings(self, images: Tensor, last: int = 1) -> dict[str, Tensor]:
        told, noise = images[:, :4, 0, 0], images[:, 4:, 0, 0]
        found = {}
        for block in range(6 - last, 6):
            at = "" if block == 5 else f"@{block}"
            found[f"mean{at}"] = noise.roll(block, 1) ** 2
            found[f"cls{at}"] = told if block == self.planted else noise**3
        return found


def planted(make_bench: MakeBench, block: int = 2) -> tuple[Bench, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    told = torch.eye(4)[labels] + 0.3 * torch.randn(400, 4, generator=generator)
    images = torch.cat([told, torch.randn(400, 4, generator=generator)], 1)[..., None, None]
    return make_bench(images, {"label": labels}, SIZES, Blocks(block)), images, labels


def laid(table: Bench) -> Outcome:
    return Layers(Layers.Settings()).evaluate(table)


@pytest.mark.parametrize("block", [1, 2, 5])
def test_the_block_and_pooling_that_tell_the_class_are_chosen(make_bench: MakeBench, block: int) -> None:
    found = laid(planted(make_bench, block)[0])
    assert (found.selected["block"], found.selected["pooling"]) == (block, "cls")
    profile = found.details["profile"]["block"]
    assert [*profile] == [f"{b} {pooling}" for b in range(1, 6) for pooling in ("mean", "cls")]
    assert (
        profile[f"{block} cls"] == pytest.approx(score("accuracy", found.arrays["top1"]))
        and min(profile[f"{block} cls"] - value for name, value in profile.items() if name != f"{block} cls") > 40
    )


def test_a_point_of_the_profile_is_scikit_learns_with_the_penalty_that_select_prefers(make_bench: MakeBench) -> None:
    table, images, labels = planted(make_bench)
    found = laid(table)
    rows = [row for row in found.sweep if (row["block"], row["pooling"]) == (1, "cls")]
    penalty = max(rows, key=lambda row: (row["select_top1"], -row["error"]))["penalty"]
    x = (images[:, 4:, 0, 0] ** 3).double().numpy()
    scaler = StandardScaler().fit(x[:200])
    # RidgeClassifier's targets are -1 and 1, twice as far apart: the same classes with the same penalty
    oracle = RidgeClassifier(penalty).fit(scaler.transform(x[:200]), labels[:200])
    assert found.details["profile"]["block"]["1 cls"] == pytest.approx(
        100 * oracle.score(scaler.transform(x[300:]), labels[300:])
    )


def test_every_block_of_a_vit_is_read_in_order(make_bench: MakeBench, untrained: Encoder) -> None:
    images = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    part = make_bench(images, {"label": torch.arange(6) % 2}, (2, 2, 2), untrained).fit
    found = vectors_of(part)
    assert [*found] == [(b, pooling) for b in range(1, part.depth + 1) for pooling in part.poolings]
    assert torch.equal(found[part.depth, part.poolings[0]], part.pooled())


def test_a_block_that_is_set_is_the_last_one(make_bench: MakeBench, untrained: Encoder) -> None:
    images = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    part = make_bench(images, {"label": torch.arange(6) % 2}, (2, 2, 2), untrained.read(block=3)).fit
    assert [*dict.fromkeys(block for block, _ in vectors_of(part))] == [1, 2, 3]


def test_a_net_without_blocks_has_one(make_bench: MakeBench, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits
    found = laid(make_bench(images, {"label": labels}, (300, 100, 100)))
    assert {*found.details["profile"]["block"]} == {"1 mean", "1 cls"}
