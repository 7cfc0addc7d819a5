"""`ssbench migrate`: records of older schemas in today's."""

from pathlib import Path
from typing import Annotated

from typer import Option


def migrate(results: Annotated[Path, Option(help="Folder of records.")] = Path("results")) -> None:
    """Write records of older schemas in today's, under their new identities; their scores and predictions stay."""
    from ssbench.results.store import Store

    store = Store.of_records(results)
    store.check_writable()
    print(f"{store.upgrade()} records migrated in {store.records}")
