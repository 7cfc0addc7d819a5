"""An encoder that somebody has gives here what it gives at home, or one line says why it can't."""

import re
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from ssbench.encoders import given as given_module
from ssbench.encoders.architecture import Architecture
from ssbench.encoders.encoder import OWN
from ssbench.encoders.given import of_module, open_encoder
from ssbench.encoders.layouts import IMAGENET
from ssbench.errors import UserError

from .networks import NAME, VIT, built, images, network, normalised


@pytest.fixture(scope="module")
def vit() -> Any:
    return network(NAME, **VIT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, vit: Any) -> Path:
    """The same ViT as safetensors and in a wrapper of torch.save."""
    made = tmp_path_factory.mktemp("weights")
    save_file(vit.state_dict(), made / "vit.safetensors")
    wrapped = {"state_dict": {f"module.{key}": value for key, value in vit.state_dict().items()}, "epoch": 3}
    torch.save(wrapped, made / "vit.pth")
    return made


@pytest.mark.parametrize("file", ["vit.safetensors", "vit.pth"])
@torch.no_grad()
def test_a_file_of_a_vit_gives_what_timm_gives_at_its_own_size(file: str, folder: Path, vit: Any) -> None:
    given = open_encoder(f"file:{folder / file}")
    assert re.fullmatch(rf"file:{file}@[0-9a-f]{{16}}", given.name) and given.size == 32
    encoder, matched = given.encoder(32)
    assert (matched.share, matched.missing, matched.unexpected, matched.misshaped) == (1.0, (), (), ())
    x = encoder.eval().normalise(images(32))
    torch.testing.assert_close(x, normalised(images(32)))
    torch.testing.assert_close(encoder.pooled(x), vit(x))
    torch.testing.assert_close(encoder.tokens(x), vit.forward_features(x)[:, 1:])
    assert encoder.poolings == ("cls", "mean") and encoder.dim == 128 and encoder.patch == 8


@pytest.mark.parametrize("size", [16, 48])
@torch.no_grad()
def test_at_another_size_positions_are_resized_as_timm_does_on_the_fly(size: int, folder: Path, vit: Any) -> None:
    flexible = network(NAME, **VIT, dynamic_img_size=True)
    flexible.load_state_dict(vit.state_dict())
    encoder, matched = open_encoder(f"file:{folder / 'vit.pth'}").encoder(size)
    x = normalised(images(size))
    torch.testing.assert_close(encoder.eval().pooled(x), flexible(x))
    assert matched.share == 1.0 and encoder.trunk.pos_embed.shape[1] == (size // 8) ** 2 + 1


@torch.no_grad()
def test_another_patch_is_resampled_as_timm_does(folder: Path, vit: Any) -> None:
    weights = dict(vit.state_dict())
    weights["patch_embed.proj.weight"] = resample_patch_embed(weights["patch_embed.proj.weight"], [4, 4])
    weights["pos_embed"] = resample_abs_pos_embed(weights["pos_embed"], [8, 8])
    other = network(NAME, **VIT | {"patch_size": 4})
    other.load_state_dict(weights)
    encoder, matched = open_encoder(f"file:{folder / 'vit.safetensors'}").encoder(32, 4)
    x = normalised(images(32))
    torch.testing.assert_close(encoder.eval().pooled(x), other(x))
    assert matched.share == 1.0 and encoder.patch == 4


def test_sizes_and_patches_that_do_not_go_together_are_said_in_one_line(folder: Path, vit: Any) -> None:
    given = open_encoder(f"file:{folder / 'vit.pth'}")
    with pytest.raises(UserError, match=r"file:vit\.pth@\w+ has patches of 8 px, which do not divide .* 30; set data"):
        given.encoder(30)
    with pytest.raises(UserError, match=r"backbone\.patch=5 does not divide the image size 32"):
        given.encoder(32, 5)
    with pytest.raises(UserError, match=r"backbone\.patch=4: file:net\S+ is not a ViT"):
        built(network("resnet18"), Architecture("resnet18"), 32).encoder(32, 4)
    with pytest.raises(UserError, match=r"backbone\.patch=4: module:vit@\w+ is .*patch"):
        of_module(vit, "module:vit").encoder(32, 4)
    with pytest.raises(UserError, match=r"^module:vit@\w+ can't take images of 224 px \(.*\); set data\.image_size$"):
        of_module(vit, "module:vit").encoder(224)


def test_the_twin_is_the_same_network_with_random_weights(folder: Path) -> None:
    given = open_encoder(f"file:{folder / 'vit.pth'}")
    twin, encoder = given.encoder(16, trained=False)[0], given.encoder(16)[0]
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in encoder.state_dict().items()}
    assert twin.poolings == encoder.poolings and torch.equal(twin.mean, encoder.mean)
    assert not torch.equal(twin.trunk.blocks[0].attn.qkv.weight, encoder.trunk.blocks[0].attn.qkv.weight)


def test_weights_that_are_nearly_all_there_are_taken_and_what_is_missing_is_named(vit: Any) -> None:
    given = built(vit, Architecture(NAME, VIT), 32)
    few = {key: value for key, value in given.weights.items() if key not in ("norm.weight", "norm.bias")}
    matched = replace(given, weights={**few, "head.weight": torch.zeros(2, 128)}).encoder(32)[1]
    assert matched.missing == ("norm.weight", "norm.bias") and matched.unexpected == ("head.weight",)
    count = sum(weight.numel() for weight in vit.parameters())
    assert matched.share == pytest.approx((count - 256) / (count + 256)) and 0.95 <= matched.share < 1
    assert "2 missing (norm.weight, norm.bias); 1 unexpected (head.weight)" in str(matched)


def test_weights_of_which_half_have_other_names_are_refused_with_names_of_each_kind(vit: Any) -> None:
    given = built(vit, Architecture(NAME, VIT), 32)
    renamed = {key.replace("blocks.1.", "layer.1."): value for key, value in given.weights.items()}
    renamed["norm.weight"] = torch.zeros(5)
    with pytest.raises(UserError) as raised:
        replace(given, weights=renamed).encoder(32)
    said = str(raised.value)
    assert "\n" not in said and f"is not the weights of {NAME}, read as timm: " in said
    assert "missing (blocks.1.norm1.weight, " in said and "unexpected (layer.1.norm1.weight, " in said
    assert "1 misshaped (norm.weight)" in said and "% of the parameters fit" in said and "--backbone" in said


def test_a_file_of_which_half_have_other_names_is_refused_in_one_line(tmp_path: Path, vit: Any) -> None:
    renamed = {key.replace("blocks.1.", "layer.1."): value for key, value in vit.state_dict().items()}
    save_file(renamed, tmp_path / "half.safetensors")
    given = open_encoder(f"file:{tmp_path / 'half.safetensors'}")
    with pytest.raises(
        UserError, match=r"^file:half\.safetensors@[^\n]*unexpected \(layer\.1\.[^\n]*--backbone[^\n]*$"
    ):
        given.encoder(32)


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        (
            "vit_tiny_patch16_224.bogus",
            r"unknown backbone 'vit_tiny_patch16_224\.bogus'; did you mean vit_tiny_patch16_224\.",
        ),
        ("vit_tiny_patch16_22", "unknown backbone 'vit_tiny_patch16_22'; did you mean"),
    ],
)
def test_an_unknown_backbone_of_a_file_is_said_in_one_line(backbone: str, said: str, tmp_path: Path, vit: Any) -> None:
    save_file({f"x.{key}": value for key, value in vit.blocks.state_dict().items()}, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=said):
        open_encoder(f"file:{tmp_path / 'part.safetensors'}", backbone)


@torch.no_grad()
def test_swapped_tensors_of_one_shape_load_and_only_scores_tell(tmp_path: Path, vit: Any) -> None:
    weights = {key: value.clone() for key, value in vit.state_dict().items()}
    first, second = "blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight"
    weights[first], weights[second] = weights[second], weights[first]
    save_file(weights, tmp_path / "swapped.safetensors")
    encoder, matched = open_encoder(f"file:{tmp_path / 'swapped.safetensors'}").encoder(32)
    x = normalised(images(32))
    assert matched.share == 1.0 and not torch.allclose(encoder.eval().pooled(x), vit(x), atol=1e-3)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*address: Any, **more: Any) -> None:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for key in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(key, raising=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit_tiny_patch16_225", r"timm has no network 'vit_tiny_patch16_225'; did you mean vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224.bogus", r"can't be had \(.*; known: timm:vit_tiny_patch16_224\."),
        ("vit_tiny_patch16_224.augreg_in21k", r"can't be had \(.*Name or service not known\); without a network"),
        ("vit_tiny_patch16_224", r"can't be had \(.*Name or service not known\); without a network"),
        ("hf-hub:somebody/nothing", r"can't be had \(.*Name or service not known\); without a network"),
        ("local-dir:/no/such/folder", r"timm:local-dir:/no/such/folder: .*(no such|can't be had)"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_timm_weights_that_can_not_be_had_are_said_at_once_in_one_line(name: str, said: str) -> None:
    started = time.perf_counter()
    with pytest.raises(UserError) as raised:
        open_encoder(f"timm:{name}")
    assert re.search(said, str(raised.value)) and "\n" not in str(raised.value)
    assert time.perf_counter() - started < 5


@pytest.fixture
def exported(tmp_path: Path) -> Any:
    """`exported(name)`: a folder with a ViT as `ssbench export --format hf-folder` and timm write it, and the ViT."""
    from timm.models import save_for_hf

    def write(name: str, shift: float = 0.0) -> tuple[Path, Any]:
        trunk = network(NAME, **VIT)
        with torch.no_grad():
            trunk.norm.bias.add_(shift)
        save_for_hf(trunk, str(tmp_path / name), model_args=VIT, safe_serialization=True)
        return tmp_path / name, trunk

    return write


@torch.no_grad()
def test_a_local_folder_of_timm_is_known_by_its_content_and_not_by_its_path(exported: Any) -> None:
    (one, trunk), (copy, _), (other, _) = exported("a/net"), exported("b/net"), exported("c/net", 1.0)
    given = open_encoder(f"timm:local-dir:{one}")
    assert re.fullmatch(r"timm:local-dir:net@[0-9a-f]{16}", given.name)
    assert open_encoder(f"timm:local-dir:{copy}").name == given.name != open_encoder(f"timm:local-dir:{other}").name
    x = normalised(images(32))
    torch.testing.assert_close(given.encoder(32)[0].eval().pooled(x), trunk(x))
    assert given.encoder(16)[1].share == 1.0


@torch.no_grad()
def test_a_folder_of_the_hub_is_a_file_too(exported: Any) -> None:
    folder, trunk = exported("net")
    given = open_encoder(f"file:{folder}")
    assert re.fullmatch(r"file:net@[0-9a-f]{16}", given.name)
    torch.testing.assert_close(
        given.encoder(32)[0].eval().pooled(normalised(images(32))), trunk(normalised(images(32)))
    )


@pytest.mark.parametrize("pooling", ["mean", OWN])
@torch.no_grad()
def test_what_was_exported_is_read_as_it_was_judged(
    pooling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, options, size = "convnext_atto", {"depths": (1, 1, 1, 1)}, 64
    trunk = network(name, **options)
    save_file(trunk.state_dict(), tmp_path / "net.safetensors")
    world = {"size": size, "mean": IMAGENET[0], "std": IMAGENET[1], "pooling": pooling, "block": 0}
    told = SimpleNamespace(**world, architecture=Architecture(name, options), canonical=lambda: pooling)
    monkeypatch.setattr(given_module, "described", lambda file: told)
    encoder = open_encoder(f"file:{tmp_path / 'net.safetensors'}").encoder(size)[0].eval()
    x = normalised(images(size))
    judged = trunk(x) if pooling == OWN else encoder.map(x).mean((2, 3))
    assert encoder.poolings[0] == pooling
    torch.testing.assert_close(encoder.pooled(x), judged)


@torch.no_grad()
def test_grey_images_are_the_image_three_times(vit: Any) -> None:
    encoder = built(vit, Architecture(NAME, VIT), 32).encoder(32)[0].eval()
    grey = images(32)[:, :1]
    found = encoder.pooled(encoder.normalise(grey))
    torch.testing.assert_close(found, encoder.pooled(encoder.normalise(grey.expand(-1, 3, -1, -1))))


def weights_of(kind: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if kind == "constant":  # the positions alone reach the end
        return {k: torch.zeros_like(v) if k.startswith("patch_embed") else v for k, v in weights.items()}
    return {key: torch.full_like(value, 0.0 if kind == "zero" else torch.nan) for key, value in weights.items()}


@pytest.mark.parametrize(
    ("kind", "said"), [("zero", "all zero"), ("nan", "not finite"), ("constant", "the same for every image")]
)
def test_dead_features_are_refused_before_anything_is_written(
    kind: str,
    said: str,
    vit: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from ssbench.cli import main

    save_file(weights_of(kind, vit.state_dict()), tmp_path / "dead.safetensors")
    results = tmp_path / "results"
    words = ["eval", f"file:{tmp_path / 'dead.safetensors'}", "--dataset", "digits", "--device", "cpu", "--seeds", "0"]
    monkeypatch.setattr("sys.argv", ["ssbench", *words, "--results", str(results)])
    with pytest.raises(SystemExit) as stopped:
        main()
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and err.count("\n") == 2 and err.startswith("digits: 1258 fit"), err
    assert f"are {said} on 8 images of digits" in err and "file:dead.safetensors@" in err
    assert not [file for file in results.rglob("*") if file.is_file()]


class Four(nn.Module):
    """Takes pictures of four channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 4, 4)
        self.mean = self.std = (0.5, 0.5, 0.5, 0.5)
        self.size = 16

    def forward(self, images: Tensor) -> Tensor:
        return self.stem(images)


def test_images_of_other_channels_are_refused_in_one_line(tmp_path: Path) -> None:
    from ssbench import evaluate

    with pytest.raises(UserError, match=r"^module:Four@\w+ takes images of 4 channels, and those of shapes have 3$"):
        evaluate(Four(), "knn", "shapes", seeds=0, device="cpu", results=tmp_path)
    assert evaluate(Four(), "knn", "digits", seeds=0, device="cpu", results=tmp_path).records[0].status == "done"
