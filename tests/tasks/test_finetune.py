"""Fine-tuning moves deeper layers faster, learns, repeats, and leaves shared encoder and generators alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor

from ssbench.encoders.build import build
from ssbench.encoders.encoder import Encoder
from ssbench.errors import UserError
from ssbench.plan import cells, request
from ssbench.results.metrics import score
from ssbench.task import Bench
from ssbench.tasks.augment import erasing, rand_augment
from ssbench.tasks.finetune import Finetune, averaged, train
from ssbench.tasks.training import Network, batches, search, seeded, stage_layers
from ssbench.training.loop import IN_MEMORY

MakeBench = Callable[..., Bench]
QUICK = Finetune.Settings(epochs=3, batch=16, lrs=(4e-3,))


def bright_and_dark(count: int, channels: int = 3) -> tuple[Tensor, dict[str, Tensor]]:
    """Noise (N, C, 16, 16) about one of two levels, and which."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    levels = torch.tensor([60, 180])[labels][:, None, None, None]
    noise = torch.randint(-50, 50, (count, channels, 16, 16), generator=generator)
    return (levels + noise).to(torch.uint8), {"label": labels}


def rates(network: Network, layer_decay: float) -> dict[str, tuple[float, float]]:
    """Peak rate over the head's, and weight decay, of each parameter by its name."""
    names = {id(value): name for name, value in network.named_parameters()}
    groups = network.groups(2e-3, layer_decay, 0.05)
    return {names[id(p)]: (group["peak"] / 2e-3, group["weight_decay"]) for group in groups for p in group["params"]}


def test_rates_fall_from_the_head_to_the_stem_of_a_vit(untrained: Encoder) -> None:
    found = rates(Network(untrained, 2), 0.5)
    ids = {"encoder.trunk.cls_token": 0, "encoder.trunk.patch_embed": 0, "head": 4}
    ids |= {f"encoder.trunk.blocks.{i}": i + 1 for i in range(3)} | {"encoder.trunk.norm": 3}
    trainable = {name: value for name, value in Network(untrained, 2).named_parameters() if value.requires_grad}
    assert found.keys() == trainable.keys()
    for name, (scale, decay) in found.items():
        layer = next(layer for prefix, layer in ids.items() if name.startswith(prefix))
        assert scale == pytest.approx(0.5 ** (4 - layer)), name
        decays = trainable[name].ndim > 1 and not name.endswith("cls_token")
        assert decay == (0.05 if decays else 0), name


def test_rates_fall_from_the_head_to_the_stem_of_a_resnet() -> None:
    network = Network(build("resnet18", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3)), 2)
    found = rates(network, 0.5)
    assert found.keys() == {name for name, _ in network.named_parameters()}
    assert found["head.weight"] == (1, 0.05) and found["head.bias"] == (1, 0)
    stages = [
        [found[f"encoder.trunk.layer{stage}.{block}.conv1.weight"][0] for block in (0, 1)] for stage in (1, 2, 3, 4)
    ]
    assert found["encoder.trunk.conv1.weight"][0] == 0.5**5
    assert stages == [[0.5**4] * 2, [0.5**3] * 2, [0.5**2] * 2, [0.5] * 2]


@pytest.mark.parametrize(
    ("name", "stem", "layers"),
    [  # the exponents of SparK's resnets_get_layer_id_and_scale_exp and of ConvNeXt's get_num_layer_for_convnext
        ("resnet50", "conv1.weight", {"layer1.2": 6, "layer2.2": 5, "layer2.3": 4, "layer3.2": 3, "layer3.5": 2}),
        ("resnet101", "conv1.weight", {"layer1.0": 12, "layer3.0": 9, "layer3.22": 2, "layer4.0": 1}),
        ("convnext_small", "stem.0.weight", {"stages.0": 12, "stages.1": 11, "stages.2.blocks.26": 2, "stages.3": 1}),
    ],
)
def test_three_blocks_of_a_stage_are_a_layer_as_in_published_fine_tuning(
    name: str, stem: str, layers: dict[str, int]
) -> None:
    with torch.device("meta"):
        found = stage_layers(timm.create_model(name, num_classes=0))
    top = max(found.values()) + 1  # the head's own layer
    assert top - found[stem] == 13 - 6 * (name == "resnet50")
    for prefix, below in layers.items():
        assert {top - number for key, number in found.items() if key.startswith(f"{prefix}.")} == {below}, prefix


def test_the_optimiser_really_moves_layers_at_their_rates(make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = bright_and_dark(8)
    table = make_bench(images, targets, (4, 2, 2), untrained)
    settings = Finetune.Settings(epochs=1, batch=4, warmup=0, layer_decay=0.5, weight_decay=0)
    before = dict(Network(untrained, 2).encoder.named_parameters())
    after = train(table, 1e-4, settings).encoder.named_parameters()  # AdamW's first step is the rate times a sign
    moved = {name: (value - before[name]).abs().max().item() for name, value in after}
    assert moved["trunk.norm.weight"] == pytest.approx(5e-5, rel=0.05)
    assert moved["trunk.blocks.2.mlp.fc2.bias"] == pytest.approx(5e-5, rel=0.05)
    assert moved["trunk.blocks.1.mlp.fc2.bias"] == pytest.approx(2.5e-5, rel=0.05)
    assert moved["trunk.patch_embed.proj.bias"] == pytest.approx(6.25e-6, rel=0.05)


@pytest.mark.parametrize("backbone", ["vit-nano", "resnet18"])
def test_it_learns_bright_from_dark(make_bench: MakeBench, backbone: str) -> None:
    torch.manual_seed(0)
    encoder = build(backbone, size=16, channels=1, mean=torch.full((1,), 0.5), std=torch.full((1,), 0.25))
    images, targets = bright_and_dark(128, channels=1)
    said: list[str] = []
    table = make_bench(images, targets, (64, 32, 32), encoder, said.append)
    found = Finetune(QUICK).evaluate(table)
    assert score("accuracy", found.arrays["top1"]) > 90
    np.testing.assert_array_equal(found.arrays["top1"]["truth"], targets["label"][96:])
    assert len(said) == QUICK.epochs and "epoch 3/3" in said[-1]


def test_the_shared_encoder_and_the_global_generators_stay_as_they_were(
    make_bench: MakeBench, untrained: Encoder
) -> None:
    images, targets = bright_and_dark(48)
    before = {name: value.clone() for name, value in untrained.state_dict().items()}
    torch.manual_seed(7)
    np.random.seed(7)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(7)
    np.random.seed(7)
    Finetune(Finetune.Settings(epochs=1, batch=16, regularise_from=1)).evaluate(
        make_bench(images, targets, (32, 8, 8), untrained)
    )
    assert (torch.rand(1), np.random.rand()) == expected
    for name, value in untrained.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_the_same_seed_gives_the_same_network_with_all_noise_on(make_bench: MakeBench) -> None:
    images, targets = bright_and_dark(64)
    settings = Finetune.Settings(epochs=2, batch=16, drop_path=0.5, regularise_from=1)
    runs: list[Any] = []
    for seed in (1, 2):  # of the process, which must not matter
        torch.manual_seed(3)
        encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
        np.random.seed(seed)
        torch.manual_seed(seed)
        runs.append(train(make_bench(images, targets, (48, 8, 8), encoder), 1e-3, settings).state_dict())
    for name, value in runs[0].items():
        torch.testing.assert_close(value, runs[1][name], rtol=0, atol=0)


def test_an_epoch_is_a_shuffle_in_even_batches_without_an_odd_rest() -> None:
    found = batches(13, 4, seed=0)
    assert found.shape == (3, 4) and len(set(found.flatten().tolist())) == 12
    assert not torch.equal(found, batches(13, 4, seed=1))
    assert batches(7, 128, seed=0).shape == (1, 6)


def test_an_odd_split_is_trained_on_with_mixing(make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = bright_and_dark(43)
    settings = Finetune.Settings(epochs=1, batch=16, lrs=(1e-3,), regularise_from=1)
    found = Finetune(settings).evaluate(make_bench(images, targets, (33, 5, 5), untrained))
    assert len(found.arrays["top1"]["predicted"]) == 5


def test_short_trainings_are_not_regularised_and_long_ones_are(make_bench: MakeBench) -> None:
    images, targets = bright_and_dark(48)
    off = {"mixup": 0.0, "cutmix": 0.0, "smoothing": 0.0, "drop_path": 0.0}

    def trained(**settings: Any) -> Tensor:
        torch.manual_seed(3)
        encoder = build("vit-nano", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))
        made = Finetune.Settings(epochs=2, batch=16, **settings)
        return train(make_bench(images, targets, (32, 8, 8), encoder), 1e-3, made).head.weight

    torch.testing.assert_close(trained(), trained(regularise_from=2, **off), rtol=0, atol=0)
    for name, value in {"mixup": 0.8, "cutmix": 1.0, "smoothing": 0.1}.items():
        assert not torch.equal(trained(), trained(regularise_from=2, **{**off, name: value})), name


def test_drop_path_is_asked_of_the_encoder_in_long_trainings_alone(make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = bright_and_dark(24)
    table, asked = make_bench(images, targets, (16, 4, 4), untrained), list[float]()
    fresh = table.encoder
    table.encoder = lambda drop_path=0.0: asked.append(drop_path) or fresh()  # type: ignore[method-assign, func-returns-value]
    for regularise_from in (1, 2):
        train(table, 1e-3, Finetune.Settings(epochs=1, batch=16, regularise_from=regularise_from))
    assert asked == [0.1, 0.0]


def test_what_a_short_training_leaves_out_can_not_be_set() -> None:
    assert not {"mixup", "cutmix", "smoothing", "drop_path"} & Finetune.Settings().model_dump().keys()
    assert Finetune.Settings(epochs=50).model_dump()["mixup"] == 0.8
    asked = {"method": ["random-init"], "task": ["finetune"], "seeds": ["0"], "set": ["finetune.mixup=0.4"]}
    with pytest.raises(UserError, match="nothing in this run uses it"):
        cells(request(asked, "test"))
    assert cells(request({**asked, "set": ["finetune.mixup=0.4", "finetune.epochs=50"]}, "test"))


def test_the_default_recipe_keeps_the_identity_of_its_records() -> None:
    assert "recipe" not in Finetune.Settings().model_dump()
    assert Finetune.Settings(recipe="short").model_dump() == Finetune.Settings().model_dump()


def test_the_published_recipe_has_defaults_of_its_own_that_can_be_set() -> None:
    found = Finetune.Settings(recipe="published").model_dump()
    assert (found["epochs"], found["crop_min"], found["mixup"], found["recipe"]) == (50, 0.08, 0.8, "published")
    assert "regularise_from" not in found  # it has no effect
    short = Finetune.Settings(recipe="published", epochs=2)
    assert short.epochs == 2 and short.regularised
    assert Finetune.Settings(**short.model_dump()) == short


def test_the_published_recipe_has_each_of_its_pieces_on(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    images, targets = bright_and_dark(48)
    off = {"mixup": 0.0, "cutmix": 0.0, "smoothing": 0.0, "drop_path": 0.0}

    def trained() -> Tensor:
        torch.manual_seed(3)
        encoder = build("vit-nano", size=16, channels=3, mean=torch.full((3,), 0.5), std=torch.full((3,), 0.25))
        made = Finetune.Settings(epochs=2, batch=16, recipe="published", **off)
        return train(make_bench(images, targets, (32, 8, 8), encoder), 1e-3, made).head.weight.detach()

    whole, same = trained(), lambda *said: lambda pixels: pixels
    torch.testing.assert_close(whole, trained(), rtol=0, atol=0)
    for piece in ("rand_augment", "erasing"):
        with monkeypatch.context() as changed:
            changed.setattr(f"ssbench.tasks.finetune.{piece}", same)
            assert not torch.equal(whole, trained()), piece
    with monkeypatch.context() as changed:  # the average of nothing before is the last network
        changed.setattr(ModelEmaV3, "get_decay", lambda self, step: 0.0)
        assert not torch.equal(whole, trained())


def test_the_average_of_weights_is_the_one_that_its_decays_give() -> None:
    weight, expected = torch.nn.Linear(1, 1, bias=False), 0.0
    average = averaged(weight)
    for step in range(1, 6):
        weight.weight.data.fill_(float(step))
        average.update(weight, step)
        decay = 1 - step**-0.75 if step > 1 else 0.0
        expected = decay * expected + (1 - decay) * step
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_rand_augment_gives_images_of_the_same_shape_that_repeat(channels: int) -> None:
    images = torch.rand(64, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    augment = rand_augment(16, torch.full((1, channels, 1, 1), 0.5))
    runs = []
    for _ in range(2):
        with seeded(0, torch.device("cpu")):
            runs.append(torch.cat([augment(images) for _ in range(8)]))
    assert runs[0].shape == (512, channels, 16, 16) and runs[0].min() >= 0 and runs[0].max() <= 1
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=0)
    changed = (runs[0] - images.repeat(8, 1, 1, 1)).abs().amax((1, 2, 3)) > 1 / 255
    assert 0.6 < changed.float().mean() < 1  # each of two operations is left out half of the time


def test_erasing_hits_a_quarter_of_the_images() -> None:
    with seeded(0, torch.device("cpu")):
        erased = erasing(torch.device("cpu"))(torch.full((800, 3, 16, 16), 9.0))
    hit = (erased != 9).any(3).any(2).any(1)
    assert hit.float().mean() == pytest.approx(0.25, abs=0.05)
    assert erased[hit][erased[hit] != 9].std() == pytest.approx(1, abs=0.05)


class Fixed:
    """A network that tells the first `right` samples of select rightly."""

    def __init__(self, right: int) -> None:
        self.right = right

    def scores(self, part: Any) -> Tensor:
        label = part.target("label")
        return torch.eye(2)[torch.where(torch.arange(len(label)) < self.right, label, 1 - label)]


@pytest.mark.parametrize(
    ("right", "tried", "edge"),
    [
        ({1.0: 20, 2.0: 40, 4.0: 20}, [1, 2, 4], False),
        ({1.0: 0, 2.0: 10, 4.0: 25, 8.0: 39, 16.0: 20}, [1, 2, 4, 8, 16], False),
        ({1.0: 0, 2.0: 10, 4.0: 20, 8.0: 30, 16.0: 40}, [1, 2, 4, 8, 16], True),
        ({1.0: 30, 2.0: 10, 4.0: 5, 0.5: 10}, [1, 2, 4, 0.5], False),
    ],
)
def test_a_grid_whose_choice_is_at_its_edge_grows_there(
    make_bench: MakeBench, right: dict[float, int], tried: list[float], edge: bool
) -> None:
    images, targets = bright_and_dark(48)
    table = make_bench(images, targets, (4, 40, 4))
    found = search(table, (1.0, 2.0, 4.0), lambda lr: Fixed(right[lr]), Finetune.metrics[0], "")
    assert [point["lr"] for point in found.sweep] == tried and found.at_edge is edge
    assert found.network.right == max(right.values())


class Streamed:
    """Images that can be indexed, as a file of them can, and not moved as a whole."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.nbytes, self.device = images, IN_MEMORY + 1, images.device

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.images[index]


def test_more_images_than_fit_into_memory_are_streamed(make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = bright_and_dark(48)
    tables = [make_bench(images, targets, (32, 8, 8), untrained) for _ in range(2)]
    fit = tables[1].fit
    fit._split = replace(fit._split, larger=Streamed(fit.crops))  # type: ignore[arg-type]
    whole, streamed = (train(table, 1e-3, QUICK).state_dict() for table in tables)
    for name, value in whole.items():
        torch.testing.assert_close(value, streamed[name], rtol=0, atol=0)


def test_select_picks_the_rate_and_a_diverged_network_counts_as_zero(make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = bright_and_dark(96)
    settings = QUICK.model_copy(update={"lrs": (1e-9, 4e-3, 1e30)})
    found = Finetune(settings).evaluate(make_bench(images, targets, (48, 24, 24), untrained))
    assert [row["lr"] for row in found.sweep] == list(settings.lrs)
    assert found.sweep[2]["diverged"] and found.sweep[2]["select_top1"] == 0
    assert found.selected == {**found.sweep[1], "regularised": False, "at_edge": False, "refit": "none"}
    assert found.selected["select_top1"] > 90 and score("accuracy", found.arrays["top1"]) > 90
    with pytest.raises(RuntimeError, match=r"lower finetune\.lrs"):
        Finetune(QUICK.model_copy(update={"lrs": (1e30,)})).evaluate(
            make_bench(images, targets, (48, 24, 24), untrained)
        )


def test_generators_are_seeded_inside_and_restored_after_an_error() -> None:
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    with pytest.raises(ValueError, match="stop"), seeded(2**40 + 1, torch.device("cpu")):
        first = torch.rand(1), np.random.rand()
        raise ValueError("stop")
    assert np.random.rand() == expected
    with seeded(2**40 + 1, torch.device("cpu")):
        assert (torch.rand(1), np.random.rand()) == first
