"""`shapes`: the drawn scenes of `ssbench.data.sources.shapes` as a data set, 10,000 to train and 2,000 to test."""

from ssbench.data import Source, Split, held_out
from ssbench.data.sources.shapes import CLASSES, FACTORS, GRADES, draw, drawn
from ssbench.errors import UserError, near
from ssbench.spec import DataSettings

COUNTS = {"train": 10_000, "test": 2_000}
SIZE = 32  # px, by default


def identify(argument: str, settings: DataSettings) -> tuple[str, str]:
    """`shapes`, `shapes:medium`, `shapes:hard`, `shapes:conflict`, and `shapes:v1`, the first version of `shapes`.

    The fingerprint is the version of what is drawn; a later version has a name of its own, so that no table holds two.
    """
    grade = argument or GRADES[0]
    if grade not in GRADES:
        raise UserError(f"unknown grade shapes:{grade}{near(grade, GRADES)}")
    version, kind = drawn(grade).split("/")
    name = "shapes" if kind == GRADES[0] else f"shapes-{kind}"
    return name if version == "1" else f"{name}-v{version}", f"drawn-v{version}-{kind}"


def read(argument: str, settings: DataSettings) -> Source:
    """Labels (eight shapes), masks (0 is background), boxes, depths, numbers of the main object; surfaces."""
    import torch

    splits = {}
    for name, count in COUNTS.items():
        scenes = draw(name, count, settings.image_size or SIZE, argument or GRADES[0])
        targets = {
            "label": torch.from_numpy(scenes.label),
            "mask": torch.from_numpy(scenes.mask),
            "boxes": torch.from_numpy(scenes.boxes),
            "factors": torch.from_numpy(scenes.factors),
            "depth": torch.from_numpy(scenes.depth),
        }
        if argument == "conflict":
            targets["surface"] = torch.from_numpy(scenes.surface)
        splits[name] = Split(torch.from_numpy(scenes.images), tuple(map(str, range(count))), targets)
    return Source(
        held_out(identify(argument, settings)[0], splits),
        CLASSES,
        mask_classes=len(CLASSES) + 1,
        factors=FACTORS,
        box_classes=CLASSES,
    )
