"""Every layout, written here from its authors' names, must give the network that the weights came from."""

import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vision_transformer import VisionTransformer

from ssbench.encoders.layouts import HALF, IMAGENET, Recognised, recognise
from ssbench.errors import UserError

Weights = dict[str, Tensor]
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 2}


@torch.no_grad()
def random(model: nn.Module) -> nn.Module:
    """Nothing in it is zero, one or the same twice, so that no weight can be left or mixed up."""
    torch.manual_seed(0)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.randn_like(value) * 0.3 if value.ndim > 1 else torch.rand_like(value) + 0.5)
    return model.eval()


def source(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: random(timm.create_model(name, num_classes=0, **options))


def vit(**options: Any) -> Callable[[], nn.Module]:
    return source("vit_tiny_patch16_224", **{**SMALL, **options})


def convnet(block: Any = BasicBlock, **options: Any) -> Callable[[], nn.Module]:
    return lambda: random(ResNet(block, [1, 1, 1, 1], **options))


def within(prefix: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in weights.items()}


def renamed(weights: Weights, *pairs: tuple[str, str]) -> Weights:
    changed = {}
    for key, value in weights.items():
        for old, new in pairs:
            key = re.sub(old, new, key)
        changed[key] = value
    return changed


def other(weights: Weights) -> Weights:
    """A student, a key encoder: the same names with other values."""
    return {key: value + 1 if value.is_floating_point() else value for key, value in weights.items()}


def heads(*names: str) -> Weights:
    return {f"{name}.weight": torch.rand(3, 3) for name in names}


def dino(w: Weights) -> dict[str, Any]:
    student = within("module.", within("backbone.", other(w)) | heads("head.last_layer"))
    return {"student": student, "teacher": within("backbone.", w) | heads("head.mlp.0", "head.last_layer"), "epoch": 3}


def ibot(w: Weights) -> dict[str, Any]:
    w = renamed(w, (r"ls(\d)\.gamma", r"gamma_\1")) | {"masked_embed": torch.rand(1, 128)}
    head = heads("head.last_layer", "head.last_layer2")
    return {"student": within("module.backbone.", other(w)), "teacher": within("backbone.", w) | head}


def meta_registers(w: Weights) -> Weights:
    """Meta's class token has a position, its registers have none; timm adds the first and has none for both."""
    first = torch.rand(1, 1, 128)
    w = dict(w, cls_token=w["cls_token"] - first, pos_embed=torch.cat([first, w["pos_embed"]], 1))
    return renamed(w, ("^reg_token$", "register_tokens")) | {"mask_token": torch.zeros(1, 128)}


def meta_gated(w: Weights) -> Weights:
    return renamed(w, (r"mlp\.fc1", "mlp.w12"), (r"mlp\.fc2", "mlp.w3")) | {"mask_token": torch.zeros(1, 128)}


def dinov2_training(w: Weights) -> dict[str, Any]:
    w = renamed(w, (r"^blocks\.(\d+)", r"blocks.0.\1")) | {"mask_token": torch.zeros(1, 128)}
    teacher = within("backbone.", w) | heads("dino_head.mlp.0", "ibot_head.mlp.0")
    return {"model": within("student.backbone.", other(w)) | within("teacher.", teacher), "iteration": 9}


def dinov3(w: Weights) -> Weights:
    w = renamed(
        w,
        (r"gamma_(\d)", r"ls\1.gamma"),
        ("^reg_token$", "storage_tokens"),
        (r"fc1_g", "w1"),
        (r"fc1_x", "w2"),
        (r"mlp\.fc2(?=.*)", "mlp.w3" if any("fc1_g" in key for key in w) else "mlp.fc2"),
    )
    for i in range(2):
        if f"blocks.{i}.attn.q_bias" in w:
            q, v = w.pop(f"blocks.{i}.attn.q_bias"), w.pop(f"blocks.{i}.attn.v_bias")
            w[f"blocks.{i}.attn.qkv.bias"] = torch.cat([q, torch.full_like(q, torch.nan), v])
            w[f"blocks.{i}.attn.qkv.bias_mask"] = torch.cat(
                [torch.ones_like(q), torch.zeros_like(q), torch.ones_like(q)]
            )
    periods = torch.tensor([100 ** (2 * i / 32) for i in range(16)])  # of heads of 64
    return w | {"rope_embed.periods": periods, "mask_token": torch.zeros(1, 128)} | heads("local_cls_norm")


def mae(w: Weights) -> dict[str, Any]:
    decoder = heads("decoder_embed", "decoder_blocks.0.attn.qkv", "decoder_norm", "decoder_pred")
    return {
        "model": w | decoder | {"mask_token": torch.rand(1, 1, 8), "decoder_pos_embed": torch.rand(1, 17, 8)},
        "optimizer": {"state": {0: {"exp_avg": torch.rand(2)}}, "param_groups": [{"lr": 0.1}]},
        "args": Namespace(lr=0.1),
    }


def simmim(w: Weights) -> dict[str, Any]:
    width = w["patch_embed.proj.weight"].shape[0]
    w = w | {"mask_token": torch.rand(1, 1, width), "rel_pos_bias.relative_position_index": torch.zeros(5, 5).long()}
    return {"model": within("encoder.", w) | heads("decoder.0"), "epoch": 1}


def swin(w: Weights) -> Weights:
    """Microsoft's merges patches at a stage's end, timm at the next one's beginning."""
    w = renamed(w, (r"layers\.1\.downsample", "layers.0.downsample"))
    index = {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16).long()}
    return w | index | {"layers.0.blocks.1.attn_mask": torch.zeros(16, 16, 16)}


def beit(w: Weights) -> dict[str, Any]:
    return {"model": w | heads("lm_head") | {"mask_token": torch.rand(1, 1, 128)}}


def beit_tuned(w: Weights) -> dict[str, Any]:
    return {"module": w | heads("head") | {"blocks.0.attn.relative_position_index": torch.zeros(17, 17).long()}}


def ijepa(w: Weights) -> dict[str, Any]:
    predictor = heads("module.predictor_embed", "module.predictor_blocks.0.attn.proj")
    encoders = {"encoder": within("module.", other(w)), "target_encoder": within("module.", w)}
    return encoders | {"predictor": predictor, "opt": {"state": {0: {"step": torch.tensor(1.0)}}}, "epoch": 2}


def transformers(w: Weights, attention: str = "attention.attention", scaled: bool = False) -> Weights:
    norms = ("norm1", "norm2") if scaled else ("layernorm_before", "layernorm_after")
    mlp = ("mlp.fc1", "mlp.fc2") if scaled else ("intermediate.dense", "output.dense")
    changed = renamed(
        w,
        (r"^(cls_token|register_tokens|mask_token)$", r"embeddings.\1"),
        (r"^pos_embed$", "embeddings.position_embeddings"),
        (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
        (r"^norm\.", "layernorm."),
        (r"\.norm1\.", f".{norms[0]}."),
        (r"\.norm2\.", f".{norms[1]}."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.mlp\.fc1\.", f".{mlp[0]}."),
        (r"\.mlp\.fc2\.", f".{mlp[1]}."),
        (r"\.mlp\.w12\.", ".mlp.weights_in."),
        (r"\.mlp\.w3\.", ".mlp.weights_out."),
        (r"\.ls(\d)\.gamma$", r".layer_scale\1.lambda1"),
        (r"^blocks\.", "encoder.layer."),
    )
    for key in [key for key in changed if ".attn.qkv." in key]:
        for name, part in zip(("query", "key", "value"), changed[key].chunk(3)):
            changed[key.replace("attn.qkv", f"{attention}.{name}")] = part
        del changed[key]
    return changed


def vit_mae(w: Weights) -> Weights:
    decoder = heads("decoder.decoder_embed", "decoder.decoder_layers.0.attention.attention.query")
    return within("vit.", transformers(w)) | decoder | {"decoder.mask_token": torch.rand(1, 1, 8)}


def classified(w: Weights) -> Weights:
    return within("vit.", transformers(w)) | heads("classifier")


def moco_v3(w: Weights) -> dict[str, Any]:
    w = {key: value for key, value in w.items() if not key.startswith("fc.")}
    query, key = within("base_encoder.", w | heads("head.0")), within("momentum_encoder.", other(w) | heads("head.0"))
    return {"state_dict": within("module.", query | key | heads("predictor.0")), "arch": "vit_small"}


def moco(w: Weights) -> dict[str, Any]:
    w = (
        within("encoder_q.", w)
        | within("encoder_k.", other(w))
        | {"queue": torch.rand(3, 3), "queue_ptr": torch.zeros(1)}
    )
    return {"state_dict": within("module.", w), "epoch": 4}


def swav(w: Weights) -> Weights:
    w = {key: value for key, value in w.items() if not key.startswith("fc.")}
    return within("module.", w | heads("projection_head.0", "prototypes"))


def barlow(w: Weights) -> dict[str, Any]:
    return {"model": within("module.", within("backbone.", w) | heads("projector.0")), "epoch": 5}


def lightly(w: Weights) -> dict[str, Any]:
    """BYOL's example: `nn.Sequential(*list(resnet.children())[:-1])` and a momentum copy of it."""
    numbers = (
        (r"^conv1", "0"),
        (r"^bn1", "1"),
        (r"^layer1", "4"),
        (r"^layer2", "5"),
        (r"^layer3", "6"),
        (r"^layer4", "7"),
    )
    w = renamed({key: value for key, value in w.items() if not key.startswith("fc.")}, *numbers)
    copies = within("backbone.", w) | within("backbone_momentum.", other(w))
    return {"state_dict": copies | heads("projection_head.layers.0", "prediction_head.layers.0")}


def solo(w: Weights) -> dict[str, Any]:
    copies = within("backbone.", w) | within("momentum_backbone.", other(w))
    return {"state_dict": copies | heads("classifier", "projector.0"), "hyper_parameters": {"method": "byol"}}


def stable(w: Weights) -> dict[str, Any]:
    copies = within("backbone.student.", other(w)) | within("backbone.teacher.", w)
    return {"state_dict": copies | heads("projector.0") | {"backbone.ema_coefficient": torch.tensor(0.9)}}


def vissl(w: Weights) -> dict[str, Any]:
    w = {key: value for key, value in w.items() if not key.startswith("fc.")}
    return {
        "classy_state_dict": {
            "base_model": {"model": {"trunk": within("_feature_blocks.", w), "heads": heads("0.clf")}}
        }
    }


@dataclass
class Case:
    layout: str
    source: Callable[[], nn.Module]
    write: Callable[[Weights], Mapping[str, Any]]
    pooling: str = "cls"
    size: int = 32
    colours: Any = IMAGENET
    left_out: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


BEIT = {**SMALL, "global_pool": "token", "init_values": 0.1}
SHARED = {**BEIT, "use_rel_pos_bias": False, "use_shared_rel_pos_bias": True}
ROPED = {**SMALL, "global_pool": "token"}
SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4)}
GATED = {**SMALL, "mlp_ratio": 1.25}
REGISTERS = {"reg_tokens": 4, "no_embed_class": True, "init_values": 1.0}
NO_CLASS = {"class_token": False, "global_pool": "avg", "fc_norm": False}
MASKED = {"mask_token": torch.zeros(1, 128)}
GIANT, SWIN_TINY = "vit_giant_patch14_dinov2", "swin_tiny_patch4_window7_224"
CASES = [
    Case("timm ViT", vit(), dict, id="bare"),
    Case(
        "timm ViT",
        vit(),
        lambda w: {"state_dict": within("module.", w | heads("head"))},
        left_out=("state_dict.module.head.weight",),
        id="wrapped",
    ),
    Case(
        "timm ViT", vit(), lambda w: {"state_dict": other(w), "state_dict_ema": w}, left_out=("state_dict.*",), id="ema"
    ),
    Case("timm ViT", vit(**REGISTERS), dict, options={"reg_tokens": 4}, id="timm's registers"),
    Case(
        "timm ViT",
        vit(reg_tokens=2, qk_norm=True, qkv_bias=False, num_heads=4),
        dict,
        options={"num_heads": 4},
        id="qk norm",
    ),
    Case(
        "timm ViT",
        vit(mlp_ratio=3.3, no_embed_class=True),
        dict,
        options={"no_embed_class": True},
        id="no class position",
    ),
    Case(
        "timm ViT", vit(**NO_CLASS, reg_tokens=4, no_embed_class=True), dict, "mean", id="registers and no class token"
    ),
    Case("DINO", vit(), dino, left_out=("student.module.backbone.*", "teacher.head.last_layer.weight")),
    Case("iBOT", vit(init_values=1.0), ibot, left_out=("teacher.backbone.masked_embed",)),
    Case(
        "DINOv2",
        vit(init_values=1.0),
        lambda w: w | MASKED,
        size=224,
        left_out=("mask_token",),
        options={"img_size": 32},
    ),
    Case(
        "DINOv2", vit(init_values=1.0), dinov2_training, size=224, left_out=("model.student.backbone.*",), id="chunks"
    ),
    Case("DINOv2", vit(**REGISTERS), meta_registers, size=224, options={"reg_tokens": 4}, id="registers"),
    Case("DINOv2", source(GIANT, **GATED), meta_gated, size=224, id="SwiGLU"),
    Case(
        "DINOv3",
        source("vit_base_patch16_dinov3", **ROPED, qkv_bias=True),
        dinov3,
        size=224,
        left_out=("rope_embed.periods",),
    ),
    Case("DINOv3", source("vit_base_patch16_dinov3", **ROPED, num_reg_tokens=0), dinov3, size=224, id="no registers"),
    Case("DINOv3", source("vit_huge_plus_patch16_dinov3", **ROPED, mlp_ratio=1.5), dinov3, size=224, id="SwiGLU3"),
    Case("MAE", vit(), mae, left_out=("model.mask_token", "model.decoder_embed.weight", "model.decoder_pos_embed")),
    Case("timm ViT", vit(global_pool="avg"), lambda w: {"model": w | heads("head")}, "mean", id="MAE fine-tuned"),
    Case("SimMIM", source("beit_base_patch16_224", **SHARED), simmim, "mean", left_out=("model.decoder.0.weight",)),
    Case(
        "SimMIM",
        source(SWIN_TINY, **SWIN),
        lambda w: simmim(swin(w)),
        "mean",
        options={"num_heads": [2, 4]},
        id="SimMIM Swin",
    ),
    Case("Swin", source(SWIN_TINY, **{**SWIN, "img_size": 16}), dict, "mean", 16, id="timm's Swin"),
    Case(
        "BEiT",
        source("beit_base_patch16_224", **SHARED),
        beit,
        "mean",
        colours=HALF,
        left_out=("model.lm_head.weight",),
    ),
    Case(
        "BEiT",
        source("beit_base_patch16_224", **{**BEIT, "global_pool": "avg"}),
        beit_tuned,
        "mean",
        colours=HALF,
        id="tuned",
    ),
    Case(
        "BEiT v2", source("beit_base_patch16_224", **SHARED), lambda w: beit(w | heads("cls_pt_layers.0.norm1")), "mean"
    ),
    Case(
        "I-JEPA",
        vit(**NO_CLASS),
        ijepa,
        "mean",
        left_out=("encoder.module.*", "predictor.module.predictor_embed.weight"),
    ),
    Case("transformers ViT", vit(), transformers, id="DINO's ViTModel"),
    Case("transformers ViT", vit(), lambda w: transformers(w) | heads("pooler.dense"), colours=HALF, id="ViTModel"),
    Case(
        "transformers ViT",
        vit(),
        classified,
        colours=HALF,
        left_out=("classifier.weight",),
        id="ViTForImageClassification",
    ),
    Case("transformers ViTMAE", vit(), vit_mae, left_out=("decoder.decoder_embed.weight", "decoder.mask_token")),
    Case(
        "transformers Dinov2",
        vit(init_values=1.0),
        lambda w: transformers(w | MASKED, scaled=True),
        size=224,
        left_out=("embeddings.mask_token",),
    ),
    Case(
        "transformers Dinov2",
        source(GIANT, **GATED),
        lambda w: within("dinov2.", transformers(meta_gated(w), scaled=True)),
        size=224,
        id="gated",
    ),
    Case(
        "transformers Dinov2 with registers",
        vit(**REGISTERS),
        lambda w: transformers(meta_registers(w), scaled=True),
        size=224,
    ),
    Case(
        "MoCo v3",
        vit(embed_dim=384, num_heads=12, depth=1),
        moco_v3,
        left_out=("state_dict.module.momentum_encoder.*",),
        options={"num_heads": 12},
    ),
    Case(
        "MoCo v3",
        convnet(),
        moco_v3,
        "mean",
        224,
        left_out=("state_dict.module.predictor.0.weight",),
        id="MoCo v3 ResNet",
    ),
    Case(
        "MoCo",
        convnet(Bottleneck),
        moco,
        "mean",
        224,
        left_out=("state_dict.module.encoder_k.*", "state_dict.module.queue"),
    ),
    Case(
        "SwAV", convnet(), swav, "mean", 224, left_out=("module.prototypes.weight", "module.projection_head.0.weight")
    ),
    Case(
        "ResNet",
        convnet(),
        barlow,
        "mean",
        224,
        left_out=("model.module.projector.0.weight",),
        id="Barlow Twins, VICReg",
    ),
    Case("ResNet", convnet(), solo, "mean", 224, left_out=("state_dict.momentum_backbone.*",), id="solo-learn"),
    Case(
        "ResNet", convnet(), stable, "mean", 224, left_out=("state_dict.backbone.student.*",), id="stable-pretraining"
    ),
    Case("ResNet", convnet(), dict, "mean", 224, left_out=("fc.weight", "fc.bias"), id="torchvision"),
    Case(
        "ResNet",
        convnet(Bottleneck, groups=2, width_per_group=4),
        dict,
        "mean",
        224,
        options={"cardinality": 2},
        id="ResNeXt",
    ),
    Case("ResNet", convnet(Bottleneck, width_per_group=128), dict, "mean", 224, options={"base_width": 128}, id="wide"),
    Case("lightly ResNet", convnet(), lightly, "mean", 224, left_out=("state_dict.backbone_momentum.*",)),
    Case(
        "VISSL ResNet",
        convnet(Bottleneck),
        vissl,
        "mean",
        224,
        left_out=("classy_state_dict.base_model.model.heads.0.clf.weight",),
    ),
]


@torch.no_grad()
def features(model: Any, images: Tensor) -> Tensor:
    if isinstance(model, ResNet):
        x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
        return model.layer4(model.layer3(model.layer2(model.layer1(x))))
    return model.forward_features(images)


def built(found: Recognised) -> Any:
    model = found.architecture.build().eval()
    model.load_state_dict(found.weights, strict=True)
    return model


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id or case.layout)
def test_a_layout_gives_the_network_it_was_written_from(case: Case) -> None:
    model = case.source()
    written = case.write({key: value.clone() for key, value in model.state_dict().items()})
    found = recognise(written)
    side = found.architecture.options.get("img_size", 32)
    images = torch.randn(2, 3, side, side)
    torch.testing.assert_close(features(built(found), images), features(model, images), atol=1e-5, rtol=1e-5)
    assert (found.layout, found.pooling, found.size) == (case.layout, case.pooling, case.size)
    assert (found.mean, found.std) == case.colours
    assert set(case.left_out) <= set(found.left_out)
    assert found.architecture.options.items() >= case.options.items()


def test_torchvisions_vit_gives_torchvisions_features() -> None:
    model: Any = random(VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=128, mlp_dim=256))
    found = recognise({"model": model.state_dict()})
    images = torch.randn(2, 3, 32, 32)
    patches = model._process_input(images)
    with torch.no_grad():
        wanted = model.encoder(torch.cat([model.class_token.expand(2, -1, -1), patches], 1))
    torch.testing.assert_close(features(built(found), images), wanted, atol=1e-5, rtol=1e-5)
    assert found.layout == "torchvision ViT" and "model.heads.head.weight" in found.left_out


def test_half_precision_and_bare_statistics_are_made_whole() -> None:
    """Files without `num_batches_tracked` are older than it; bfloat16 ones are made float32."""
    weights = {key: value for key, value in convnet()().state_dict().items() if "num_batches" not in key}
    found = recognise({key: value.bfloat16() for key, value in weights.items()})
    assert built(found).conv1.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("width", "patch", "number", "name"),
    [
        (192, 16, 3, "vit_tiny_patch16_224"),
        (384, 8, 6, "vit_small_patch8_224"),
        (768, 16, 12, "vit_base_patch16_224"),
        (1280, 14, 16, "vit_huge_patch14_224"),
        (512, 16, 8, "vit_base_patch16_224"),
    ],
)
def test_heads_follow_the_width_by_convention(width: int, patch: int, number: int, name: str) -> None:
    sizes = {"embed_dim": width, "patch_size": patch, "img_size": 2 * patch, "num_heads": number, "depth": 1}
    architecture = recognise(vit(**sizes)().state_dict()).architecture
    assert (architecture.name, architecture.options["num_heads"]) == (name, number)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2"])
def test_a_resnets_depth_is_its_blocks(name: str) -> None:
    with torch.device("meta"):
        weights = timm.create_model(name).state_dict()
    architecture = recognise(weights).architecture
    assert architecture.name == name.removeprefix("wide_").removesuffix("_2")
    assert architecture.options == ({"cardinality": 1, "base_width": 128} if name.startswith("wide") else {})


def test_a_backbone_says_what_keys_do_not() -> None:
    """Colours and size are those of the tag; positions and their grid stay those of the file."""
    model = vit(embed_dim=192, depth=12, num_heads=3, patch_size=16)()
    found = recognise(within("net.encoder.", model.state_dict()), "vit_tiny_patch16_224.augreg_in21k")
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(features(built(found), images), features(model, images), atol=1e-5, rtol=1e-5)
    assert (found.architecture.name, found.size, found.pooling) == ("vit_tiny_patch16_224", 32, "cls")
    assert found.mean == (0.5, 0.5, 0.5)


def test_a_backbone_of_another_family_takes_timms_own_filter() -> None:
    model = random(timm.create_model("convnext_atto", num_classes=0))
    weights = dict(model.state_dict())
    file = {"teacher": within("module.", weights | heads("head.fc")), "student": within("module.", other(weights))}
    found = recognise(file, "convnext_atto")
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(features(built(found), images), features(model, images), atol=1e-5, rtol=1e-5)
    assert found.pooling == "mean" and found.left_out == ("teacher.module.head.fc.weight", "student.module.*")


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda w: {key: value for key, value in w.items() if part not in key}


def replaced(key: str, value: Tensor) -> Callable[[Weights], Weights]:
    return lambda w: w | {key: value}


REFUSED = [
    ("no weights at all", lambda w: {}, "no tensors"),
    ("a head alone", lambda w: heads("head"), "in no known layout: head.weight"),
    ("unknown keys", lambda w: {f"layer_{i}": torch.rand(2) for i in range(9)}, "layer_0, .*9 in all.*--backbone"),
    ("blocks missing between", without("blocks.0."), "not whole: of blocks there are 1"),
    ("positions of no square", replaced("pos_embed", torch.rand(1, 12, 128)), "no square image: pos_embed"),
    ("permuted positions", replaced("pos_embed", torch.rand(1, 128, 17)), "no square image"),
    ("no positions", without("pos_embed"), "without positions"),
    ("permuted patches", replaced("patch_embed.proj.weight", torch.rand(8, 8, 3, 128)), "squares of three colours"),
    ("grey patches", replaced("patch_embed.proj.weight", torch.rand(128, 1, 8, 8)), "squares of three colours"),
    ("two networks", lambda w: within("left.", w) | within("right.", w), "two networks, left.* and right.*"),
    (
        "lightly's own ResNet",
        lambda w: within("backbone.", heads("0", "2.0.conv1") | {"1.running_mean": torch.ones(64)}),
        "small images",
    ),
    ("CAPI", lambda w: heads("encoder.blocks.0.residual1.norm"), "CAPI"),
    ("no keys to the queries", lambda w: without("attention.key")(transformers(w)), "query weight without"),
    ("a DINOv3 with key biases", lambda w: w | {"storage_tokens": torch.rand(1, 4, 128)}, "part for keys"),
]


@pytest.mark.parametrize(("spoil", "said"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_not_whole_or_not_known_is_refused_in_one_line(spoil: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as refusal:
        recognise(spoil(dict(vit()().state_dict())))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("stem", "said"), [((64, 3, 3, 3), "small images"), ((128, 3, 7, 7), r"first convolution.*conv1.weight \(128")]
)
def test_a_resnet_with_another_stem_is_refused(stem: tuple[int, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        recognise(convnet()().state_dict() | {"conv1.weight": torch.rand(stem)})


def test_a_width_that_says_no_heads_is_refused() -> None:
    with pytest.raises(UserError, match=r"width of 96.*--backbone"):
        recognise(vit(embed_dim=96, num_heads=3)().state_dict())


def test_an_unknown_backbone_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="vit_tiny_patch16_22'; did you mean vit_tiny_patch16_224"):
        recognise(vit()().state_dict(), "vit_tiny_patch16_22")


def test_a_file_cut_between_blocks_is_a_shallower_network() -> None:
    assert recognise(without("blocks.1.")(dict(vit()().state_dict()))).architecture.options["depth"] == 1
