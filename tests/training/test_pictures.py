from copy import deepcopy
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ssbench.data import Dataset
from ssbench.encoders.encoder import Encoder
from ssbench.method import Batch, Method
from ssbench.spec import Budget, Train
from ssbench.training import pictures
from ssbench.training.loop import Watcher, loop, pretrain


def pixels(png: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.asarray(Image.open(BytesIO(png)))


def test_a_row_is_an_image_and_a_column_a_panel() -> None:
    panels = torch.zeros(2, 3, 3, 40, 40)
    panels[1, 2, 0] = 1.0  # the last cell is red
    page = pixels(pictures.draw(panels))
    side, gap = 120, pictures.GAP  # three times 40: the first multiple of at least 96
    assert page.shape == (2 * side + gap, 3 * side + 2 * gap, 3)
    assert (page[side : side + gap] == 255).all() and (page[:, side : side + gap] == 255).all()
    assert (page[side + gap :, 2 * (side + gap) :] == [255, 0, 0]).all() and (page[:side, :side] == 0).all()


def test_grey_and_large_images_and_values_out_of_range() -> None:
    page = pixels(pictures.draw(torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 200, 200)))
    assert page.shape == (200, 400 + pictures.GAP, 3) and (page[:, :200] == 0).all() and (page[:, 200:] == 255).all()


def test_each_pixel_is_enlarged_without_blur() -> None:
    panels = torch.rand(1, 1, 3, 8, 8)
    page = pixels(pictures.draw(panels))
    assert page.shape == (96, 96, 3)
    assert np.array_equal(page[::12, ::12], (panels[0, 0] * 255).round().byte().permute(1, 2, 0).numpy())


def test_what_is_not_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or 3 channels"):
        pictures.draw(torch.zeros(2, 3, 4, 8, 8))


class Pictured(Method):
    """Pools what it sees, with a noise that every picture draws too, and a batch norm that pictures must not move."""

    def build(self) -> None:
        self.norm = torch.nn.BatchNorm1d(self.encoder.dim)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        pooled = self.norm(self.encoder.pooled(batch.views[0]))
        return {"noisy": (pooled + torch.rand_like(pooled)).square().mean()}

    def picture(self, images: Tensor) -> Tensor | None:
        assert not self.training and not torch.is_grad_enabled()
        self.norm(self.encoder.pooled(images))
        return torch.stack([images, torch.rand_like(images)], 1) * 0.25 + 0.5


def weights(encoder: Encoder, tiny: Dataset, tmp_path: Path, folder: Path | None) -> dict[str, Tensor]:
    method = Pictured(encoder, Pictured.Settings())
    run = loop(method, tiny.fit, Train(batch=16), 0, "float32", torch.device("cpu"))

    def keep(step: int, progress: float) -> dict[str, float]:
        assert folder
        pictures.keep(method, tiny.select.images[:8], folder, 0, step)
        return {}

    look = keep if folder else None
    pretrain(run, Budget(unit="steps", amount=8), tmp_path / f"part {bool(folder)}", Watcher(look=look))
    assert method.training
    return method.state_dict()


def test_training_ends_with_the_same_weights_with_and_without_pictures(
    untrained: Encoder, tiny: Dataset, tmp_path: Path
) -> None:
    plain = weights(deepcopy(untrained), tiny, tmp_path, None)
    pictured = weights(untrained, tiny, tmp_path, tmp_path / "pictures")
    assert all(torch.equal(plain[name], pictured[name]) for name in plain)
    found = pictures.of(tmp_path / "pictures")
    assert [file.name for file in found] == ["000000.png", "000002.png", "000004.png", "000006.png", "000008.png"]
    noise = [pixels(file.read_bytes())[:, 96 + pictures.GAP :] for file in found]
    assert all(np.array_equal(noise[0], other) for other in noise)  # drawn anew each time, and the same


def test_pictures_of_an_earlier_training_go(untrained: Encoder, tiny: Dataset, tmp_path: Path) -> None:
    method = Pictured(untrained, Pictured.Settings())
    for step in (0, 90, 2_000_000, 100, 40):
        pictures.keep(method, tiny.select.images[:2], tmp_path, 0, step)
    assert [file.stem for file in pictures.of(tmp_path)] == ["000000", "000040"]


def test_a_method_without_pictures_leaves_no_file(untrained: Encoder, tiny: Dataset, tmp_path: Path) -> None:
    pictures.keep(Method(untrained, Method.Settings()), tiny.select.images[:2], tmp_path / "none", 0, 0)
    assert not (tmp_path / "none").exists()
