"""`ssbench migrate`: records of older schemas and code as today's would write them."""

from pathlib import Path
from typing import Annotated

from typer import Option


def migrate(results: Annotated[Path, Option(help="Folder of records.")] = Path("results")) -> None:
    """Write records of older schemas in today's, under their new identities; their scores and predictions stay.

    Intervals, which follow from predictions, are made again, and code that is the same under a new digest has that.
    """
    from ssbench.results.renew import renew
    from ssbench.results.store import Store

    store = Store.of_records(results)
    store.check_writable()
    print(f"{store.upgrade()} records migrated, {renew(store)} brought up to date in {store.records}")
