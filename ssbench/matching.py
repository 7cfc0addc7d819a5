"""Equal cost instead of equal images: every method gets the FLOPs that the first one takes for the budget."""

from ssbench.errors import UserError
from ssbench.plan import Suite, cells
from ssbench.results.store import Store
from ssbench.spec import Budget
from ssbench.training.loop import flops_a_step, total_steps
from ssbench.training.trained import assemble
from ssbench.workshop import Tell, Workshop, device

SINGLE = "dataset", "backbone"  # what an image costs depends on them


def matched(asked: Suite, results: Store, where: str, say: Tell) -> Suite:
    """What is asked with budgets in FLOPs, to three digits, counted over the first method's steps; says which.

    What a step of any method costs is counted again when it is trained, so each takes its own number of them. Raises
    UserError where nothing is trained, several are compared that cost differently, or the first can't be counted.
    """
    for key in SINGLE:
        if len(several := dict.fromkeys(getattr(asked, key))) > 1:
            raise UserError(
                f"--match flops with {key}={','.join(several)}: an image costs other FLOPs in each; name one"
            )
    shop, budgets = Workshop(results, device(where)), []
    for text in asked.budget:
        planned = cells(asked.model_copy(update={"budget": (text,)}))
        first = next((cell for cell in planned if cell.spec.pretraining.budget and not cell.method.control), None)
        if first is None or Budget.parse(text).unit == "seconds":
            raise UserError(f"--match flops with --budget {text}: nothing there says how many steps a method takes")
        method, run = assemble(shop.open(first))
        assert run is not None
        method.train()
        each = flops_a_step(run)
        steps = total_steps(Budget.parse(text), len(run.images), run.recipe.batch, each) or 1
        budgets.append(f"flops={each * steps:.3g}")
        say(f"--budget {budgets[-1]}: what {first.method.name} takes for {text}, {steps} steps")
    return asked.model_copy(update={"budget": tuple(budgets)})
