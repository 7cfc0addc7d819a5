"""The contents page: every method by name. Adding one is a file beside this one and a line here.

The published code that it was compared with, and where it departs from that, is a line in its folder's `departures.py`.
"""

from dataclasses import replace

from ssbench.departures import Compared, Departure
from ssbench.registry import Entry

from .clustering.departures import COMPARED as CLUSTERING
from .contrastive.departures import COMPARED as CONTRASTIVE
from .decorrelation.departures import COMPARED as DECORRELATION
from .distillation.departures import COMPARED as DISTILLATION
from .mim.departures import COMPARED as MIM
from .mim.presets import PRESETS
from .pretext.departures import COMPARED as PRETEXT

CONTROL = Compared("nothing: a control of this project")
SUPERVISED = Compared(
    "facebookresearch/deit: main.py, datasets.py",
    (
        Departure(
            "views",
            "crops of 0.08 to 1, RandAugment, random erasing, mixup, cutmix, repeated images",
            "crops of 0.2 to 1 and flips, as `mim-random`",
            "those of the methods that it is a ceiling of",
        ),
        Departure("regularisation", "label smoothing 0.1, drop path 0.1, moving average of the weights", "none"),
    ),
)
ENTRIES = {
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
    "simsiam": Entry(
        "distillation.simsiam:SimSiam",
        "distillation",
        "a view predicts what the same network makes of another view, without a teacher",
        "Chen and He 2020, arXiv:2011.10566",
    ),
    "dino": Entry(
        "distillation.dino:DINO",
        "distillation",
        "small and large crops predict which prototypes a slow teacher sees in the other large crop",
        "Caron et al. 2021, arXiv:2104.14294",
    ),
    "dinov2": Entry(
        "distillation.dinov2:DINOv2",
        "distillation",
        "DINO's crops and iBOT's hidden patches at once, with balanced prototypes and images kept apart",
        "Oquab et al. 2023, arXiv:2304.07193",
    ),
    "msn": Entry(
        "distillation.msn:MSN",
        "distillation",
        "an image with patches dropped falls to the prototypes that a slow teacher sees in all of it",
        "Assran et al. 2022, arXiv:2204.07141",
    ),
    "swav": Entry(
        "clustering.swav:SwAV",
        "clustering",
        "each view predicts the balanced cluster assignment of the other views",
        "Caron et al. 2020, arXiv:2006.09882",
    ),
    "barlow-twins": Entry(
        "decorrelation.barlow_twins:BarlowTwins",
        "decorrelation",
        "each dimension agrees between two views and is uncorrelated with the others",
        "Zbontar et al. 2021, arXiv:2103.03230",
    ),
    "vicreg": Entry(
        "decorrelation.vicreg:VICReg",
        "decorrelation",
        "views agree, dimensions keep their variance and do not covary",
        "Bardes et al. 2022, arXiv:2105.04906",
    ),
    "lejepa": Entry(
        "decorrelation.lejepa:LeJEPA",
        "decorrelation",
        "views agree while embeddings are kept an isotropic Gaussian",
        "Balestriero & LeCun 2025, arXiv:2511.08544",
    ),
    "tico": Entry(
        "decorrelation.tico:TiCo",
        "decorrelation",
        "a view is near a slow teacher's other view and away from the covariance of earlier images",
        "Zhu et al. 2022, arXiv:2206.10698",
    ),
    "w-mse": Entry(
        "decorrelation.w_mse:WMSE",
        "decorrelation",
        "views agree after whitening, which a collapse can't survive",
        "Ermolov et al. 2021, arXiv:2007.06346",
    ),
    "mmcr": Entry(
        "decorrelation.mmcr:MMCR",
        "decorrelation",
        "the mean embeddings of images, each over several views, fill their space",
        "Yerxa et al. 2023, arXiv:2303.03307",
    ),
    "vicregl": Entry(
        "decorrelation.vicregl:VICRegL",
        "decorrelation",
        "VICReg of whole images and of places that match by where they lie or what they are",
        "Bardes et al. 2022, arXiv:2210.01571",
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
COMPARED = {
    **dict.fromkeys(("random-init", "raw-pixels"), CONTROL),
    "supervised": SUPERVISED,
    **MIM,
    **CONTRASTIVE,
    **DISTILLATION,
    **CLUSTERING,
    **DECORRELATION,
    **PRETEXT,
}
METHODS = {name: replace(entry, compared=COMPARED.get(name)) for name, entry in ENTRIES.items()}
