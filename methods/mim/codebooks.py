"""Codes of patches as targets: k-means (PROTOCOLS S11.5), a discrete VAE, and a random codebook, their control.

The first two are learned from the training images alone, with a seed of their own: one codebook for all seeds of runs.
"""

from collections.abc import Callable
from math import cos, pi

import torch
import torch.nn.functional as F
from sklearn import cluster
from torch import Tensor, nn

from ssbench.encoders.encoder import Encoder
from ssbench.encoders.weights import weights_digest
from ssbench.errors import UserError
from ssbench.method import Cached
from ssbench.rng import onto

from .networks import Features
from .objective import cross_entropy
from .patches import hog, pixels, pixels_normed

FITTED = 1  # a part of an artifact's name: raise it when what is learned changes
IMAGES = 20_000  # at most so many are looked at
PATCHES = 50_000  # at most so many are clustered: 7 s on one core for 192 values and 256 codes
BATCH = 256  # images read at once
ITERATIONS = 50  # of k-means
EPSILON = 1e-2  # added to the variances that whitening divides by

WIDTH = 64  # channels of the discrete VAE
STEPS = 1000  # of its training: 16 s on one core at 512 patches and 256 codes, 23 s at 1,024
TOKENS = 512  # patches a step, of at least FEWEST images
FEWEST = 16
RATE, WARMUP = 6e-3, 50  # peak learning rate, and the steps to it
COLD = 1 / 16  # last temperature; the first is 1 (Ramesh et al. 2021, appendix A.2)
USAGE = 0.1  # weight of the loss's second term

PROJECTED = 16  # values a patch is projected to (BEST-RQ, section 3.1)


class Codes(nn.Module):
    """What codebooks have in common: predictions are logits, and what is learned is the module's state."""

    taught = False
    perplexity: Tensor

    def __init__(self, encoder: Encoder, codes: int) -> None:
        super().__init__()
        assert encoder.patch is not None
        self.out = self.choices = codes
        self.patch, self.channels = encoder.patch, encoder.mean.shape[1]
        self.normalise = encoder.normalise  # not the encoder, which is not a part of this one
        self.register_buffer("perplexity", torch.zeros(()))

    @torch.no_grad()
    def forward(self, images: Tensor, teacher: object) -> tuple[Tensor, dict[str, Tensor]]:
        """Codes of all patches, int64 (B, N), the same under autocast; no terms."""
        with torch.autocast(images.device.type, enabled=False):
            return self.codes(images.float()), {}

    def codes(self, images: Tensor) -> Tensor:
        """Normalised float32 images (B, C, H, W) -> int64 (B, N)."""
        raise NotImplementedError

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Logits (B, h, out), codes (B, h) -> cross-entropy (B, h) in nats, float32."""
        return cross_entropy(prediction, target)

    def restore(self, found: dict[str, Tensor]) -> None:
        kept = self.state_dict()
        self.load_state_dict({name: found.get(name, value) for name, value in kept.items()})

    def read(self, images: Tensor, index: Tensor) -> Tensor:
        """Normalised images at these positions, on the codebook's device."""
        return self.normalise(onto(images[onto(index, images.device)], self.perplexity.device))


class KMeans(Codes):
    """The nearest of k-means' centres, among whitened pixels or histograms of oriented gradients of patches."""

    mean: Tensor
    whiten: Tensor
    centres: Tensor

    def __init__(self, encoder: Encoder, *, codes: int, codes_of: str) -> None:
        super().__init__(encoder, codes)
        self._of({"pixels": pixels, "hog": hog}[codes_of], codes_of)

    def _of(self, features: Callable[[Tensor, int], Tensor], codes_of: str) -> None:
        """What is clustered, and what it is called: (images, patch) -> (B, N, d)."""
        self.features, self.codes_of = features, codes_of
        width = features(torch.zeros(1, self.channels, 2 * self.patch, 2 * self.patch), self.patch).shape[-1]  # d
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("whiten", torch.eye(width))
        self.register_buffer("centres", torch.zeros(self.out, width))

    def codes(self, images: Tensor) -> Tensor:
        return self.nearest((self.features(images, self.patch) - self.mean) @ self.whiten)

    def nearest(self, points: Tensor) -> Tensor:
        """Whitened points (..., d) -> the nearest centre of each, int64 (...)."""
        return (points @ self.centres.T - self.centres.square().sum(1) / 2).argmax(-1)

    def prepare(self, images: Tensor, cached: Cached) -> None:
        """Learn from uint8 images (N, C, S, S). Raises UserError on too few patches, RuntimeError on unused codes."""
        name = f"kmeans-{self.codes_of}-{self.out}-{self.patch}-{FITTED}"
        self.restore(cached(name, lambda: self._fit(self._sample(images))))

    def _sample(self, images: Tensor) -> Tensor:
        """Features of as many patches of each image, at random places, (n, d) on the CPU."""
        index, generator = spread(len(images), IMAGES), torch.Generator().manual_seed(0)
        each, taken = max(PATCHES // len(index), 1), []
        for part in index.split(BATCH):
            features = self.features(self.read(images, part), self.patch).cpu()  # (b, N, d)
            places = torch.rand(features.shape[:2], generator=generator).argsort(1)[:, :each, None]
            taken.append(features.take_along_dim(places, 1).flatten(0, 1))
        return torch.cat(taken)[:PATCHES]

    def _fit(self, sample: Tensor) -> dict[str, Tensor]:
        different = len(sample.unique(dim=0))
        if self.out > different:
            raise UserError(
                f"mim.codes={self.out} is more than the {different} different patches of the training images: set fewer"
            )
        mean, whiten = torch.zeros_like(self.mean, device="cpu"), torch.eye(sample.shape[1])
        if self.codes_of == "pixels":
            mean, whiten = whitening(sample)
        points = (sample - mean) @ whiten
        # k-means++; an empty cluster starts again from the point that is farthest from its centre
        found = cluster.KMeans(self.out, n_init=1, max_iter=ITERATIONS, random_state=0).fit(points.numpy())
        used = used_codes(torch.from_numpy(found.labels_).long(), self.out)
        return {"mean": mean, "whiten": whiten, "centres": torch.from_numpy(found.cluster_centers_), "perplexity": used}

    def paint(self, prediction: Tensor, images: Tensor) -> Tensor | None:
        """The likeliest codes' centres as normalised pixels, (B, N, patch * patch * C); None for histograms."""
        if self.codes_of != "pixels":
            return None
        means = torch.linalg.solve(self.whiten, self.centres, left=False) + self.mean  # (codes, d)
        return means[prediction.argmax(-1)]


class FeatureKMeans(KMeans):
    """The nearest of k-means' centres among a frozen network's features of patches, those of `networks.Features`."""

    def __init__(self, encoder: Encoder, *, codes: int, network: str, checkpoint: str, network_size: int) -> None:
        Codes.__init__(self, encoder, codes)
        self.network = Features(encoder, p=2, beta=0, network=network, checkpoint=checkpoint, network_size=network_size)
        source = f"{network}-{weights_digest(self.network)}-{network_size}"
        self._of(lambda images, patch: self.network(images, None)[0], source)


class DVAE(Codes):
    """The likeliest token of a discrete VAE that is trained on the images first, as BEiT's (Ramesh et al. 2021).

    A token depends on the patches around its own, too, as there.
    """

    def __init__(self, encoder: Encoder, *, codes: int) -> None:
        super().__init__(encoder, codes)
        self.net = self._new().requires_grad_(False)

    def _new(self) -> "Autoencoder":
        """The network at its start, always the same; torch's own random numbers go on as if it had not been made."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return Autoencoder(self.channels, self.patch, self.out)

    def codes(self, images: Tensor) -> Tensor:
        return self.net.encode(images).argmax(1).flatten(1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, h, w) -> normalised pixels (B, C, h * patch, w * patch)."""
        return self.net.decode(F.one_hot(codes, self.out).movedim(-1, 1).float())

    def prepare(self, images: Tensor, cached: Cached) -> None:
        """Learn from uint8 images (N, C, S, S). Raises RuntimeError where too few codes are used."""
        self.restore(cached(f"dvae-{self.out}-{self.patch}-{FITTED}", lambda: self._fit(images)))

    def _fit(self, images: Tensor) -> dict[str, Tensor]:
        net, patches = self._new().to(self.perplexity.device), images.shape[-1] * images.shape[-2] // self.patch**2
        train(net, lambda index: self.read(images, index), len(images), max(TOKENS // patches, FEWEST))
        self.net.load_state_dict(net.state_dict())
        index = spread(len(images), min(IMAGES, max(PATCHES // patches, 1)))
        with torch.no_grad():
            codes = torch.cat([self.codes(self.read(images, part)) for part in index.split(BATCH)])
        return {**self.state_dict(), "perplexity": used_codes(codes, self.out)}

    def paint(self, prediction: Tensor, images: Tensor) -> Tensor:
        """The likeliest codes, decoded together, as normalised pixels, (B, N, patch * patch * C)."""
        grid = images.shape[-2] // self.patch, images.shape[-1] // self.patch
        return pixels(self.decode(prediction.argmax(-1).unflatten(1, grid)), self.patch)


class Autoencoder(nn.Module):
    """`encode`: normalised images -> logits (B, codes, h, w); `decode`: weights of the codes, so shaped -> images."""

    def __init__(self, channels: int, patch: int, codes: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(channels, WIDTH, patch, patch),
            nn.GELU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(WIDTH, codes, 1),
        )
        self.decode = nn.Sequential(
            nn.Conv2d(codes, WIDTH, 1, bias=False),  # the codebook
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(WIDTH, channels, patch, patch),
        )


class RandomCodebook(Codes):
    """The nearest by angle of random directions to a random projection of the patch: a codebook that nobody learned.

    BEST-RQ (Chiu et al. 2022, arXiv:2202.01855). Each patch is normalised first, without which its mean colour alone
    decides and half as many codes are used. The same for every run. Raises UserError on patches of a single value.
    """

    projection: Tensor
    directions: Tensor

    def __init__(self, encoder: Encoder, *, codes: int) -> None:
        super().__init__(encoder, codes)
        values, generator = self.patch**2 * self.channels, torch.Generator().manual_seed(0)
        if values == 1:
            raise UserError("mim.target=random-codebook needs more than one value a patch: set backbone.patch")
        width = min(PROJECTED, values)
        bound = (6 / (values + width)) ** 0.5  # Xavier, as there
        projection = torch.empty(values, width).uniform_(-bound, bound, generator=generator)
        directions = torch.empty(codes, width).normal_(generator=generator)
        self.register_buffer("projection", projection)
        self.register_buffer("directions", F.normalize(directions, dim=1))

    def codes(self, images: Tensor) -> Tensor:
        return (pixels_normed(images, self.patch) @ self.projection @ self.directions.T).argmax(-1)


def train(net: Autoencoder, read: Callable[[Tensor], Tensor], count: int, batch: int) -> None:
    """Train on `count` images that `read(positions)` gives: squared error + USAGE * what the codes' entropy lacks.

    Gumbel-softmax whose temperature falls by a cosine. Unlike in DALL-E, the entropy is that of a batch's mean
    posterior and not of each: it keeps codes in use without making them vague. Random numbers are the CPU's, by a
    generator of this function.
    """
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE, betas=(0.9, 0.99))
    for step in range(STEPS):
        falling = (1 + cos(pi * step / STEPS)) / 2
        optimiser.param_groups[0]["lr"] = RATE * min((step + 1) / WARMUP, 1) * falling
        images = read(torch.randint(count, (batch,), generator=generator))
        logits = net.encode(images)  # (B, codes, h, w)
        gumbel = -torch.empty(logits.shape).exponential_(generator=generator).log()
        weights = ((logits + onto(gumbel, logits.device)) / (COLD + (1 - COLD) * falling)).softmax(1)
        usage = logits.softmax(1).mean((0, 2, 3))  # (codes,)
        lacking = 1 - entropy(usage) / torch.tensor(len(usage)).log()
        loss = F.mse_loss(net.decode(weights), images) + USAGE * lacking
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


def spread(count: int, most: int) -> Tensor:
    """At most `most` of `count` positions, evenly spread."""
    taken = min(count, most)
    return torch.arange(taken) * count // taken


def whitening(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and matrix (d, d) of ZCA: (x - mean) @ matrix has covariance 1, but for EPSILON, and looks like x."""
    mean = sample.double().mean(0)
    centred = sample.double() - mean
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(sample))
    matrix = (axes / (variances.clamp(min=0) + EPSILON).sqrt()) @ axes.T
    return mean.float(), matrix.float()


def entropy(shares: Tensor) -> Tensor:
    """In nats, of shares (codes,)."""
    return torch.special.entr(shares).sum()


def used_codes(codes: Tensor, count: int) -> Tensor:
    """Perplexity of the codes' usage, 0-d on the CPU; raises RuntimeError below a quarter of the codes."""
    shares = codes.flatten().bincount(minlength=count).float() / codes.numel()
    perplexity = entropy(shares).exp().cpu()
    if perplexity < count / 4:
        raise RuntimeError(f"the codebook's perplexity is {perplexity:.0f} of {count} codes: set mim.codes lower")
    return perplexity
