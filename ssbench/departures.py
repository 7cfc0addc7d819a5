"""In what a method is not its published code: said in literals beside the method, and all of it in one table."""

from collections.abc import Mapping
from typing import NamedTuple

HEADER = ("method", "compared with", "what", "published", "here", "why")
INTRO = """# Departures from published code

Each method was compared, line by line, with the code named beside it (`owner/repository: files` on GitHub) or, where
none was found, with its paper. What differs is below; `ssbench describe METHOD` shows the lines of one. Sizes that must
follow the images and the trunk (heads, decoders, prototypes, queues, momentum of averages over many more steps, patches
and crops in pixels) are smaller everywhere and not repeated. Nor is what holds for all: blur is off but in masked
modelling, since it leaves little at 32 px, and recipes put it back; its kernel is a tenth of the side, as SimCLR's, so
that a deviation of 2 px, which others' code does not cut off, is one of 0.8 px at 32 px, of 1.85 at 96 and whole at
224; crops are bilinear; the steps of a colour jitter have one order a batch; where tasks read the mean of the patches,
it stands for the class token; batch norms and losses see the whole batch, on one device. Trunk and budget are the
table's, the same for every row of it, and so are optimiser and schedule (`ssbench describe train`) but under `--recipe
cifar` and `imagenet`, which have each paper's, with one form of schedule: a warm-up, and half a cosine to zero.

`ssbench list departures > docs/departures.md` writes this page; a test says that it is up to date."""


class Departure(NamedTuple):
    """One way in which a method is not its published code; empty `why`: not known."""

    what: str
    published: str
    here: str
    why: str = ""


class Compared(NamedTuple):
    """What a method was compared with, `owner/repository: files` or words, and every departure that was found."""

    code: str
    departures: tuple[Departure, ...] = ()


def said(compared: Compared | None) -> list[str]:
    """The lines of one method, as `describe` shows them; None: nobody compared it."""
    if compared is None:
        return ["compared with: nothing yet"]
    lines = [
        f"departs in {one.what}: published {one.published}; here {one.here}{one.why and f' ({one.why})'}"
        for one in compared.departures
    ]
    return [f"compared with: {compared.code}", *(lines or ["departures: none found"])]


def page(found: Mapping[str, Compared | None]) -> str:
    """The Markdown page of all methods by name, in their order."""
    none, rows = Departure("none found", "", ""), [HEADER, ("---",) * len(HEADER)]
    for name, compared in found.items():
        if compared is None:
            continue
        first, *more = compared.departures or [none]
        rows += [(f"`{name}`", compared.code, *first), *(("", "", *one) for one in more)]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    left = [f"`{name}`" for name, compared in found.items() if compared is None]
    return "\n\n".join([INTRO, table, *([f"Not compared yet: {', '.join(left)}."] if left else [])])
