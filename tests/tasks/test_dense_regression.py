"""Dense regression measures as loops do, and learns what a linear layer can."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from torch import Tensor

from ssbench.results.metrics import floor, score
from ssbench.task import Bench
from ssbench.tasks.dense_regression import DenseRegression, errors, r2, taught
from ssbench.tasks.maps import standard

MakeBench = Callable[..., Bench]


def slopes(count: int, noise: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Maps (N, 4, 4, 4) and depths (N, 16, 16) that are linear in them, each place flat."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(count, 4, 4, 4, generator=generator)
    depth = 5 + torch.einsum("ndhw,d->nhw", maps, torch.tensor([1.0, -2.0, 0.5, 0.0]))
    depth += noise * torch.randn(depth.shape, generator=generator)
    return maps, {"depth": F.interpolate(depth[:, None], (16, 16))[:, 0]}


def test_errors_are_those_of_scikit_learn_image_by_image_without_what_was_not_measured() -> None:
    generator = torch.Generator().manual_seed(0)
    said, truth = torch.randn(2, 5, 6, 6, generator=generator)
    truth[torch.rand(truth.shape, generator=generator) < 0.2] = torch.nan
    truth[4] = torch.nan
    found = errors(said, truth)
    for n in range(4):
        kept = truth[n].isfinite()
        assert found["rmse"][n] == pytest.approx(root_mean_squared_error(truth[n][kept], said[n][kept]), abs=1e-6)
        assert found["mae"][n] == pytest.approx(mean_absolute_error(truth[n][kept], said[n][kept]), abs=1e-6)
    assert found["rmse"][4] == found["mae"][4] == 0
    assert r2(said, truth) == pytest.approx(r2_score(truth[truth.isfinite()], said[truth.isfinite()]), abs=1e-6)


def test_a_place_learns_the_mean_of_its_measured_pixels() -> None:
    maps, targets = slopes(6, 0.1)
    depth = targets["depth"].clone()
    depth[:, ::2] = torch.nan
    depth[0, :4, :4] = torch.nan  # nothing of the first place is left
    x, y = taught(maps, depth, 1000, torch.Generator())
    assert x.shape == (6 * 16 - 1, 4) and y.shape == (6 * 16 - 1, 1)
    torch.testing.assert_close(y[:3, 0].float(), depth[0, 1, 4::4])
    assert len(taught(maps, depth, 10, torch.Generator())[0]) == 10


def test_it_says_what_scikit_learns_ridge_says(make_bench: MakeBench) -> None:
    maps, targets = slopes(60, 0.3)
    found = DenseRegression(DenseRegression.Settings(decades=(1,))).evaluate(make_bench(maps, targets, (40, 10, 10)))
    penalty = found.selected["penalty"]
    x = standard(maps[:40])(maps).permute(0, 2, 3, 1).double().numpy()
    means = F.avg_pool2d(targets["depth"], 4).numpy()
    oracle = Ridge(alpha=penalty).fit(x[:40].reshape(-1, 4), means[:40].flatten())
    said = torch.from_numpy(oracle.predict(x[50:].reshape(-1, 4))).view(10, 1, 4, 4)
    said = F.interpolate(said, (16, 16), mode="bilinear")[:, 0]
    expected = (said - targets["depth"][50:]).square().mean((1, 2)).sqrt()
    np.testing.assert_allclose(found.arrays["rmse"]["value"], expected, atol=1e-4)


def test_what_is_linear_is_found_and_what_is_not_scores_the_floor(make_bench: MakeBench) -> None:
    maps, targets = slopes(120, 0.0)
    smooth = {"depth": 5 + 0 * targets["depth"] + maps.mean((2, 3))[:, :1, None]}  # one depth an image
    flat = maps.mean((2, 3), keepdim=True).expand_as(maps)
    found = DenseRegression(DenseRegression.Settings()).evaluate(make_bench(flat, smooth, (80, 20, 20)))
    assert score("mean", found.arrays["rmse"]) < 0.01 < 0.1 < (floor("mean", found.arrays["rmse"]) or 0)
    assert found.details["r2"] > 0.999 and found.pictures["depth"].shape == (8, 3, 3, 16, 16)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(1))
    shuffled = {"depth": targets["depth"][order]}
    found = DenseRegression(DenseRegression.Settings()).evaluate(make_bench(maps, shuffled, (80, 20, 20)))
    assert score("mean", found.arrays["rmse"]) == pytest.approx(floor("mean", found.arrays["rmse"]), rel=0.02)
    assert abs(found.details["r2"]) < 0.02


def test_features_that_are_not_finite_are_an_error(make_bench: MakeBench) -> None:
    maps, targets = slopes(20, 0.1)
    with pytest.raises(RuntimeError, match="the features are not finite"):
        DenseRegression(DenseRegression.Settings()).evaluate(make_bench(maps * torch.nan, targets, (10, 5, 5)))
