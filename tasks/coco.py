"""COCO's average precision of boxes, by faster-coco-eval, of any images without matching them again."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

MOST = 100  # boxes of an image that count, the surest: COCO's
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # px of the encoder's images: COCO's
SCORES = ("ap", "ap50", "ap75")
LOOSE, STRICT = 0, 5  # positions of .50 and .75 among the ten overlaps


def required() -> None:
    """Raises RuntimeError where the extra is not installed: the other cells go on."""
    try:
        import faster_coco_eval  # noqa: F401
    except ModuleNotFoundError:
        raise RuntimeError("detection needs the extra: pip install 'ssbench[detection]'") from None


@dataclass(frozen=True)
class Matched:
    """Boxes of images and classes, matched with the truth."""

    evaluation: Any  # faster_coco_eval's COCOeval_faster
    images: int
    classes: int

    def precision(self, index: Sequence[int] | NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """In %, (overlaps, classes, sizes) of the images at these positions; NaN for what the truth does not have."""
        index = range(self.images) if index is None else index
        part, parameters = copy(self.evaluation), copy(self.evaluation._paramsEval)
        parameters.imgIds = [int(at) for at in index]
        matches, areas = self.evaluation._evalImgs_cpp, len(parameters.areaRng)
        starts = [self.images * at for at in range(self.classes * areas)]  # a class, then a size, then all images
        part._paramsEval, part._evalImgs_cpp = parameters, [matches[start + at] for start in starts for at in index]
        part.accumulate()
        found = part.eval["precision"][..., 0].mean(1)  # (overlaps, classes, sizes) over recalls; -1 without truth
        return np.where(found < 0, np.nan, 100 * found)

    def scores(self, index: Sequence[int] | NDArray[np.int64] | None = None) -> dict[str, float]:
        """`ap` over overlaps of .50 to .95, `ap50`, `ap75`: means over the classes that these images have; else 0."""
        each = self.precision(index)[:, :, 0]
        seen = each[:, ~np.isnan(each[0])]
        if not seen.size:
            return dict.fromkeys(SCORES, 0.0)
        return {"ap": seen.mean(), "ap50": seen[LOOSE].mean(), "ap75": seen[STRICT].mean()}


def matched(found: Tensor, truth: Tensor, classes: int) -> Matched:
    """Found boxes (N, R, 6), corners, class and score, against true ones (N, K, 5); class -1 is none."""
    from faster_coco_eval.core.coco import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster

    def coco(boxes: Tensor) -> Any:
        one = COCO()
        one.dataset = {
            "info": {},
            "images": [{"id": at} for at in range(len(boxes))],
            "categories": [{"id": at} for at in range(classes)],
            "annotations": list(annotations(boxes)),
        }
        one.createIndex()
        return one

    evaluation = COCOeval_faster(coco(truth), coco(found), "bbox", separate_eval=True)
    evaluation.params.areaRng = [[0, 1e10], *map(list, SIZES.values())]
    evaluation.params.areaRngLbl, evaluation.params.maxDets = ["all", *SIZES], [MOST]
    evaluation.evaluate()
    return Matched(evaluation, len(truth), classes)


def annotations(boxes: Tensor) -> list[dict[str, Any]]:
    """COCO's form of boxes (N, K, 5 or 6): x, y, width, height; numbered from 1."""
    rows = boxes.double().cpu().numpy()
    there = [(at, slot) for at, slot in product(*map(range, rows.shape[:2])) if rows[at, slot, 4] >= 0]
    written = []
    for number, (at, slot) in enumerate(there, 1):
        x0, y0, x1, y1, kind, *score = rows[at, slot].tolist()
        written.append(
            {
                "id": number,
                "image_id": at,
                "category_id": int(kind),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
                **({"score": score[0]} if score else {}),
            }
        )
    return written
