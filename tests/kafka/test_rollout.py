"""`tastestream rollout` on real Kafka: the bags end as if the next bundle had been there from the start, whatever died."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace
from playwright.async_api import expect

from model.bundle import Bundle
from model.preprocessing import decode_picture
from model.quantization import dequantize, quantize_all
from streams.demo.catalogue import CATALOGUE
from streams.features.records import Features, decode_features, encode_features, features_key
from streams.messages import EmbeddedInteraction, parse_embedded
from streams.profile.bag import Bag, fold
from streams.profile.prepared import code_state
from streams.profile.rows import header_of, user_prefix
from streams.rollout.prepare import KEEP_UP_INTERVAL
from streams.settings.names import BAGS_CHANGELOG
from tests.forked import Forked
from tests.kafka.broker import KafkaBroker
from tests.kafka.browser import TIMEOUT, expect_usable, open_browser, open_page
from tests.kafka.conftest import clean
from tests.kafka.system import COMMAND_TIMEOUT, PictureHandler, System, picture_server, stop, wait_until
from tests.model.bundle.adapted import adapter_of, put_adapter
from tests.streams.rollout.shop import Shop, send_embedded, write_next

USERS, EACH, PICTURES = 40, 12, 60


@pytest.fixture
def system(broker: KafkaBroker, tmp_path: Path) -> Iterator[System]:
    """A broker without topics for each test."""
    yield System(broker, tmp_path)
    asyncio.run(clean(broker))


@pytest.fixture(scope="session")
def following(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_next(tmp_path_factory.mktemp("bundles") / "next")


@pytest.fixture(scope="session")
def shop(following: Bundle) -> Shop:
    return Shop(Bundle.load(), following, PICTURES)


def bags_of(shop: Shop, events: list[EmbeddedInteraction]) -> dict[str, Bag]:
    """The bags after some events, from the pure fold, with both bundles."""
    kept = {shop.served.embedder_version, shop.following.embedder_version}
    bags: dict[str, Bag] = {}
    for event in events:
        bags[event.user_id] = fold(bags.get(event.user_id, Bag()), event, max_slots=128, kept=kept)
    return bags


@contextmanager
def serving(
    system: System, shop: Shop, events: list[EmbeddedInteraction], which: str = "profile"
) -> Generator[subprocess.Popen[bytes]]:
    """Workers with both bundles that have processed some events."""
    system.configure(next_bundle=shop.following.path)
    with system.worker(which) as worker:
        asyncio.run(send_embedded(system.broker.bootstrap, events))
        asyncio.run(system.settled("profile"))
        yield worker


def share(system: System, shop: Shop, numbers: range) -> None:
    asyncio.run(shop.share(system.broker.bootstrap, numbers))


def prepared(system: System) -> list[EmbeddedInteraction]:
    """The prepared interactions that were sent so far."""
    records = asyncio.run(system.read("embedded-interactions"))
    return [event for one in records if (event := parse_embedded(one.value)).prepared]


def start_prepare(system: System, *options: str) -> subprocess.Popen[str]:
    return Forked(
        [sys.executable, "-m", "streams", "rollout", "prepare", *options],
        env=system.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_prepared_bags_are_those_of_a_system_that_had_the_next_bundle_from_the_start(
    system: System, shop: Shop
) -> None:
    events = shop.history(USERS, EACH)
    with serving(system, shop, events) as worker:
        share(system, shop, range(PICTURES))
        published = len(asyncio.run(system.read("user-recommendations")))

        status = system.command("rollout", "status")
        assert status.returncode == 0, status.stderr
        assert "have features on the topic" in status.stdout
        assert "next step: tastestream rollout prepare" in status.stdout

        dry = system.command("rollout", "prepare", "--dry-run")
        assert dry.returncode == 0, dry.stderr
        assert not prepared(system)

        some = system.command("rollout", "prepare", "--limit", "10")
        assert some.returncode == 0, some.stderr
        assert len(prepared(system)) == 10
        asyncio.run(system.settled("profile"))

        done = system.command("rollout", "prepare")
        assert done.returncode == 0, done.stderr
        asyncio.run(system.settled("profile"))
        again = system.command("rollout", "prepare")
        assert "sent codes of" in again.stdout
        assert "for 0 items" in again.stdout, "nothing is sent twice"
        assert "100.0 %" in system.command("rollout", "status").stdout
        assert len(asyncio.run(system.read("user-recommendations"))) == published, "nobody gets a recommendation"
        assert stop(worker) == 0
    assert system.stored_bags() == bags_of(shop, shop.history(USERS, EACH, both=True))
    assert not (system.folder / "data" / "rollout" / "prepare" / "ledger").exists()


def test_the_serve_worker_counts_all_items_as_the_command_does(system: System, shop: Shop) -> None:
    events = shop.history(USERS, EACH)
    slots = [slot for bag in bags_of(shop, events).values() for slot in bag.slots.values()]
    version = shop.following.embedder_version
    states = Counter(state for slot in slots if (state := code_state(slot, version)) is not None)
    with serving(system, shop, events), system.worker("serve"):
        wait_until(lambda: counted(system) == states, 60.0, system.log)
        share(system, shop, range(PICTURES // 2))
        assert system.command("rollout", "prepare", "--no-fetch").returncode == 1, "some have no features"
        wait_until(lambda: counted(system)["native"] > 0, 60.0, system.log)
        asyncio.run(system.settled("profile"))
        said = system.command("rollout", "status").stdout
        [row] = [line.split("│") for line in said.splitlines() if "all │" in line]
        items, native, adapted, without = (int(cell.replace(",", "")) for cell in row[2:6])
        wait_until(lambda: counted(system) == Counter(native=native, missing=without), 60.0, system.log)
        assert (items, adapted) == (states.total(), 0)
        assert native > 0 < without
        asyncio.run(see_progress(system, f"{native:,} of {items:,} items have a code of the next bundle"))


async def see_progress(system: System, text: str) -> None:
    """Look at the page."""
    base = f"http://127.0.0.1:{system.ports['serve']}"
    async with open_browser() as browser, open_page(browser, base, viewport={"width": 360, "height": 700}) as watched:
        await watched.page.goto("/#/model")
        panel = watched.page.locator(".rollout")
        await expect(panel).to_contain_text(text, timeout=TIMEOUT)
        await expect(panel).to_contain_text("A promotion needs 99.0%.")
        await expect_usable(watched.page, 360)


def counted(system: System) -> Counter[str]:
    """The items by the state of their code, as the serve worker counts them."""
    status, body = system.get("serve", "/v1/model")
    rollout = json.loads(body)["rollout"] if status == 200 else {}
    return Counter({name: rollout.get(name, 0) for name in ("native", "adapted", "stale", "missing")})


def write_adapter(bundle: Bundle, served: Bundle) -> Bundle:
    """Give a bundle an adapter of the codes of another one: it turns their numbers around."""
    size = bundle.embedding_size
    return put_adapter(
        bundle.path,
        adapter_of(np.eye(size, dtype=np.float32)[::-1]),
        embedder_version=served.embedder_version,
        embedding_size=size,
    )


@pytest.mark.slow
def test_pictures_without_features_are_fetched_once_and_codes_of_those_that_are_gone_are_adapted(
    system: System, tmp_path: Path
) -> None:
    served = Bundle.load()
    following = write_adapter(write_next(tmp_path / "next"), served)
    photos = sorted(path.name for path in CATALOGUE.glob("*.jpg"))[:6]
    requests: list[str] = []

    class Counting(PictureHandler):
        def do_GET(self) -> None:  # noqa: N802 -- the name is the base's
            requests.append(self.path)
            super().do_GET()

    with picture_server(CATALOGUE, Counting) as base:
        urls = [f"{base}/{name}" for name in photos] + [f"{base}/gone.jpg"]
        shop = Shop(served, following, len(urls))
        shop.urls = urls
        events = [
            shop.event(user, number, 1_700_000_000_000 + number) for number in range(7) for user in ("ann", "bob")
        ]
        with serving(system, shop, events) as worker:
            dry = system.command("rollout", "prepare", "--dry-run")
            assert "14 items would get one when 7 pictures are fetched" in dry.stdout
            assert "14 of these have a code to adapt" in dry.stdout
            assert not requests, "a dry run asks nobody"
            done = system.command("rollout", "prepare")
            assert done.returncode == 0, done.stderr
            assert "fetched 12, adapted 2" in done.stdout
            assert sorted(requests) == sorted(f"/{name}" for name in (*photos, "gone.jpg"))
            asyncio.run(system.settled("profile"))
            status = system.command("rollout", "status").stdout
            assert "100.0 %" in status
            assert system.command("rollout", "prepare").returncode == 0
            assert len(requests) == 7, "neither fetched nor asked for again"
            assert len(features_on_topic(system)) == 6
            adapted = [event for event in prepared(system) if event.adapted]
            assert [(event.user_id, event.image_url) for event in adapted] == [("ann", urls[6]), ("bob", urls[6])]
            [made, old] = dequantize([adapted[0].embedding, shop.codes[6]], served.embedding_size)
            assert made == pytest.approx(old[::-1], abs=0.1)

            share(system, shop, range(6, 7))  # somebody has looked at the picture before it was gone
            better = system.command("rollout", "prepare")
            assert "for 2 items: from features 2" in better.stdout
            asyncio.run(system.settled("profile"))
            assert stop(worker) == 0

        features, network = features_on_topic(system), served.split_embedder()
        for user, bag in system.stored_bags().items():
            assert len(bag.slots) == 7, user
            for slot in bag.slots.values():
                picture = slot.picture(following.embedder_version)
                assert picture is not None
                row = features[features_key(served.backbone_version, picture.image_url)]
                [code] = quantize_all(following.split_embedder().of_features([row]))
                assert (picture.embedding, picture.adapted) == (code, False)
                if picture.image_url != urls[6]:
                    pixels = decode_picture((CATALOGUE / picture.image_url.rsplit("/", 1)[1]).read_bytes(), 224)
                    assert row == network.backbone.features(np.stack([pixels]))[0]


def features_on_topic(system: System) -> dict[bytes, bytes]:
    """The features that were shared so far, by key."""
    records = asyncio.run(system.read("picture-features"))
    return {one.key or b"": decode_features(one.value or b"").row for one in records}


@pytest.mark.slow
def test_a_prepare_that_is_killed_ten_times_ends_with_the_same_bags(system: System, shop: Shop) -> None:
    events = shop.history(USERS, EACH)
    killed = 0
    with serving(system, shop, events) as first:
        share(system, shop, range(PICTURES))
        for number in range(10):
            if number == 5:
                stop(first)  # from now on, what was sent is not in the bags when the next run begins
            killed += killed_while_sending(system)
        with system.worker("profile") as second:
            asyncio.run(system.settled("profile"))
            done = system.command("rollout", "prepare")
            assert done.returncode == 0, done.stderr
            asyncio.run(system.settled("profile"))
            assert stop(second) == 0
    assert killed == 10
    assert system.stored_bags() == bags_of(shop, shop.history(USERS, EACH, both=True))


def killed_while_sending(system: System) -> bool:
    """Start a run, and kill it when something new was sent. Returns whether it was at work still."""
    before = len(prepared(system))
    process = start_prepare(system, "--rate", "10")
    wait_until(lambda: len(prepared(system)) > before or process.poll() is not None, 60)
    working = process.poll() is None
    process.kill()
    process.communicate()
    return working


@pytest.mark.slow
def test_an_erased_user_stays_erased_whenever_the_erasure_comes(system: System, shop: Shop) -> None:
    events = shop.history(USERS, EACH)
    late = next(event for event in events if event.user_id == "user 0039" and event.embedding)
    gone = ["user 0038", "user 0039"]
    with serving(system, shop, events) as worker:
        share(system, shop, range(PICTURES))
        process = start_prepare(system, "--rate", "20")  # users come in their order: these two are the last ones
        wait_until(lambda: bool(prepared(system)) or process.poll() is not None, 60)
        assert not {event.user_id for event in prepared(system)} & set(gone), "they have been read, and not sent"
        erasures = [
            EmbeddedInteraction(
                event_id=f"erase {user}", user_id=user, item_id="", type="erase", timestamp=2_000_000_000_000
            )
            for user in gone
        ]
        asyncio.run(send_embedded(system.broker.bootstrap, erasures))
        out, err = process.communicate(timeout=COMMAND_TIMEOUT)
        assert process.returncode == 0, out + err
        assert {event.user_id for event in prepared(system)} >= set(gone), "their codes were sent after the erasure"
        once_more = replace(
            late, embedder_version=shop.following.embedder_version, embedding=shop.next_codes[0], prepared=True
        )
        asyncio.run(send_embedded(system.broker.bootstrap, [once_more]))
        asyncio.run(system.settled("profile"))
        assert stop(worker) == 0
    bags = system.stored_bags()
    for user in gone:
        assert not bags[user].slots
        assert bags[user].floor is not None
    newest = {record.key or b"": record.value for record in asyncio.run(system.read(BAGS_CHANGELOG))}
    rows = [key for user in gone for key, value in newest.items() if key.startswith(user_prefix(user)) and value]
    assert rows == [header_of(user_prefix(user)) for user in gone]
    published = {record.key: record.value for record in asyncio.run(system.read("user-recommendations"))}
    assert [published[user.encode()] for user in gone] == [None, None]
    others = [event for event in shop.history(USERS, EACH, both=True) if event.user_id not in gone]
    assert {user: bag for user, bag in bags.items() if user not in gone} == bags_of(shop, others)


@pytest.mark.slow
def test_a_user_who_is_erased_while_pictures_are_fetched_is_not_sent(system: System, tmp_path: Path) -> None:
    following = write_next(tmp_path / "next")
    asked, erased = Event(), Event()

    class Slow(PictureHandler):
        def do_GET(self) -> None:  # noqa: N802 -- the name is the base's
            asked.set()
            erased.wait(2 * COMMAND_TIMEOUT)
            super().do_GET()

    with picture_server(CATALOGUE, Slow) as base:
        shop = Shop(Bundle.load(), following, 1)
        shop.urls = [f"{base}/{next(iter(sorted(CATALOGUE.glob('*.jpg')))).name}"]
        system.configure(fetch_timeout=2 * COMMAND_TIMEOUT)
        with serving(system, shop, [shop.event(user, 0, 1_700_000_000_000) for user in ("ann", "bob")]):
            process = start_prepare(system)
            assert asked.wait(60)
            erasure = EmbeddedInteraction(
                event_id="e", user_id="ann", item_id="", type="erase", timestamp=1_800_000_000_000
            )
            asyncio.run(send_embedded(system.broker.bootstrap, [erasure]))
            asyncio.run(system.settled("profile"))
            Event().wait(3 * KEEP_UP_INTERVAL)  # no sign of the reading leaves the process
            erased.set()
            out, err = process.communicate(timeout=COMMAND_TIMEOUT)
            assert process.returncode == 0, out + err
            assert [event.user_id for event in prepared(system)] == ["bob"]


@pytest.mark.slow
def test_promote_opens_when_all_is_there_and_every_event_is_scored_with_the_whole_bag(
    system: System, tmp_path: Path
) -> None:
    following = write_next(tmp_path / "next")
    shop = Shop(Bundle.load(), following, PICTURES)
    bundles = shop.served.path, following.path
    events = [shop.event("ann", number, 1_700_000_000_000 + number) for number in range(5)]
    with serving(system, shop, events, "all") as workers:
        refused = system.command("rollout", "promote")
        assert refused.returncode == 3
        assert "is not promoted: share, comparison" in refused.stdout
        share(system, shop, range(PICTURES))
        assert system.command("rollout", "prepare").returncode == 0
        asyncio.run(system.settled())
        write_comparison(shop)
        opened = system.command("rollout", "promote")
        assert opened.returncode == 0, opened.stdout + opened.stderr
        for name, bundle in (("BUNDLE", following), ("NEXT_BUNDLE", shop.served)):
            assert f"TASTESTREAM_{name}={bundle.path}" in opened.stdout

        other = System(system.broker, tmp_path / "other")
        other.folder.mkdir()
        with other.worker("profile"):
            mixed = system.command("rollout", "promote")
            assert mixed.returncode == 3
            assert "is not promoted: fleet." in mixed.stdout
            dropping = system.command("rollout", "prepare")
            assert dropping.returncode == 78
            assert "restart all profile workers with this NEXT_BUNDLE" in dropping.stderr
            assert len(dropping.stderr.splitlines()) == 1
        assert stop(workers) == 0

    for number, (bundle, next_bundle) in enumerate((bundles[::-1], bundles)):  # the promotion, and the rollback
        system.configure(bundle=bundle, next_bundle=next_bundle)
        event = shop.event("ann", 10 + number, 1_700_000_001_000 + number, both=True)
        with system.worker("profile"):
            asyncio.run(send_embedded(system.broker.bootstrap, [event]))
            asyncio.run(system.settled("profile"))
        newest = asyncio.run(system.recommendations())[-1]
        assert (newest["event_id"], newest["bag_size"]) == (event.event_id, 6 + number), "no item is missing"
        assert newest["model"]["version"] == Bundle.load(bundle).version


def write_comparison(shop: Shop) -> None:
    names = [
        {"name": one.name, "version": one.version, "embedder_version": one.embedder_version}
        for one in (shop.following, shop.served)
    ]
    content = {"passed": True, "next": names[0], "against": names[1], "rule": "by hand"}
    (shop.following.path / "comparison.json").write_text(json.dumps(content))


@pytest.mark.slow
def test_features_of_a_wrong_size_are_passed_over_in_one_line_and_a_signal_ends_a_run_cleanly(
    system: System, shop: Shop
) -> None:
    events = shop.history(USERS, EACH)
    with serving(system, shop, events):
        share(system, shop, range(1, PICTURES))
        asyncio.run(send_broken_features(system, shop))
        process = start_prepare(system, "--no-fetch", "--rate", "4")
        wait_until(lambda: bool(prepared(system)) or process.poll() is not None, 60)
        second = system.command("rollout", "prepare")
        assert second.returncode == 78
        assert "`tastestream rollout prepare` is running there" in second.stderr
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=COMMAND_TIMEOUT)
        assert process.returncode == 130
        assert out.startswith("stopped: sent codes of default next")
        assert err.count("are no features of the backbone") == 1
        assert "Traceback" not in err
        sent = int(out.split(" for ")[1].split(" item")[0])
        assert sent == len(prepared(system)), "what is counted is on the topic"
        asyncio.run(system.settled("profile"))
        rest = system.command("rollout", "prepare", "--no-fetch")
        assert rest.returncode == 1
        assert "without a code: no_features" in rest.stdout


async def send_broken_features(system: System, shop: Shop) -> None:
    """Put records on the topic that are no features of the first picture."""
    broken = encode_features(Features(1, b"too short")), b"\xc1", b""
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        for value in broken:
            key = features_key(shop.served.backbone_version, shop.urls[0])
            await producer.send_and_wait("picture-features", value, key=key)
