"""`ssbench tables`: records -> Markdown, CSV, LaTeX."""

from pathlib import Path
from typing import Annotated

from typer import Option


def tables(
    results: Annotated[Path, Option(help="Folder of records.")] = Path("results"),
    format: Annotated[str, Option(help="What to print: markdown, csv or latex.")] = "markdown",
    readme: Annotated[Path | None, Option(help="A Markdown file whose <!-- table:NAME --> marks are filled.")] = None,
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS or TASKS.")] = None,
) -> None:
    """Write every table of a results folder, the same bytes for the same records, and print them."""
    from ssbench.errors import UserError, near
    from ssbench.registry import controls
    from ssbench.results import render
    from ssbench.results.alike import alike
    from ssbench.results.grid import grids, measures, optima, pivots
    from ssbench.results.mce import mce
    from ssbench.results.profiles import profiles
    from ssbench.results.ranks import agreement, study
    from ssbench.results.store import Store, write_bytes
    from ssbench.results.table import build
    from ssbench.results.trunks import trunks
    from ssbench.results.tuned import tunings

    formats = {"markdown": render.markdown, "csv": render.csv, "latex": render.latex}
    if format not in formats:
        raise UserError(f"--format {format}{near(format, formats)}")
    store = Store(results)
    if not store.records.is_dir():
        raise UserError(f"--results {results}: no records there; make some with ssbench run --results {results}")
    records, known = store.all(), controls(tuple(plugin or ()))
    found = pivots(store, records)
    made: list[render.Shown] = [
        *build(store, known, records),
        *grids(found),
        *optima(found),
        *measures(records, known),
        *mce(records, known),
        *profiles(records, known),
        *study(records, known),
        *agreement(records, known),
        *trunks(records, known),
        *alike(store, records, known),
        *tunings(records, known),
    ]
    if readme is not None:
        if not readme.is_file():
            raise UserError(f"--readme {readme}: there is no such file")
        write_bytes(readme, render.readme(readme.read_text(), made).encode())
    for one in made:
        print(formats[format](one))
    written = render.write(store, made)
    print(f"{len(written)} files in {store.tables}")
