"""Ways of adapting: what learns and how much of it, an unchanged first forward pass, and a choice made on select."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from ssbench.encoders.build import build
from ssbench.encoders.copies import trainable
from ssbench.encoders.encoder import Encoder
from ssbench.errors import NotApplicable, UserError
from ssbench.plan import cells, request
from ssbench.results.metrics import score
from ssbench.task import Bench
from ssbench.tasks.adapters import MATCHED, WAYS, fitting, reached, step
from ssbench.tasks.peft import Peft, measured, train

MakeBench = Callable[..., Bench]
QUICK = Peft.Settings(epochs=1, batch=16, lrs=(4e-3,))
DEPTH, DIM = 3, 96  # of vit-nano


def bright_and_dark(count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Noise (N, 3, 16, 16) about one of two levels, and which."""
    labels = torch.arange(count) % 2
    levels = torch.tensor([60, 180])[labels][:, None, None, None]
    noise = torch.randint(-50, 50, (count, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    return (levels + noise).to(torch.uint8), {"label": labels}


def changed(way: str, encoder: Encoder, budget: int = 4000) -> Encoder:
    """A copy of an encoder, adapted in one way."""
    copy = trainable(encoder)
    WAYS[way](copy, budget)
    return copy.eval()


def trained(encoder: Encoder) -> int:
    return sum(weight.numel() for weight in encoder.parameters() if weight.requires_grad)


def learning(encoder: Encoder) -> set[str]:
    return {name for name, weight in encoder.trunk.named_parameters() if weight.requires_grad}


def resnet() -> Encoder:
    return build("resnet18", size=16, channels=3, mean=torch.zeros(3), std=torch.ones(3))


@pytest.mark.parametrize("way", [way for way in WAYS if way != "prompt"])
def test_the_first_forward_pass_is_the_frozen_encoders(way: str, untrained: Encoder) -> None:
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(changed(way, untrained).pooled(images), untrained.eval().pooled(images), rtol=0, atol=0)


def test_without_tokens_prompts_leave_the_frozen_encoder_and_with_them_its_number_of_tokens(untrained: Encoder) -> None:
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    prompted = changed("prompt", untrained)
    assert prompted.tokens(images).shape == untrained.tokens(images).shape
    assert not torch.equal(prompted.pooled(images), untrained.eval().pooled(images))
    for block in prompted.trunk.blocks:
        block.tokens = nn.Parameter(block.tokens[:0])
    torch.testing.assert_close(prompted.pooled(images), untrained.eval().pooled(images), rtol=0, atol=0)


def test_a_prompt_is_attended_to_as_a_token_in_front_is(untrained: Encoder) -> None:
    prompted, x = changed("prompt", untrained).trunk.blocks[0], torch.randn(2, 5, DIM)
    front = torch.cat([prompted.tokens.expand(2, -1, -1), x], 1)
    expected = untrained.eval().trunk.blocks[0](front)[:, len(prompted.tokens) :]
    torch.testing.assert_close(prompted(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("head", 0),
        (
            "bitfit",
            DEPTH * (3 * DIM + DIM + 4 * DIM + DIM + 2 * DIM) + 2 * DIM,
        ),  # qkv, proj, fc1, fc2, norms; stem, norm
        ("lora", 3 * DEPTH * (DIM + 3 * DIM)),  # rank 3
        ("adapter", DEPTH * (2 * DIM * 6 + 6 + DIM)),  # width 6
        ("prompt", 14 * DEPTH * DIM),
        ("last", 12 * DIM**2 + 13 * DIM + 2 * DIM),  # a block and the norm
    ],
)
def test_what_learns_is_as_many_as_counted_by_hand(way: str, expected: int, untrained: Encoder) -> None:
    assert trained(changed(way, untrained)) == expected


def test_all_weights_learn_but_fixed_positions(untrained: Encoder) -> None:
    assert learning(changed("full", untrained)) == learning(trainable(untrained))


def test_ways_with_a_size_get_about_as_many_parameters() -> None:
    encoder = build("vit-nano", size=32, channels=3, mean=torch.zeros(3), std=torch.ones(3))
    for budget in (5000, 20000, 80000):
        for way in MATCHED:
            assert trained(changed(way, encoder, budget)) == pytest.approx(budget, rel=0.12), (way, budget)
    assert [fitting(100, 40), fitting(111, 40), fitting(1, 40)] == [2, 3, 1]


@pytest.mark.parametrize("way", list(WAYS))
def test_a_training_moves_what_learns_and_nothing_else(way: str, make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = bright_and_dark(48)
    table = make_bench(images, targets, (32, 8, 8), untrained)
    shared = {name: value.clone() for name, value in untrained.state_dict().items()}
    after = train(table, way, 4e-3, QUICK)
    before = {name.replace(".base_layer", "").replace(".mlp.mlp.", ".mlp."): weight for name, weight in shared.items()}
    for name, weight in after.encoder.named_parameters():
        plain = name.replace(".base_layer", "").replace(".mlp.mlp.", ".mlp.").replace(".block.", ".")
        if weight.requires_grad and plain in before:
            assert not torch.equal(weight, before[plain]), name
        elif not weight.requires_grad:
            torch.testing.assert_close(weight, before[plain], rtol=0, atol=0)
    assert after.head.weight.abs().max() > 1e-3
    for name, value in untrained.state_dict().items():
        torch.testing.assert_close(value, shared[name], rtol=0, atol=0)


@pytest.mark.parametrize("way", ["lora", "adapter", "prompt"])
def test_what_is_put_in_moves(way: str, make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = bright_and_dark(64)
    after = train(make_bench(images, targets, (48, 8, 8), untrained), way, 4e-3, QUICK)
    put = [weight for name, weight in after.encoder.named_parameters() if weight.requires_grad and "up" in name]
    put += [w for name, w in after.encoder.named_parameters() if "lora_B" in name]
    assert all(weight.abs().max() > 0 for weight in put) and bool(put) == (way != "prompt")


def test_a_trained_lora_merges_into_the_same_network(make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = bright_and_dark(48)
    network = train(make_bench(images, targets, (32, 8, 8), untrained), "lora", 4e-3, QUICK).eval()
    seen = network.encoder.normalise(images[:4])
    with torch.no_grad():
        apart = network(seen)
        for module in network.modules():
            if isinstance(module, LoraLinear):
                module.merge()
        torch.testing.assert_close(network(seen), apart, rtol=1e-4, atol=1e-5)


def test_a_conv_net_has_heads_biases_and_its_last_blocks() -> None:
    encoder = resnet()
    for way in MATCHED:
        with pytest.raises(NotApplicable):
            changed(way, encoder)
    assert learning(changed("last", encoder)) == {name for name in learning(encoder) if name.startswith("layer4.")}
    assert learning(changed("bitfit", encoder)) == {name for name in learning(encoder) if name.endswith("bias")}


def test_batch_norms_of_what_is_frozen_stay_as_they_are(make_bench: MakeBench) -> None:
    images, targets = bright_and_dark(48)
    encoder = resnet()
    table = make_bench(images, targets, (32, 8, 8), encoder)
    for way in ("head", "bitfit", "last", "full"):
        network = train(table, way, 1e-3, QUICK)
        same = torch.equal(network.encoder.trunk.bn1.running_mean, encoder.trunk.bn1.running_mean)
        assert same == (way != "full"), way


def test_ways_that_a_network_has_no_place_for_are_left_out_and_said(make_bench: MakeBench) -> None:
    images, targets = bright_and_dark(64)
    found = Peft(QUICK).evaluate(make_bench(images, targets, (32, 16, 16), resnet()))
    assert set(found.details["left_out"]) == set(MATCHED)
    assert set(found.details["profile"]["way"]) == {"head", "bitfit", "last", "full"}
    alone = Peft(Peft.Settings(ways=("lora",)))
    with pytest.raises(NotApplicable, match="this backbone has no attention"):
        alone.evaluate(make_bench(images, targets, (32, 16, 16), resnet()))


def test_select_picks_rates_and_way_and_the_profile_has_every_way(make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = bright_and_dark(128)
    settings = Peft.Settings(ways=("head", "adapter", "lora"), epochs=2, batch=16, lrs=(1e-9, 4e-3, 1e-8))
    found = Peft(settings).evaluate(make_bench(images, targets, (64, 32, 32), untrained))
    assert len([point for point in found.sweep if point["way"] == "lora"]) >= 3
    for way, lr in found.selected["lrs"].items():
        tried = [point for point in found.sweep if point["way"] == way]
        assert max(tried, key=lambda point: point["select_top1"])["lr"] == lr
    best = max(point["select_top1"] for point in found.sweep)
    assert found.selected["select_top1"] == best
    profile = found.details["profile"]["way"]
    assert profile.keys() == {"head", "adapter", "lora"}
    assert found.details["optimism"] == max(profile.values()) - profile[found.selected["way"]]
    assert profile[found.selected["way"]] == pytest.approx(score("accuracy", found.arrays["top1"]))
    ways: dict[str, Any] = found.details["ways"]
    assert ways["head"]["parameters"] == 0 and ways["head"]["parameters_with_head"] == 2 * DIM + 2
    assert all(one["seconds"] > 0 for one in ways.values())


def test_it_tells_bright_from_dark_and_not_shuffled_labels(make_bench: MakeBench, untrained: Encoder) -> None:
    images, targets = bright_and_dark(256)
    settings = Peft.Settings(ways=("adapter",), epochs=3, batch=16, lrs=(4e-3,))
    found = Peft(settings).evaluate(make_bench(images, targets, (128, 64, 64), untrained))
    assert score("accuracy", found.arrays["top1"]) > 95
    shuffled = {"label": targets["label"][torch.randperm(256, generator=torch.Generator().manual_seed(0))]}
    found = Peft(settings).evaluate(make_bench(images, shuffled, (128, 64, 64), untrained))
    assert 50 - 3 * 6.25 < score("accuracy", found.arrays["top1"]) < 50 + 3 * 6.25  # three standard errors of 64


def test_memory_of_a_step_counts_what_backward_needs() -> None:
    network, images = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)), torch.randn(10, 8)
    assert step(network, images) == 4 * (10 * 8 + 10 * 16)  # the input and tanh's output, which fc2 reads too
    network[0].requires_grad_(False)
    assert step(network, images) == 4 * 10 * 16  # what the last layer reads


def test_a_frozen_trunk_needs_less_memory_than_one_that_learns(make_bench: MakeBench, untrained: Encoder) -> None:
    table = make_bench(*bright_and_dark(48), (32, 8, 8), untrained)
    mib = {way: measured(table, way, QUICK)["step_mib"] for way in WAYS}
    assert mib["head"] < mib["last"] < mib["full"] and mib["lora"] < mib["full"]


def test_parameters_are_counted_that_a_gradient_reaches(make_bench: MakeBench, untrained: Encoder) -> None:
    table = make_bench(*bright_and_dark(48), (32, 8, 8), untrained)
    for way in WAYS:
        found = measured(table, way, QUICK)
        budget = round(QUICK.share * sum(weight.numel() for weight in untrained.trunk.parameters()))
        assert found["parameters"] == trained(changed(way, untrained, budget)), way
        assert found["parameters_with_head"] == found["parameters"] + 2 * DIM + 2


def test_layers_that_a_network_passes_by_are_no_place_for_lora(make_bench: MakeBench) -> None:
    eva = timm.create_model("eva02_tiny_patch14_224", img_size=28, num_classes=0, depth=2)  # reads weights by itself
    encoder = Encoder(eva, torch.zeros(3), torch.ones(3))
    assert not reached(encoder)
    images, targets = torch.zeros(24, 3, 28, 28, dtype=torch.uint8), {"label": torch.arange(24) % 2}
    with pytest.raises(NotApplicable, match="passes by"):
        measured(make_bench(images, targets, (16, 4, 4), encoder), "lora", QUICK)


def test_the_work_is_told_before_it_starts(make_bench: MakeBench, untrained: Encoder) -> None:
    table = make_bench(*bright_and_dark(48), (32, 8, 8), untrained)
    found = Peft(Peft.Settings(ways=("head", "full"), epochs=3, lrs=(1e-3, 2e-3))).work(table)
    assert found.trained == round(2 * 3 * 32 * 4 / 3) + 2 * (2 * 8 + 8) // 3


def test_a_missing_extra_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssbench.tasks.peft.find_spec", lambda name: None)
    asked = {"method": ["random-init"], "task": ["peft"], "seeds": ["0"]}
    with pytest.raises(UserError, match=r"pip install 'ssbench\[peft\]'; or leave lora out"):
        cells(request(asked, "test"))
    assert cells(request({**asked, "set": ["peft.ways=head,full"]}, "test"))


def test_a_share_that_no_way_has_can_not_be_set() -> None:
    asked = {"method": ["random-init"], "task": ["peft"], "seeds": ["0"], "set": ["peft.ways=head", "peft.share=0.1"]}
    with pytest.raises(UserError, match="nothing in this run uses it"):
        cells(request(asked, "test"))
