"""Typed settings: declared beside the code that uses them, set from the command line, described, hashed."""

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ssbench.errors import UserError, near

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: frozen; unknown keys and non-finite numbers refused; strings coerced to a field's type."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def setting(default: Any, help: str, *, source: str, unit: str = "", **bounds: Any) -> Any:
    """One field of a `Settings` class: its default, what it means and where the default comes from.

    `bounds` go to pydantic's Field (`gt`, `ge`, `lt`, `le`, `min_length`).
    """
    return Field(default, description=help, json_schema_extra={"source": source, "unit": unit}, **bounds)


def identified(name: str) -> str:
    """`file@digest` of a file's name: what is in it identifies a result, not its name alone. Other text stays.

    Raises ValueError where a name already has the digest of other content, and where the file can't be read.
    """
    try:
        file, known = _parted(name)
        if not name or not file.is_file():
            return name
        found = _digest(file, file.stat().st_mtime_ns, file.stat().st_size)
    except OSError as error:
        raise ValueError(f"it can't be read ({error.strerror})") from None
    if known not in ("", found):
        raise ValueError(f"the file's digest is {found}, these are other weights")
    return f"{file.as_posix()}@{found}"


# the type of a setting that names a file, such as weights: who overwrites the file gets another result's identity
File = Annotated[str, AfterValidator(identified)]


def file_of(name: str) -> Path:
    """The path in a setting of type `File`, without the digest that follows it."""
    return _parted(name)[0]


def _parted(name: str) -> tuple[Path, str]:
    """A file and the digest that follows its name, if any."""
    file, _, digest = name.rpartition("@")
    has = file and re.fullmatch("[0-9a-f]{16}", digest) and not Path(name).is_file()
    return (Path(file), digest) if has else (Path(name), "")


@lru_cache
def _digest(file: Path, written: int, size: int) -> str:
    """The start of a file's SHA-256, read once as long as it is not `written` again."""
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()[:16]


def make(model: type[S], values: Mapping[str, Any], scope: str) -> S:
    """Settings from plain values or strings; raises UserError naming `scope.key`, the value and the nearest key."""
    try:
        return model(**{key: _split(model, key, value) for key, value in values.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "settings"
        if first["type"] == "extra_forbidden":
            raise UserError(f"unknown setting {scope}.{key}{near(key, model.model_fields)}") from None
        raise UserError(f"{scope}.{key}={first['input']}: {first['msg'].removeprefix('Value error, ')}") from None


def _split(model: type[Settings], key: str, value: Any) -> Any:
    """A comma list given as one string becomes a tuple where the field is one: `knn.ks=10,20`."""
    field = model.model_fields.get(key)
    is_tuple = field is not None and "tuple" in str(field.annotation)
    return tuple(value.split(",")) if is_tuple and isinstance(value, str) else value


def parse_assignments(texts: list[str]) -> dict[str, dict[str, str]]:
    """`["knn.k=5"]` -> `{"knn": {"k": "5"}}`; raises UserError on anything that is not scope.key=value."""
    scopes: dict[str, dict[str, str]] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        scope, dot, key = path.rpartition(".")
        if not (equals and dot and scope and key):
            raise UserError(f"--set {text}: expected scope.key=value, such as train.lr=1e-3")
        scopes.setdefault(scope.strip(), {})[key.strip()] = value.strip()
    return scopes


def explain(model: type[Settings], preset: Mapping[str, Any], published: str = "") -> list[str]:
    """For each field: `key=default (type, unit): help [source]`, with a preset's value in the default's place.

    `published` is where the preset's values come from.
    """
    lines = []
    for key, field in model.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        plain = isinstance(field.annotation, type) and not hasattr(field.annotation, "__args__")
        kind = field.annotation.__name__ if plain else str(field.annotation).replace("typing.", "")  # type: ignore[union-attr]
        unit = f", {extra['unit']}" if extra.get("unit") else ""
        value = preset.get(key, field.default)
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        fixed = f"fixed by the preset; {published}" if published else "fixed by the preset"
        source = fixed if key in preset else extra.get("source")
        lines.append(f"{key}={shown} ({kind}{unit}): {field.description} [{source}]")
    return lines
