"""`ssbench reproduce`: records run again under today's code."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option


def reproduce(
    what: Annotated[str, Argument(help="A record's id, a start of it, or its file; or a row's method.")] = "",
    stale: Annotated[bool, Option("--stale", help="All whose code has changed or is not known.")] = False,
    fewest: Annotated[bool, Option("--fewest", help="Of those as few, and as quick, as settle the others.")] = False,
    sample: Annotated[int, Option(help="So many of them, or of all; always the same ones.", min=0)] = 0,
    dataset: Annotated[str, Option(help="Where their data is, comma-separated, if it is not drawn.")] = "",
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS or TASKS.")] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda, mps.")] = "auto",
    results: Annotated[Path, Option(help="Folder of records.")] = Path("results"),
) -> None:
    """Run records again from nothing: equal ones are confirmed under today's code, others are shown, and exit 1."""
    from ssbench.errors import UserError
    from ssbench.reproduce import pick
    from ssbench.reproduce import reproduce as again
    from ssbench.results.export import called, chosen
    from ssbench.results.store import Store
    from ssbench.workshop import device as find_device

    if bool(what) == (stale or fewest or bool(sample)):
        raise UserError("name a record, or say --stale, --fewest or --sample N")
    store = Store(results)
    if not store.records.is_dir():
        raise UserError(f"--results {results}: no records there")
    store.check_writable()
    records = store.all()
    few = find_device(device).type if fewest else ""
    picked = [chosen(records, what)] if what else pick(records, stale, sample, few)
    verdicts: Counter[str] = Counter()
    try:
        for one in again(store, picked, [*filter(None, dataset.split(","))], tuple(plugin or ()), device):
            verdicts[one.verdict] += 1
            print(f"{one.verdict}: {one.record.spec.task}, {called(one.record)}" + f": {one.said}" * bool(one.said))
    except KeyboardInterrupt:
        print("ssbench: interrupted; what was confirmed stays so", file=sys.stderr)
        raise Exit(130) from None
    counts = ", ".join(f"{count} {name}" for name, count in sorted(verdicts.items()))
    print(f"{len(picked)} records: {counts or 'nothing to run again'}")
    raise Exit(verdicts["differs"] > 0)
