"""Records -> the pictures that their runs left, each with what its panels are. No torch until one is found."""

from collections.abc import Iterable
from dataclasses import dataclass
from glob import escape
from inspect import cleandoc

from ssbench.results.record import Record
from ssbench.results.store import Store


@dataclass(frozen=True)
class Picture:
    """A PNG with one row an image and one column a panel."""

    content: bytes
    caption: str


def of_records(store: Store, records: Iterable[Record], plugins: tuple[str, ...] = ()) -> list[Picture]:
    """Of the first seed of each pretraining its last one, and those of its tasks, in the order of the records."""
    found: dict[tuple[str, ...], Picture] = {}
    for record in records:
        p = record.spec.pretraining
        kind = p.model_copy(update={"seed": 0}).digest()
        for file in sorted((store.cache / "pictures" / p.digest()).glob("[0-9]*.png"))[-1:]:
            said = f"{p.method}, seed {p.seed}, step {int(file.stem)}: {panels(p.method, plugins)}"
            found.setdefault((kind,), Picture(file.read_bytes(), said))
        for file in sorted((store.folder / "pictures").glob(f"{escape(store.file(record.spec).stem)}.*.png")):
            name = file.name.removesuffix(".png").rpartition(".")[2]
            said = f"{record.spec.task} of {p.method}, seed {p.seed}: {name}"
            found.setdefault((kind, record.spec.task, name), Picture(file.read_bytes(), said))
    return [*found.values()]


def panels(method: str, plugins: tuple[str, ...] = ()) -> str:
    """What a method's `picture` says that its panels are, from the left."""
    from ssbench.errors import UserError
    from ssbench.registry import find, load

    try:
        said = load(find("methods", method, plugins)).picture.__doc__ or ""
    except UserError:  # a plugin that is not at hand
        said = ""
    return " ".join(cleandoc(said).partition("\n\n")[0].split()) or "a row an image"
