"""`hf:NAME`, `hf:NAME@CONFIG`: what Hugging Face's `datasets` can load: the hub, a local folder, a saved set.

Cells are opened here and not by `datasets`, so that a broken one is named by its split and row.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssbench.data.listing import Listing
from ssbench.data.sources.columns import find_columns
from ssbench.data.sources.rows import Parts, arrange, content, listing
from ssbench.data.sources.table import Table, fields
from ssbench.errors import UserError, near, one_line
from ssbench.spec import DataSettings


def identify(argument: str, settings: DataSettings) -> tuple[str, str]:
    """The last part of the name, and the fingerprint of the content of the columns in use.

    The one that `datasets` keeps is of no use here: it follows from the dates of the files in its cache.
    """
    digest = hashlib.sha256()
    parts = _parts(argument, settings)
    columns, _ = find_columns(f"hf:{argument}", parts.tables, settings)
    images = (columns.image, columns.mask, columns.depth)
    for split, mine in parts.splits.items():
        for part in mine:
            digest.update(f"{split}|{part.total}|{columns}|".encode())
            for _, row in part.each(columns.used):
                for name in columns.used:
                    value = row.get(name)
                    cell = content(value, part.table.folder) if name in images else str(value).encode()
                    digest.update(f"{len(cell)}|".encode() + cell)
    name, config = _named(argument)
    return "@".join(filter(None, (Path(name).name, config))), digest.hexdigest()[:16]


def read(argument: str, settings: DataSettings) -> Listing:
    """Its rows; raises UserError on what can't be loaded and on columns that are not there."""
    return listing(f"hf:{argument}", _parts(argument, settings), settings)


def _parts(argument: str, settings: DataSettings) -> Parts:
    found = _load(argument)
    folder = Path(_named(argument)[0])
    tables = {name: [_table(name, split, folder)] for name, split in found.items()}
    return arrange(f"hf:{argument}", tables, "splits", settings)


def _named(argument: str) -> tuple[str, str]:
    """The name or the whole path of a local folder, and the configuration."""
    name, at, config = argument.rpartition("@")
    if not at or Path(argument).expanduser().exists():
        name, config = argument, ""
    local = Path(name).expanduser()
    return (str(local.resolve()) if local.exists() else name), config


def _load(argument: str) -> dict[str, Any]:
    """The splits of a data set of the hub or of a local folder, through the cache of `datasets`."""
    try:
        import datasets
    except ModuleNotFoundError:
        raise UserError("hf: needs the extra: pip install 'ssbench[hf]'") from None
    name, config = _named(argument)
    try:
        if (Path(name) / "dataset_dict.json").is_file() or (Path(name) / "state.json").is_file():
            saved = datasets.load_from_disk(name)
            return dict(saved) if isinstance(saved, datasets.DatasetDict) else {"train": saved}
        return dict(datasets.load_dataset(name, config or None))
    except Exception as error:  # it fails in as many ways as there are hubs, networks and formats
        if isinstance(error, ValueError):  # which it raises for a configuration that is missing or unknown
            _refuse_config(datasets, argument, name, config)
        raise UserError(f"hf:{argument} can't be loaded: {one_line(error)}") from None


def _refuse_config(datasets: Any, argument: str, name: str, config: str) -> None:
    """Raises UserError with the names of the configurations, where the wrong one or none of several was asked for."""
    try:
        names = datasets.get_dataset_config_names(name)
    except Exception:  # then it is not the configuration that is wrong
        return
    if config and config not in names:
        raise UserError(f"hf:{argument} has no configuration {config!r}{near(config, names)}") from None
    if not config and len(names) > 1:
        raise UserError(
            f"hf:{argument} has several configurations: {', '.join(names)}; say which, such as hf:{argument}@{names[0]}"
        ) from None


def _table(name: str, split: Any, folder: Path) -> Table:
    def batches(columns: list[str], size: int) -> Iterable[Any]:
        return split.select_columns(columns).with_format("arrow").iter(size)

    return Table(name, len(split), fields(split.features.arrow_schema, name), folder, batches)
