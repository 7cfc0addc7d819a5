"""The command line: one small file a verb. Imports are inside the functions, so that --help needs no torch."""

import sys
from io import TextIOWrapper

import typer

from ssbench.cli import (
    cache,
    check,
    data,
    describe,
    doctor,
    evaluate,
    exchange,
    export,
    listing,
    migrate,
    report,
    reproduce,
    run,
    show_masks,
    tables,
    tune,
    verify,
)
from ssbench.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Which self-supervised pretraining should I use, for my images, at my budget?",
)
app.command("run")(run.run)
app.command("tune")(tune.tune)
app.command("eval")(evaluate.evaluate)
app.command("tables")(tables.tables)
app.command("report")(report.report)
app.command("migrate")(migrate.migrate)
app.command("verify")(verify.verify)
app.command("reproduce")(reproduce.reproduce)
app.command("data")(data.data)
app.command("show-masks")(show_masks.show_masks)
app.command("export")(export.export)
app.command("export-results")(exchange.export_results)
app.command("import-published")(exchange.import_published)
app.add_typer(cache.cache, name="cache")
app.command("list")(listing.listing)
app.command("describe")(describe.describe)
app.command("check")(check.check)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Exit status: 0 done, 1 some cell failed, 2 the command was wrong, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # else something stands in for it that takes any text
            stream.reconfigure(errors="replace")  # a terminal without the table's dashes shows ? and loses no table
    try:
        app()
    except UserError as error:
        print(f"ssbench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.filename is None:  # no file of the user's
            raise
        print(f"ssbench: {error.filename}: {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None
