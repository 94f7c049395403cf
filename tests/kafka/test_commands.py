"""Commands for people against real Kafka with running workers: `send` prints what its events caused, and `user` what is held."""

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from streams.demo.catalogue import CATALOGUE
from tests.forked import run_forked
from tests.kafka.system import COMMAND_TIMEOUT, PATIENCE, READS, System, picture_server, stop, wait_until

PHOTO = "compact-digital-camera.jpg"


@pytest.fixture(scope="module")
def workers(system: System) -> Iterator[subprocess.Popen[bytes]]:
    """One worker of each kind, under the supervisor."""
    system.configure(fetch_attempts=1)
    with system.worker("all") as process:
        yield process


@pytest.fixture(scope="module")
def shop(workers: subprocess.Popen[bytes]) -> Iterator[str]:
    """The address of a server with photos, with running workers."""
    del workers
    with picture_server(CATALOGUE) as pictures:
        yield f"{pictures}/"


def sent(system: System, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `tastestream send` to its end."""
    return run_forked(("send", *arguments), system.environment, timeout=COMMAND_TIMEOUT, text=stdin)


def event(user: str, item: str, image: str, **fields: object) -> str:
    known = {"user_id": user, "item_id": item, "type": "view", "timestamp": 1_400_000_000_000, "image_url": image}
    return json.dumps(known | fields) + "\n"


# Send


def test_an_event_from_options_is_answered_with_its_recommendation(system: System, shop: str) -> None:
    done = sent(system, "--user", "ada", "--item", "camera", "--type", "purchase", "--image", shop + PHOTO)
    assert (done.returncode, done.stderr) == (0, "")
    first, scores, items = done.stdout.splitlines()
    assert first.startswith("ada purchase camera: recommendation after ")
    assert scores.strip().count(", ") == 2
    assert items.strip() == "from 1 item in the bag: camera 1.00"


def test_an_event_without_a_picture_is_answered_with_its_dead_letter(system: System, shop: str) -> None:
    done = sent(system, "--user", "ada", "--item", "none", "--type", "view", "--image", shop + "none.jpg")
    assert (done.returncode, done.stderr) == (1, "")
    first, error, place = done.stdout.splitlines()
    assert first.startswith("ada view none: dead letter, http_status after ")
    assert error.strip().startswith("image_url: ")
    assert "404" in error
    assert "by the embed worker" in place


def test_each_line_of_standard_input_gets_its_answer(system: System, shop: str) -> None:
    lines = (
        event("bob", "camera", shop + PHOTO, event_id="one")
        + "\n"
        + event("bob", "camera", shop + "none.jpg", event_id="two")
        + event("eve", "camera", shop + PHOTO, type="erase", event_id="three")
        + '{"user_id": "bob"}\n'
    )
    done = sent(system, "--json", stdin=lines)
    assert (done.returncode, done.stderr) == (1, "error: line 5: type is missing\n")
    outcomes = {answer["event_id"]: answer for answer in map(json.loads, done.stdout.splitlines())}
    assert {name: answer["outcome"] for name, answer in outcomes.items()} == {
        "one": "recommendation",
        "two": "dead_letter",
        "three": "erased",
    }
    assert outcomes["one"]["recommendation"]["bag_size"] == 1
    assert outcomes["two"]["reason"] == "http_status"


def test_an_unchecked_line_shows_the_dead_letter_that_it_becomes(system: System, shop: str) -> None:
    del shop
    done = sent(system, "--unchecked", stdin="{\n")
    assert done.returncode == 1
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("1 bytes: dead letter, invalid_json after ")
    assert last == "1 event: 1 dead letters"


async def test_without_waiting_the_place_of_the_event_is_printed(system: System, shop: str) -> None:
    done = sent(system, "--no-wait", "--json", stdin=event("dora", "camera", shop + PHOTO, event_id="later"))
    assert (done.returncode, done.stderr) == (0, "")
    place = json.loads(done.stdout)
    assert place["outcome"] == "sent"
    [record] = [one for one in await system.read(place["topic"]) if b"later" in (one.value or b"")]
    assert (record.partition, record.offset) == (place["partition"], place["offset"])


def test_a_wrong_event_gets_one_line(system: System, shop: str) -> None:
    del shop
    wrong = sent(system, "--user", "ada", "--item", "camera", "--type", "view")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: image_url is missing; a view needs it. See: tastestream send --help\n"


def test_a_missing_topic_gets_one_line_and_an_event_that_nobody_answers_is_given_up(system: System, shop: str) -> None:
    del shop
    nobody = system.environment | {"TASTESTREAM_NAMESPACE": "nobody", "TASTESTREAM_PARTITIONS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_forked(arguments, nobody, timeout=COMMAND_TIMEOUT)

    missing = run("send", "--user", "ada", "--type", "erase")
    assert (missing.returncode, missing.stdout) == (1, "")
    [line] = missing.stderr.splitlines()
    assert line.startswith(f"error: there is no topic nobody-user-recommendations at {system.broker.bootstrap}")
    assert run("topics").returncode == 0
    silent = run("send", "--user", "ada", "--type", "erase", "--timeout", "0.5")
    assert (silent.returncode, silent.stderr) == (1, "")
    assert silent.stdout.startswith("ada erase: no answer within ")


# User


@pytest.fixture(scope="module")
def served(system: System, shop: str) -> str:
    """A user with two items, as soon as the serve worker knows them."""
    for item, photo in (("camera", PHOTO), ("sofa", "grey-tufted-sofa.jpg")):
        done = sent(system, "--user", "zoe/1", "--item", item, "--type", "purchase", "--image", shop + photo)
        assert done.returncode == 0
    system.wait_ready("serve")
    wait_until(lambda: '"sofa"' in system.get("serve", "/v1/users/zoe%2F1")[1])
    return "zoe/1"


def user(system: System, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    changed = {f"TASTESTREAM_{name}": value for name, value in settings.items()}
    return run_forked(("user", *arguments), system.environment | changed, timeout=COMMAND_TIMEOUT)


def test_a_bag_is_shown_and_explained(system: System, served: str) -> None:
    shown = user(system, "show", served)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("zoe/1: 2 items; model default ")
    assert {"sofa", "camera"} <= {line.split()[0] for line in shown.stdout.splitlines() if line}
    explained = user(system, "why", served, "--json")
    best = json.loads(explained.stdout)
    assert {one["item_id"] for one in best["items"]} == {"sofa", "camera"}
    assert best["category"] in shown.stdout
    text = user(system, "why", served).stdout.splitlines()
    assert text[0] == f"category {best['category']}: {best['score']:.3f}"


def test_an_export_has_everything_that_is_held(system: System, served: str) -> None:
    exported = json.loads(user(system, "export", served).stdout)
    assert {one["item_id"]: len(one["pictures"]) for one in exported["items"]} == {"camera": 1, "sofa": 1}


def test_what_the_api_refuses_gets_one_line(system: System, served: str) -> None:
    unknown = user(system, "show", "nobody")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "error: nothing is held on this user (replica: live)\n"
    away = user(system, "show", served, API_URL="http://127.0.0.1:1")
    assert away.returncode == 1
    assert away.stderr.startswith("error: the API at http://127.0.0.1:1 does not answer")


def test_an_erasure_waits_and_names_what_remains_and_until_when(system: System, served: str) -> None:
    assert user(system, "erase", served).stderr == (
        "error: user erase asks before it erases; without a terminal it needs --yes\n"
    )
    erased = user(system, "erase", served, "--yes")
    assert (erased.returncode, erased.stderr) == (0, "")
    first, _, *places = erased.stdout.splitlines()
    assert first.startswith("zoe/1 is erased: everything up to ")
    named = {line.split(":")[0].strip(): line for line in places}
    for topic, days in (
        ("user-interactions", 91), ("embedded-interactions", 8), ("tastestream-profile-bags-changelog", 2),
        ("user-recommendations", 2),
    ):  # fmt: skip
        assert f"until {datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" in named[topic]
    assert "picture-features" not in named
    wait_until(lambda: system.get("serve", "/v1/users/zoe%2F1")[0] == 404)


# The last one: it takes the broker and the data folder away.


def test_workers_stop_with_code_0_while_kafka_is_away_and_without_their_data_folder(
    system: System, workers: subprocess.Popen[bytes]
) -> None:
    system.broker.kill()
    try:
        system.remove_data()
        away = r" {}-\S+ \S+: the broker does not answer: "
        wait_until(lambda: all(re.search(away.format(kind), system.log()) for kind in READS), 2 * PATIENCE, system.log)
        assert stop(workers) == 0
    finally:
        system.broker.start()
    log = system.log()
    assert "Error while stopping child" not in log
    assert log.count("stopped while the broker does not answer") == 2, "what is known to be away is not waited for"
