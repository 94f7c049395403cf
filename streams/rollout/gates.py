"""The rules of `tastestream rollout promote`. Pure: they look at what was read, and change nothing."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from streams.kafka.fleet import BundleName, Member
from streams.rollout.held import Share, percent
from streams.text import visible

COMPARISON = "comparison.json"  # in the folder of the next bundle; `tastestream retrain` writes it
NAMED = 5  # categories and workers that a line names


class Gate(NamedTuple):
    """One rule, and whether it permits the promotion."""

    name: str
    open: bool
    found: str  # what was found, and what to do if the gate is closed


class Comparison(Struct, frozen=True):
    """What `comparison.json` says. Its other fields are for people."""

    passed: bool
    next: BundleName
    against: BundleName


def share_gate(share: Share, least: float) -> Gate:
    """Enough items of the bags have a code of the next bundle."""
    found = f"{share.ready:,} of {share.rows:,} items have a code ({percent(share.share)}); ROLLOUT_SHARE is {percent(least)}"
    if share.share >= least:
        return Gate("share", True, found)
    return Gate("share", False, f"{found}: run `tastestream rollout prepare`")


def categories_gate(served: Collection[str], following: Collection[str], *, other_categories: bool) -> Gate:
    """Consumers of recommendations know all categories of the next bundle, and miss none."""
    gone, new = sorted(set(served) - set(following)), sorted(set(following) - set(served))
    if not gone and not new:
        return Gate("categories", True, f"the same {len(following)}")
    changes = [f"{what}: {_some(names)}" for what, names in (("gone", gone), ("new", new)) if names]
    found = f"others than those of BUNDLE: {'; '.join(changes)}"
    if other_categories:
        return Gate("categories", True, f"{found} (--other-categories)")
    return Gate("categories", False, f"{found}: prepare the consumers of recommendations, then add --other-categories")


def comparison_gate(
    content: bytes | None, served: BundleName, following: BundleName, *, without_comparison: bool
) -> Gate:
    """The next bundle was compared with the served one on held-out users, and is not worse.

    Args:
        content: of `comparison.json`; None if there is no such file.
        served: that it has to be compared with.
        following: that has to be compared.
        without_comparison: whether the operator does without.
    """
    problem = _fault_of_comparison(content, served, following)
    if not problem:
        return Gate("comparison", True, f"not worse than {visible(served)}")
    if without_comparison:
        return Gate("comparison", True, f"{problem} (--without-comparison)")
    return Gate("comparison", False, f"{problem}: compare with `tastestream retrain`, or add --without-comparison")


def _fault_of_comparison(content: bytes | None, served: BundleName, following: BundleName) -> str:
    if content is None:
        return f"there is no {COMPARISON} in the folder of NEXT_BUNDLE"
    try:
        comparison = msgspec.json.decode(content, type=Comparison)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return f"{COMPARISON} cannot be read: {visible(error)}"
    for setting, named, loaded in (
        ("NEXT_BUNDLE", comparison.next, following),
        ("BUNDLE", comparison.against, served),
    ):
        if named != loaded:
            return f"{COMPARISON} is about {visible(named)}, and {setting} is {visible(loaded)}"
    return "" if comparison.passed else f"{COMPARISON} says that it may be worse than {visible(served)}"


def fleet_gate(members: Sequence[Member], served: BundleName, following: BundleName) -> Gate:
    """All running workers of both kinds have both bundles, so that each event carries both codes and each bag keeps them."""
    others = [line for member in members if (line := _difference(member, served, following))]
    if others:
        return Gate(
            "fleet", False, f"{_some(others)}: restart them with the settings of the others, then prepare again"
        )
    groups = sorted({member.group for member in members})
    counts = [f"{sum(one.group == group for one in members)} in {group}" for group in groups]
    return Gate("fleet", True, f"all have both bundles: {', '.join(counts)}" if members else "none is running")


def without_embedder(members: Sequence[Member], version: str) -> list[str]:
    """The members that have no bundle with this embedder, so that they make and keep none of its codes. Each in one line."""
    return [f"{_who(member)} {_has(member)}" for member in members if version not in _versions(member)]


def _difference(member: Member, served: BundleName, following: BundleName) -> str:
    """What a member has instead of these bundles; "" if it has them. The embedders count: a worker may swap the rest as it runs."""
    if _versions(member) == [served.embedder_version, following.embedder_version]:
        return ""
    return f"{_who(member)} {_has(member)}"


def _versions(member: Member) -> list[str]:
    said = member.bundles
    return [bundle.embedder_version for bundle in (said.served, said.next) if bundle] if said else []


def _who(member: Member) -> str:
    return f"the member of {visible(member.group)} at {visible(member.host)}"


def _has(member: Member) -> str:
    said = member.bundles
    if said is None:
        return "does not say which bundles it has (an earlier version of tastestream)"
    return f"serves {visible(said.served)} with {f'{visible(said.next)} as' if said.next else 'no'} next bundle"


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(visible(name) for name in names[:NAMED]) + (f" and {more} more" if more > 0 else "")
