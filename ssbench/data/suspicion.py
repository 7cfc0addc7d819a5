"""What can hardly be meant: refused with the reason, unless the user says that it is meant. No torch."""

from ssbench.errors import UserError, near
from ssbench.spec import DataSettings

NAMES = (
    "alike-classes",
    "blank-images",
    "coco",
    "copies",
    "cut-bits",
    "few-rows",
    "folder-labels",
    "mask-orientation",
    "mask-shapes",
    "masks",
    "mixed-depth",
    "nested-classes",
    "one-class",
    "one-mask-value",
    "pairs",
    "several-rows",
    "shared-classes",
    "shared-groups",
    "smeared-masks",
    "split-classes",
    "split-values",
    "splits-inside",
    "table",
    "tiny-images",
    "unseen-classes",
    "unused-folders",
    "voc",
)


class Suspicion(UserError):
    """What a user may mean all the same, by its `name` in `data.allow`."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name


def suspect(settings: DataSettings, name: str, text: str) -> None:
    """Raises Suspicion with `text`, which says what was found and what to do, unless `data.allow` has its `name`."""
    if name not in settings.allow:
        allowed = ",".join((*settings.allow, name))
        raise Suspicion(f"{text}; if it is meant: --set data.allow={allowed}", name)


def refuse_unknown(settings: DataSettings) -> None:
    """Raises UserError where `data.allow` has a name that no refusal gives."""
    for name in settings.allow:
        if name not in NAMES:
            raise UserError(f"data.allow={name}: no suspicion is called so{near(name, NAMES)}")
