"""Equal cost instead of equal images: every method gets the FLOPs that the first one takes for the budget."""

from math import ceil, log10

from ssbench.errors import UserError
from ssbench.plan import Cell, Suite, cells
from ssbench.registry import blame
from ssbench.results.store import Store
from ssbench.spec import Budget
from ssbench.training.loop import flops_a_step, total_steps
from ssbench.training.trained import assemble
from ssbench.workshop import Tell, Workshop, device

DIGITS = 6  # of a budget: rounded up, so that the first method takes the steps that it was asked for


def matched(asked: Suite, results: Store, where: str, say: Tell) -> Suite:
    """What is asked with budgets in FLOPs, those of the first method's steps; says which. What is in FLOPs stays.

    What a step of any method costs is counted when it is trained, so each takes its own number of them. Raises
    UserError where nothing is trained, or the first method is there in several variants that cost differently.
    """
    first = _first(asked)
    try:
        method, run = assemble(Workshop(results, device(where)).open(first))
        assert run is not None
        method.train()
        each, budgets = flops_a_step(run), list[str]()
    except UserError:
        raise
    except Exception as error:  # what does not apply, and what a plugin does
        raise UserError(
            f"--match flops: {first.method.name} can't be trained here: {blame(error, [first.method])}"
        ) from error
    for text in asked.budget:
        budget = Budget.parse(text)
        steps = total_steps(budget, len(run.images), run.recipe.batch, each)
        if steps is None:
            raise UserError(
                f"--match flops with --budget {text}: seconds are equal already, and say no number of steps"
            )
        budgets.append(text if budget.unit == "flops" else f"flops={_rounded_up(each * steps):.0f}")
        say(f"--budget {budgets[-1]}: what {first.method.name} takes for {text}, {steps} steps")
    return asked.model_copy(update={"budget": tuple(budgets)})


def _first(asked: Suite) -> Cell:
    trained = [cell for cell in cells(asked) if cell.spec.pretraining.budget and not cell.method.control]
    if not trained:
        raise UserError("--match flops: no method is trained; name one with --method")
    alike = [cell.spec.pretraining for cell in trained if cell.method == trained[0].method]
    steps_differ = any(text.startswith("epochs") for text in asked.budget)  # of shares of the images
    same = {"seed": 0, "budget": None} | ({} if steps_differ else {"share": ""})
    if len({p.model_copy(update=same).digest() for p in alike}) > 1:
        name = trained[0].method.name
        one = "one backbone, data, setting and, with epochs, share"
        raise UserError(f"--match flops: {name} is there in several variants; ask for {one}")
    return trained[0]


def _rounded_up(flops: float) -> float:
    unit = 10 ** max(ceil(log10(flops)) - DIGITS, 0)
    return float(ceil(flops / unit) * unit)
