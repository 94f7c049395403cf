"""How many items of the bags have a code of the next bundle, as the bags change."""

from msgspec.structs import replace

from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, fold
from streams.serve.prepared import PreparedItems
from tests.streams.serve.catalogue.made import VERSION, code_of, event

NEXT = "embedder-of-the-next-bundle"


def both(one: EmbeddedInteraction) -> EmbeddedInteraction:
    """The event with a code of the next bundle, too."""
    return replace(one, next_embedder_version=NEXT, next_embedding=code_of("next"))


def folded(*events: EmbeddedInteraction) -> Bag:
    bag = Bag()
    for one in events:
        bag = fold(bag, one, max_slots=8, kept={VERSION, NEXT})
    return bag


def test_items_go_from_one_state_to_the_next() -> None:
    found = PreparedItems(NEXT)
    old = folded(event("ada", "shoe", timestamp=1), event("ada", "hat", timestamp=2))
    found.written(0, {}, {"ada": old})
    assert found.states == {"missing": 2}
    code = replace(event("ada", "shoe", timestamp=1), embedder_version=NEXT, prepared=True)
    new = fold(old, code, max_slots=8, kept={VERSION, NEXT})
    found.written(0, {"ada": old}, {"ada": new})
    assert found.states == {"missing": 1, "native": 1}
    later = fold(new, event("ada", "shoe", timestamp=5, picture="other"), max_slots=8, kept={VERSION, NEXT})
    found.written(0, {"ada": new}, {"ada": later})
    assert found.states == {"missing": 1, "stale": 1}
    found.written(0, {"ada": later}, {"ada": Bag()})
    assert found.states == {}


def test_items_that_are_adapted_count_apart_and_items_without_a_picture_do_not_count() -> None:
    found = PreparedItems(NEXT)
    adapted = replace(event("ada", "shoe"), embedder_version=NEXT, prepared=True, adapted=True)
    bag = folded(event("ada", "shoe"), adapted, both(event("ada", "hat")), event("ada", "sofa", "return"))
    found.written(0, {}, {"ada": bag})
    assert found.states == {"adapted": 1, "native": 1}


def test_when_a_partition_goes_all_is_counted_anew() -> None:
    found = PreparedItems(NEXT)
    found.written(0, {}, {"ada": folded(event("ada", "shoe"))})
    found.forget_bags()
    assert found.states == {}
