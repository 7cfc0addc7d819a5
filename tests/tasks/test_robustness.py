"""Robustness on encoders whose answer under each corruption is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from ssbench.encoders.encoder import Encoder
from ssbench.results.metrics import floor, score
from ssbench.task import Bench, Outcome
from ssbench.tasks import robustness
from ssbench.tasks.corruptions import KINDS, corrupt
from ssbench.tasks.robustness import Robustness

MakeBench = Callable[..., Bench]
Reads = Callable[..., Encoder]
SIZES = (60, 30, 40)


def halves(count: int = sum(SIZES)) -> tuple[Tensor, Tensor]:
    """Images of 16 px, bright on the left (class 0), right (1) or above (2), and their classes, unequal in number."""
    labels = torch.tensor([0, 0, 1, 2]).repeat(-(-count // 4))[:count]
    images = torch.full((count, 3, 16, 16), 60, dtype=torch.uint8)
    for image, label in zip(images, labels):
        image[
            (slice(None), *((slice(None), slice(8)), (slice(None), slice(8, 16)), (slice(8), slice(None)))[label])
        ] = 200
    return images, labels


def sides(x: Tensor) -> Tensor:
    """Mean of each quarter, which noise, blur and weather leave in their order."""
    quarters = x.mean(1).unfold(1, 8, 8).unfold(2, 8, 8).mean((3, 4)).flatten(1)
    quarters = quarters - quarters.mean(1, keepdim=True)
    return quarters / quarters.norm(dim=1, keepdim=True).clamp(min=1e-6)


@pytest.fixture
def evaluated(make_bench: MakeBench, reads: Reads) -> Callable[..., Outcome]:
    """`evaluated(read)`: the outcome for an encoder that gives what `read` reads out of pixels."""

    def evaluate(read: Callable[[Tensor], Tensor], **settings: Any) -> Outcome:
        images, labels = halves()
        table = make_bench(images, {"label": labels}, SIZES, reads(read))
        return Robustness(Robustness.Settings(**settings)).evaluate(table)

    return evaluate


def test_an_encoder_that_sees_through_corruption_keeps_everything(evaluated: Callable[..., Outcome]) -> None:
    found = evaluated(sides)
    assert score("accuracy", found.arrays["clean"]) == 100
    assert score("mean", found.arrays["corrupted"]) > 97
    assert score("mean", found.arrays["kept"]) == pytest.approx(score("mean", found.arrays["corrupted"]))
    profile = found.details["profile"]
    assert tuple(profile["corruption"]) == KINDS and tuple(profile["severity"]) == ("1", "3", "5")
    for points in profile.values():
        assert np.mean([*points.values()]) == pytest.approx(score("mean", found.arrays["corrupted"]))


def test_an_encoder_that_any_change_destroys_falls_to_the_floor(evaluated: Callable[..., Outcome]) -> None:
    def fragile(x: Tensor) -> Tensor:
        known = ((x * 255).round() % 140 == 60).all(3).all(2).all(1)  # only 60 and 200 occur in clean images
        return sides(x) * known[:, None]

    found = evaluated(fragile, severities=(5,))
    assert score("accuracy", found.arrays["clean"]) == 100
    kinds = found.details["profile"]["corruption"]
    assert [kinds[kind] for kind in ("gaussian", "impulse", "frost", "fog", "contrast")] == [50] * 5
    assert floor("mean", found.arrays["corrupted"]) == 50  # half of the test is of class 0


def test_a_constant_encoder_stands_at_the_floor(evaluated: Callable[..., Outcome]) -> None:
    found = evaluated(lambda x: torch.ones(len(x), 4), severities=(1,))
    assert floor("mean", found.arrays["corrupted"]) == 50  # half of the test is of class 0
    assert score("mean", found.arrays["corrupted"]) == 50 == score("accuracy", found.arrays["clean"])
    assert score("mean", found.arrays["kept"]) == pytest.approx(100)


def test_shuffled_labels_are_told_at_chance(make_bench: MakeBench, reads: Reads) -> None:
    images, labels = halves(400)
    shuffled = labels[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    table = make_bench(images, {"label": shuffled}, (200, 50, 150), reads(sides))
    found = Robustness(Robustness.Settings(severities=(1,))).evaluate(table)
    assert abs(score("mean", found.arrays["corrupted"]) - 50) < 12


def test_accuracies_are_those_of_scikit_learns_ridge_on_the_same_corrupted_images(
    make_bench: MakeBench, reads: Reads
) -> None:
    def pixels(x: Tensor) -> Tensor:
        return x.mean(1).flatten(1)

    generator = torch.Generator().manual_seed(0)
    images, labels = halves()
    images = (images + 40 * torch.randn(images.shape, generator=generator)).clamp(0, 255).byte()
    table = make_bench(images, {"label": labels}, SIZES, reads(pixels))
    found = Robustness(Robustness.Settings(severities=(4,))).evaluate(table)
    x = pixels(images / 255)
    x = (x - x[:60].mean(0)) / (x[:60].std(0, correction=0))
    oracle = Ridge(found.selected["penalty"]).fit(x[:60].double(), np.eye(3)[labels[:60]])
    np.testing.assert_array_equal(found.arrays["clean"]["predicted"], oracle.predict(x[90:].double()).argmax(1))
    for kind in ("gaussian", "contrast", "frost"):
        seen = pixels(corrupt(images[90:], kind, 4, table.generator(f"corruption {kind} 4")) / 255)
        seen = (seen - pixels(images[:60] / 255).mean(0)) / pixels(images[:60] / 255).std(0, correction=0)
        right = (oracle.predict(seen.double()).argmax(1) == labels[90:].numpy()).mean()
        assert found.details["profile"]["corruption"][kind] == pytest.approx(100 * right)
        assert found.details["errors"][kind] == pytest.approx(100 - 100 * right)


def test_a_sample_counts_by_its_share_of_corruptions_and_kept_is_a_ratio_of_sums() -> None:
    hits = torch.zeros(15, 2, 4, dtype=torch.bool)
    hits[:, 0, 0], hits[:, :, 1] = True, True
    outcome = robustness.handed_in(
        Outcome({}, []), hits, torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0]), (2, 4), np.arange(4)
    )
    assert outcome.arrays["corrupted"]["value"].tolist() == [50, 100, 0, 0]
    assert outcome.arrays["corrupted"]["constant"].tolist() == [100, 0, 100, 100]
    assert score("mean", outcome.arrays["kept"]) == pytest.approx(100 * 37.5 / 75)
    assert outcome.details["profile"]["severity"] == {"2": 50, "4": 25} and outcome.details["clean_error"] == 25
    assert set(outcome.details["errors"].values()) == {50 + 75}


def test_other_severities_have_the_same_images_of_those_they_share(evaluated: Callable[..., Outcome]) -> None:
    few, more = (evaluated(sides, severities=of).details["profile"] for of in ((5,), (1, 5)))
    assert few["severity"]["5"] == more["severity"]["5"]


def test_work_counts_the_looks_at_corrupted_images(make_bench: MakeBench, reads: Reads) -> None:
    images, labels = halves()
    task = Robustness(Robustness.Settings(severities=(1, 5)))
    work = task.work(make_bench(images, {"label": labels}, SIZES, reads(sides)))
    assert work.forward == 130 and work.changed == 15 * 2 * 40
