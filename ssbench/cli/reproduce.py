"""`ssbench reproduce`: records run again under today's code."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option


def reproduce(
    what: Annotated[str, Argument(help="A record's id, a start of it, or its file; or a row's method.")] = "",
    stale: Annotated[bool, Option("--stale", help="All of changed or unknown code that is not settled.")] = False,
    fewest: Annotated[bool, Option("--fewest", help="A few of changed code that settle the others.")] = False,
    sample: Annotated[int, Option(help="So many of them, or of all; always the same ones.", min=0)] = 0,
    dataset: Annotated[str, Option(help="Where their data is, comma-separated, if it is not drawn.")] = "",
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS or TASKS.")] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda, mps.")] = "auto",
    results: Annotated[Path, Option(help="Folder of records.")] = Path("results"),
) -> None:
    """Run records again from nothing: equal ones are confirmed under today's code, others are shown, and exit 1."""
    from ssbench.errors import UserError
    from ssbench.reproduce import few, pick
    from ssbench.reproduce import reproduce as again
    from ssbench.results.codes import changed, of_store
    from ssbench.results.export import called, chosen
    from ssbench.results.store import Store

    if bool(what) + fewest + (stale or bool(sample)) != 1:
        raise UserError("name a record, or say --stale, --fewest or --sample N")
    store, sources, plugins = (
        Store.of_records(results),
        [one.strip() for one in dataset.split(",") if one.strip()],
        tuple(plugin or ()),
    )
    store.check_writable()
    store.check_current()
    if fewest:
        picked = few(store, sources, plugins, device)
    else:
        picked = [chosen(store.all(), what)] if what else pick(store, stale, sample)
    verdicts: Counter[str] = Counter()
    try:
        for one in again(store, picked, sources, plugins, device):
            verdicts[one.verdict] += 1
            print(f"{one.verdict}: {one.record.spec.task}, {called(one.record)}" + f": {one.said}" * bool(one.said))
    except KeyboardInterrupt:
        print("ssbench: interrupted; what was confirmed stays so", file=sys.stderr)
        raise Exit(130) from None
    counts = ", ".join(f"{count} {name}" for name, count in sorted(verdicts.items()))
    print(f"{len(picked)} records: {counts or 'nothing to run again'}")
    if fewest:
        left = [one for one in of_store(store) if one.status == "done"]
        changes, unknown = sum(bool(changed(one)) for one in left), sum(not one.digests for one in left)
        print(f"of {len(left)} records {changes} are still of changed code, {unknown} of code that is not known")
    raise Exit(verdicts["differs"] > 0 or bool(picked and verdicts["not run"] == len(picked)))
