import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from ssbench.data import Dataset, Split
from ssbench.encoders.encoder import Encoder
from ssbench.errors import NotApplicable
from ssbench.method import Method
from ssbench.training.diagnostics import LEAST, collapsing, measure, rankme, told_by_others, warning, watch
from ssbench.training.loop import undisturbed


def test_orthonormal_rows_have_their_number_as_rank() -> None:
    rows = torch.linalg.qr(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)))[0].T  # (5, 8)
    assert rankme(rows) == pytest.approx(5, abs=1e-4)
    assert rankme(100 * rows.repeat(3, 1)) == pytest.approx(5, abs=1e-3)
    assert rankme(torch.ones(6, 4)) == pytest.approx(1, abs=1e-4)  # not centred: one direction


def test_rankme_is_the_exponential_of_an_entropy() -> None:
    values = np.random.default_rng(0).normal(size=(20, 6)) * [5, 4, 3, 2, 1, 0.1] + 1
    s = np.linalg.svd(values, compute_uv=False)
    p = s / s.sum() + 1e-7
    assert rankme(torch.from_numpy(values)) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-10)


def test_features_without_a_rank_have_none() -> None:
    assert math.isnan(rankme(torch.zeros(4, 3))) and math.isnan(rankme(torch.full((4, 3), torch.inf)))


class Told(Method):
    """Hands back what it was shown."""

    def measures(self, images: Tensor, objects: Tensor | None) -> dict[str, float]:
        self.shown, self.objects, self.mode = images, objects, (self.training, torch.is_grad_enabled())
        return {"count": len(images), "broken": math.nan, "endless": math.inf}


def test_a_method_measures_held_out_images_with_their_masks(untrained: Encoder, tiny: Dataset) -> None:
    method = Told(untrained, Told.Settings()).train()
    found = measure(method, tiny.select, seed=0, ignore_index=255)
    assert list(found) == ["rankme", "count"] and 1 < found["rankme"] <= 40 and found["count"] == 40
    assert torch.equal(method.shown, untrained.normalise(tiny.select.images))
    assert method.objects is not None and torch.equal(method.objects, tiny.select.targets["mask"])
    assert method.mode == (False, False) and method.training and untrained.trunk.training


def test_ignored_pixels_are_background(untrained: Encoder, tiny: Dataset) -> None:
    method, mask = Told(untrained, Told.Settings()), tiny.select.targets["mask"]
    measure(method, tiny.select, seed=0, ignore_index=int(mask.max()))
    assert method.objects is not None and torch.equal(method.objects, torch.where(mask == mask.max(), 0, mask))


def test_no_more_than_64_are_measured_and_masks_are_not_made_up(untrained: Encoder, tiny: Dataset) -> None:
    many = type(tiny.select)(tiny.fit.images.repeat(3, 1, 1, 1), tiny.fit.keys * 3)
    method = Told(untrained, Told.Settings())
    assert measure(method, many, seed=0, ignore_index=255)["count"] == 64 and method.objects is None


def test_an_encoder_that_gives_no_vectors_has_no_rank(
    untrained: Encoder, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(images: Tensor) -> dict[str, Tensor]:
        raise NotApplicable("no vectors")

    monkeypatch.setattr(untrained, "vectors", refuse)
    assert measure(Method(untrained, Method.Settings()), tiny.select, seed=0, ignore_index=255) == {}


def test_looking_leaves_modes_and_random_numbers_as_they_were(untrained: Encoder) -> None:
    method = Method(untrained, Method.Settings()).train()
    untrained.trunk.norm.eval()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with pytest.raises(ZeroDivisionError), undisturbed(method, seed=0):
        assert not any(module.training for module in method.modules())
        torch.rand(5)
        raise ZeroDivisionError
    assert torch.equal(torch.rand(2), expected) and torch.is_grad_enabled()
    assert method.training and untrained.trunk.blocks.training and not untrained.trunk.norm.training


@pytest.mark.parametrize(
    ("log", "chance", "measures", "said"),
    [
        # losses of committed runs: SwAV at a rate that it did not survive, rotation, masked patches without a chance
        ([{"step": 50, "swav": 4.6}, {"step": 1000, "swav": 4.44}], {"swav": math.log(128)}, {}, "ended at 4.44"),
        ([{"step": 1000, "rotation": 1.04}], {"rotation": math.log(4)}, {"rankme": 20.0}, ""),
        ([{"step": 1000, "reconstruction": 0.06}], {}, {"rankme": 4.4}, ""),
        ([{"step": 1000, "reconstruction": 0.01}], {}, {"rankme": 1.2}, "RankMe 1.2"),
        ([{"step": 9, "a": 1.0, "b": 0.1}], {"a": 1.0, "b": 1.0}, {}, ""),  # together
        ([{"step": 9, "a": 0.0}], {"b": 1.0}, {}, ""),  # a term that is not there
        ([], {"a": 1.0}, {}, ""),
    ],
)
def test_a_training_that_came_to_nothing_is_named(
    log: list[dict[str, float]], chance: dict[str, float], measures: dict[str, float], said: str
) -> None:
    found = warning(log, chance, measures)
    assert said in found and bool(said) == bool(found)


def test_along_the_way_a_method_measures_held_out_images_with_their_masks_too(
    untrained: Encoder, tiny: Dataset
) -> None:
    method = Told(untrained, Told.Settings())
    assert watch(method, tiny.select, seed=0, ignore_index=255)["count"] == len(tiny.select)
    assert torch.equal(method.shown, untrained.normalise(tiny.select.images)) and method.objects is not None


class OneDirection(Encoder):
    """Sees the same in every image, up to its length."""

    def pooled(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), self.dim) * (1 + images.mean((1, 2, 3))[:, None].abs())


def test_vectors_that_point_one_way_have_no_deviation_and_are_named(untrained: Encoder, tiny: Dataset) -> None:
    alike = OneDirection(untrained.trunk, untrained.mean, untrained.std)
    found = watch(Method(alike, Method.Settings()), tiny.select, 0, 255)
    assert found["deviation"] == pytest.approx(0, abs=1e-5) and found["rankme"] == pytest.approx(1, abs=1e-2)
    assert "one direction" in collapsing(found, 0.5) and not collapsing(found, 0.1)
    few = watch(Method(alike, Method.Settings()), tiny.select.take([*range(LEAST - 1)]), 0, 255)
    assert "rankme" not in few and not collapsing(few, 0.5), "the rank of a few images is low whatever they are"


def test_vectors_that_point_everywhere_have_a_deviation_of_one(untrained: Encoder, tiny: Dataset) -> None:
    class Everywhere(Encoder):
        def pooled(self, images: Tensor) -> Tensor:
            return torch.randn(len(images), self.dim, generator=torch.Generator().manual_seed(0))

    spread = Everywhere(untrained.trunk, untrained.mean, untrained.std)
    found = watch(Method(spread, Method.Settings()), tiny.select, 0, 255)
    assert found["deviation"] == pytest.approx(1, abs=0.05) and not collapsing(found, 0.5)


def test_neighbours_tell_classes_as_a_library_says() -> None:
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (70,), generator=draw)
    vectors = torch.randn(70, 5, generator=draw) + labels[:, None]
    right = 0
    for at in range(70):
        others = [one for one in range(70) if one != at]
        vote = KNeighborsClassifier(20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))
        vote.fit(vectors[others], labels[others])
        right += int(vote.predict(vectors[[at]])[0] == labels[at])
    assert told_by_others(vectors, labels) == pytest.approx(100 * right / 70) and 40 < 100 * right / 70 < 100


def test_classes_are_judged_along_the_way_where_there_are_enough_images_of_one_each(untrained: Encoder) -> None:
    class Grey(Encoder):
        def pooled(self, images: Tensor) -> Tensor:
            level = images.mean((1, 2, 3))
            return torch.stack([level.sign(), torch.ones_like(level)], 1)

    method = Method(Grey(untrained.trunk, untrained.mean, untrained.std), Method.Settings())
    labels = torch.arange(60) % 2
    images = (labels * 255).to(torch.uint8)[:, None, None, None].expand(60, 3, 16, 16)
    lit = Split(images, tuple(map(str, range(60))), {"label": labels})
    assert watch(method, lit, 0, 255)["select_knn"] == 100
    assert "select_knn" not in watch(method, lit.take([*range(20)]), 0, 255)
    assert "select_knn" not in watch(method, Split(lit.images, lit.keys), 0, 255)
