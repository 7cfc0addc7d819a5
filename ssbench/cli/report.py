"""`ssbench report`: records -> one HTML page, and its figures as files."""

from pathlib import Path
from typing import Annotated

from typer import Option


def report(
    results: Annotated[Path, Option(help="Folder of records.")] = Path("results"),
    out: Annotated[Path, Option(help="The page.")] = Path("report.html"),
    figures: Annotated[Path | None, Option(help="A folder for the figures, each as SVG and PNG.")] = None,
    title: Annotated[str, Option(help="What stands on top.")] = "Which pretraining to use",
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS or TASKS.")] = None,
) -> None:
    """Write a page that can be sent: verdicts, tables to sort, figures, pictures, each number with its record."""
    from ssbench.errors import UserError
    from ssbench.registry import controls
    from ssbench.report import page, pictures
    from ssbench.results.every import every
    from ssbench.results.store import Store, write_bytes
    from ssbench.results.table import Table

    store, plugins = Store.of_records(results), tuple(plugin or ())
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file in it")
    if figures is not None and figures.exists() and not figures.is_dir():
        raise UserError(f"--figures {figures}: there is a file of that name; name a folder")
    records = store.all()
    known = {record.id: record for record in records}
    made = every(store, controls(plugins), records)
    shown = {
        one.slug: pictures.of_records(store, page.behind(one, known), plugins) for one in made if isinstance(one, Table)
    }
    drawn = page.figures(made, known, page.FIGURED if figures is None else None)
    write_bytes(out, page.page(made, known, drawn, shown, title, str(results)).encode())
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    if figures is not None:
        written = page.write_figures(drawn, figures)
        print(f"{len(written)} files in {figures}")
