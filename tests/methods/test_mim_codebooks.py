"""Codebooks are really learned, from the data alone, and give the codes that their makers' own code gives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import cluster
from torch import Tensor

from ssbench.data.sources.shapes import draw
from ssbench.encoders.build import build
from ssbench.encoders.encoder import Encoder
from ssbench.errors import UserError
from ssbench.methods.mim import codebooks
from ssbench.methods.mim.codebooks import DVAE, Codes, KMeans, RandomCodebook, used_codes, whitening
from ssbench.methods.mim.patches import hog, pixels

CODES = 16
MAKE: dict[str, Callable[..., Any]] = {
    "kmeans-pixels": lambda encoder, codes=CODES: KMeans(encoder, codes=codes, codes_of="pixels"),
    "kmeans-hog": lambda encoder, codes=CODES: KMeans(encoder, codes=codes, codes_of="hog"),
    "dvae": lambda encoder, codes=CODES: DVAE(encoder, codes=codes),
    "random-codebook": lambda encoder, codes=CODES: RandomCodebook(encoder, codes=codes),
}
LEARNED = [name for name in MAKE if name != "random-codebook"]


class Shelf:
    """Keeps artifacts as a run does: with one more tensor in them."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Tensor]] = {}
        self.asked: list[str] = []

    def __call__(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        self.asked.append(name)
        if name not in self.kept:
            self.kept[name] = {"seconds": torch.zeros(()), **{key: value.clone() for key, value in make().items()}}
        return self.kept[name]


@pytest.fixture(scope="module")
def scenes() -> Tensor:
    """uint8 (160, 3, 16, 16)"""
    return torch.from_numpy(draw("train", 160, 16).images)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STEPS", 60), ("WARMUP", 5), ("USAGE", 1.0)):
        monkeypatch.setattr(codebooks, name, value)


@pytest.fixture(scope="module")
def encoder(scenes: Tensor) -> Encoder:
    values = scenes.float() / 255
    return build("vit-nano", size=16, channels=3, mean=values.mean((0, 2, 3)), std=values.std((0, 2, 3)), patch=4)


def learned(name: str, encoder: Encoder, images: Tensor, **given: Any) -> Any:
    made = MAKE[name](encoder, **given)
    made.prepare(images, Shelf())
    return made


def codes(book: Codes, encoder: Encoder, images: Tensor) -> Tensor:
    found, terms = book(encoder.normalise(images), None)
    assert terms == {} and not found.requires_grad
    return found


@pytest.mark.parametrize("what", ["pixels", "hog"])
def test_codes_are_those_of_scikit_learn(what: str, encoder: Encoder, scenes: Tensor) -> None:
    book, images = learned(f"kmeans-{what}", encoder, scenes), encoder.normalise(scenes)
    features = {"pixels": pixels, "hog": hog}[what](images, 4).flatten(0, 1).double()
    if what == "pixels":
        sample = features.numpy()
        variances, axes = np.linalg.eigh(np.cov(sample.T, bias=True))
        matrix = axes @ np.diag(1 / np.sqrt(variances + 1e-2)) @ axes.T
        features = torch.from_numpy((sample - sample.mean(0)) @ matrix)
    slow = cluster.KMeans(CODES, n_init=1, random_state=0)
    slow.fit(np.random.default_rng(0).normal(size=(CODES, features.shape[1])))
    slow.cluster_centers_ = book.centres.double().numpy()
    wanted = torch.from_numpy(slow.predict(features.numpy())).long().view(len(scenes), 16)
    found = codes(book, encoder, scenes)
    assert found.dtype == torch.int64 and found.shape == (160, 16)
    assert (found == wanted).float().mean() > 0.999  # the rest lies between two centres


def test_centres_are_the_means_of_their_patches(
    encoder: Encoder, scenes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codebooks, "ITERATIONS", 300)  # until nothing moves
    book, patches = learned("kmeans-pixels", encoder, scenes), pixels(encoder.normalise(scenes), 4)
    found = codes(book, encoder, scenes)
    means = torch.stack([patches[found == code].mean(0) for code in range(CODES)])
    painted = book.paint(F.one_hot(found, CODES).float(), encoder.normalise(scenes))
    torch.testing.assert_close(painted, means[found], atol=0.02, rtol=0)
    assert MAKE["kmeans-hog"](encoder).paint(torch.zeros(1, 16, CODES), encoder.normalise(scenes[:1])) is None


def test_whitened_patches_have_unit_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(4000, 6, generator=generator) @ torch.randn(6, 6, generator=generator) * 5 + 3
    mean, matrix = whitening(mixed)
    points = ((mixed - mean) @ matrix).double()
    variances = np.linalg.eigvalsh(np.cov(mixed.double().numpy().T, bias=True))
    np.testing.assert_allclose(points.mean(0), np.zeros(6), atol=1e-3)
    wanted = np.sort(variances / (variances + 1e-2))
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(points.numpy().T, bias=True)), wanted, atol=1e-3)
    torch.testing.assert_close(matrix, matrix.T)


def test_a_sample_has_as_many_patches_of_each_image(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codebooks, "IMAGES", 20)
    monkeypatch.setattr(codebooks, "PATCHES", 60)
    levels = torch.arange(50, dtype=torch.uint8)[:, None, None, None].expand(50, 3, 16, 16) * 5  # image 2 is all 10
    sample = MAKE["kmeans-pixels"](encoder)._sample(levels)
    seen = ((sample[:, 0] * encoder.std.flatten()[0] + encoder.mean.flatten()[0]) * 255 / 5).round().long()
    assert seen.tolist() == [image for i in range(20) for image in [i * 50 // 20] * 3]


@pytest.mark.usefixtures("short")
def test_a_dvae_tells_held_out_images_better_than_their_colours_do(encoder: Encoder, scenes: Tensor) -> None:
    held_out = encoder.normalise(torch.from_numpy(draw("test", 64, 16).images))
    book, new = learned("dvae", encoder, scenes), MAKE["dvae"](encoder)
    constant = F.mse_loss(held_out.mean((2, 3), keepdim=True).expand_as(held_out), held_out)

    def error(dvae: DVAE) -> Tensor:
        return F.mse_loss(dvae.decode(dvae(held_out, None)[0].unflatten(1, (4, 4))), held_out)

    assert error(book) < 0.8 * constant < error(new)
    painted = book.paint(F.one_hot(book(held_out, None)[0], CODES).float(), held_out)
    assert F.mse_loss(painted, pixels(held_out, 4)) == pytest.approx(float(error(book)), rel=1e-4)


@pytest.mark.usefixtures("short")
def test_the_second_term_keeps_a_dvaes_codes_in_use(
    encoder: Encoder, scenes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        codebooks, "used_codes", lambda codes, count: codes.flatten().bincount().count_nonzero().float()
    )
    kept = learned("dvae", encoder, scenes, codes=64).perplexity
    monkeypatch.setattr(codebooks, "USAGE", 0.0)
    assert learned("dvae", encoder, scenes, codes=64).perplexity < 0.8 * kept


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", MAKE)
def test_no_codebook_depends_on_torchs_random_numbers_or_moves_them(
    name: str, encoder: Encoder, scenes: Tensor
) -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        book = MAKE[name](encoder)
        if name in LEARNED:
            book.prepare(scenes, Shelf())
        assert torch.equal(torch.get_rng_state(), before)
        states.append(book.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", LEARNED)
def test_what_is_learned_is_kept_under_one_name(name: str, encoder: Encoder, scenes: Tensor) -> None:
    shelf, first, second, third = Shelf(), MAKE[name](encoder), MAKE[name](encoder), MAKE[name](encoder)
    first.prepare(scenes, shelf)
    second.prepare(torch.zeros_like(scenes), shelf)  # it looks at nothing
    third.load_state_dict(first.state_dict())
    assert shelf.asked == [*shelf.kept] * 2 and len(shelf.kept) == 1
    assert first.perplexity >= CODES / 4 and torch.equal(first.perplexity, second.perplexity)
    wanted = codes(first, encoder, scenes)
    assert torch.equal(codes(second, encoder, scenes), wanted) and torch.equal(codes(third, encoder, scenes), wanted)
    shares = wanted.flatten().bincount(minlength=CODES).double() / wanted.numel()
    slow = np.exp(-sum(share * np.log(share) for share in shares.tolist() if share))
    assert float(first.perplexity) == pytest.approx(slow, rel=0.01)


@pytest.mark.parametrize("name", MAKE)
def test_loss_is_the_cross_entropy_of_each_patch_before_anything_is_learned_too(name: str, encoder: Encoder) -> None:
    book = MAKE[name](encoder)
    target = codes(book, encoder, torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8))
    prediction = torch.randn(2, 16, book.out).bfloat16()
    found = book.loss(prediction, target)
    assert found.dtype == torch.float32 and found.shape == (2, 16) and book.taught is False
    for b in range(2):
        for n in range(16):
            wanted = F.cross_entropy(prediction[b, n].float()[None], target[b, n][None])
            assert float(found[b, n]) == pytest.approx(float(wanted), abs=1e-5)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", MAKE)
def test_codes_are_the_same_under_autocast_and_nothing_of_them_is_trained(
    name: str, encoder: Encoder, scenes: Tensor
) -> None:
    book = MAKE[name](encoder)
    if name in LEARNED:
        book.prepare(scenes, Shelf())
    wanted = codes(book, encoder, scenes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(codes(book, encoder, scenes), wanted)
    assert not [parameter for parameter in book.parameters() if parameter.requires_grad]


def test_a_codebook_that_is_not_used_is_refused(
    encoder: Encoder, scenes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert float(used_codes(torch.arange(16), 16)) == pytest.approx(16)
    assert float(used_codes(torch.arange(16) % 4, 16)) == pytest.approx(4)
    with pytest.raises(RuntimeError, match=r"^the codebook's perplexity is 3 of 16 codes: set mim\.codes lower$"):
        used_codes(torch.arange(15) % 3, 16)
    monkeypatch.setattr(codebooks, "STEPS", 0)
    shelf = Shelf()
    with pytest.raises(RuntimeError, match=r"of 256 codes: set mim\.codes lower"):
        MAKE["dvae"](encoder, codes=256).prepare(scenes[:1].expand(20, -1, -1, -1), shelf)
    assert not shelf.kept


def test_more_codes_than_different_patches_are_refused(encoder: Encoder, scenes: Tensor) -> None:
    twice = scenes[:1].expand(2, -1, -1, -1)
    with pytest.raises(UserError, match=r"^mim\.codes=17 is more than the 16 different patches .*: set fewer$"):
        learned("kmeans-pixels", encoder, twice, codes=17)


def test_every_random_code_can_be_reached(encoder: Encoder) -> None:
    book = MAKE["random-codebook"](encoder, codes=64)
    centred = book.projection - book.projection.mean(0)  # a patch's own mean is taken off before
    patches = book.directions @ torch.linalg.pinv(centred) * 10  # (64, 48), each a code's own
    images = patches.view(64, 4, 4, 3).permute(0, 3, 1, 2).repeat(1, 1, 4, 4)
    assert torch.equal(book(images, None)[0], torch.arange(64)[:, None].expand(64, 16))
    noise = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(book(noise * 3 + 2, None)[0], book(noise, None)[0])  # brightness and contrast decide nothing
    tiny = build("vit-nano", size=8, channels=1, mean=torch.zeros(1), std=torch.ones(1), patch=1)
    with pytest.raises(UserError, match="needs more than one value a patch"):
        MAKE["random-codebook"](tiny)
