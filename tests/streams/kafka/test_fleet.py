"""A worker says which bundles it has in what it sends when it joins its group, whatever the other workers make of it."""

import msgspec
import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientMetadata

from model.bundle import Bundle
from streams.bundles import Bundles
from streams.kafka.fleet import (
    FIELD,
    GENERATION,
    BundleName,
    MemberBundles,
    bundles_of,
    generation_of,
    with_bundles,
    with_generation,
)

# What a worker of the version before sends as user data.
BEFORE = (
    b'{"assignment":{"actives":{"embedded-interactions":[0,1]},"standbys":{"embedded-interactions":[]}},"url":"http://shop:6066",'
    b'"changelog_distribution":{"http://shop:6066":{}},"external_topic_distribution":{},"topic_groups":{"embedded-interactions":0}}'
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def joined(user_data: bytes | None) -> bytes:
    return ConsumerProtocolMemberMetadata(4, ["embedded-interactions"], user_data).encode()  # pyright: ignore


def test_a_member_says_which_bundle_it_serves(bundle: Bundle) -> None:
    said = bundles_of(joined(with_bundles(BEFORE, Bundles(bundle))))
    assert said == MemberBundles(BundleName(bundle.name, bundle.version, bundle.embedder_version))


def test_a_member_says_which_bundle_it_prepares(bundle: Bundle) -> None:
    said = bundles_of(joined(with_bundles(BEFORE, Bundles(bundle, bundle))))
    assert said is not None
    assert said.next == said.served == BundleName.of(bundle)


def test_a_worker_of_the_version_before_reads_what_a_worker_sends(bundle: Bundle) -> None:
    before, now = ClientMetadata.loads(BEFORE), ClientMetadata.loads(with_bundles(BEFORE, Bundles(bundle)))
    assert now == before
    assert now.dumps() == before.dumps() == BEFORE
    for field in (FIELD, GENERATION):
        assert not hasattr(ClientMetadata, field), "Faust sets an attribute of that name"


def test_a_member_says_which_internal_topics_it_uses(bundle: Bundle) -> None:
    said = joined(with_generation(with_bundles(BEFORE, Bundles(bundle)), 3))
    assert generation_of(said) == 3
    assert bundles_of(said) is not None
    assert generation_of(joined(with_bundles(BEFORE, Bundles(bundle)))) is None
    assert ClientMetadata.loads(with_generation(BEFORE, 3)) == ClientMetadata.loads(BEFORE)


def test_a_worker_that_joins_again_replaces_what_it_said(bundle: Bundle) -> None:
    once = with_bundles(BEFORE, Bundles(bundle, bundle))
    said = bundles_of(joined(with_bundles(once, Bundles(bundle))))
    assert said is not None
    assert said.next is None


@pytest.mark.parametrize(
    "metadata",
    [
        b"",  # while the group rebalances
        joined(BEFORE),
        joined(None),  # another consumer of the group
        joined(b""),
        joined(b"\xff\x00"),
        joined(b"[1]"),
        joined(b"[" * 100_000),
        joined(b'{"bundles":null}'),
        joined(b'{"bundles":{"served":"fashion"}}'),
        joined(b'{"bundles":{"next":null}}'),
        b"\x00\x01\x00\x00\x00\x01\x00\x01\xff",
        b"\xff" * 40,
    ],
)
def test_a_member_that_says_nothing_readable_says_nothing(metadata: bytes) -> None:
    assert bundles_of(metadata) is None


def test_a_later_version_may_say_more() -> None:
    name = {"name": "fashion", "version": "4", "embedder_version": "abc", "aggregator": "x"}
    metadata = joined(msgspec.json.encode({FIELD: {"served": name, "next": None, "third": name}}))
    assert bundles_of(metadata) == MemberBundles(BundleName("fashion", "4", "abc"))
