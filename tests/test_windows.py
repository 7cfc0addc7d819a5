"""Maps of windows: put together as a slow loop does, the whole where nothing is larger, refused where they can't be."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ssbench.check import check
from ssbench.data import Split
from ssbench.encoders.build import build
from ssbench.encoders.encoder import Encoder
from ssbench.errors import UserError
from ssbench.features import Part
from ssbench.plan import Suite, cells
from ssbench.results.metrics import score
from ssbench.results.store import Store
from ssbench.task import Bench
from ssbench.tasks.dense_regression import DenseRegression
from ssbench.tasks.segmentation import Segmentation
from ssbench.windows import misfit, origins, stitched
from ssbench.workshop import Workshop

MakeBench = Callable[..., Bench]


class Patches(Encoder):
    """A place is the sum of its 2 x 2 pixels, of each channel; with `context`, and the mean of the image's."""

    def __init__(self, context: bool) -> None:
        super().__init__(nn.Identity(), torch.zeros(3), torch.full((3,), 1 / 255))  # pixels stay whole numbers
        self.context = context

    @property
    def poolings(self) -> tuple[str, ...]:
        return ("mean",)

    def map(self, images: Tensor) -> Tensor:
        found = F.avg_pool2d(images, 2) * 4
        return found + images.mean((2, 3), keepdim=True) if self.context else found


def pixels(side: int, count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def part(encoder: Encoder, images: Tensor, cache: Path | None = None) -> Part:
    return Part(encoder, Split(images, tuple(map(str, range(len(images)))), {}), cache, "k")


def resnet(size: int) -> Encoder:
    torch.manual_seed(0)
    return build("resnet18", size=size, channels=3, mean=torch.zeros(3), std=torch.ones(3)).eval()


def by_hand(images: Tensor, window: int, step: int, stride: int, read: Callable[[Tensor], Tensor]) -> Tensor:
    """Place by place, image by image, the mean over windows that have it; windows as mmsegmentation places them."""
    side, h = images.shape[-1], images.shape[-1] // stride
    grids = max(side - window + step - 1, 0) // step + 1
    starts = [min(i * step + window, side) - window for i in range(grids)]
    maps = []
    for image in images:
        seen: dict[tuple[int, int], list[Tensor]] = {}
        for y in starts:
            for x in starts:
                found = read(image[None, :, y : y + window, x : x + window])[0]
                for i, j in np.ndindex(*found.shape[1:]):
                    seen.setdefault((y // stride + i, x // stride + j), []).append(found[:, i, j])
        assert len(seen) == h * h
        vectors = [torch.stack(seen[i, j]).mean(0) for i, j in np.ndindex(h, h)]
        maps.append(torch.stack(vectors, 1).unflatten(1, (h, h)))
    return torch.stack(maps)


@pytest.mark.parametrize(("side", "window", "step"), [(14, 6, 4), (16, 6, 4), (16, 14, 8), (8, 2, 2), (10, 4, 2)])
def test_stitched_maps_are_those_of_a_slow_loop(side: int, window: int, step: int) -> None:
    encoder, images = Patches(context=True), pixels(side).float()
    found = stitched(images, window, origins(side, window, 2), encoder.map)
    torch.testing.assert_close(found, by_hand(images, window, step, 2, encoder.map))
    assert not torch.allclose(found, encoder.map(images))


def test_windows_of_places_that_see_their_own_pixels_alone_are_the_whole() -> None:
    found, images = Patches(context=False), pixels(22)
    for window in (2, 4, 6, 8, 10, 20):
        torch.testing.assert_close(part(found, images).map(window), part(found, images).map(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("stride", [1, 4, 7, 16])
def test_windows_start_at_places_and_the_last_ends_at_the_border(stride: int) -> None:
    for places in range(2, 30):
        for window in range(1, places):
            found = origins(places * stride, window * stride, stride)
            apart = np.diff(found)
            assert found[0] == 0 and found[-1] == (places - window) * stride
            assert all(start % stride == 0 for start in found)
            assert (apart > 0).all() and (apart <= max(window * stride * 2 // 3, stride)).all()
    assert origins(96, 32, 8) == [0, 16, 32, 48, 64]
    assert origins(1024, 640, 1) == [0, 384] and origins(1280, 640, 1) == [0, 426, 640]


def test_a_vits_windows_are_its_maps_of_crops(untrained: Encoder) -> None:
    images = pixels(28)
    seen = untrained.eval().normalise(images)
    with torch.no_grad():
        expected = by_hand(seen, 16, 8, 4, untrained.map)
        blocks = by_hand(seen, 16, 8, 4, lambda crops: untrained.maps(crops, 2))
    torch.testing.assert_close(part(untrained, images).map(16), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(part(untrained, images).maps(2, 16), blocks, rtol=1e-4, atol=1e-4)


def test_a_conv_nets_windows_start_at_places_of_its_last_stage() -> None:
    net, images = resnet(64), pixels(64, 2)
    seen = net.normalise(images)
    assert net.map(seen).shape[-1] == 8 and net.maps(seen, 2).shape[-1] == 16
    with torch.no_grad():
        expected = by_hand(seen, 40, 24, 8, net.map)
        stages = by_hand(seen, 40, 24, 4, lambda crops: net.maps(crops, 2))
    torch.testing.assert_close(part(net, images).map(40), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(part(net, images).maps(2, 40), stages, rtol=1e-4, atol=1e-4)


def test_an_image_no_larger_than_the_window_has_the_map_of_the_whole(untrained: Encoder, tmp_path: Path) -> None:
    here = part(untrained, pixels(16), tmp_path)
    whole = here.map()
    assert torch.equal(here.map(16), whole) and torch.equal(here.map(37), whole)
    assert torch.equal(here.maps(2, 16), here.maps(2)) and here.looks(16) == here.looks(0) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"k-map.safetensors", "k-maps-2.safetensors"}


def test_maps_of_each_window_are_kept_apart(untrained: Encoder, tmp_path: Path) -> None:
    here = part(untrained, pixels(16), tmp_path)
    found = [here.map(window) for window in (0, 8, 12)]
    assert all(one.shape == found[0].shape for one in found)
    assert not torch.allclose(found[0], found[1]) and not torch.allclose(found[1], found[2])
    here.maps(2, 8)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {f"k-{kind}.safetensors" for kind in ("map", "map-window-8", "map-window-12", "maps-2-window-8")}
    nn.init.zeros_(untrained.trunk.patch_embed.proj.weight)  # another pass would show
    assert torch.equal(part(untrained, pixels(16), tmp_path).map(8), found[1])
    some = here.take(torch.tensor([3, 1]))
    assert torch.equal(some.map(8), found[1][[3, 1]])


def test_what_can_not_be_meant_is_said(untrained: Encoder) -> None:
    assert misfit(untrained, 28, 0) == misfit(untrained, 28, 16) == misfit(untrained, 28, 30) == ""
    assert misfit(untrained, 28, 18) == "a place of its map is 4 px wide; take 16 or 20"
    assert misfit(untrained, 28, 3) == "a place of its map is 4 px wide; take 4"
    assert misfit(resnet(64), 64, 40) == ""
    assert misfit(resnet(64), 64, 36) == "a place of its map is 8 px wide; take 32 or 40"
    assert misfit(resnet(64), 60, 40).startswith("its map has 8 x 8 places for images of 60 px, no whole number")


def test_windows_that_do_not_start_at_places_are_an_error() -> None:
    with pytest.raises(ValueError, match="do not tile"):
        stitched(pixels(16).float(), 6, [0, 3, 10], Patches(context=True).map)
    with pytest.raises(ValueError, match="do not tile"):
        part(resnet(64), pixels(60)).map(40)


def test_a_window_that_no_place_fits_is_refused_before_the_run(tmp_path: Path) -> None:
    for at, image in enumerate(pixels(16, 30)):
        for name, seen in (("images", image.permute(1, 2, 0)), ("masks", image[0] // 128)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(seen.numpy()).save(tmp_path / name / f"{at}.png")

    def asked(window: int) -> Suite:
        tasks, words = ("diagnostics", "segmentation"), (f"segmentation.window={window}",)
        return Suite(method=("random-init",), task=tasks, dataset=(f"folder:{tmp_path}",), seeds=(0,), set=words)

    shop = Workshop(Store(tmp_path / "results"), torch.device("cpu"))
    check(cells(asked(8)), shop)
    with pytest.raises(UserError, match=r"^segmentation.window=10: vit-nano can't .* is 4 px wide; take 8 or 12$"):
        check(cells(asked(10)), shop)


def test_identities_are_older_than_windows() -> None:
    for kind in (Segmentation, DenseRegression):
        assert "window" not in kind.Settings().model_dump(mode="json")
        assert kind.Settings(window=32).model_dump(mode="json")["window"] == 32


def test_a_plan_counts_the_pixels_of_windows(make_bench: MakeBench, untrained: Encoder) -> None:
    table = make_bench(pixels(28, 10), {"mask": torch.zeros(10, 28, 28, dtype=torch.uint8)}, (5, 3, 2), untrained)
    looks = (3 * 16 / 28) ** 2  # windows of 16 px at 0, 8, 12
    assert table.fit.looks(16) == pytest.approx(looks)
    for kind, maps in ((Segmentation, 2), (DenseRegression, 1)):
        whole, windows = (kind(kind.Settings(window=window)).work(table) for window in (0, 16))
        assert (whole.forward, whole.changed) == (10 * maps, 0)
        assert (windows.forward, windows.changed) == (0, round(10 * maps * looks))
        assert whole.gflops == windows.gflops


def test_segmentation_reads_windows_alone(make_bench: MakeBench) -> None:
    images = pixels(16, 24)
    bright = F.avg_pool2d(images.float().mean(1), 2)
    masks = F.interpolate((bright > 127.5).float()[:, None], (16, 16))[:, 0].to(torch.uint8)
    settings = Segmentation.Settings(window=8, iterations=20, decades=(-3,), shifts=(0,))
    found = Segmentation(settings).evaluate(make_bench(images, {"mask": masks}, (8, 8, 8), Strict()))
    assert score("iou", found.arrays["miou"]) > 75 and {"miou", "miou@knn", "boundary-iou"} <= {*found.arrays}
    assert found.details["patch_oracle_miou"] == 100 and found.pictures["segmentation"].shape == (8, 3, 3, 16, 16)


def test_several_blocks_are_read_in_windows_too(make_bench: MakeBench, untrained: Encoder) -> None:
    images = pixels(16, 24)
    targets = {"mask": (images[:, 0] > 127).to(torch.uint8)}
    settings = (Segmentation.Settings(window=side, iterations=5, decades=(-3,), shifts=(0,)) for side in (0, 8))
    found = [Segmentation(each).evaluate(make_bench(images, targets, (8, 8, 8), untrained)) for each in settings]
    for name in ("miou", "miou@multi", "miou@knn"):
        whole, windows = (one.arrays[name]["confusion"] for one in found)
        assert whole.shape == windows.shape == (8, 2, 2) and (whole != windows).any()


def test_dense_regression_reads_windows_alone(make_bench: MakeBench) -> None:
    images = pixels(16, 24)
    depth = F.avg_pool2d(images.float().mean(1), 2).repeat_interleave(2, 1).repeat_interleave(2, 2)
    settings = DenseRegression.Settings(window=8)
    found = DenseRegression(settings).evaluate(make_bench(images, {"depth": depth}, (8, 8, 8), Strict()))
    assert found.details["r2"] > 0.5 and found.pictures["depth"].shape == (8, 3, 3, 16, 16)


class Strict(Patches):
    """Refuses more than one image of another size than 8 px."""

    def __init__(self) -> None:
        super().__init__(context=False)

    @property
    def dim(self) -> int:
        return 3

    def map(self, images: Tensor) -> Tensor:
        assert images.shape[-1] == 8 or len(images) == 1
        return super().map(images)
