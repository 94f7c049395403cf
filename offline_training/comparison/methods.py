"""The methods that a comparison can run: the paper's, simple baselines, and stronger aggregators."""

from dataclasses import dataclass

from offline_training.aggregators import TEXTS
from offline_training.aggregators.fitting import FitRecipe
from offline_training.tasks.purchase_figures import BASELINES
from offline_training.tasks.split import TaskName

WIDE = 1024
"""Code size of the methods with wide codes."""
EMBEDDING_SCALE = 1 / 32  # see `aggregators.interface.Config`


@dataclass(frozen=True)
class Method:
    """How to train and run a method.

    Attributes:
        network: A name of `aggregators.AGGREGATORS`. "" gives every user the label frequencies of the training users.
        codes: whether the network takes the item network's codes, rounded as they are stored, instead of embeddings.
        wide: whether the codes have `WIDE` floats.
        tags: A name of `true_labels.GRADES`, used instead of a network.
        trend: A name of `purchase_figures.BASELINES`, used instead of a network, in the task purchases only.
        unmasked: whether padding counts as items of zeros.
        tanh_gate: whether the gate uses tanh.
        input_scale: factor that embeddings are multiplied by.
        recipe: how to train the network. None for the recipe that trains it well.
    """

    network: str
    codes: bool = False
    wide: bool = False
    tags: str = ""
    trend: str = ""
    unmasked: bool = False
    tanh_gate: bool = False
    input_scale: float = EMBEDDING_SCALE
    recipe: FitRecipe | None = None


ONE_RATE = FitRecipe(epochs=6, rate=2e-3, weight_decay=0.01, min_steps=0, enough_steps=0)
"""The obvious first try: one learning rate for all parts, and few epochs, however few users there are."""

METHODS: dict[str, Method] = {
    "popularity": Method(""),
    **{name: Method("", trend=name) for name in BASELINES},
    "recency of true labels": Method("", tags="recency"),
    "frequency of true labels": Method("", tags="frequency"),
    "average": Method("average"),
    "nan": Method("nan"),
    "nan+cg": Method("nan+cg"),
    "average+cg": Method("average+cg"),
    "average unmasked": Method("average", unmasked=True),
    "nan unmasked": Method("nan", unmasked=True),
    "nan+cg unmasked": Method("nan+cg", unmasked=True),
    "nan+cg unmasked tanh": Method("nan+cg", unmasked=True, tanh_gate=True),
    "nan+cg tanh": Method("nan+cg", tanh_gate=True),
    "nan+cg unscaled": Method("nan+cg", input_scale=1.0),
    "nan+cg one rate": Method("nan+cg", input_scale=1.0, recipe=ONE_RATE),
    "average one rate": Method("average", input_scale=1.0, recipe=ONE_RATE),
    "attention+squeeze": Method("attention+squeeze"),
    "mean+max": Method("mean+max"),
    "codes average": Method("average", codes=True),
    "codes nan+cg": Method("nan+cg", codes=True),
    "codes mean+max": Method("mean+max", codes=True),
    "codes queries": Method("queries", codes=True),
    "codes transformer": Method("transformer", codes=True),
    "codes union": Method("union", codes=True),
    "codes stack": Method("stack", codes=True),
    "wide codes mean+max": Method("mean+max", codes=True, wide=True),
    "wide codes stack": Method("stack", codes=True, wide=True),
}
"""By the name that tables show."""


def methods_of(task: TaskName) -> list[str]:
    """Return the names of the methods that a task can run."""
    return [name for name, method in METHODS.items() if not method.trend or task == "purchases"]


def describe(name: str) -> str:
    """Describe a method of `METHODS` in one line."""
    method = METHODS[name]
    if method.trend:
        days = BASELINES[method.trend]
        window = "before" if days is None else f"in the {days} days before"
        return f"every user gets the same scores: how often each label was bought {window}, by all users"
    if method.tags:
        return (
            f"no picture: {method.tags} of the true labels of the bag's items, as a shop with perfect tags knows them; "
            "where the task is to name the categories in the bag, this is the answer itself and not a baseline"
        )
    if not method.network:
        return "every user gets the same scores: the share of training users who have each label"
    notes = (
        (
            method.codes and not method.wide,
            "over codes of an item network, rounded as they are stored, instead of embeddings",
        ),
        (method.wide, f"over codes of {WIDE:,} floats instead of short ones, to see what the short ones cost"),
        (method.unmasked, "padding counts as items of zeros, as in the authors' code"),
        (method.tanh_gate, "tanh in the gate, as in the authors' code"),
        (not method.codes and method.input_scale == 1, "embeddings are not scaled"),
        (method.recipe is not None, "trained with a recipe of its own"),
    )
    return "; ".join([TEXTS[method.network], *(text for holds, text in notes if holds)])
