"""`ssbench data`: what some data is taken for, shown."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

if TYPE_CHECKING:
    from ssbench.data.pages.written import Page


def data(
    source: Annotated[str, Argument(help="The data, as for run: shapes, folder:PATH, parquet:PATH, ...")],
    out: Annotated[Path | None, Option(help="Folder that index.md and its pictures are written to.")] = None,
    html: Annotated[bool, Option("--html", help="One index.html with the pictures in it instead.")] = False,
    set_: Annotated[list[str] | None, Option("--set", help="A setting, data.key=value; may be repeated.")] = None,
) -> None:
    """Show data: samples with labels, masks and boxes, counts, sizes, copies, groups, and the tasks that it allows.

    What `ssbench run` refuses as suspicious is shown all the same where it can be read, and what it says.
    """
    from ssbench.errors import UserError, near
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

    from ssbench.data.pages import page, written  # loads torch
    from ssbench.progress import Progress

    with Progress(1) as progress:
        progress.cell(source)
        found = page.page(source, settings, progress.tell)
        if out is not None:
            progress.tell("drawing")
            _write(found, out, html)
    if out is None:
        print(written.text(found))
    else:
        print("\n".join([*found.said, f"written: {out / ('index.html' if html else 'index.md')}"]))


def _write(found: "Page", out: Path, html: bool) -> None:
    from ssbench.data.pages import written
    from ssbench.results.store import write_bytes

    if html:
        write_bytes(out / "index.html", written.html(found).encode())
        return
    for name, _, draw in found.pictures:
        write_bytes(out / name, draw())
    write_bytes(out / "index.md", written.markdown(found).encode())
