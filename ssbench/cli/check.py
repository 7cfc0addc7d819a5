"""`ssbench check`: does a plugin's file keep what methods and tasks promise?"""

from typing import TYPE_CHECKING, Annotated

from typer import Exit, Option

if TYPE_CHECKING:
    from ssbench.registry import Entry, Kind


def check(plugin: Annotated[str, Option(help="A Python file with METHODS or TASKS.")]) -> None:
    """Run the contract tests on the methods and tasks of a file, with tiny drawn images; a line a promise."""
    from ssbench.errors import UserError
    from ssbench.registry import entries

    kinds: tuple[Kind, ...] = ("methods", "tasks")
    found = [(kind, one) for kind in kinds for one in entries(kind, (plugin,)).values() if one.owner == plugin]
    if not found:
        raise UserError(f"--plugin {plugin}: it has no METHODS and no TASKS, or they are empty")
    broken = sum(_checked(kind, entry) for kind, entry in found)
    if broken:
        print(f"{broken} {'promise is' if broken == 1 else 'promises are'} not kept; see docs/add-a-method.md")
        raise Exit(1)


def _checked(kind: "Kind", entry: "Entry") -> int:
    """How many promises an entry does not keep; each is said."""
    from ssbench import contracts
    from ssbench.errors import Broken, NotApplicable
    from ssbench.registry import blame

    print(entry.name)
    try:
        promises = contracts.of_methods(entry) if kind == "methods" else contracts.of_tasks(entry)
    except Broken as error:
        print(f"  wrong  {error}")
        return 1
    data, broken = contracts.tiny(), 0
    for promise in promises:
        said = (promise.__doc__ or "").splitlines()[0]
        try:
            promise(entry, data)
            print(f"  ok     {said}")
        except NotApplicable as error:
            print(f"  -      {said}: does not apply: {error}")
        except Exception as error:  # a plugin may fail in any way
            broken += 1
            print(f"  wrong  {said}: {blame(error, [entry])}")
    return broken
