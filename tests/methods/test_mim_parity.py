"""The loss of each paper's preset and all its gradients are those of code that goes token by token.

Everything below is written anew from the weights: patch embedding, attention, decoders, targets, objectives.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from lightly.loss import IBOTPatchLoss
from numpy.typing import NDArray
from torch import Tensor, nn

from ssbench.methods.mim.content import MASKS
from ssbench.methods.mim.masks import hidden_count
from ssbench.methods.mim.presets import PRESETS

PATCH, ROWS, COLUMNS = 4, 4, 4
PLACES = range(ROWS * COLUMNS)
MakeMIM = Callable[..., Any]
MakeBatch = Callable[..., Any]


def norm(layer: Any, x: Tensor) -> Tensor:
    """Layer norm of tokens (T, D)."""
    centred = x - x.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def linear(layer: Any, x: Tensor) -> Tensor:
    return x @ layer.weight.T + layer.bias


def mlp(layer: Any, x: Tensor) -> Tensor:
    hidden = linear(layer.fc1, x)
    return linear(layer.fc2, hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Each query (Q, D) by itself, head by head."""
    width = queries.shape[1] // heads
    rows = []
    for query in queries:
        parts = []
        for h in range(heads):
            own = slice(h * width, (h + 1) * width)
            scores = torch.stack([query[own] @ key[own] for key in keys]) / math.sqrt(width)
            weights = (scores - scores.max()).exp()
            parts.append((weights / weights.sum()) @ values[:, own])
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def self_block(block: Any, x: Tensor) -> Tensor:
    queries, keys, values = linear(block.attn.qkv, norm(block.norm1, x)).chunk(3, 1)
    x = x + linear(block.attn.proj, attend(queries, keys, values, block.attn.num_heads))
    return x + mlp(block.mlp, norm(block.norm2, x))


def cross_block(block: Any, x: Tensor, seen: Tensor) -> Tensor:
    keys, values = linear(block.key_value, norm(block.norm_seen, seen)).chunk(2, 1)
    x = x + linear(block.proj, attend(linear(block.query, norm(block.norm, x)), keys, values, block.heads))
    return x + mlp(block.mlp, norm(block.norm_mlp, x))


def cut(image: Tensor, n: int) -> Tensor:
    """The pixels of one patch, (C, p, p)."""
    top, left = n // COLUMNS * PATCH, n % COLUMNS * PATCH
    return image[:, top : top + PATCH, left : left + PATCH]


def encode(encoder: Any, image: Tensor, shown: Sequence[int] = PLACES, token: Tensor | None = None) -> list[Tensor]:
    """Class and patch tokens (1 + n, D) out of each block, and out of the last norm at the end.

    Patches that are not shown are `token`, or not there at all.
    """
    trunk = encoder.trunk
    kernel, bias = trunk.patch_embed.proj.weight.flatten(1), trunk.patch_embed.proj.bias
    tokens = [trunk.cls_token[0, 0] + trunk.pos_embed[0, 0]]
    for n in PLACES:
        if n in shown:
            tokens.append(kernel @ cut(image, n).flatten() + bias + trunk.pos_embed[0, 1 + n])
        elif token is not None:
            tokens.append(token + trunk.pos_embed[0, 1 + n])
    outputs = [torch.stack(tokens)]
    for block in trunk.blocks:
        outputs.append(self_block(block, outputs[-1]))
    return [*outputs[1:], norm(trunk.norm, outputs[-1])]


def angle(n: int, width: int) -> Tensor:
    """Sines of the row and of the column, then cosines, a quarter of the width each."""
    frequency = [10000 ** (-4 * k / width) for k in range(width // 4)]
    return torch.tensor([f(x * w) for f in (math.sin, math.cos) for x in divmod(n, COLUMNS) for w in frequency])


def predict(mim: Any, image: Tensor, row: list[bool]) -> tuple[Tensor, Tensor]:
    """Predictions at the hidden places (h, out), and the encoder's tokens."""
    arch, shown, hidden = mim.predict, [n for n in PLACES if not row[n]], [n for n in PLACES if row[n]]
    if mim.settings.arch == "simmim":
        seen = encode(mim.encoder, image, shown, arch.mask_token)[-1]
        tokens = seen[1:][hidden]  # iBOT's go into its target's head as they are
        return (tokens if mim.settings.target == "ibot" else linear(arch.head, tokens)), seen
    seen = encode(mim.encoder, image, shown)[-1]
    known = linear(arch.enter, seen[1:]) + torch.stack([angle(n, arch.width) for n in shown])
    asked = torch.stack([arch.mask_token + angle(n, arch.width) for n in hidden])
    if mim.settings.arch == "cross":
        for block in arch.blocks:
            asked = cross_block(block, asked, known)
        return linear(arch.head, norm(arch.norm, asked)), seen
    both = torch.stack([asked[hidden.index(n)] if row[n] else known[shown.index(n)] for n in PLACES])
    for block in arch.blocks:
        both = self_block(block, both)
    return linear(arch.head, norm(arch.norm, both[hidden])), seen


def raw(image: Tensor, n: int) -> Tensor:
    return cut(image, n).permute(1, 2, 0).flatten()


def normed(image: Tensor, n: int) -> Tensor:
    values = raw(image, n)
    mean = sum(values) / len(values)
    return (values - mean) / (sum((value - mean) ** 2 for value in values) / (len(values) - 1) + 1e-6).sqrt()


def slow_hog(image: NDArray[np.float64], top: int, left: int, cell: int) -> NDArray[np.float64]:
    """MaskFeat's histogram of one cell of one channel, pixel by pixel; PROTOCOLS S11.3."""
    padded, kernel = np.pad(image, 1, mode="reflect"), np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    bins = np.zeros(9)
    for r in range(top, top + cell):
        for c in range(left, left + cell):
            around = padded[r : r + 3, c : c + 3]
            x, y = (around * kernel).sum(), (around * kernel.T).sum()
            bins[math.floor(math.atan2(x, y) / math.pi * 9) % 9] += math.sqrt(x * x + y * y)
    return bins / max(math.sqrt((bins**2).sum()), 1e-12)


def histograms(image: Tensor, n: int) -> Tensor:
    """In the order channel, orientation, row and column of the cell."""
    top, left, cell = n // COLUMNS * PATCH, n % COLUMNS * PATCH, PATCH // 2
    cells = [
        [slow_hog(channel, top + r * cell, left + c * cell, cell) for r in range(2) for c in range(2)]
        for channel in image.detach().double().numpy()
    ]
    return torch.from_numpy(np.array(cells).transpose(0, 2, 1).flatten()).float()


def standardised(x: Tensor) -> Tensor:
    """Layer norm of one token, without weights."""
    return (x - x.mean()) / ((x - x.mean()).square().mean() + 1e-5).sqrt()


def difference(mim: Any, a: Tensor, b: Tensor) -> Tensor:
    """Mean over the values of one patch."""
    p, beta, total = mim.settings.p, mim.settings.beta, torch.zeros(())
    for d in (a - b).abs():
        total = total + (d**p if beta == 0 else d**2 / (2 * beta) if d < beta else d - beta / 2)
    return total / len(a)


def crossed(logits: Tensor, target: Tensor) -> Tensor:
    """-sum target * log softmax."""
    return -(target * (logits - logits.exp().sum().log())).sum()


def costs(mim: Any, images: Tensor, hidden: Tensor, cost: Callable[[int, int, Tensor], Tensor]) -> Tensor:
    """Mean over images of the mean over hidden patches of cost(image, place, prediction)."""
    total = torch.zeros(())
    for i, row in enumerate(hidden.tolist()):
        places = [n for n in PLACES if row[n]]
        predictions, _ = predict(mim, images[i], row)
        each = [cost(i, n, prediction) for n, prediction in zip(places, predictions)]
        total = total + torch.stack(each).mean() / len(images)
    return total


def made(make_mim: MakeMIM, name: str, **more: Any) -> Any:
    """A preset with every weight drawn anew, so that none hides a mistake by being zero or the teacher's."""
    mim = make_mim(**PRESETS[name].preset | more).train()
    generator = torch.Generator().manual_seed(1)
    for key, value in [*mim.named_parameters(), *mim.named_buffers()]:
        if value.is_floating_point() and not key.endswith(
            ("pos_embed", "mean", "std", "var", "weight_g", "temperature")
        ):
            nn.init.normal_(value.data, std=0.3 if key.startswith("predict") else 0.15, generator=generator)
    return mim


def images(count: int = 2, seed: int = 3) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def mask_of(mim: Any, pictures: Tensor, seed: int = 0) -> Tensor:
    """Hidden patches (B, N), drawn as the step does."""
    s, generator = mim.settings, torch.Generator().manual_seed(seed)
    ratio = s.ratio
    if s.ratio_spread:
        ratio += s.ratio_spread * (2 * torch.rand((), generator=generator).item() - 1)
    more = {"unit": s.unit} if s.mask == "unit" else {}
    return MASKS[s.mask](pictures.detach(), (ROWS, COLUMNS), hidden_count(len(PLACES), ratio), generator, **more)


def compare(mim: Any, fast: Tensor, slow: Tensor, inputs: Sequence[Tensor]) -> None:
    """Value and gradients with respect to every trained weight and every pixel."""
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    keys, weights = zip(*[(key, p) for key, p in mim.named_parameters() if p.requires_grad])
    found = torch.autograd.grad(fast, [*inputs, *weights])
    wanted = torch.autograd.grad(slow, [*inputs, *weights], allow_unused=True)
    assert all(b is not None for b in wanted)
    largest = max(float(b.abs().max()) for b in wanted)
    for key, a, b in zip([*(f"view {i}" for i in range(len(inputs))), *keys], found, wanted):
        size = float(torch.maximum(a.abs(), b.abs()).max())
        if size > 1e-5 * largest:  # below that it is rounding alone: a bias before batch norm has no gradient
            within = min(1e-4 * size, 1e-5)
            assert torch.allclose(a, b, atol=within, rtol=1e-4), f"{key}: {(a - b).abs().max()}"


@pytest.mark.parametrize(
    ("name", "target"),
    [("mim-random", normed), ("mim-block", normed), ("simmim", raw), ("maskfeat", histograms)],
)
def test_what_images_give_is_predicted_as_in_a_loop_over_patches(
    name: str, target: Callable[[Tensor, int], Tensor], make_mim: MakeMIM, mim_batch: MakeBatch
) -> None:
    mim, x = made(make_mim, name), images()
    terms = mim.loss(mim_batch(x))
    assert list(terms) == ["reconstruction"]
    true = x.detach()  # no gradient goes through the target
    slow = costs(mim, x, mask_of(mim, x), lambda i, n, out: difference(mim, out, target(true[i], n)))
    compare(mim, terms["reconstruction"], slow, [x])


@pytest.mark.parametrize(("name", "layers"), [("data2vec", 2), ("ijepa", 0)])
def test_what_the_teacher_gives_is_predicted_as_in_a_loop_over_patches(
    name: str, layers: int, make_mim: MakeMIM, mim_batch: MakeBatch
) -> None:
    mim, x = made(make_mim, name), images()
    with torch.no_grad():
        outputs = [encode(mim.teacher, image) for image in x]

    def target(i: int, n: int) -> Tensor:
        if not layers:
            return standardised(outputs[i][-1][1 + n])
        chosen = [output[1:] for output in outputs[i][-1 - layers : -1]]  # (N, D) each
        channels = [torch.stack([standardised(channel) for channel in output.T])[:, n] for output in chosen]
        return standardised(sum(channels, torch.zeros(())) / layers)

    terms = mim.loss(mim_batch(x))
    assert list(terms) == ["reconstruction"]
    slow = costs(mim, x, mask_of(mim, x), lambda i, n, out: difference(mim, out, target(i, n)))
    compare(mim, terms["reconstruction"], slow, [x])


@pytest.mark.parametrize("target", ["random-codebook", "dvae"])
def test_codes_are_predicted_as_in_a_loop_over_patches(target: str, make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    mim, x = made(make_mim, "beit", target=target, codes=16), images()
    codes, none = mim.target(x, None)
    assert codes.shape == (2, 16) and len(codes.unique()) > 1 and not none
    terms = mim.loss(mim_batch(x))
    assert list(terms) == ["reconstruction"]
    slow = costs(
        mim, x, mask_of(mim, x), lambda i, n, out: crossed(out, nn.functional.one_hot(codes[i, n], 16).float())
    )
    compare(mim, terms["reconstruction"], slow, [x])


def test_ibots_two_terms_are_those_of_loops_over_patches_and_views(make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    mim, x, y = made(make_mim, "ibot", prototypes=24), images(), images(seed=4)
    heads, target, pair, temperature = mim.heads, mim.target, mim.pair, 0.055
    mim.after_step(0.15)  # half of the teacher's warm-up
    centre, pair_centre = target.centred.centre.clone(), pair.centred.centre.clone()
    assert centre.any() and pair_centre.any()
    with torch.no_grad():
        taught = [[encode(mim.teacher, image)[-1] for image in view] for view in (x, y)]
        patches = torch.stack([heads.teacher(tokens[1:]) for tokens in taught[0]])  # (B, N, K)
        classes = torch.stack([heads.teacher(tokens[:1])[0] for view in taught for tokens in view]).view(2, 2, -1)
    hidden = mask_of(mim, x)

    def patch_cost(i: int, n: int, out: Tensor) -> Tensor:
        return crossed(heads.student(out[None])[0] / 0.1, ((patches[i, n] - centre) / temperature).softmax(0))

    slow = costs(mim, x, hidden, patch_cost)
    masked = [predict(mim, image, row)[1][0] for image, row in zip(x, hidden.tolist())]
    whole = [encode(mim.encoder, image)[-1][0] for image in y]
    across = torch.zeros(())
    for student, teacher in ((masked, classes[1]), (whole, classes[0])):
        for token, logits in zip(student, teacher):
            sharp = ((logits - pair_centre) / temperature).softmax(0)
            across = across + crossed(heads.student(token[None])[0] / 0.1, sharp) / 4

    terms = mim.loss(mim_batch(x, y))
    assert list(terms) == ["reconstruction", "dino"]
    torch.testing.assert_close(terms["dino"], 2 * across, atol=1e-5, rtol=1e-5)
    compare(mim, terms["reconstruction"] + terms["dino"], slow + 2 * across, [x, y])
    # centres move after use, by all patches and by both views
    torch.testing.assert_close(target.centred.centre, 0.9 * centre + 0.1 * patches.flatten(0, 1).mean(0))
    torch.testing.assert_close(
        pair.centred.centre, 0.9 * pair_centre + 0.1 * classes.flatten(0, 1).mean(0), atol=1e-6, rtol=1e-5
    )


def test_ibots_patch_term_is_lightlys(make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    mim, x = made(make_mim, "ibot", prototypes=24, ratio_spread=0), images(3)
    hidden, target = mask_of(mim, x), mim.target
    lightly = IBOTPatchLoss(24, teacher_temp=0.04, student_temp=0.1)
    lightly.center.center = target.centred.centre.clone()[None]
    prediction = torch.cat([predict(mim, image, row)[0] for image, row in zip(x, hidden.tolist())])
    logits = torch.cat([mim.heads.teacher(encode(mim.teacher, image)[-1][1:]) for image in x])
    wanted = lightly(logits[hidden.flatten()], mim.heads.student(prediction), hidden.view(3, ROWS, COLUMNS))
    found = mim.loss(mim_batch(x, images(3, seed=4)))["reconstruction"]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_centres_stay_where_they_are_in_evaluation_mode(make_mim: MakeMIM) -> None:
    mim, x = made(make_mim, "ibot", prototypes=24).eval(), images()
    before = {key: value.clone() for key, value in mim.state_dict().items()}
    mim.picture(x.detach())
    mim.reconstruction(x, torch.Generator(), 1.0)
    assert all(torch.equal(value, before[key]) for key, value in mim.state_dict().items())


def slow_sinkhorn(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """CAPI's codes, one assignment problem for each position: columns then rows, three times; (B, N, K)."""
    found = np.zeros_like(logits)
    for n in range(logits.shape[1]):
        weights = np.exp(logits[:, n] - logits[:, n].max())  # (B, K)
        for _ in range(3):
            weights = weights / weights.sum(0, keepdims=True)
            weights = weights / weights.sum(1, keepdims=True)
        found[:, n] = weights
    return found


def test_capis_two_terms_are_those_of_a_loop_over_positions(make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    mim, x = made(make_mim, "capi", clusters=6), images(3)
    target = mim.target
    with torch.no_grad():
        tokens = torch.stack([encode(mim.teacher, image)[-1][1:] for image in x])
        tokens = tokens / tokens.norm(dim=2, keepdim=True)
        logits = torch.stack([linear(target.clusters, own) for own in tokens])
    codes = torch.from_numpy(slow_sinkhorn(logits.double().numpy() / 0.06)).float()
    direction = target.head.parametrizations.weight  # the weight is g * v / |v|, row by row
    weight = direction.original0 * direction.original1 / direction.original1.norm(dim=1, keepdim=True)

    def cost(i: int, n: int, out: Tensor) -> Tensor:
        return crossed(weight @ (out / out.norm()) / 0.12, codes[i, n])

    slow = costs(mim, x, mask_of(mim, x), cost)
    own = [crossed(linear(target.clusters, tokens[i, n]) / 0.12, codes[i, n]) for i in range(3) for n in PLACES]
    terms = mim.loss(mim_batch(x))
    assert list(terms) == ["reconstruction", "clustering"]
    torch.testing.assert_close(terms["clustering"], torch.stack(own).mean(), atol=1e-5, rtol=1e-5)
    compare(mim, terms["reconstruction"] + terms["clustering"], slow + torch.stack(own).mean(), [x])


def batch_normed_mlp(layers: Any, x: Tensor) -> Tensor:
    """Linear, batch norm by this batch's statistics, ReLU, linear."""
    hidden = linear(layers[0], x)
    centred = hidden - hidden.mean(0)
    hidden = centred / (centred.square().mean(0) + layers[1].eps).sqrt() * layers[1].weight + layers[1].bias
    return linear(layers[3], hidden.clamp(min=0))


def test_cmaes_two_terms_are_those_of_loops_over_patches_and_images(make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    mim, x, y = made(make_mim, "cmae"), images(4), images(4, seed=4)
    pair, hidden, true = mim.pair, mask_of(mim, x), x.detach()
    slow = costs(mim, x, hidden, lambda i, n, out: difference(mim, out, normed(true[i], n)))
    seen = torch.stack([predict(mim, image, row)[1][1:].mean(0) for image, row in zip(x, hidden.tolist())])
    queries = batch_normed_mlp(pair.predict, batch_normed_mlp(pair.project, seen))
    with torch.no_grad():
        whole = torch.stack([encode(mim.teacher, image)[-1][1:].mean(0) for image in y])
        keys = batch_normed_mlp(pair.teacher_project, whole)
    contrast = torch.zeros(())
    for i, query in enumerate(queries):
        likeness = torch.stack([query @ key / query.norm() / key.norm() / 0.07 for key in keys])
        contrast = contrast - (likeness[i] - likeness.exp().sum().log()) / 4
    contrast = 2 * 0.07 * contrast  # its head multiplies the term by twice the temperature
    terms = mim.loss(mim_batch(x, y))
    assert list(terms) == ["reconstruction", "infonce"]
    torch.testing.assert_close(terms["infonce"], contrast, atol=1e-5, rtol=1e-5)
    compare(mim, terms["reconstruction"] + terms["infonce"], slow + contrast, [x])


def test_hard_patches_are_ranked_as_in_a_loop_over_pairs(make_mim: MakeMIM, mim_batch: MakeBatch) -> None:
    """HPM's second term: over ordered pairs, is the one harder than the other? It moves the encoder, too."""
    mim, x = made(make_mim, "mim-hard"), images()
    hidden = MASKS["random"](x.detach(), (ROWS, COLUMNS), 12, torch.Generator().manual_seed(0))
    true, ranks, rebuilt = x.detach(), torch.zeros(()), torch.zeros(())
    pairs, rank = 0, mim.rank
    for i, row in enumerate(hidden.tolist()):
        shown, places = [n for n in PLACES if not row[n]], [n for n in PLACES if row[n]]
        predictions, seen = predict(mim, x[i], row)
        cost = [difference(mim, out, normed(true[i], n)) for n, out in zip(places, predictions)]
        known = linear(rank.enter, seen[1:]) + torch.stack([angle(n, rank.width) for n in shown])
        both = torch.cat([known, torch.stack([rank.mask_token + angle(n, rank.width) for n in places])])
        for block in rank.blocks:
            both = self_block(block, both)
        expected = linear(rank.head, norm(rank.norm, both[len(shown) :]))[:, 0]
        for a in range(12):
            for b in range(12):
                if cost[a] != cost[b]:
                    sign = 1.0 if cost[a] > cost[b] else -1.0
                    ranks, pairs = ranks + torch.log1p(torch.exp(-sign * (expected[a] - expected[b]))), pairs + 1
        rebuilt = rebuilt + torch.stack(cost).mean() / len(x)
    terms = mim.loss(mim_batch(x))  # at progress 0 the mask is random
    assert list(terms) == ["reconstruction", "ranking"]
    torch.testing.assert_close(terms["ranking"], ranks / pairs, atol=1e-5, rtol=1e-5)
    compare(mim, terms["reconstruction"] + terms["ranking"], rebuilt + ranks / pairs, [x])
