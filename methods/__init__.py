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
    "moco-v2": Entry(
        "contrastive.moco_v2:MoCoV2",
        "contrastive",
        "a view is told a slow teacher's view of its image from those of earlier batches",
        "Chen et al. 2020, arXiv:2003.04297",
    ),
    "moco-v3": Entry(
        "contrastive.moco_v3:MoCoV3",
        "contrastive",
        "a view predicts a slow teacher's view of its image, against those of its batch",
        "Chen et al. 2021, arXiv:2104.02057",
    ),
    "supcon": Entry(
        "contrastive.supcon:SupCon",
        "contrastive",
        "views of images of one class agree, against all other images of the batch; sees labels",
        "Khosla et al. 2020, arXiv:2004.11362",
    ),
    "dcl": Entry(
        "contrastive.dcl:DCL",
        "contrastive",
        "SimCLR whose positives are not among what they are told from",
        "Yeh et al. 2021, arXiv:2110.06848",
    ),
    "dclw": Entry(
        "contrastive.dcl:DCL",
        "contrastive",
        "DCL with less weight on positives that are near",
        "Yeh et al. 2021, arXiv:2110.06848",
        preset={"sigma": 0.5},
        source="lightly, loss/dcl_loss.py, and raminnakhli/Decoupled-Contrastive-Learning",
        scope="dcl",
    ),
    "nnclr": Entry(
        "contrastive.nnclr:NNCLR",
        "contrastive",
        "a view predicts the nearest neighbour, among earlier images, of the other view",
        "Dwibedi et al. 2021, arXiv:2104.14548",
    ),
    "ressl": Entry(
        "contrastive.ressl:ReSSL",
        "contrastive",
        "a view is as like earlier images as a weaker view of it is, to a slow teacher",
        "Zheng et al. 2021, arXiv:2107.09282",
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
    "rotation": Entry(
        "pretext.rotation:Rotation",
        "pretext",
        "tell by how many quarter turns an image was rotated",
        "Gidaris et al. 2018, arXiv:1803.07728",
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
