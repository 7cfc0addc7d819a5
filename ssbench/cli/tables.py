"""`ssbench tables`: records -> Markdown, CSV, LaTeX."""

from pathlib import Path
from typing import Annotated

from typer import Exit, Option


def tables(
    results: Annotated[Path, Option(help="Folder of records.")] = Path("results"),
    format: Annotated[str, Option(help="What to print: markdown, csv, latex or html.")] = "markdown",
    readme: Annotated[
        list[Path] | None, Option(help="A Markdown file whose <!-- table:NAME --> marks are filled.")
    ] = None,
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS or TASKS.")] = None,
    check: Annotated[
        bool, Option("--check", help="Write nothing; exit 1 where a file is not what records give.")
    ] = False,
) -> None:
    """Write every table of a results folder, the same bytes for the same records, and print them."""
    from ssbench.errors import UserError, near
    from ssbench.registry import controls
    from ssbench.results import render
    from ssbench.results.every import every
    from ssbench.results.store import Store, write_bytes
    from ssbench.results.verify import check_tables, listed

    formats = {"markdown": render.markdown, "csv": render.csv, "latex": render.latex, "html": render.html}
    if format not in formats:
        raise UserError(f"--format {format}{near(format, formats)}")
    store = Store.of_records(results)
    marked = render.pages(readme or ())
    made = every(store, controls(tuple(plugin or ())), store.all())
    if check:
        found = listed(check_tables(store, made, marked))
        print("\n".join(found) or f"{len(made)} tables are what the records give")
        raise Exit(bool(found))
    filled = {page: render.readme(text, made) for page, text in render.pages(marked).items()}
    for page, text in filled.items():
        write_bytes(page, text.encode())
    written = render.write(store, made)  # before printing: a reader such as `head` may hang up
    for one in made:
        print(formats[format](one))
    print(f"{len(written)} files in {store.tables}")
