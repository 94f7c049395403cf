"""The workers of a shop on real Kafka, what can be asked of them, and whether it is what the topic has."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from tests.kafka.system import System, stop

STATUS = "/v1/status"
NOW = int(time.time() * 1000)


class Shop:
    """The workers, and what can be asked of them."""

    def __init__(self, system: System, base: str) -> None:
        self.system = system
        self.base = base
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *kinds: str) -> None:
        for kind in kinds:
            self.processes[kind] = self.system.launch(kind)
        for kind in kinds:
            self.system.wait_ready(kind, self.processes[kind])

    def kill(self, *kinds: str) -> None:
        for kind in kinds:
            process = self.processes.pop(kind)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()

    def stop_one(self, kind: str) -> int:
        """Stop a worker. Returns its exit code."""
        return stop(self.processes.pop(kind))

    def stop(self) -> None:
        for process in self.processes.values():
            stop(process)

    def ask(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.system.ports['serve']}{path}"
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def recommended(self, user: str, query: str = "at=event") -> dict[str, Any]:
        status, answer = self.ask(f"/v1/users/{quote(user, safe='')}/recommendations?{query}")
        assert status == 200, answer
        return answer

    def event(self, user: str, picture: str, number: int, kind: str = "purchase") -> dict[str, Any]:
        return {
            "event_id": f"event-{number}", "user_id": user, "item_id": picture.removesuffix(".jpg"), "type": kind,
            "timestamp": NOW - 10_000 + number, "image_url": f"{self.base}/{picture}",
        }  # fmt: skip


def parts_of(message: dict[str, Any]) -> dict[str, Any]:
    """What a recommendation says of the bag, each field of the bundle by itself.

    Pictures arrive in any order, so the last message need not be of the newest event.
    """
    others = ("event_id", "timestamp", "produced_at", "items", "state", "up_to_date", "fields")
    fields = {f"field {one['field']}": one["values"] for one in message["fields"]}
    return {name: value for name, value in message.items() if name not in others} | fields


NOISE = 2e-6  # a network rounds a bag alone and in a batch differently: two units of the last digit


def same(one: Any, other: Any) -> bool:
    """Whether two parts are the same, rankings but for NOISE: what is as strong as the next may have its place."""
    if not (isinstance(one, list) and isinstance(other, list) and one and len(one) == len(other)):
        return one == other
    name, value = one[0]
    first, second = ({entry[name]: entry[value] for entry in ranking} for ranking in (one, other))
    least = min(*first.values(), *second.values())
    near = (abs(first.get(key, least) - second.get(key, least)) <= NOISE for key in first.keys() | second.keys())
    falling = (pair[0] >= pair[1] for ranking in (first, second) for pair in pairwise(ranking.values()))
    return len(first) == len(second) == len(one) and all(near) and all(falling)


async def newest(system: System) -> dict[str, dict[str, Any]]:
    """The last recommendation of each user on the topic."""
    return {one["user_id"]: one for one in await system.recommendations()}


def all_live(shop: Shop) -> bool:
    status, found = shop.ask(STATUS)
    return status == 200 and bool(found["partitions"]) and all(one["source"] == "live" for one in found["partitions"])


def other_answers(shop: Shop, wanted: Mapping[str, dict[str, Any]]) -> list[tuple[str, str, Any, Any]]:
    """Where answers differ from what the topic has: user, field, what is answered, and what is on the topic."""
    found: list[tuple[str, str, Any, Any]] = []
    for user, message in wanted.items():
        answer, other = parts_of(shop.recommended(user)), parts_of(message)
        found += [
            (user, name, answer.get(name), other.get(name))
            for name in sorted(answer.keys() | other.keys())
            if not same(answer.get(name), other.get(name))
        ]
    return found
