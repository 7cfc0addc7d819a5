"""An exported encoder is opened by the lines that are printed, in plain timm, and gives the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from ssbench.encoders.architecture import Architecture
from ssbench.encoders.build import build
from ssbench.encoders.card import Description, Result
from ssbench.encoders.encoder import Encoder
from ssbench.encoders.export import Format, code, contents, described, plain, vector
from ssbench.errors import NotApplicable, UserError

VIT = {"depth": 2, "embed_dim": 48, "num_heads": 2, "img_size": 28, "dynamic_img_size": True}
CASES: dict[str, tuple[Architecture | str, int, int]] = {  # architecture or ssbench's name, size, channels
    "preset": ("vit-nano", 16, 3),
    "grey preset": ("vit-nano", 8, 1),
    "class token and registers": (Architecture("vit_small_patch14_reg4_dinov2", {"in_chans": 3} | VIT), 28, 3),
    "norm after pooling": (Architecture("vit_small_patch14_dinov2", VIT | {"global_pool": "avg"}), 28, 3),
    "four channels": (Architecture("vit_tiny_patch16_224", VIT | {"in_chans": 4, "patch_size": 7}), 28, 4),
    "rotated positions": (Architecture("eva02_tiny_patch14_224", VIT), 28, 3),
    "resnet": ("resnet18", 72, 3),
    "deep stem": ("resnet18d", 32, 3),
    "convnext": ("convnext_atto", 32, 3),
    "fixed size": (Architecture("swin_tiny_patch4_window7_224", {"img_size": 56, "embed_dim": 24}), 56, 3),
    "vectors alone": (Architecture("ghostnet_050", {}), 32, 3),
}
SMALL = {
    "small stem": ("resnet18", 32, 3),
    "grey small stem": ("resnet18", 32, 1),
    "conv preset": ("resnet-nano", 32, 3),
}


def encoder_of(case: str) -> Encoder:
    """Random weights, and batch statistics and positions that are not those a network starts with."""
    architecture, size, channels = (CASES | SMALL)[case]
    torch.manual_seed(0)
    mean, std = torch.rand(channels), torch.rand(channels) + 0.1
    if isinstance(architecture, str):
        encoder = build(architecture, size=size, channels=channels, mean=mean, std=std)
    else:
        encoder = Encoder(architecture.build(), mean, std, size)
        encoder.architecture = architecture
    encoder.trunk.train()(torch.randn(8, channels, size, size))
    return encoder.eval()


def description_of(encoder: Encoder, size: int) -> Description:
    result = Result(
        record="1b3a94dee28b9e39",
        task="knn",
        protocol=1,
        data="shapes",
        metric="top1",
        value=47.12,
        low=45.0,
        high=49.26,
        unit="%",
        better="higher",
        samples=2000,
        pooling="mean",
    )
    return Description(
        architecture=plain(encoder),
        mean=tuple(encoder.mean.flatten().tolist()),
        std=tuple(encoder.std.flatten().tolist()),
        size=size,
        dim=encoder.dim,
        patch=encoder.patch,
        pooling=encoder.poolings[0],
        block=encoder.block or encoder.depth,
        vector=vector(encoder),
        record=result.record,
        method="mim-block",
        version=3,
        supervised=False,
        pretrained_on="shapes",
        judged_on="shapes",
        backbone="vit-nano",
        budget="samples=64000",
        seed=0,
        precision="float32",
        settings={"mask": "block", "note": "a|b"},
        train={"lr": 0.0015},
        scores=(result,),
        costs={"images": 64000, "pretrain_seconds": 17.5},
        warning="features have one direction",
        code={"version": "0.1.0", "commit": "e4ba3f8", "timm": "1.0.31"},
    )


def exported(encoder: Encoder, size: int, out: Path, format: Format) -> Description:
    found = description_of(encoder, size)
    for file, content in contents(encoder, found, out, format).items():
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    return found


def loaded(found: Description, out: Path, format: Format) -> dict[str, Any]:
    """What the lines leave: `model`, `prepare`."""
    space: dict[str, Any] = {}
    exec("\n".join(code(found, out, format)), space)
    return space


@torch.no_grad()
def same(encoder: Encoder, model: Any, found: Description) -> None:
    x = torch.randn(2, len(found.mean), found.size, found.size)
    torch.testing.assert_close(model.forward_features(x), encoder.trunk.forward_features(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(eval(found.vector, {"model": model, "x": x}), encoder.pooled(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", [*CASES, *SMALL])
def test_the_printed_lines_load_the_same_features(case: str, tmp_path: Path) -> None:
    encoder, size = encoder_of(case), (CASES | SMALL)[case][1]
    found = exported(encoder, size, tmp_path / "one.safetensors", "safetensors")
    assert len(code(found, tmp_path, "safetensors")) == (5 if case in SMALL else 4)  # imports among them
    same(encoder, loaded(found, tmp_path / "one.safetensors", "safetensors")["model"], found)


@pytest.mark.parametrize("case", CASES)
def test_timm_opens_the_folder_with_the_same_features(case: str, tmp_path: Path) -> None:
    encoder, size = encoder_of(case), CASES[case][1]
    found = exported(encoder, size, tmp_path / "folder", "hf-folder")
    same(encoder, loaded(found, tmp_path / "folder", "hf-folder")["model"], found)
    same(encoder, timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True, num_classes=0).eval(), found)


def test_a_folder_takes_a_new_head_and_other_sizes(tmp_path: Path) -> None:
    encoder = encoder_of("preset")
    exported(encoder, 16, tmp_path / "folder", "hf-folder")
    model: Any = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True, num_classes=7, img_size=32)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    assert torch.equal(model.blocks[0].attn.qkv.weight, encoder.trunk.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize("format", ["safetensors", "hf-folder"])
@pytest.mark.parametrize("case", ["preset", "grey preset"])
def test_the_lines_prepare_a_picture_as_the_encoder_does(case: str, format: Format, tmp_path: Path) -> None:
    from torchvision.transforms.functional import to_pil_image

    encoder, (_, size, channels) = encoder_of(case), CASES[case]
    found = exported(encoder, size, tmp_path / "one.safetensors", format)
    pixels = torch.randint(256, (channels, size, size), dtype=torch.uint8)
    prepared: Tensor = loaded(found, tmp_path / "one.safetensors", format)["prepare"](to_pil_image(pixels))
    torch.testing.assert_close(prepared[None], encoder.normalise(pixels[None]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_the_vector_is_of_the_pooling_and_block_that_were_read(pooling: str, block: int) -> None:
    encoder = encoder_of("preset").read(pooling, block)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        found = eval(vector(encoder), {"model": encoder.trunk, "x": x})
        torch.testing.assert_close(found, encoder.pooled(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("out", "format"),
    [("one.safetensors", "safetensors"), ("model.safetensors", "safetensors"), ("folder", "hf-folder")],
)
def test_a_description_is_found_beside_the_weights(out: str, format: Format, tmp_path: Path) -> None:
    encoder = encoder_of("preset")
    found = exported(encoder, 16, tmp_path / out, format)
    weights = tmp_path / out if format == "safetensors" else tmp_path / out / "model.safetensors"
    assert described(weights) == found
    again = found.architecture.build()
    again.load_state_dict(encoder.trunk.state_dict())


def test_files_of_others_have_no_description_and_broken_ones_are_named(tmp_path: Path) -> None:
    file, beside = tmp_path / "one.safetensors", tmp_path / "one.json"
    assert described(file) is None
    for text in ("[1]", '{"written_by": "hand"}', '{"ssbench": 1}'):
        beside.write_text(text)
        assert described(file) is None
    beside.write_text("{")
    with pytest.raises(UserError, match=r"one\.json, beside the weights, can't be read"):
        described(file)
    beside.write_text('{"written_by": "ssbench export 2"}')
    with pytest.raises(UserError, match=r"one\.json is not a description of this version"):
        described(file)


def test_the_card_says_what_it_is_what_it_scored_and_what_is_not_known(tmp_path: Path) -> None:
    exported(encoder_of("preset"), 16, tmp_path / "one.safetensors", "safetensors")
    card = (tmp_path / "one.md").read_text()
    for said in (
        "pretrained without labels by `mim-block` on `shapes`",
        "record `1b3a94dee28b9e39`",
        "| knn (protocol 1) | top1 % ↑ | shapes | 47.1 | 45.0 to 49.3 | 2000 | mean |",
        "| images | 64,000 |",
        "a\\|b",
        "load_file('one.safetensors')",
        "**It may have collapsed**: features have one direction.",
        "is unknown to ssbench",
        "built by timm 1.0.31",
        "| start | random weights |",
        "license: unknown",
    ):
        assert said in card
    assert json.loads((tmp_path / "one.json").read_text())["data_licence"] == "unknown"


def test_a_small_stem_has_no_folder_and_a_deep_stem_is_none(tmp_path: Path) -> None:
    encoder = encoder_of("small stem")
    with pytest.raises(UserError, match=r"--format hf-folder: resnet18 .* take --format safetensors"):
        contents(encoder, description_of(encoder, 32), tmp_path / "folder", "hf-folder")
    assert not plain(encoder_of("deep stem")).small_stem


def test_what_timm_does_not_build_alone_is_refused() -> None:
    encoder = encoder_of("preset")
    encoder.extra = torch.nn.Linear(2, 2)
    with pytest.raises(NotApplicable, match=r"parts of its own .*extra\.weight"):
        plain(encoder)
    encoder.architecture = None
    with pytest.raises(NotApplicable, match="timm builds no such network"):
        plain(encoder)
