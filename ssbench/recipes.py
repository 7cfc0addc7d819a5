"""What a method or a task is set to, and whose rates, schedules and batch a method is trained with.

These are its own, those that all share, or published ones.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ssbench.errors import UserError
from ssbench.registry import Entry, load
from ssbench.settings import Settings, make
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


def settled(entry: Entry, scopes: Mapping[str, Mapping[str, str]], recipe: Mapping[str, Any] | None = None) -> Settings:
    """A part's settings; raises UserError. Its own name alone changes what its preset fixes, not its family's scope.

    A `recipe`'s values are defaults: what is fixed or set counts. A mixture's are the settings of its parts and their
    weights, `mix.NAME`.
    """
    if entry.members:
        return _settled_mixture(entry, scopes, recipe)
    values = {**(recipe or {}), **scopes.get(entry.scope, {}), **entry.preset, **scopes.get(entry.name, {})}
    return make(load(entry).Settings, values, entry.name)


def _settled_mixture(
    entry: Entry, scopes: Mapping[str, Mapping[str, str]], recipe: Mapping[str, Any] | None
) -> Settings:
    """The recipe is the first part's, which leads, and none of the others'."""
    said, names = scopes.get("mix", {}), [member.name for member in entry.members]
    if unknown := said.keys() - {*names}:
        raise UserError(f"mix.{min(unknown)}: {entry.name} has no such part; its parts: {', '.join(names)}")
    parts = {
        member.name: {
            "version": load(member).version,
            "settings": settled(member, scopes, recipe if member == entry.members[0] else None).model_dump(mode="json"),
        }
        for member in entry.members
    }
    return make(load(entry).Settings, {"weights": {name: said.get(name, 1) for name in names}, "parts": parts}, "mix")
