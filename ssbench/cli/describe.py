"""`ssbench describe`: a method's or task's settings, with types, defaults and their sources."""

from inspect import cleandoc
from typing import Annotated, Any

from typer import Argument, Option


def describe(
    name: Annotated[str, Argument(help="A method, a task, train, data, backbone, encoder, or file:PATH, timm:NAME.")],
    backbone: Annotated[str, Option(help="The timm network of a file; its keys tell it as a rule.")] = "",
    plugin: Annotated[list[str] | None, Option(help="A Python file with METHODS or TASKS.")] = None,
) -> None:
    """What a name stands for and what can be set."""
    if name.partition(":")[0] in ("file", "timm", "python"):
        _print_encoder(name, backbone)
        return
    from ssbench.departures import said
    from ssbench.errors import UserError, near
    from ssbench.plan import FIXED_SCOPES
    from ssbench.registry import entries, load

    plugins = tuple(plugin or ())
    if name in FIXED_SCOPES:
        print(f"{name}: {FIXED_SCOPES[name].__doc__}")
        _print_settings(name, FIXED_SCOPES[name])
        return
    methods = entries("methods", plugins)
    found = {**methods, **entries("tasks", plugins)}
    if name not in found:
        raise UserError(f"unknown name {name!r}{near(name, [*found, *FIXED_SCOPES])}")
    entry = found[name]
    kind = load(entry)
    print(f"{name} ({entry.family}): {entry.summary}")
    print(f"paper: {entry.paper or 'none'}\nversion: {kind.version}\nowner: {entry.owner}\n")
    print(cleandoc(kind.__doc__ or ""))
    if name in methods:
        shared = [] if entry.scope == name else [f"what it shares with {entry.scope}: ssbench describe {entry.scope}"]
        print("\n" + "\n".join([*said(entry.compared), *shared, *map(_recipe, kind.recipes.items())]))
    for metric in getattr(kind, "metrics", ()):
        print(f"metric: {metric.name} in {metric.unit}, {metric.better} is better")
    _print_settings(entry.scope, kind.Settings, entry)


def _recipe(named: tuple[str, Any]) -> str:
    """What --recipe changes, `own` being what runs: `recipe own/vit: train.lr=0.0007 [source]`."""
    name, recipe = named
    train = [f"train.{key}={value}" for key, value in recipe.train.items()]
    own = [f"{key}={value}" for key, value in recipe.settings.items()]
    return f"recipe {name}: {' '.join([*train, *own])} [{recipe.source}]"


def _print_settings(scope: str, model: Any, entry: Any = None) -> None:
    """What can be set, as it is typed: what a preset fixes, only its own name changes."""
    from ssbench.settings import explain

    preset, published = (entry.preset, entry.source) if entry else ({}, "")
    for key, line in zip(model.model_fields, explain(model, preset, published)):
        print(f"\n  --set {entry.name if entry and key in preset else scope}.{line}")


def _print_encoder(source: str, backbone: str) -> None:
    """What an encoder is taken for, the world it was trained in, and how its weights fit."""
    from ssbench.encoders.given import open_encoder

    given = open_encoder(source, backbone)
    encoder, matched = given.encoder(given.size)
    print(f"{given.name} (layout: {given.layout})")
    if encoder.architecture:
        print(f"network: timm {encoder.architecture.name} {dict(encoder.architecture.options)}")
    print(
        f"built: {encoder.summary(given.size)}, {sum(p.numel() for p in encoder.parameters()) / 1e6:.2f} M parameters"
    )
    mean, std = ([round(value, 4) for value in values] for values in (given.mean, given.std))
    print(f"images: {given.size} px, mean {mean}, deviation {std}")
    print(
        f"vectors: {', '.join(encoder.poolings)}, the first is the headline's; blocks that can be read: {encoder.depth}"
    )
    print(f"weights: {matched.share:.1%} of the parameters fit")
    for kind in ("missing", "unexpected", "misshaped", "left_out"):
        names = getattr(matched, kind)
        print(f"{kind.replace('_', ' ')}: {len(names)}" + (f": {', '.join(names)}" if names else ""))
