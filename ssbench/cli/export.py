"""`ssbench export`: the encoder that was judged, as files that plain timm loads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from typer import Argument, Option

if TYPE_CHECKING:
    from ssbench.encoders.export import Format
    from ssbench.results.store import Store


def export(
    what: Annotated[str, Argument(help="A record's id, a start of it, or its file; or a row's method.")],
    out: Annotated[Path, Option(help="NAME.safetensors; NAME.json and NAME.md come along. Or a folder.")],
    format: Annotated[
        str, Option(help="safetensors, or hf-folder, which timm opens as local-dir:FOLDER.")
    ] = "safetensors",
    dataset: Annotated[str, Option(help="Which data a row was judged on, where there are several.")] = "",
    seed: Annotated[int | None, Option(help="Which seed of a row.  \\[default: the lowest]")] = None,
    results: Annotated[Path, Option(help="Folder of records and the cache.")] = Path("results"),
) -> None:
    """Take the judged encoder home: its weights under timm's names, a description, a model card, and how to load it."""
    from ssbench.errors import UserError, near
    from ssbench.results.store import Store

    if format not in ("safetensors", "hf-folder"):
        raise UserError(f"--format {format}{near(format, ('safetensors', 'hf-folder'))}")
    store = Store.of_records(results)
    _export(store, what, dataset, seed, out, cast("Format", format))


def _export(store: "Store", what: str, dataset: str, seed: int | None, out: Path, format: "Format") -> None:
    from ssbench.encoders.export import code
    from ssbench.results.export import cached, called, chosen, describe, write

    records = store.all()
    record = chosen(records, what, dataset, seed)
    encoder = cached(store, record)
    found = describe(encoder, record, records)
    written = write(encoder, found, out, format)
    print(f"record {called(record)}")
    for file in reversed(written):
        print(file)
    print("\nIt loads with timm, torch and safetensors alone:\n")
    print("\n".join(code(found, out, format)))
    if found.vector:
        shape = f"(B, {len(found.mean)}, {found.size}, {found.size})"
        print(f"vectors = {found.vector}  # (B, {found.dim}), of prepared images x {shape}")
