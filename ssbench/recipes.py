"""Whose rates, schedules and batch a method is trained with: its own, those that all share, or published ones."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ssbench.errors import UserError
from ssbench.registry import Entry, load
from ssbench.settings import make
from ssbench.spec import Train

if TYPE_CHECKING:  # planning loads torch only for encoders that are given
    from ssbench.encoders.given import Given
    from ssbench.method import Recipe

RECIPES = ("own", "shared", "cifar", "imagenet")


def check(name: str) -> None:
    """Raises UserError for a name that no recipe can have."""
    if name not in RECIPES:
        raise UserError(f"--recipe {name}: choose {', '.join(RECIPES[:-1])} or {RECIPES[-1]}")


def of(method: Entry, name: str, backbone: str, given: "Given | None") -> "Recipe":
    """What a method changes of the shared recipe: nothing for a control without one, and where `own` says nothing.

    A recipe named for the kind of the backbone, `own/conv`, comes before one for all. Raises UserError where a method
    has none that is published under that name.
    """
    from ssbench.method import Recipe

    known, shared = load(method).recipes, Recipe("shared by all")
    if name == "shared":
        return shared
    by_kind = any(key.startswith(f"{name}/") for key in known)
    kind = "vit" if by_kind and _is_vit(backbone, given) else "conv"
    found = known.get(f"{name}/{kind}", known.get(name))
    if found is None and name != "own" and not method.control:
        has = ", ".join(sorted({key.partition("/")[0] for key in known} | {"own", "shared"}))
        raise UserError(f"--recipe {name}: {method.name} has none of that name for {backbone}; it has {has}")
    return found or shared


def _is_vit(backbone: str, given: "Given | None") -> bool:
    from ssbench.encoders.names import is_vit, trunk_of  # loads timm

    if given is None:
        return is_vit(trunk_of(backbone))
    return given.architecture is not None and is_vit(given.architecture.name)


def called(name: str, changed: Mapping[str, Any]) -> str:
    """The recipe's name and what of `train` was set besides; empty for the shared one, whose values say all."""
    values = make(Train, changed, "train").model_dump(mode="json", exclude_unset=True)
    return "" if name == "shared" else "; ".join([name, *(f"train.{key}={values[key]}" for key in sorted(values))])
