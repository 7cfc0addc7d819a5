"""`ssbench verify`: everything that follows from something else, made again and compared."""

from pathlib import Path
from typing import Annotated

from typer import Exit, Option


def verify(
    results: Annotated[Path, Option(help="Folder of records.")] = Path("results"),
    readme: Annotated[list[Path] | None, Option(help="A Markdown file with <!-- table:NAME --> marks.")] = None,
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS or TASKS.")] = None,
) -> None:
    """Recompute identities, digests, scores and intervals, tables and README; name what differs, and exit 1."""
    from itertools import chain

    from ssbench.registry import controls
    from ssbench.results.codes import again
    from ssbench.results.every import every
    from ssbench.results.render import pages
    from ssbench.results.store import Store
    from ssbench.results.verify import check_records, check_tables, listed

    store, marked = Store.of_records(results), pages(readme or ())
    short = again(store)
    found = listed(chain(check_records(store), check_records(short)))
    files = len(store.files()) + len(short.files())
    if found:
        found.append("tables are not compared: records come first")
    else:
        made = every(store, controls(tuple(plugin or ())), store.all())
        found = listed(check_tables(store, made, marked)) if store.tables.is_dir() or marked else []
    compared = " and their tables" if store.tables.is_dir() or marked else ", of which there are no tables,"
    print("\n".join(found) or f"{files} records{compared} are what they follow from")
    raise Exit(bool(found))
