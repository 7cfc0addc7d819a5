"""Teachers follow, are taught nothing by gradients, and clusters and prototypes learn from their own terms."""

from collections.abc import Callable
from copy import deepcopy
from math import cos, pi
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss
from torch import Tensor, nn

from ssbench.methods.mim.architectures import Seen
from ssbench.methods.mim.online import sinkhorn
from ssbench.methods.mim.presets import PRESETS

MakeMIM = Callable[..., Any]
MakeBatch = Callable[..., Any]

TAUGHT = ["data2vec", "ijepa", "ibot", "capi", "cmae", "mim-attention", "mim-hard"]
TEACHERS = {  # what follows what
    "teacher": "encoder",
    "rank_teacher": "rank",
    "heads.teacher": "heads.student",
    "pair.teacher_project": "pair.project",
}


def views(count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(count, 3, 16, 16, generator=generator) for _ in range(2)]


def part(mim: Any, path: str) -> Any:
    for name in path.split("."):
        mim = getattr(mim, name, None)
    return mim


def followers(mim: Any) -> list[tuple[nn.Module, nn.Module]]:
    found = [(part(mim, moved), part(mim, leader)) for moved, leader in TEACHERS.items()]
    return [(moved, leader) for moved, leader in found if moved is not None and leader is not None]


def shaken(mim: Any) -> Any:
    """Every weight that is trained somewhere else."""
    torch.manual_seed(1)
    for value in mim.parameters():
        if value.requires_grad:
            value.data += torch.randn_like(value)
    return mim


@pytest.mark.parametrize("name", TAUGHT)
def test_a_teacher_starts_as_a_copy_of_what_it_follows(name: str, make_mim: MakeMIM) -> None:
    pairs = followers(make_mim(**PRESETS[name].preset))
    assert pairs
    for moved, leader in pairs:
        ours, theirs = moved.state_dict(), leader.state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert all(a is not b for a, b in zip(moved.parameters(), leader.parameters()))


@pytest.mark.parametrize("name", TAUGHT)
@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_a_teacher_moves_by_the_cosine_of_its_momentum(name: str, progress: float, make_mim: MakeMIM) -> None:
    """DINO: 1 - (1 - momentum) * (cos(pi * progress) + 1) / 2, from the first to the last momentum."""
    mim = shaken(make_mim(**PRESETS[name].preset | {"momentum": 0.8, "momentum_end": 0.95}))
    momentum = 0.95 - 0.15 * (cos(pi * progress) + 1) / 2
    wanted = []
    for moved, leader in followers(mim):
        wanted += [
            [momentum * a + (1 - momentum) * b for a, b in zip(x.flatten().tolist(), y.flatten().tolist())]
            for x, y in zip(moved.parameters(), leader.parameters())
        ]
    mim.after_step(progress)
    found = [x.flatten() for moved, _ in followers(mim) for x in moved.parameters()]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.detach(), torch.tensor(b), atol=1e-5, rtol=1e-5)


def test_momentum_ends_are_reached(make_mim: MakeMIM) -> None:
    mim = shaken(make_mim(target="ema", momentum=0, momentum_end=1))
    before = deepcopy(mim.teacher.state_dict())
    mim.after_step(1.0)
    assert all(torch.equal(value, before[key]) for key, value in mim.teacher.state_dict().items())
    mim.after_step(0.0)
    for key, value in mim.teacher.state_dict().items():
        torch.testing.assert_close(value, mim.encoder.state_dict()[key])


@pytest.mark.parametrize("name", TAUGHT)
def test_no_teacher_gets_a_gradient_and_every_student_does(name: str, make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    mim = make_mim(**PRESETS[name].preset).train()
    sum(mim.loss(mim_batch(*views())).values()).backward()
    for moved, leader in followers(mim):
        assert all(not p.requires_grad and p.grad is None for p in moved.parameters())
        assert all(p.grad is not None for p in leader.parameters() if p.requires_grad)


def test_a_teachers_batch_norms_keep_statistics_of_their_own(make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    mim = make_mim(**PRESETS["cmae"].preset).train()
    mim.loss(mim_batch(*views()))
    seen = mim.pair.teacher_project[1].running_mean.clone()
    mim.after_step(0.0)
    student, teacher = mim.pair.project[1], mim.pair.teacher_project[1]
    assert seen.any() and torch.equal(teacher.running_mean, seen)
    assert not torch.equal(student.running_mean, seen)


@pytest.mark.parametrize("name", PRESETS)
def test_tasks_see_the_teacher_where_the_paper_does(name: str, make_mim: MakeMIM) -> None:
    mim = make_mim(**PRESETS[name].preset)
    wanted = mim.teacher if name in ("ibot", "ijepa", "capi") else mim.encoder
    assert mim.judged() is wanted


@pytest.mark.parametrize("name", ["mim-random", "simmim", "maskfeat", "beit"])
def test_there_is_no_teacher_where_none_is_needed(name: str, make_mim: MakeMIM) -> None:
    mim = make_mim(**PRESETS[name].preset)
    assert mim.teacher is None and not followers(mim)
    mim.after_step(0.5)


def test_a_teacher_can_be_judged_that_nothing_else_needs(make_mim: MakeMIM) -> None:
    mim = shaken(make_mim(judge="teacher", momentum=0.5))
    mim.after_step(0.0)
    assert mim.judged() is mim.teacher is not mim.encoder
    ours, theirs = mim.teacher.trunk.cls_token, mim.encoder.trunk.cls_token
    assert not torch.equal(ours, theirs)


def test_sinkhorn_is_the_loop_over_positions() -> None:
    logits = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0)) * 3
    found = sinkhorn(logits, 3).double().numpy()
    for n in range(5):
        weights = np.exp(logits[:, n].double().numpy())
        for _ in range(3):
            weights /= weights.sum(0, keepdims=True)
            weights /= weights.sum(1, keepdims=True)
        np.testing.assert_allclose(found[:, n], weights, atol=1e-6)


def test_at_each_position_clusters_are_used_equally_in_the_end() -> None:
    logits = torch.randn(8, 3, 4, generator=torch.Generator().manual_seed(0)) + torch.tensor([9.0, 0, 0, 0])
    codes = sinkhorn(logits, 300)
    torch.testing.assert_close(codes.sum(2), torch.ones(8, 3))
    torch.testing.assert_close(codes.sum(0), torch.full((3, 4), 2.0), atol=1e-3, rtol=0)


def test_codes_of_far_apart_tokens_stay_finite() -> None:
    codes = sinkhorn(torch.tensor([[[1000.0, 0.0]], [[0.0, 1000.0]]]), 3)
    torch.testing.assert_close(codes, torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))


def test_clusters_learn_from_their_own_term_alone_and_teach_the_encoder_nothing(
    make_mim: MakeMIM, mim_batch: MakeBatch
) -> None:
    mim = make_mim(**PRESETS["capi"].preset)
    terms = mim.loss(mim_batch(views()[0]))
    own = list(mim.target.clusters.parameters())
    others = [p for p in mim.parameters() if p.requires_grad and not any(p is c for c in own)]
    found = torch.autograd.grad(terms["clustering"], own + others, allow_unused=True, retain_graph=True)
    assert all(g is not None and g.any() for g in found[:2]) and all(g is None for g in found[2:])
    found = torch.autograd.grad(terms["reconstruction"], own + others, allow_unused=True)
    assert all(g is None for g in found[:2]) and all(g is not None for g in found[2:])


def test_two_views_agree_as_in_lightlys_dino(make_mim: MakeMIM) -> None:
    """The class tokens of the masked first view and the whole second; the teacher sees both whole."""
    mim = shaken(make_mim(**PRESETS["ibot"].preset)).train()
    first, second = views()
    visible, _ = mim.hide(first, torch.Generator().manual_seed(0), 0.0)
    seen = mim.predict.see(mim.encoder, first, visible)
    heads, pair, criterion = mim.heads, mim.pair, DINOLoss(256, teacher_temp=0.04, student_temp=0.1)
    for _ in range(2):  # the second time with a centre
        students = [heads.student(tokens[:, 0]) for tokens in (seen.prefix, mim.encoder.sequence(second).prefix)]
        teachers = [heads.teacher(mim.teacher.sequence(view).prefix[:, 0]) for view in (first, second)]
        found = pair(seen, second, first, mim.encoder, mim.teacher)
        torch.testing.assert_close(found, criterion(teachers, students))
    torch.testing.assert_close(pair.centred.centre, criterion.center.flatten())


def test_class_and_patch_tokens_of_ibot_go_through_one_head(make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    """iBOT, README.md: --shared_head true, which the teacher's is by default."""
    mim = make_mim(**PRESETS["ibot"].preset).train()
    assert mim.target.heads is mim.pair.heads is mim.heads
    terms = mim.loss(mim_batch(*views()))
    for term in terms.values():
        found = torch.autograd.grad(term, mim.heads.student.last_layer.weight_v, retain_graph=True)
        assert found[0].any()


@pytest.mark.parametrize(
    ("progress", "temperature"), [(0.0, 0.04), (0.1, 0.05), (0.15, 0.055), (0.3, 0.07), (0.5, 0.07), (1.0, 0.07)]
)
def test_the_teachers_temperature_warms_up(progress: float, temperature: float, make_mim: MakeMIM) -> None:
    mim = make_mim(**PRESETS["ibot"].preset)
    assert float(mim.heads.temperature) == pytest.approx(0.04)
    mim.after_step(progress)
    assert float(mim.heads.temperature) == pytest.approx(temperature)
    assert "heads.temperature" in mim.state_dict()  # an interrupted run goes on with it


@pytest.mark.parametrize("name", ["ibot", "capi"])
def test_under_autocast_a_loss_is_that_of_the_same_embeddings_in_float32(name: str, make_mim: MakeMIM) -> None:
    """What is divided by a temperature is never bfloat16: only the layers before it are."""
    mim = make_mim(**PRESETS[name].preset)
    tokens, target = torch.randn(4, 5, 96).bfloat16(), torch.rand(4, 5, 256 if name == "ibot" else 128).softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        found = mim.target.loss(tokens, target)
        unit = F.normalize((mim.heads.student.layers(tokens) if name == "ibot" else tokens).float(), dim=-1)
    layer, temperature = (mim.heads.student.last_layer, 0.1) if name == "ibot" else (mim.target.head, 0.12)
    wanted = -(target * (unit @ layer.weight.T / temperature).log_softmax(-1)).sum(-1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_under_autocast_class_tokens_agree_in_float32(make_mim: MakeMIM) -> None:
    mim = shaken(make_mim(**PRESETS["ibot"].preset))
    first, second = views()
    with torch.autocast("cpu", torch.bfloat16):
        seen = Seen(*mim.encoder.sequence(first), torch.empty(0))
        found = mim.pair(seen, second, first, mim.encoder, mim.teacher)

        def units(encoder: Any, head: Any) -> list[Tensor]:
            return [F.normalize(head.layers(encoder.sequence(x).prefix[:, 0]).float(), dim=1) for x in (first, second)]

        students, teachers = units(mim.encoder, mim.heads.student), units(mim.teacher, mim.heads.teacher)
    ours, theirs = mim.heads.student.last_layer.weight, mim.heads.teacher.last_layer.weight
    wanted = DINOLoss(256, teacher_temp=0.04)([z @ theirs.T for z in teachers], [z @ ours.T for z in students])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["infonce", "dino"])
def test_a_pair_is_a_term_of_its_own_that_its_weight_scales(name: str, make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    full, half = (make_mim(pair=name, pair_weight=weight).loss(mim_batch(*views())) for weight in (1, 0.5))
    assert list(full) == list(half) == ["reconstruction", name]
    torch.testing.assert_close(half[name], full[name] / 2)
    assert half["reconstruction"] == full["reconstruction"]


def test_without_a_class_token_the_mean_patch_token_stands_for_the_image(make_mim: MakeMIM) -> None:
    mim = make_mim(backbone="vit_medium_patch16_gap_256", patch=8, pair="dino")
    assert mim.encoder.poolings == ("mean",)
    images, second = views(2)
    prefix, patches = mim.encoder.sequence(images)
    seen = Seen(prefix, patches, torch.arange(4).expand(2, -1))
    tokens, inputs = list[Tensor](), torch.stack([seen.patches.mean(1), mim.encoder.pooled(second)])
    mim.heads.student.register_forward_hook(lambda module, given, output: tokens.append(given[0]))
    mim.pair(seen, second, images, mim.encoder, mim.teacher)
    assert len(tokens) == 1
    torch.testing.assert_close(tokens[0], inputs, atol=1e-5, rtol=1e-5)


def test_capis_clusters_start_sharp_and_its_head_with_unit_rows(make_mim: MakeMIM) -> None:
    capi = make_mim(target="capi", arch="cross").target
    assert 0.8 < float(capi.clusters.weight.detach().std()) < 1.2 and not capi.clusters.bias.any()
    torch.testing.assert_close(capi.head.weight.norm(dim=1), torch.ones(128))
