"""`ssbench data`: what some data is taken for, shown."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option


def data(
    source: Annotated[str, Argument(help="The data, as for run: shapes, folder:PATH, parquet:PATH, ...")],
    out: Annotated[Path | None, Option(help="Folder that index.md and its pictures are written to.")] = None,
    html: Annotated[bool, Option("--html", help="One index.html with the pictures in it instead.")] = False,
    set_: Annotated[list[str] | None, Option("--set", help="A setting, data.key=value; may be repeated.")] = None,
) -> None:
    """Show data: samples with labels, masks and boxes, counts, sizes, copies, groups, and the tasks that it allows.

    What `ssbench run` refuses as suspicious is shown all the same where it can be read, and what it says.
    """
    from ssbench.data import page, written
    from ssbench.errors import UserError, near
    from ssbench.progress import Progress
    from ssbench.results.store import write_bytes
    from ssbench.settings import make, parse_assignments
    from ssbench.spec import DataSettings

    scopes = parse_assignments(set_ or [])
    for scope in scopes:
        if scope != "data":
            raise UserError(f"--set {scope}.…: only data.… is set here{near(scope, ['data'])}")
    if html and out is None:
        raise UserError("--html: say where to with --out FOLDER")
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: there is a file of that name; name a folder")
    settings = make(DataSettings, scopes.get("data", {}), "data")
    with Progress(1) as progress:
        progress.cell(source)
        found = page.page(source, settings, drawn=out is not None, tell=progress.tell)
    if out is None:
        print(written.text(found))
        return
    name = "index.html" if html else "index.md"
    files = {name: written.html(found).encode()} if html else {**found.files, name: written.markdown(found).encode()}
    for file, content in files.items():
        write_bytes(out / file, content)
    print("\n".join(found.said))
    print(f"written: {out / name}")
