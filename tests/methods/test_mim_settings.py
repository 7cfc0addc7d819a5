"""What a part does not use can not change a result, so it does not name it; what it uses does."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssbench.errors import UserError
from ssbench.methods.mim.content import MASKS
from ssbench.methods.mim.model import MIM
from ssbench.methods.mim.presets import PRESETS
from ssbench.methods.mim.settings import MIMSettings, named
from ssbench.methods.mim.targets import TARGETS
from ssbench.settings import make

MakeMIM = Callable[..., Any]
MakeBatch = Callable[..., Any]

OTHER: dict[str, Any] = {  # another value than the default of each setting that some part names
    "unit": 3,
    "tau": -2.0,
    "complexity": "entropy",
    "regions": 3,
    "hides": "borders",
    "attend": "low",
    "hard_share": 1.0,
    "decoder_depth": 2,
    "decoder_width": 32,
    "top_layers": 1,
    "codes": 7,
    "codes_of": "hog",
    "prototypes": 9,
    "clusters": 5,
    "network": "resnet18",
    "checkpoint": "pretrained",
    "network_size": 32,
    "momentum": 0.3,
    "momentum_end": 0.4,
    "reg_weight": 0.7,
    "pair_weight": 0.7,
    "p": 1.5,
    "beta": 0.5,
}
ALWAYS = ("mask", "ratio", "ratio_end", "ratio_spread", "visible", "asked", "target", "arch", "reg", "pair", "judge")
VIEWS = ("crop_min", "flip", "jitter")
COLOURS = ("hue", "saturation", "grey", "blur", "solarise", "jitter_p")  # stored only where they are on


def dumped(**settings: Any) -> dict[str, Any]:
    return make(MIM.Settings, settings, "mim").model_dump()


def images() -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def test_every_setting_that_a_part_names_has_another_value_here() -> None:
    assert OTHER.keys() == MIMSettings.model_fields.keys() - {*ALWAYS, *VIEWS, *COLOURS}
    assert all(MIMSettings.model_fields[key].default != value for key, value in OTHER.items())


@pytest.mark.parametrize(
    ("settings", "used"),
    [
        ({}, {"decoder_depth", "decoder_width", "p", "beta"}),
        ({"arch": "simmim"}, {"p", "beta"}),
        ({"arch": "simmim", "target": "kmeans"}, {"codes", "codes_of"}),
        ({"arch": "simmim", "target": "dvae"}, {"codes"}),
        ({"arch": "simmim", "target": "ibot"}, {"prototypes", "momentum", "momentum_end"}),
        ({"arch": "simmim", "target": "capi"}, {"clusters", "momentum", "momentum_end"}),
        ({"arch": "simmim", "target": "ema"}, {"p", "beta", "top_layers", "momentum", "momentum_end"}),
        ({"arch": "simmim", "target": "features"}, {"p", "beta", "network", "checkpoint", "network_size"}),
        ({"arch": "simmim", "mask": "unit"}, {"p", "beta", "unit"}),
        ({"arch": "simmim", "mask": "adaptive"}, {"p", "beta", "tau", "complexity"}),
        ({"arch": "simmim", "mask": "object"}, {"p", "beta", "regions", "hides"}),
        ({"arch": "simmim", "mask": "attention"}, {"p", "beta", "attend", "momentum", "momentum_end"}),
        (
            {"arch": "simmim", "mask": "hard"},  # expects losses by a decoder of its own
            {"p", "beta", "hard_share", "momentum", "momentum_end", "decoder_depth", "decoder_width"},
        ),
        ({"arch": "simmim", "reg": "koleo"}, {"p", "beta", "reg_weight"}),
        (
            {"arch": "simmim", "pair": "dino"},
            {"p", "beta", "pair_weight", "prototypes", "momentum", "momentum_end"},
        ),
        ({"arch": "simmim", "pair": "infonce"}, {"p", "beta", "pair_weight", "momentum", "momentum_end"}),
        ({"arch": "simmim", "judge": "teacher"}, {"p", "beta", "momentum", "momentum_end"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_settings_that_the_chosen_parts_do_not_use_are_dropped(settings: dict[str, Any], used: set[str]) -> None:
    found = dumped(**settings)
    assert found.keys() == used | {*ALWAYS, *VIEWS}
    changed = dumped(**settings | {key: value for key, value in OTHER.items() if key not in used})
    assert changed == found  # two specs that differ only there are one
    for key in used:
        assert dumped(**settings | {key: OTHER[key]}) != found


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_nothing_that_is_dropped_and_comes_back(name: str) -> None:
    settings = make(MIM.Settings, PRESETS[name].preset, "mim")
    found = settings.model_dump()
    assert PRESETS[name].preset.items() <= found.items()
    again = make(MIM.Settings, found, "mim")
    assert again == settings and again.model_dump() == found
    strings = {key: str(value) for key, value in found.items()}
    assert make(MIM.Settings, strings, "mim").model_dump() == found  # as a command line gives them


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "beit"])
def test_what_is_dropped_does_not_change_the_loss(name: str, make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    preset = PRESETS[name].preset
    dropped = {key: value for key, value in OTHER.items() if key not in dumped(**preset)}
    assert dropped
    pair = images(), images().flip(0)
    first, second = (
        make_mim(**settings).loss(mim_batch(*pair, progress=0.5)) for settings in (preset, preset | dropped)
    )
    assert first == second


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"mask": "adaptive"}, "tau"),
        ({"mask": "adaptive"}, "complexity"),
        ({"mask": "unit"}, "unit"),
        ({"mask": "object"}, "regions"),
        ({"mask": "object"}, "hides"),
        ({"mask": "attention"}, "attend"),
        ({"mask": "hard"}, "hard_share"),
        ({"target": "ema"}, "top_layers"),
        ({"target": "random-codebook"}, "codes"),
        ({"target": "ibot"}, "prototypes"),
        ({"target": "capi"}, "clusters"),
        ({"arch": "cross"}, "decoder_depth"),
        ({"arch": "mae"}, "decoder_width"),
        ({"target": "pixels"}, "p"),
        ({"target": "pixels"}, "beta"),
        ({"reg": "koleo"}, "reg_weight"),
        ({"pair": "infonce"}, "pair_weight"),
    ],
)
def test_what_is_kept_changes_the_loss(
    settings: dict[str, Any], key: str, make_mim: MakeMIM, mim_batch: MakeBatch
) -> None:
    pair = images(), images().flip(0)
    losses = [
        sum(make_mim(**settings | other).loss(mim_batch(*pair, progress=1.0)).values()).item()
        for other in ({}, {key: OTHER[key]})
    ]
    assert losses[0] != losses[1]


def test_a_part_names_what_it_needs_by_keyword() -> None:
    assert named(MASKS["random"]) == named(None) == set()
    assert named(MASKS["hard"]) == {"difficulty", "hard_share", "progress"}
    assert named(TARGETS["pixels"]) == {"p", "beta"}


def test_colours_that_are_off_are_no_part_of_an_identity() -> None:
    assert not {*COLOURS} & dumped().keys()
    assert dumped(hue=0.1, grey=0.2) == dumped() | {"hue": 0.1, "grey": 0.2, "jitter_p": 0.8}


def test_a_checkpoint_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"one")
    first = dumped(target="features", checkpoint=str(file))
    assert first["checkpoint"] == f"{file}@{sha256(b'one').hexdigest()[:16]}"
    assert dumped(**first) == first and "checkpoint" not in dumped(checkpoint=str(file))
    file.write_bytes(b"two")
    second = dumped(target="features", checkpoint=str(file))
    assert [key for key in first if first[key] != second[key]] == ["checkpoint"]
    with pytest.raises(UserError, match=r"^mim\.checkpoint=.*weights\.pth@\w+: the file's digest is .*other weights$"):
        make(MIM.Settings, first, "mim")


@pytest.mark.parametrize("name", ["", "pretrained", "nowhere.pth", "nowhere@0123456789abcdef"])
def test_what_is_no_file_has_no_digest(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pretrained").write_bytes(b"a file of that name")
    assert dumped(target="features", checkpoint=name)["checkpoint"] == name


@pytest.mark.parametrize("name", ["me@home.pth", "w@0123456789abcdef"])
def test_a_file_may_have_an_at_in_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"one")
    once = dumped(target="features", checkpoint=name)["checkpoint"]
    assert once == f"{name}@{sha256(b'one').hexdigest()[:16]}"
    assert dumped(target="features", checkpoint=once)["checkpoint"] == once


def test_a_file_that_can_not_be_read_is_named() -> None:
    with pytest.raises(UserError, match=r"^mim\.checkpoint=x+: it can't be read \(File name too long\)$"):
        dumped(target="features", checkpoint="x" * 300)
