"""Events that are written, and users who are erased and exported."""

from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from model.bundle import Bundle
from streams.profile.bag import Moment
from tests.streams.serve.api.conftest import Serve, Served, problem_of
from tests.streams.serve.made import NOW, event

EVENT = {
    "event_id": "e-1",
    "user_id": "ada",
    "item_id": "item-1",
    "type": "view",
    "timestamp": NOW,
    "image_url": "https://shop.example/item-1.jpg",
}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in EVENT.items() if key != name}


async def test_an_event_is_written_as_it_was_sent(served: Served) -> None:
    response = await served.post("/v1/interactions", {**EVENT, "shop": "x"})
    found = await response.json()
    assert response.status == 202
    assert found["accepted"] == [
        {"index": 0, "event_id": "e-1", "topic": "user-interactions", "partition": 0, "offset": 0}
    ]
    [(user, value)] = served.serving.sender.sent
    assert (user, msgspec.json.decode(value)) == ("ada", {**EVENT, "shop": "x"})


async def test_the_id_of_an_event_without_one_is_that_which_the_workers_derive(served: Served) -> None:
    found = await (await served.post("/v1/interactions", without("event_id"))).json()
    [event] = served.serving.sender.events()
    assert found["accepted"][0]["event_id"] == event.event_id


async def test_of_many_events_the_good_ones_are_written_and_the_others_named(served: Served) -> None:
    events = [EVENT, without("item_id"), {**EVENT, "user_id": 7}, "text", {**EVENT, "timestamp": NOW + 3_600_000}]
    response = await served.post("/v1/interactions", events)
    found = await response.json()
    assert response.status == 207
    assert [one["index"] for one in found["accepted"]] == [0, 2]
    assert [user for user, _ in served.serving.sender.sent] == ["ada", "7"]
    assert [(one["index"], one["reason"], one["field"]) for one in found["refused"]] == [
        (1, "missing_field", "item_id"),
        (3, "invalid_field", ""),
        (4, "timestamp_in_future", "timestamp"),
    ]


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        (b"", "empty_message", ""),
        (b"{", "invalid_json", ""),
        (b"\xff", "invalid_json", ""),
        (b"[", "invalid_json", ""),
        (b"[]", "invalid_field", ""),
        (b"7", "invalid_field", ""),
        (b"{}", "missing_field", "user_id"),
        (b"[1,2]", "invalid_field", ""),
        (b"[" * 5000, "invalid_json", ""),
        (b'{"a":' * 5000, "invalid_json", ""),
        (msgspec.json.encode({**EVENT, "user_id": "a\nb"}), "invalid_field", "user_id"),
        (msgspec.json.encode({**EVENT, "user_id": "x" * 257}), "invalid_field", "user_id"),
        (msgspec.json.encode({**EVENT, "type": "love"}), "invalid_field", "type"),
        (msgspec.json.encode({**EVENT, "timestamp": 1_700_000_000}), "timestamp_too_old", "timestamp"),
        (msgspec.json.encode({**EVENT, "more": "x" * 70_000}), "message_too_large", ""),
        (msgspec.json.encode([EVENT] * 501), "invalid_field", ""),
    ],
)
async def test_a_body_without_a_good_event_is_one_problem(served: Served, body: bytes, reason: str, field: str) -> None:
    response = await served.ask("POST", "/v1/interactions", data=body, headers={"Content-Type": "application/json"})
    found = await problem_of(response)
    assert (response.status, found["reason"], found.get("field", "")) == (400, reason, field)
    assert not served.serving.sender.sent


async def test_a_body_above_the_limit_is_refused(served: Served) -> None:
    body = b" " * (4 * 1024**2 + 1)
    response = await served.ask("POST", "/v1/interactions", data=body, headers={"Content-Type": "application/json"})
    assert (response.status, (await problem_of(response))["reason"]) == (413, "body_too_large")


async def test_while_the_broker_is_away_writes_fail_and_reads_go_on(served: Served) -> None:
    served.serving.sender.down = True
    for response in (await served.post("/v1/interactions", EVENT), await served.ask("DELETE", "/v1/users/ada")):
        assert (response.status, (await problem_of(response))["reason"]) == (503, "broker_unreachable")
        assert response.headers["Retry-After"]
    assert (await served.get("/v1/users/ada/recommendations")).status == 200


async def test_an_erase_event_needs_the_scope_admin(serve: Serve) -> None:
    erase = {"user_id": "ada", "type": "erase", "timestamp": NOW}
    async with serve(scopes=("write", "admin")) as served:
        response = await served.post("/v1/interactions", [erase, EVENT], headers=served.bearer("write"))
        found = await response.json()
        assert (response.status, found["refused"][0]["reason"]) == (207, "not_permitted")
        assert [one.type for one in served.serving.sender.events()] == ["view"]
        alone = await served.post("/v1/interactions", erase, headers=served.bearer("write"))
        assert (alone.status, (await problem_of(alone))["reason"]) == (403, "not_permitted")
        assert (await served.post("/v1/interactions", erase, headers=served.bearer("admin"))).status == 202


# Erasure and export


@pytest.mark.parametrize("user_id", ["ada", "a/b 100% 🧶"])
async def test_an_erasure_says_where_to_see_that_it_is_done(served: Served, bundle: Bundle, user_id: str) -> None:
    served.serving.bags.put(event(bundle, user_id, "item-1"))
    response = await served.ask("DELETE", f"/v1/users/{quote(user_id, safe='')}")
    found = await response.json()
    assert response.status == 202
    assert response.headers["Location"] == found["status"]
    [erased] = served.serving.sender.events()
    assert (erased.type, erased.user_id, erased.timestamp, erased.event_id) == (
        "erase",
        user_id,
        NOW,
        found["event_id"],
    )
    assert (await (await served.get(found["status"])).json())["done"] is False
    served.serving.bags.put(event(bundle, user_id, "", kind="erase", timestamp=NOW))
    assert (await (await served.get(found["status"])).json())["done"] is True


async def test_an_earlier_erasure_is_not_the_one_that_was_asked_for(served: Served, bundle: Bundle) -> None:
    served.serving.bags.put(event(bundle, "ada", "", kind="erase", timestamp=NOW - 1))
    assert (await (await served.get(f"/v1/users/ada/erasure?until={NOW - 1}")).json())["done"] is True
    assert (await (await served.get(f"/v1/users/ada/erasure?until={NOW}")).json())["done"] is False


async def test_an_export_has_everything_that_the_bag_holds(served: Served) -> None:
    response = await served.get("/v1/users/ada/export")
    found = await response.json()
    bag = served.serving.bags.bags["ada"]
    assert response.headers["Content-Disposition"] == "attachment"
    assert {one["item_id"] for one in found["items"]} == set(bag.slots)
    for item in found["items"]:
        slot = bag.slots[item["item_id"]]
        assert {one["type"]: one["event_id"] for one in item["events"]} == {
            kind: moment.event_id for kind, moment in slot.newest.items()
        }
        [picture] = item["pictures"]
        assert msgspec.json.decode(msgspec.json.encode(picture["embedding"]), type=bytes) == slot.pictures[0].embedding
        assert picture["image_url"] == slot.pictures[0].image_url
    assert found["forgotten_until"] is None


async def test_an_export_says_until_when_events_are_not_kept(served: Served, bundle: Bundle) -> None:
    served.serving.bags.put(event(bundle, "ada", "", kind="erase", timestamp=NOW - 1000))
    bag = served.serving.bags.bags["ada"]
    assert bag.floor == Moment(NOW - 999, "", "", "")
    found = await (await served.get("/v1/users/ada/export")).json()
    assert found["forgotten_until"] is not None
    assert [one["item_id"] for one in found["items"]] == ["item-0"]
