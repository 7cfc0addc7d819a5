"""Networks that were not made for ssbench give the vector that they give at home, from timm or a function."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from ssbench.encoders.architecture import Architecture
from ssbench.encoders.encoder import OWN
from ssbench.encoders.given import Given, of_module, open_encoder
from ssbench.encoders.layouts import IMAGENET
from ssbench.encoders.weights import weights_digest
from ssbench.errors import UserError

from .networks import NAME, VIT, built, images, network, normalised

FEW = {"embed_dim": 64, "depth": 2, "num_heads": 2, "img_size": 32}
MAPPED, VECTOR = "its mean or class token", "a vector of its own"
TIMM: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "vit": (NAME, VIT, 32, MAPPED),
    "vit, mean": ("vit_small_patch14_dinov2", FEW | {"img_size": 28, "global_pool": "avg"}, 28, VECTOR),
    "eva": ("eva02_tiny_patch14_224", FEW | {"img_size": 28}, 28, VECTOR),
    "beit": ("beit_base_patch16_224", FEW, 32, VECTOR),
    "siglip": ("vit_base_patch16_siglip_224", FEW, 32, VECTOR),
    "distilled": ("deit_tiny_distilled_patch16_224", FEW, 32, VECTOR),
    "resnet": ("resnet18", {}, 64, MAPPED),
    "convnext": ("convnext_atto", {"depths": (1, 1, 1, 1)}, 64, VECTOR),  # its norm follows the pooling
    "swin": ("swin_tiny_patch4_window7_224", {"img_size": 56, "embed_dim": 24, "depths": (1, 1, 1, 1)}, 56, MAPPED),
    "efficientnet": ("efficientnet_b0", {}, 64, VECTOR),
    "mobilenet": ("mobilenetv3_small_050", {}, 64, VECTOR),
}


@pytest.mark.parametrize("case", TIMM)
@torch.no_grad()
def test_the_vector_is_the_one_that_timms_own_forward_gives(case: str) -> None:
    name, options, size, kind = TIMM[case]
    trunk = network(name, **options)
    encoder, matched = built(trunk, Architecture(name, options), size).encoder(size)
    x = normalised(images(size))
    found, own = encoder.eval().pooled(x), trunk(x)
    torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-4)
    assert matched.share == 1.0 and encoder.dim == own.shape[1]
    assert (encoder.poolings[0] == OWN) == (kind == VECTOR)
    assert [*encoder.readings(x)] == [*encoder.poolings]
    maps = encoder.map(x)
    assert maps.shape[1] == encoder.readings(x)["mean"].shape[1]
    expected = trunk.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)[-1]
    if encoder.has_tokens:  # where timm pools before its norm, tokens get the norm all the same
        expected = trunk.fc_norm(expected.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_block_is_not_read_with_a_pooling_that_is_of_the_whole_network() -> None:
    name, options, size, _ = TIMM["siglip"]
    given = built(network(name, **options), Architecture(name, options), size)
    with pytest.raises(UserError, match=r"^encoder\.block=-2: .*encoder\.pooling=mean"):
        given.encoder(size)[0].read(block=-2)
    assert given.encoder(size)[0].read("mean", -2).poolings == ("mean",)
    assert given.encoder(size)[0].read(block=-1).poolings == (OWN, "mean")  # the last is what it reads


CODE = """
from types import SimpleNamespace
import torch
from torch import nn
from transformers_like import Output
from ssbench.encoders.encoder import Encoder

class Net(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.stem, self.form = nn.Conv2d(3, 8, 4, 4), form
    def forward(self, x):
        maps = self.stem(x)
        tokens = maps.flatten(2).transpose(1, 2)
        classed = torch.cat([tokens.amax(1, keepdim=True), tokens], 1)
        return {
            "vectors": maps.amax((2, 3)),
            "map": maps,
            "tokens": tokens,
            "classed": classed,
            "output": Output(last_hidden_state=classed, pooler_output=None),
            "attribute": SimpleNamespace(last_hidden_state=classed),
            "tuple": (tokens, None),
            "dict": {"x_norm_clstoken": classed[:, 0]},
            "scalars": maps.mean((1, 2, 3)),
            "nothing": None,
        }[self.form]

class Own(Encoder):
    def pooled(self, images):
        return self.map(images).amax((2, 3))

def vectors(): return Net("vectors")
def map(): return Net("map")
def tokens(): return Net("tokens")
def classed(): return Net("classed")
def output(): return Net("output")
def attribute(): return Net("attribute")
def tuples(): return Net("tuple")
def dicts(): return Net("dict")
def scalars(): return Net("scalars")
def nothing(): return Net("nothing")
def world():
    made = Net("map")
    made.mean, made.std, made.size = [0.1, 0.2, 0.3], torch.tensor([0.5, 0.6, 0.7]), 16
    return made
def own():
    trunk = __import__("timm").create_model("resnet18", num_classes=0)
    return Own(trunk, torch.zeros(3), torch.ones(3), 32)
def classifier(): return __import__("timm").create_model("resnet18", num_classes=7)
def raising(): raise ValueError("no weights\\nin this folder")
def number(): return 7
"""


@pytest.fixture
def python(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Given]:
    """Open what a function gives of a module in the current folder."""
    here = tmp_path_factory.mktemp("here")
    (here / "nets_in_hand.py").write_text(CODE)
    (here / "transformers_like.py").write_text("class Output(dict):\n    pass\n")
    monkeypatch.chdir(here)
    return lambda function: open_encoder(f"python:nets_in_hand:{function}")


@pytest.mark.parametrize(
    ("function", "pooling", "reduced"),
    [
        ("vectors", "cls", lambda maps: maps.amax((2, 3))),
        ("map", "mean", lambda maps: maps.mean((2, 3))),
        ("tokens", "mean", lambda maps: maps.mean((2, 3))),
        ("classed", "cls", lambda maps: maps.amax((2, 3))),
        ("output", "cls", lambda maps: maps.amax((2, 3))),
        ("attribute", "cls", lambda maps: maps.amax((2, 3))),
        ("tuples", "mean", lambda maps: maps.mean((2, 3))),
    ],
)
@torch.no_grad()
def test_what_a_function_gives_is_read_by_its_shape(
    function: str, pooling: str, reduced: Callable[[Tensor], Tensor], python: Callable[[str], Given]
) -> None:
    given = python(function)
    encoder, matched = given.encoder(16)
    assert re.fullmatch(rf"python:nets_in_hand:{function}@[0-9a-f]{{16}}", given.name) and matched.share == 1.0
    x, module = encoder.normalise(images(16)), given.module
    maps = module.stem(x)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(encoder.pooled(x), reduced(maps))
    assert encoder.poolings[0] == pooling and encoder.dim == 8 and given.size == 224
    if function != "vectors":
        torch.testing.assert_close(encoder.map(x), maps)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("dicts", "gives dict; expected vectors"),
        ("scalars", "gives a tensor of 1 dimensions; expected vectors"),
        ("nothing", "gives NoneType; expected vectors"),
    ],
)
def test_what_is_no_feature_is_said_in_one_line(function: str, said: str, python: Callable[[str], Given]) -> None:
    with pytest.raises(UserError) as raised:
        python(function).encoder(16)
    assert said in str(raised.value) and f"python:nets_in_hand:{function}" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("python:nets_in_hand:raising", "python:nets_in_hand:raising: ValueError: no weights"),
        ("python:nets_in_hand:number", "python:nets_in_hand:number: it gives int, not a torch.nn.Module"),
        ("python:nets_in_hand:absent", "AttributeError: module 'nets_in_hand' has no attribute 'absent'"),
        ("python:no_such_module_here:f", "ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("python:nets_in_hand", "expected python:package.module:function"),
        ("python:", "expected timm:NAME or file:PATH or python:package.module:function"),
        ("vit.pth", "encoder 'vit.pth': expected timm:NAME"),
        ("file:absent.pth", "file:absent.pth: there is no such file"),
    ],
)
def test_a_source_that_can_not_be_opened_is_said_in_one_line(
    source: str, said: str, python: Callable[[str], Given]
) -> None:
    with pytest.raises(UserError) as raised:
        open_encoder(source)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_module_says_its_own_world(python: Callable[[str], Given]) -> None:
    given = python("world")
    assert given.size == 16 and given.mean == (0.1, 0.2, 0.3) and given.std == pytest.approx((0.5, 0.6, 0.7))
    encoder = given.encoder(given.size)[0]
    torch.testing.assert_close(encoder.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    assert (python("map").mean, python("map").std) == IMAGENET


@torch.no_grad()
def test_an_encoder_of_ones_own_class_is_taken_as_it_is(python: Callable[[str], Given]) -> None:
    encoder = python("own").encoder(32)[0].eval()
    x = encoder.normalise(images(32))
    assert type(encoder).__name__ == "Own" and encoder.poolings == (OWN, "mean")
    torch.testing.assert_close(encoder.pooled(x), encoder.map(x).amax((2, 3)))
    assert {*encoder.readings(x)} == {OWN, "mean"}


def test_the_classes_of_a_timm_network_in_hand_are_no_features_and_it_stays_as_it_was() -> None:
    trunk: Any = timm.create_model("resnet18", num_classes=7)
    before = weights_digest(trunk)
    encoder = of_module(trunk, "module:net").encoder(64)[0]
    assert encoder.dim == 512 and trunk.fc.out_features == 7 and weights_digest(trunk) == before and trunk.training
