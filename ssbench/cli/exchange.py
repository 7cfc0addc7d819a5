"""`ssbench export-results` and `ssbench import-published`: records out, other people's rows in."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

Results = Annotated[Path, Option(help="Folder of records.")]


def export_results(
    out: Annotated[
        str,
        Argument(
            help="A file that ends in .csv, .parquet, .jsonl (training logs) or .yaml (the hub's model-index); or a "
            "tracker: tensorboard:FOLDER, mlflow:URI, wandb:PROJECT."
        ),
    ],
    results: Results = Path("results"),
) -> None:
    """Write all records to one file that other programs read, or to an experiment tracker."""
    from ssbench.results.codes import of_store
    from ssbench.results.exchange import ROWS, write_results
    from ssbench.results.store import Store
    from ssbench.results.trackers import TRACKERS, send

    store = Store.of_records(results)
    if out.partition(":")[0] in TRACKERS:
        print(f"{out}: {send(store.all(), out)} runs, one a pretraining")
    else:
        records = of_store(store)  # a mean is of one code
        print(f"{out}: {write_results(records, Path(out))} {ROWS[Path(out).suffix]}")


def import_published(
    file: Annotated[
        Path,
        Argument(
            help="A CSV file: method, data, backbone, task, metric, value, unit (% unless said), protocol, source."
        ),
    ],
    results: Results = Path("results"),
) -> None:
    """Show published rows beside measured ones in `ssbench tables` and `ssbench report`, with their protocol."""
    from ssbench.results.published import add, read
    from ssbench.results.store import Store

    rows = read(file)
    known = add(Store(results), rows)
    print(f"{results / 'published.csv'}: {len(known)} published rows; ssbench tables --results {results} shows them")
