"""Sentences that reports and commands share. Pure."""

from model.field_metrics import Paired


def lead(name: str, other: str, figure: str, found: Paired) -> str:
    """Say how far a method is ahead of another one, and whether that is more than chance.

    Args:
        name: the method, such as a bundle.
        other: what it is compared with.
        figure: what both are measured by; more is better.
        found: the difference, the method minus the other one, with its interval.
    """
    difference, low, high = found.distance
    chance = "more than chance" if found.more_than_chance else "not more than chance"
    return f"{name} is {found.side} {other} by {difference:.3f} [{low:.3f}, {high:.3f}] in {figure}, which is {chance}"


def unfinished(what: str) -> str:
    """Say that a training was too short.

    Args:
        what: what was trained.
    """
    return (
        f"Not trained to the end: {what}. The last state was kept, and the loss of the validation users still "
        "fell. More steps would raise the figures."
    )
