"""`ssbench show-masks`: pictures of what methods do to a few images, such as what they hide and predict."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Exit, Option

if TYPE_CHECKING:
    from ssbench.plan import Cell


def show_masks(
    method: Annotated[str, Option(help="Pretraining methods that make pictures, comma-separated.")] = "",
    dataset: Annotated[str, Option(help="Data that is pretrained on and pictured, comma-separated.")] = "shapes",
    backbone: Annotated[str, Option(help="A preset or a timm model.")] = "vit-nano",
    budget: Annotated[str, Option(help="epochs=, samples=, steps=, flops= or seconds=.")] = "samples=64000",
    seed: Annotated[int, Option(help="One seed.")] = 0,
    set_: Annotated[list[str] | None, Option("--set", help="A setting, scope.key=value; may be repeated.")] = None,
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS.")] = None,
    device: Annotated[str, Option(help="auto, cpu, cuda, mps.")] = "auto",
    results: Annotated[Path, Option(help="Folder whose cache has the encoders and pictures.")] = Path("results"),
    out: Annotated[Path, Option(help="Folder that the pictures are written to.")] = Path("pictures"),
) -> None:
    """Train methods, unless `ssbench run` has, and picture what each does to held-out images at the end.

    One PNG a method: a row an image, a column a panel. The folder of the earlier pictures is printed beside it.
    """
    from ssbench import plan

    names = [name.strip() for name in method.split(",") if name.strip()]
    sources = [source.strip() for source in dataset.split(",")]
    lists = {"method": names, "dataset": sources, "backbone": [backbone], "seeds": [seed]}
    asked = plan.request({**lists, "budget": budget, "set": set_ or [], "plugin": plugin or []}, "show-masks")
    _show([cell for cell in plan.cells(asked) if cell.method.name in names], results, device, out)


def _show(cells: "list[Cell]", results: Path, device: str, out: Path) -> None:
    from ssbench.errors import NotApplicable, UserError
    from ssbench.progress import Progress
    from ssbench.registry import blame
    from ssbench.results.store import Store, write_bytes
    from ssbench.training.trained import assemble, pictured
    from ssbench.workshop import Workshop
    from ssbench.workshop import device as find_device

    _refuse_without_pictures(cells)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: there is a file of that name; name a folder")
    store = Store(results)
    store.check_writable()
    with Progress(len(cells)) as progress:
        shop, made = Workshop(store, find_device(device), progress.tell), dict[Path, Path]()
        try:
            for cell in cells:  # what can be wrong with any of them is said before the first one trains
                assemble(shop.open(cell))
            for cell in cells:
                progress.cell(f"{cell.method.name} / {cell.spec.data.name}")
                found = pictured(shop.open(cell))
                if not found:
                    raise UserError(f"{cell.method.name} makes no pictures with these settings")
                made[out / _name(cell)] = found[-1]
        except UserError:
            raise
        except NotApplicable as error:
            raise UserError(f"{cell.method.name}: {error}") from None
        except Exception as error:  # a plugin may fail in any way
            raise UserError(f"{cell.method.name}: {blame(error, [cell.method])}") from None
        except KeyboardInterrupt:
            print("ssbench: interrupted; the same command goes on from here", file=sys.stderr)
            raise Exit(130) from None
    for file, picture in made.items():
        write_bytes(file, picture.read_bytes())
        print(f"{file} (along training: {picture.parent})")


def _name(cell: "Cell") -> str:
    variant = cell.spec.pretraining.digest()[:8]  # other settings, seeds and budgets have pictures of their own
    return f"{cell.method.name}.{cell.spec.data.name}.{variant}.png".replace("/", "_").replace(":", "-")


def _refuse_without_pictures(cells: "list[Cell]") -> None:
    from ssbench.errors import UserError
    from ssbench.method import Method
    from ssbench.registry import load

    for cell in cells:
        kind = load(cell.method)
        if not kind.trains or kind.picture is Method.picture:
            raise UserError(f"{cell.method.name} makes no pictures: it has no `picture` of its own; leave it out")
