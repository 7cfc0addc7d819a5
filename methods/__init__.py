"""The contents page: every method by name. Adding one is a file beside this one and a line here."""

from ssbench.registry import Entry

from .mim.presets import PRESETS

METHODS = {
    **PRESETS,
    "simclr": Entry(
        "contrastive.simclr:SimCLR",
        "contrastive",
        "two views of an image agree, against all other images of the batch",
        "Chen et al. 2020, arXiv:2002.05709",
    ),
    "byol": Entry(
        "distillation.byol:BYOL",
        "distillation",
        "a view predicts what a slow teacher makes of another view",
        "Grill et al. 2020, arXiv:2006.07733",
    ),
    "swav": Entry(
        "clustering.swav:SwAV",
        "clustering",
        "each view predicts the balanced cluster assignment of the other views",
        "Caron et al. 2020, arXiv:2006.09882",
    ),
    "deepcluster-v2": Entry(
        "clustering.deepcluster:DeepClusterV2",
        "clustering",
        "each view predicts the cluster that k-means put its image into before the epoch",
        "Caron et al. 2020, arXiv:2006.09882",
    ),
    "smog": Entry(
        "clustering.smog:SMoG",
        "clustering",
        "a view predicts the group of another view, and groups move with every step",
        "Pang et al. 2022, arXiv:2207.06167",
    ),
    "rotation": Entry(
        "pretext.rotation:Rotation",
        "pretext",
        "tell by how many quarter turns an image was rotated",
        "Gidaris et al. 2018, arXiv:1803.07728",
    ),
    "jigsaw": Entry(
        "pretext.jigsaw:Jigsaw",
        "pretext",
        "tell from shuffled tiles how they were shuffled",
        "Noroozi & Favaro 2016, arXiv:1603.09246",
    ),
    "relative-location": Entry(
        "pretext.relative_location:RelativeLocation",
        "pretext",
        "tell on which of eight sides of a patch another one lay",
        "Doersch et al. 2015, arXiv:1505.05192",
    ),
    "colorization": Entry(
        "pretext.colorization:Colorization",
        "pretext",
        "tell the colour of each place from the lightness of the image",
        "Zhang et al. 2016, arXiv:1603.08511",
    ),
    "random-init": Entry("controls:RandomInit", "control", "the encoder as it starts, untrained", control="floor"),
    "raw-pixels": Entry("controls:RawPixels", "control", "no network: the pixels themselves", control="floor"),
    "supervised": Entry(
        "controls:Supervised",
        "control",
        "cross-entropy with the labels, for the same budget",
        control="ceiling",
    ),
}
