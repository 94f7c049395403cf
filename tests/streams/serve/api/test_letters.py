"""Dead letters over HTTP: only with the scope admin, found by what they are about, shown with each byte, sent only on request."""

import json
from base64 import b64decode
from typing import Any

import pytest

from streams.dead_letters.letter_filter import LetterFilter
from streams.exceptions import BrokerUnreachable
from streams.serve.interface import Busy, SearchTooLong
from tests.streams.serve.api.conftest import Serve, Served, problem_of
from tests.streams.serve.made import DAY, NOW

HOUR = 3_600_000


def body(user: str = "ada", host: str = "shop.example") -> bytes:
    return json.dumps({"user_id": user, "event_id": "e-1", "image_url": f"https://{host}/shoe.jpg"}).encode()


async def found(served: Served, query: str = "") -> list[int]:
    """The offsets of the letters that are found."""
    response = await served.get(f"/v1/dead-letters{query}")
    assert response.status == 200, await response.text()
    return [one["offset"] for one in (await response.json())["letters"]]


@pytest.fixture
def filled(served: Served) -> Served:
    letters = served.serving.letters
    letters.add(body(), at=NOW - 3 * DAY)
    letters.add(body(), at=NOW - HOUR)
    letters.add(body(user="bob", host="other.example"), reason="timeout", at=NOW - HOUR // 2)
    letters.add(b"\xff\x00 <script>", reason="invalid_json", at=NOW - 1000, key=None, topic="items")
    return served


async def test_letters_of_the_last_day_are_found_newest_first(filled: Served) -> None:
    assert await found(filled) == [3, 2, 1]
    assert await found(filled, "?since=2025-01-01T00:00:00Z") == [3, 2, 1, 0]
    assert await found(filled, "?limit=1") == [3]


@pytest.mark.parametrize(
    ("query", "offsets"),
    [
        ("?reason=timeout", [2]),
        ("?host=OTHER.example", [2]),
        ("?topic=items", [3]),
        ("?user_id=ada", [1]),
        ("?until=2025-11-28T11:45:00Z", [2, 1]),
        ("?reason=nothing", []),
    ],
)
async def test_a_filter_takes_what_matches(filled: Served, query: str, offsets: list[int]) -> None:
    assert await found(filled, query) == offsets


async def test_an_answer_says_how_many_there_are_and_nothing_of_the_bytes(filled: Served) -> None:
    answer = await (await filled.get("/v1/dead-letters?limit=1&user_id=bob")).json()
    assert (answer["matching"], answer["read"]) == (1, 4)
    [letter] = answer["letters"]
    assert (letter["reason"], letter["host"], letter["user_id"], letter["event_id"], letter["topic"]) == (
        "timeout", "other.example", "bob", "e-1", "user-interactions",
    )  # fmt: skip
    assert "value" not in letter


async def test_a_letter_is_shown_with_each_byte(filled: Served) -> None:
    response = await filled.get("/v1/dead-letters/0/3")
    assert response.content_type == "application/json"
    letter = await response.json()
    assert letter["value_encoding"] == "base64"
    assert b64decode(letter["value"]) == b"\xff\x00 <script>"
    assert letter["key"] is letter["key_encoding"] is None
    assert json.loads((await (await filled.get("/v1/dead-letters/0/1")).json())["value"])["user_id"] == "ada"


@pytest.mark.parametrize("place", ["0/99", "7/0"])
async def test_a_place_without_a_letter_is_unknown(filled: Served, place: str) -> None:
    assert (await problem_of(await filled.get(f"/v1/dead-letters/{place}")))["reason"] == "unknown_letter"


@pytest.mark.parametrize("place", ["x/1", "0/-1", "0/1.5", "0/99999999999999999999", "0/%20"])
async def test_a_place_that_is_none_is_a_problem(filled: Served, place: str) -> None:
    assert (await problem_of(await filled.get(f"/v1/dead-letters/{place}")))["reason"] == "invalid_field"


@pytest.mark.parametrize("time", ["0.5", "1764331200", "yesterday", "2025-11-28T12:00:00"])
async def test_a_time_is_written_in_full(filled: Served, time: str) -> None:
    problem = await problem_of(await filled.get(f"/v1/dead-letters?since={time}"))
    assert (problem["reason"], problem["field"]) == ("invalid_field", "since")


async def test_nothing_is_sent_unless_somebody_says_so(filled: Served) -> None:
    response = await filled.post("/v1/dead-letters/redrive", {"reason": "timeout"})
    assert await response.json() == {"dry_run": True, "selected": 1, "sent": 1, "doubtful": 0, "skipped": {}}
    [(given, attempts, dry_run)] = filled.serving.letters.redriven
    assert given == LetterFilter(frozenset(["timeout"]), limit=50)
    assert (attempts, dry_run) == (3, True)
    await filled.post("/v1/dead-letters/redrive", {"letters": [{"partition": 0, "offset": 1}], "dry_run": False})
    given, _, dry_run = filled.serving.letters.redriven[-1]
    assert (given.places, dry_run) == (frozenset([(0, 1)]), False)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "missing_field"),
        ({"dry_run": False, "limit": 500}, "missing_field"),
        ({"limit": 501, "reason": "timeout"}, "invalid_field"),
        ({"every": True}, "invalid_field"),
        ({"since": "2025-11-28T00:00:00Z", "until": "2025-11-27T00:00:00Z"}, "invalid_field"),
        ({"letters": [{"partition": 0, "offset": -1}]}, "invalid_field"),
    ],
)
async def test_a_request_to_send_names_what(filled: Served, given: dict[str, Any], reason: str) -> None:
    response = await filled.post("/v1/dead-letters/redrive", given)
    assert (response.status, (await problem_of(response))["reason"]) == (400, reason)
    assert filled.serving.letters.redriven == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Busy(), "busy"),
        (SearchTooLong("it took longer than 20 s"), "search_too_long"),
        (BrokerUnreachable("no broker at localhost:9092"), "broker_unreachable"),
    ],
)
async def test_what_goes_wrong_is_a_problem(served: Served, error: Exception, reason: str) -> None:
    served.serving.letters.fails = error
    for response in (
        await served.get("/v1/dead-letters"),
        await served.get("/v1/dead-letters/0/0"),
        await served.post("/v1/dead-letters/redrive", {"reason": "timeout"}),
    ):
        assert (response.status, (await problem_of(response))["reason"]) == (503, reason)
        assert "Retry-After" in response.headers


async def test_the_scope_admin_is_needed(serve: Serve) -> None:
    async with serve(scopes=("read", "write", "admin")) as served:
        for method, path in (
            ("GET", "/v1/dead-letters"),
            ("GET", "/v1/dead-letters/0/0"),
            ("POST", "/v1/dead-letters/redrive"),
        ):
            assert (await served.ask(method, path)).status == 401
            for scope in ("read", "write"):
                assert (await served.ask(method, path, headers=served.bearer(scope))).status == 403
        assert (await served.get("/v1/dead-letters", headers=served.bearer("admin"))).status == 200
