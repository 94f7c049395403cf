"""The rules of a promotion."""

from collections import Counter

import pytest

from streams.kafka.fleet import BundleName, Member, MemberBundles
from streams.rollout.gates import categories_gate, comparison_gate, fleet_gate, share_gate, without_embedder
from streams.rollout.held import Share

OLD, NEW = BundleName("shop", "1", "a" * 12), BundleName("shop", "2", "b" * 12)


def member(served: BundleName | None, following: BundleName | None = None, group: str = "profile") -> Member:
    return Member(group, "10.0.0.7", "id", None if served is None else MemberBundles(served, following))


@pytest.mark.parametrize(("ready", "opened"), [(989, False), (990, True), (1000, True), (0, False)])
def test_the_share_has_to_reach_the_setting(ready: int, opened: bool) -> None:
    share = Share(Counter({"native": ready, "missing": 1000 - ready}))
    assert share_gate(share, 0.99).open is opened


def test_adapted_codes_count_for_the_share_and_no_items_at_all_permit_it() -> None:
    assert share_gate(Share(Counter({"native": 1, "adapted": 1})), 1.0).open
    assert share_gate(Share(), 1.0).open


def test_other_categories_need_a_flag_and_are_named() -> None:
    assert categories_gate(["hats", "shoes"], ["shoes", "hats"], other_categories=False).open, (
        "their order is no difference"
    )
    gate = categories_gate(["hats", "shoes"], ["shoes", "sofas"], other_categories=False)
    assert not gate.open
    assert "gone: hats; new: sofas" in gate.found
    assert "--other-categories" in gate.found
    assert categories_gate(["hats"], ["sofas"], other_categories=True).open


COMPARED = (
    b'{"passed": true, "next": {"name": "shop", "version": "2", "embedder_version": "bbbbbbbbbbbb"}, '
    b'"against": {"name": "shop", "version": "1", "embedder_version": "aaaaaaaaaaaa"}, "more": 1}'
)


def test_a_comparison_with_the_served_bundle_that_it_passed_permits_it() -> None:
    assert comparison_gate(COMPARED, OLD, NEW, without_comparison=False).open


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "there is no comparison.json"),
        (COMPARED.replace(b"true", b"false"), "may be worse than shop 1"),
        (COMPARED.replace(b"aaaaaaaaaaaa", b"cccccccccccc"), "embedder cccccccccccc"),
        (COMPARED.replace(b'"version": "1"', b'"version": "0"'), "about shop 0"),
        (COMPARED.replace(b'"version": "2"', b'"version": "3"'), "about shop 3"),
        (b"[" * 10_000, "cannot be read"),
        (b'{"passed": "yes", "next": {}, "against": {}}', "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_any_other_comparison_needs_a_flag(content: bytes | None, problem: str) -> None:
    gate = comparison_gate(content, OLD, NEW, without_comparison=False)
    assert not gate.open
    assert problem in gate.found
    assert "--without-comparison" in gate.found
    assert comparison_gate(content, OLD, NEW, without_comparison=True).open


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (member(OLD), "serves shop 1 (embedder aaaaaaaaaaaa) with no next bundle"),
        (member(NEW, OLD), "serves shop 2"),
        (member(OLD, OLD), "with shop 1"),
        (member(None), "does not say which bundles it has"),
        (member(OLD, BundleName("shop", "3", "c" * 12), "embed"), "shop 3"),
    ],
)
def test_a_mixed_fleet_is_refused_and_the_worker_named(other: Member, problem: str) -> None:
    fleet = [member(OLD, NEW), member(OLD, NEW, "embed")]
    assert fleet_gate(fleet, OLD, NEW).open
    gate = fleet_gate([*fleet, other], OLD, NEW)
    assert not gate.open
    assert problem in gate.found
    assert other.group in gate.found
    assert "10.0.0.7" in gate.found


def test_no_worker_at_all_is_no_mixed_fleet() -> None:
    assert fleet_gate([], OLD, NEW).open


def test_a_bundle_of_another_version_with_the_same_embedder_is_no_mixed_fleet() -> None:
    swapped = BundleName("shop", "1.1", OLD.embedder_version)
    assert fleet_gate([member(swapped, NEW)], OLD, NEW).open


def test_many_workers_are_named_in_one_short_line() -> None:
    gate = fleet_gate([member(OLD)] * 50, OLD, NEW)
    assert "and 45 more" in gate.found


def test_a_worker_that_has_the_embedder_as_either_bundle_keeps_its_codes() -> None:
    assert without_embedder([member(OLD, NEW), member(NEW, OLD), member(NEW)], NEW.embedder_version) == []
    assert len(without_embedder([member(OLD), member(None)], NEW.embedder_version)) == 2


def test_text_of_strangers_is_shown_on_one_line() -> None:
    gate = fleet_gate([member(BundleName("a\nb\x1b[31m", "1", "x"))], OLD, NEW)
    assert gate.found.isprintable()
