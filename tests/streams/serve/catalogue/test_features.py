"""From features on the topic to codes in the catalogue, by the networks of the shipped bundle."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from model.bundle import Bundle
from model.quantization import HEADER_BYTES, quantize_all
from streams.bundles import Bundles
from streams.embed.networks import Coder, open_networks
from streams.features.records import Features, encode_features, features_key
from streams.profile.bag import Embedder
from streams.serve.catalogue.features import BATCH, ItemFeatures
from tests.streams.serve.catalogue.made import Made, listed, url

MONTHS_AGO = 1_500_000_000_000  # milliseconds


class Fed(NamedTuple):
    made: Made
    features: ItemFeatures
    coder: Coder

    def give(self, rows: dict[str, bytes | None], version: str = "") -> None:
        """Features of pictures come from the topic."""
        key = version or self.coder.features
        changes = {
            features_key(key, url(name)): None if row is None else encode_features(Features(MONTHS_AGO, row))
            for name, row in rows.items()
        }
        assert self.features.write(changes)

    def found(self) -> dict[str, bytes]:
        """The codes of the items that can be found, by item."""
        catalogue = self.made.catalogue
        places = np.flatnonzero(catalogue._memory.columns.coded).tolist()
        items = catalogue.at(places)
        return {item.item_id: code for item, code in zip(items, catalogue.codes(places), strict=True)}

    def coded(self, rows: dict[str, bytes]) -> dict[str, bytes]:
        """What the item network makes of each row alone."""
        assert self.coder.run is not None
        return {name: self.coder.run([row])[0] for name, row in rows.items()}


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[Fed]:
    bundle = Bundle.load()
    networks = open_networks(Bundles(bundle), 1)
    [coder] = networks.coders
    made = Made(tmp_path, Embedder(bundle.embedder_version, HEADER_BYTES + bundle.embedding_size))
    features = ItemFeatures(
        tmp_path / "features", coder, networks.row_bytes[coder.features], 64 * 1024**2, made.catalogue
    )
    yield Fed(made, features, coder)
    features.close()
    made.store.close()


def rows_of(*names: str) -> dict[str, bytes]:
    random = np.random.default_rng(3)
    return dict(zip(names, quantize_all(random.random((len(names), 1024)).astype(np.float32)), strict=True))


def test_features_that_come_before_or_after_their_item_give_it_the_code_of_the_bundle(fed: Fed) -> None:
    rows = rows_of("before", "after", "nobody")
    fed.give({"before": rows["before"], "nobody": rows["nobody"]})
    fed.features.fill(fed.made.catalogue.apply([listed("before"), listed("after")], {}))
    assert fed.found().keys() == {"before"}
    fed.give({"after": rows["after"]})
    del rows["nobody"]
    assert fed.found() == fed.coded(rows), "the same as from one picture at a time"


def test_more_pictures_than_fit_in_a_batch(fed: Fed) -> None:
    names = [str(number) for number in range(BATCH + 3)]
    fed.made.catalogue.apply([listed(name) for name in names], {})
    fed.give(dict(rows_of(*names)))
    assert fed.found().keys() == set(names)


def test_forgotten_features_take_the_code_along_and_are_not_found_later(fed: Fed) -> None:
    fed.made.catalogue.apply([listed("a"), listed("b")], {})
    fed.give(dict(rows_of("a", "b")))
    fed.give({"a": None})
    assert fed.found().keys() == {"b"}
    fed.features.fill([url("a")])
    assert fed.found().keys() == {"b"}


def test_features_of_another_network_and_those_without_numbers_give_no_code(fed: Fed) -> None:
    fed.made.catalogue.apply([listed("a"), listed("b")], {})
    fed.give(dict(rows_of("a")), version="another-network")
    fed.give({"b": quantize_all(np.full((1, 1024), np.nan, np.float32))[0]})
    assert fed.found() == {}
    assert fed.features.write({b"no key": b"x", features_key(fed.coder.features, url("a")): b"no features"})
    assert fed.found() == {}


def test_after_another_bundle_the_codes_are_made_again_of_the_features(fed: Fed) -> None:
    fed.made.catalogue.apply([listed("a"), listed("b")], {})
    rows = rows_of("a")
    fed.give(dict(rows))
    fed.made.restart(Embedder("another embedder", fed.made.embedder.row_bytes))
    assert fed.found() == {}
    again = ItemFeatures(fed.made.folder / "again", fed.coder, 1032, 64 * 1024**2, fed.made.catalogue)
    again.write({features_key(fed.coder.features, url("a")): encode_features(Features(MONTHS_AGO, rows["a"]))})
    for urls in fed.made.catalogue.without_code():
        again.fill(urls)
    assert fed.found() == fed.coded(rows)
    again.close()
