"""Every cell of the grid trains; what is hidden, asked and shown follows the settings."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from math import log
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from ssbench.data import Dataset
from ssbench.errors import UserError
from ssbench.method import View
from ssbench.methods import METHODS
from ssbench.methods.mim import networks
from ssbench.methods.mim.architectures import ARCHITECTURES, Seen
from ssbench.methods.mim.content import MASKS
from ssbench.methods.mim.masks import hidden_count
from ssbench.methods.mim.model import MIM
from ssbench.methods.mim.pairs import PAIRS
from ssbench.methods.mim.patches import pixels
from ssbench.methods.mim.presets import PRESETS
from ssbench.methods.mim.regularisers import REGULARISERS
from ssbench.methods.mim.targets import TARGETS
from ssbench.registry import find, load
from ssbench.settings import make

MakeMIM = Callable[..., Any]
MakeBatch = Callable[..., Any]

CELLS = list(product(MASKS, TARGETS, ARCHITECTURES))


def pictures(count: int = 4, channels: int = 3, size: int = 16) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def tiny_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Settings of target=features for a small network as it starts, which is made once."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("network") / "tiny.pth"
    made = timm.create_model("test_efficientnet")
    torch.save(made.state_dict(), file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "load", lambda network, checkpoint: made)
        yield {"network": "test_efficientnet", "checkpoint": str(file), "network_size": 32}


def trains(mim: Any, terms: dict[str, Tensor]) -> None:
    """Each term is finite, and together they reach every weight that is trained."""
    assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
    sum(terms.values(), torch.zeros(())).backward()
    for key, weight in mim.named_parameters():
        if weight.requires_grad:
            assert weight.grad is not None and weight.grad.isfinite().all(), key


def test_the_grid_is_whole() -> None:
    assert len(CELLS) == len(MASKS) * len(TARGETS) * len(ARCHITECTURES) == 330


@pytest.mark.parametrize(("mask", "target", "arch"), CELLS)
def test_every_cell_of_the_grid_gives_a_loss_and_trains_every_weight(
    mask: str, target: str, arch: str, make_mim: MakeMIM, mim_batch: MakeBatch, tiny_network: dict[str, Any]
) -> None:
    more = tiny_network if target == "features" else {}
    mim = make_mim(mask=mask, target=target, arch=arch, codes=16, prototypes=16, clusters=16, **more).train()
    terms = mim.loss(mim_batch(pictures(), progress=0.5))
    own = {"clustering"} if target == "capi" else set[str]()
    assert terms.keys() == {"reconstruction"} | own | ({"ranking"} if mask == "hard" else set())
    trains(mim, terms)
    mim.after_step(0.5)


@pytest.mark.parametrize(("reg", "pair", "arch"), list(product(REGULARISERS, PAIRS, ARCHITECTURES)))
def test_every_regulariser_goes_with_every_pair(
    reg: str, pair: str, arch: str, make_mim: MakeMIM, mim_batch: MakeBatch
) -> None:
    mim = make_mim(reg=reg, pair=pair, arch=arch).train()
    terms = mim.loss(mim_batch(pictures(), pictures().flip(0)))
    assert list(terms) == ["reconstruction", *(name for name in (reg, pair) if name != "none")]
    trains(mim, terms)
    mim.after_step(0.5)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_cell_of_the_grid(name: str, make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    entry = find("methods", name)
    assert load(entry) is MIM and entry.scope == "mim" and METHODS[name].preset is PRESETS[name].preset
    mim = make_mim(**entry.preset).train()
    assert len(mim.views) == (2 if "pair" in entry.preset else 1)
    trains(mim, mim.loss(mim_batch(*[pictures()] * len(mim.views))))


def test_mim_as_it_is_is_mim_random() -> None:
    assert make(MIM.Settings, {}, "mim") == make(MIM.Settings, PRESETS["mim-random"].preset, "mim")


def test_the_hidden_pixels_of_an_image_get_no_gradient_where_the_encoder_does_not_see_them(
    make_mim: MakeMIM, mim_batch: MakeBatch
) -> None:
    mim, images = make_mim(target="pixels"), pictures().requires_grad_()
    visible, hidden = mim.hide(images, torch.Generator().manual_seed(0), 0.0)
    mim.loss(mim_batch(images))["reconstruction"].backward()
    assert images.grad is not None
    touched = pixels(images.grad, 4).any(2)
    assert not touched.gather(1, hidden).any() and touched.gather(1, visible).all()


def test_the_mask_comes_from_the_generator_of_the_batch(make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    mim = make_mim()
    first, again, other = (mim.loss(mim_batch(pictures(), seed=seed))["reconstruction"] for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_other_channels_and_sizes_work(channels: int, make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    for target in ("pixels-normed", "hog", "kmeans", "dvae", "random-codebook"):
        mim = make_mim(channels=channels, target=target)
        assert mim.loss(mim_batch(torch.randn(2, channels, 24, 16)))["reconstruction"].isfinite()


def hidden_of(mim: Any, progress: float = 0.0, seed: int = 0, size: int = 32) -> int:
    visible, hidden = mim.hide(pictures(2, size=size), torch.Generator().manual_seed(seed), progress)
    assert visible.shape[1] + hidden.shape[1] == (size // 4) ** 2  # all of the hidden are asked
    both = torch.cat([visible, hidden], 1).sort(1).values
    assert torch.equal(both, torch.arange((size // 4) ** 2).expand(2, -1))
    return int(hidden.shape[1])


@pytest.mark.parametrize(("progress", "hidden"), [(0.0, 32), (0.25, 36), (0.5, 40), (1.0, 48)])
def test_the_ratio_moves_linearly_to_its_end(progress: float, hidden: int, make_mim: MakeMIM) -> None:
    assert hidden_of(make_mim(ratio=0.5, ratio_end=0.75), progress) == hidden
    assert hidden_of(make_mim(ratio=0.75, ratio_end=0.5), progress) == 80 - hidden
    assert hidden_of(make_mim(ratio=0.5), progress) == 32


def test_the_ratio_of_a_step_is_drawn_from_around_its_middle(make_mim: MakeMIM) -> None:
    """iBOT: 0.3 +- 0.2, of 64 patches; the number kept is truncated."""
    mim = make_mim(ratio=0.3, ratio_spread=0.2)
    counts = torch.tensor([float(hidden_of(mim, seed=seed)) for seed in range(300)])
    assert counts.min() == 7 and counts.max() == 32  # more than 6.4 and up to 32
    assert abs(float(counts.mean()) - (0.3 * 64 + 0.5)) < 4 * 0.4 * 64 / 12**0.5 / 300**0.5
    assert hidden_of(mim, seed=7) == hidden_of(mim, seed=7)


@pytest.mark.parametrize("name", ["beit", "data2vec"])
def test_beits_colours_always_change(name: str, make_mim: MakeMIM) -> None:
    """BEiT, datasets.py: ColorJitter(0.4, 0.4, 0.4) of every image; data2vec's are the same."""
    assert make_mim(**PRESETS[name].preset).views == [View(crop=(0.08, 1.0), jitter=(0.4, 0.4, 0.4, 0), jitter_p=1)]


def test_ibots_views_are_dinos(make_mim: MakeMIM) -> None:
    """iBOT, DataAugmentationiBOT in main_ibot.py; README.md: --global_crops_scale 0.25 1."""
    first = View(crop=(0.25, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, grey=0.2, blur=1.0)
    assert make_mim(**PRESETS["ibot"].preset).views == [first, replace(first, blur=0.1, solarise=0.2)]


@pytest.mark.parametrize(("name", "hidden"), [("beit", 75), ("data2vec", 120), ("mim-random", 147)])
def test_presets_hide_as_many_of_196_as_their_code(name: str, hidden: int) -> None:
    """BEiT's and data2vec's --num_mask_patches (README.md of both); MAE's 75 %."""
    assert hidden_count(196, PRESETS[name].preset["ratio"]) == hidden


@pytest.mark.parametrize("arch", ["mae", "cross"])
@pytest.mark.parametrize("mask", ["window", "random", "inverse-block"])
def test_a_fixed_number_of_patches_stays_visible_whatever_the_size(mask: str, arch: str, make_mim: MakeMIM) -> None:
    mim = make_mim(visible=4, ratio=0.1, arch=arch, mask=mask)
    assert [hidden_of(mim, size=size) for size in (16, 32, 64)] == [12, 60, 252]


@pytest.mark.parametrize(("share", "asked"), [(1.0, 48), (0.5, 24), (0.05, 2), (0.001, 1)])
def test_a_share_of_the_hidden_patches_is_asked(share: float, asked: int, make_mim: MakeMIM) -> None:
    images = pictures(200, size=32)
    whole = make_mim(mask="block").hide(images, torch.Generator().manual_seed(0), 0.0)[1]
    visible, found = make_mim(mask="block", asked=share).hide(images, torch.Generator().manual_seed(0), 0.0)
    assert visible.shape == (200, 16) and found.shape == (200, asked)
    for all_, some in zip(whole.tolist(), found.tolist()):
        assert len(set(some)) == asked and set(some) <= set(all_)
    if asked < 48:  # each of the hidden as often
        rank = torch.tensor([all_.index(some[0]) for all_, some in zip(whole.tolist(), found.tolist())])
        assert abs(float(rank.float().mean()) - 23.5) < 4 * 13.9 / 200**0.5


def test_views_are_those_of_the_settings(make_mim: MakeMIM) -> None:
    views = make_mim(crop_min=0.3, flip=0, jitter=0.4, pair="dino").views
    assert views == 2 * [View(crop=(0.3, 1.0), flip=0, jitter=(0.4, 0.4, 0.4, 0.0))]
    assert make_mim().views == [View(crop=(0.2, 1.0))]


def test_hard_patches_are_those_the_moving_averages_expect(make_mim: MakeMIM) -> None:
    """At the end of training half of the hidden patches are the hardest of the image, by the teachers' own words."""
    mim, images = make_mim(mask="hard"), pictures()
    for value in [*mim.rank_teacher.parameters(), *mim.teacher.parameters()]:
        torch.nn.init.normal_(value, std=0.3)
    seen, places = Seen(*mim.teacher.sequence(images), torch.arange(16).expand(4, -1)), torch.arange(16).expand(4, -1)
    expected = mim.rank_teacher.decode(seen, places[:, :0], (4, 4))[..., 0]  # nothing is masked
    _, hidden = mim.hide(images, torch.Generator().manual_seed(0), 1.0)
    for scores, row in zip(expected, hidden.tolist()):
        assert set(scores.argsort(descending=True)[:6].tolist()) <= set(row)


@pytest.mark.parametrize(("attend", "sign"), [("high", 1), ("low", -1)])
def test_attended_patches_are_those_of_the_teacher(attend: str, sign: int, make_mim: MakeMIM) -> None:
    mim, images = make_mim(mask="attention", attend=attend), pictures()
    for value in mim.teacher.parameters():
        torch.nn.init.normal_(value, std=0.3)
    _, hidden = mim.hide(images, torch.Generator(), 0.0)
    for scores, row in zip(sign * mim.teacher.attention(images), hidden.tolist()):
        assert set(scores.argsort(descending=True)[:12].tolist()) == set(row)


PAINTED = {"pixels", "pixels-normed", "kmeans", "dvae"}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("target", sorted(TARGETS.keys() - {"features"}))
def test_pictures_show_the_image_the_mask_and_pixels_where_they_are_predicted(
    target: str, arch: str, make_mim: MakeMIM
) -> None:
    mim, images = make_mim(target=target, arch=arch), pictures(3)
    before = {key: value.clone() for key, value in mim.state_dict().items()}
    with torch.no_grad():
        panels = mim.picture(images)
    assert panels.shape == (3, 3 if target in PAINTED else 2, 3, 16, 16)
    assert panels.min() >= 0 and panels.max() <= 1
    assert all(torch.equal(value, before[key]) for key, value in mim.state_dict().items())
    image, masked = pixels(panels[:, 0], 4), pixels(panels[:, 1], 4)
    assert torch.equal(panels[:, 0], images.clamp(0, 1))
    grey = (masked == 0.5).all(2)
    assert grey.sum(1).tolist() == [12] * 3 and torch.equal(masked[~grey], image[~grey])
    if target in PAINTED:
        assert torch.equal(pixels(panels[:, 2], 4)[~grey], image[~grey])


def test_normalised_pixels_are_painted_with_their_true_mean_and_deviation(make_mim: MakeMIM) -> None:
    """A perfect prediction is the image."""
    mim, images = make_mim(), pictures(3)
    truth, _ = mim.target(images, None)
    torch.testing.assert_close(mim.target.paint(truth, images), pixels(images, 4), atol=1e-5, rtol=1e-5)


def test_what_must_be_learned_first_is_learned_in_prepare(make_mim: MakeMIM, tiny: Dataset) -> None:
    mim, asked = make_mim(target="kmeans", codes=8), list[str]()

    def cached(name: str, make_: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        asked.append(name)
        return make_()

    mim.prepare(tiny.fit.images, cached)
    assert len(asked) == 1 and len(mim.target(mim.encoder.normalise(tiny.fit.images[:50]), None)[0].unique()) == 8
    make_mim().prepare(tiny.fit.images, cached)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask": "blok"}, r"mim\.mask=blok: there is no such mask; did you mean .*block"),
        ({"target": "hogg"}, r"mim\.target=hogg: there is no such target; did you mean hog"),
        ({"arch": "simmin"}, r"mim\.arch=simmin: there is no such arch; did you mean simmim"),
        ({"reg": "koleoo"}, r"mim\.reg=koleoo: there is no such reg; did you mean koleo"),
        ({"pair": "dyno"}, r"mim\.pair=dyno: there is no such pair; did you mean dino"),
        ({"ratio": 0.99}, r"mim\.ratio=0\.99 hides all 16 patches"),
        ({"ratio": 1.0}, r"mim\.ratio=1\.0: Input should be less than 1"),
        ({"visible": 16}, r"mim\.visible=16 hides nothing of 16 patches: set a smaller number"),
        (
            {"visible": 4, "arch": "simmim"},
            r"mim\.arch=simmim encodes hidden places too, so mim\.visible saves nothing",
        ),
        ({"mask": "block", "patch": 8}, r"mim\.mask=block needs at least 3 x 3 patches, not 2 x 2"),
        ({"decoder_width": 50}, r"mim\.decoder_width=50: Input should be"),
        ({"attend": "hihg", "mask": "attention"}, r"mim\.attend=hihg: Input should be 'high'"),
        (
            {"mask": "attention", "backbone": "eva02_tiny_patch14_224", "patch": 4},
            r"mim\.mask=attention: .*attention can't be read",
        ),
        ({"patch": 1, "channels": 1}, r"mim\.target=pixels-normed needs more than one value a patch"),
        ({"backbone": "resnet18"}, r"needs patch tokens that can be dropped: take a ViT such as vit-nano"),
    ],
    ids=str,
)
def test_what_can_not_be_done_is_named_in_one_line_before_anything_is_trained(
    settings: dict[str, Any], message: str, make_mim: MakeMIM
) -> None:
    with pytest.raises(UserError, match=message) as error:
        make_mim(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio_end": 0.99}, r"mim\.ratio_end=0\.99 hides all 16 patches"),
        ({"ratio": 0.8, "ratio_spread": 0.3}, r"mim\.ratio=0\.8 with mim\.ratio_spread=0\.3 hides all 16 patches"),
        ({"ratio": 0.1, "ratio_spread": 0.3}, r"mim\.ratio_spread=0\.3 is not below mim\.ratio=0\.1"),
        (
            {"ratio": 0.5, "ratio_end": 0.2, "ratio_spread": 0.2},
            r"not below mim\.ratio_end=0\.2",
        ),
    ],
    ids=str,
)
def test_a_ratio_that_can_not_be_kept_later_is_refused_before_training(
    settings: dict[str, Any], message: str, make_mim: MakeMIM
) -> None:
    with pytest.raises(UserError, match=message) as error:
        make_mim(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("preset", "chance"),
    [
        ("beit", {"reconstruction": log(256)}),
        ("capi", {"reconstruction": log(128)}),
        ("ibot", {"reconstruction": log(256), "dino": 2 * log(256)}),
        ("cmae", {"infonce": 0.14 * log(4)}),
        ("mim-random", {}),
    ],
)
def test_chance_is_the_loss_where_all_patches_are_told_alike(
    preset: str, chance: dict[str, float], make_mim: MakeMIM, mim_batch: MakeBatch
) -> None:
    mim = make_mim(**PRESETS[preset].preset)
    assert mim.chance(4) == pytest.approx(chance)
    alike = {
        "beit": lambda: [mim.predict.head.weight, mim.predict.head.bias],
        "capi": lambda: [mim.target.head.parametrizations.weight.original0],
        "ibot": lambda: [mim.heads.student.last_layer.weight_g],
        "cmae": lambda: [mim.pair.teacher_project[3].weight],
        "mim-random": list,
    }[preset]()
    for weight in alike:
        weight.data.zero_()
    terms = mim.loss(mim_batch(pictures(), pictures().flip(0)))
    for name, value in chance.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-5)
